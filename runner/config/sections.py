"""The sections of the configuration: the one table of its keys.

Every field made by `setting` is a key of the file, under the name of its section. Parsing, environment
overrides, reload and the example file all walk these classes, so a key is written down once.

Durations are seconds, sizes bytes. An empty text means "not set" for URLs, names and addresses,
None means "auto".
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from runner.config.kinds import (
    AUTO_NUMBER,
    AUTO_SIZE,
    BOOLEAN,
    DURATION,
    NUMBER,
    NUMBER_TABLE,
    PATH,
    SIZE,
    TEXT,
    TEXT_TABLE,
    TEXTS,
    WHOLE,
    one_of,
    setting,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Queue:
    """The group's job queue."""

    url: str = setting("", TEXT, "The queue's URL. Set either this or name; FIFO queues work too.", fixed=True)
    name: str = setting("", TEXT, "The queue's name, looked up in the host's own account and region.", fixed=True)
    wait: float = setting(
        "20s",
        DURATION,
        "How long one poll waits for a message, 0s to 20s. An empty queue is asked once a second at most: each costs.",
    )
    visibility: float = setting(
        "2m",
        DURATION,
        "How long a received message stays hidden from other hosts (the lease), 10s to 12h. The agent renews"
        " it at a third of this time for as long as the job runs; after a crash another host gets the message"
        " this much later.",
        fixed=True,
    )
    dead_letter_url: str = setting(
        "",
        TEXT,
        "Where messages go that can never be a run. If empty: to the job queue's own dead-letter queue.",
        fixed=True,
    )
    on_lost_lease: Literal["continue", "kill"] = setting(
        "continue",
        one_of("continue", "kill"),
        "What happens to a running job whose message another host may get by now:"
        ' "continue" lets it run, "kill" stops it. The event of the run says that it happened.',
    )


@dataclass(frozen=True, slots=True)
class Results:
    """The queue that events go to; without one they go to the agent's log only."""

    url: str = setting(
        "",
        TEXT,
        "The URL of the queue that gets the events. Set either this or name; with neither,"
        " events are written to the agent's log only.",
        fixed=True,
    )
    name: str = setting("", TEXT, "The name of that queue, in the host's own account and region.", fixed=True)
    heartbeat: float = setting("0s", DURATION, "Send a heartbeat event this often for each running job; 0s sends none.")


@dataclass(frozen=True, slots=True)
class Fleet:
    """What the hosts of a group share beside the queue."""

    table: str = setting(
        "",
        TEXT,
        "The DynamoDB table of the fleet, by name. If empty: the host knows nothing of others, and the commands"
        " jobs, history, pause GROUP and the like need --table.",
        fixed=True,
    )
    lease: float = setting(
        "2m",
        DURATION,
        "How long the fleet believes a host that says nothing, 10s to 15m: this long after a host died, its runs"
        " and the jobs that they had locked are free for others. Renewed at a third of it.",
        fixed=True,
    )
    report: float = setting(
        "5m",
        DURATION,
        "How often this host tells the table what it does, 10s to 1h, for cron-runner hosts and the page; 0s tells"
        " nothing.",
        fixed=True,
    )
    notices: bool = setting(
        False,
        BOOLEAN,
        "Watch the instance's metadata, and drain this host when AWS announces its end: a spot interruption, or a"
        " termination by auto scaling.",
        fixed=True,
    )
    rebalance: bool = setting(
        False,
        BOOLEAN,
        "With notices: drain this host already when AWS recommends to replace the spot instance. Most often an"
        " interruption follows; where none does the host stays drained, so have something replace it (Capacity"
        " Rebalancing of an Auto Scaling group).",
        fixed=True,
    )
    lifecycle_hook: str = setting(
        "",
        TEXT,
        'With notices: the termination hook of this host\'s Auto Scaling group, as "GROUP/HOOK". Auto Scaling is held'
        " while the host drains, and told when what ran is over, shipped and reported. If empty: it waits for as long"
        " as its hooks say.",
        fixed=True,
    )


@dataclass(frozen=True, slots=True)
class AdmissionResources:
    """What the host offers under the policy "resources"."""

    cpu: float | None = setting("auto", AUTO_NUMBER, 'Cores on offer; "auto" is all of the host\'s, less reserve_cpu.')
    memory: int | None = setting(
        "auto", AUTO_SIZE, 'Memory on offer, such as "8G"; "auto" is all of the host\'s, less reserve_memory.'
    )
    reserve_cpu: float = setting(0.5, NUMBER, "Cores kept free for everything that is not a job.")
    reserve_memory: int = setting("512M", SIZE, "Memory kept free for everything that is not a job.")
    max_load: float = setting(
        0.9,
        NUMBER,
        "No job is started while more than this share of the host's cores is busy; above 0, up to 1.",
    )
    default_cpu: float = setting(1.0, NUMBER, "Cores counted for a job that does not say what it needs.")
    default_memory: int = setting("256M", SIZE, "Memory counted for a job that does not say what it needs.")
    named: Mapping[str, float] = setting(
        {},
        NUMBER_TABLE,
        "Anything else that can be counted, by a name that jobs use in their resources: { db_slots = 4 }.",
    )


@dataclass(frozen=True, slots=True)
class Admission:
    """When a job may start."""

    policy: Literal["one-at-a-time", "resources", "free-for-all"] = setting(
        "one-at-a-time",
        one_of("one-at-a-time", "resources", "free-for-all"),
        '"one-at-a-time": when no other job runs here; "resources": when the host has what the job needs;'
        ' "free-for-all": at once.',
    )
    max_jobs: int = setting(
        0, WHOLE, 'The most jobs to run at once under "resources" and "free-for-all"; 0 sets no limit.'
    )
    hold: float = setting(
        "1m",
        DURATION,
        "How long a received job may wait here for room before it is handed back to the queue.",
    )
    resources: AdmissionResources = field(default_factory=AdmissionResources)


@dataclass(frozen=True, slots=True)
class Run:
    """What every job gets that does not say otherwise."""

    shell: tuple[str, ...] = setting(
        ["/bin/sh", "-c"],
        TEXTS,
        "The shell that runs a command given as one text; the text is added as last argument.",
    )
    user: str = setting(
        "",
        TEXT,
        "The user that jobs run as. If empty: cron-runner-job where the supervisor runs as root,"
        " otherwise the supervisor's own user.",
    )
    allowed_users: tuple[str, ...] = setting(
        [], TEXTS, "Whom a message or a declared job may name as its user. root only if it is named here."
    )
    timeout: float = setting("1h", DURATION, "How long one attempt of a job may take before it is stopped.")
    grace: float = setting(
        "10s",
        DURATION,
        "The time a job has to end by itself after the stop signal; then everything of it is killed.",
    )
    cwd: str = setting("/", TEXT, "The directory that jobs start in.")
    env: Mapping[str, str] = setting(
        {}, TEXT_TABLE, 'Environment variables of every job: { TZ = "UTC" }. A message may add to them.'
    )
    env_files: tuple[str, ...] = setting(
        [],
        TEXTS,
        "Files of NAME=value lines that are added to the environment, read as the job's user, in the dialect of"
        " systemd's EnvironmentFile=. What systemd would drop (export, a name with a dash) is refused.",
    )
    inherit_env: tuple[str, ...] = setting(
        [],
        TEXTS,
        'Names of the agent\'s own environment variables that jobs get too, or ["*"] for all of them:'
        " for containers that are configured by environment variables. AWS credentials are never passed on.",
    )
    commands: Literal["any", "declared"] = setting(
        "any",
        one_of("any", "declared"),
        '"any": who may send to the queue may run any command. "declared": only the jobs declared on this host.',
    )
    leftovers: Literal["kill", "keep"] = setting(
        "kill",
        one_of("kill", "keep"),
        "What happens to processes that a job leaves behind when its main process has ended. What those that are kept"
        " print later is counted, and not kept.",
    )
    min_nice: int = setting(
        0,
        WHOLE,
        "The lowest nice that a message or a declared job may ask for. Below 0 a job takes its time from all others.",
    )
    allowed_secrets: tuple[str, ...] = setting(
        [],
        TEXTS,
        'The references that a message may name in its secrets, as globs such as "ssm:/web/*"; declared jobs may name'
        " any.",
    )


@dataclass(frozen=True, slots=True)
class CloudWatch:
    """The sink "cloudwatch"."""

    log_group: str = setting(
        "/cron-runner/{group}", TEXT, "The log group; {group} is replaced. It is made when it does not exist."
    )
    log_stream: str = setting(
        "{job}/{run_id}",
        TEXT,
        "The log stream of a run, made of {job} {run_id} {host} {date} {attempt}. Without {run_id} many runs"
        " share one stream and each line begins with its run id: far cheaper for many small runs.",
    )
    flush: float = setting(
        "1s",
        DURATION,
        "How long a line may wait for others before it is sent, 0.1s to 1m: longer means fewer calls.",
    )
    retention_days: int = setting(
        30,
        WHOLE,
        "How many days CloudWatch keeps the output in log groups that the agent made: 1, 3, 5, 7, 14, 30, 60,"
        " 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288 or 3653.",
    )


@dataclass(frozen=True, slots=True)
class Syslog:
    """The sink "syslog"."""

    address: str = setting(
        "udp://127.0.0.1:514",
        TEXT,
        "Where to: udp://HOST:PORT, tcp://HOST:PORT (RFC 5424) or unix:///PATH (what syslog(3) writes to /dev/log).",
        fixed=True,
    )


@dataclass(frozen=True, slots=True)
class Output:
    """What becomes of what jobs print."""

    sinks: tuple[str, ...] = setting(
        ["cloudwatch"],
        TEXTS,
        'Where the output goes: any of "cloudwatch", "journald", "syslog", "stdout".',
        fixed=True,
    )
    max_bytes: int = setting("1G", SIZE, "The most output kept of one run; of more, the head and the tail are kept.")
    spool_max_bytes: int = setting(
        "4G",
        SIZE,
        "The most output on this host's disk that is not yet shipped; when it is full no new job is started.",
    )
    carriage_return: Literal["keep", "condense"] = setting(
        "keep",
        one_of("keep", "condense"),
        'Text before a carriage return: "keep" sends every byte; "condense" of what a progress bar overwrites only the'
        " last state, and counts the rest as dropped.",
    )
    mask_short: bool = setting(
        True,
        BOOLEAN,
        "A fetched secret of fewer than six characters, which is too short to be masked, starts no job; with false the"
        " job starts, and where it prints the secret everybody sees it.",
    )
    redact: tuple[str, ...] = setting(
        ["*PASSWORD*", "*PASSPHRASE*", "*_PWD", "*SECRET*", "*TOKEN*", "*_KEY", "*CREDENTIAL*"],
        TEXTS,
        "The values of a job's environment variables with these names, in any case, are masked in output, events and"
        " logs.",
    )
    cloudwatch: CloudWatch = field(default_factory=CloudWatch)
    syslog: Syslog = field(default_factory=Syslog)


@dataclass(frozen=True, slots=True)
class Agent:
    """The daemon itself."""

    on_stop: Literal["drain", "leave", "kill"] = setting(
        "drain",
        one_of("drain", "leave", "kill"),
        'What happens to running jobs when the agent is stopped: "drain" waits for them, "leave" lets them'
        ' run on for the next agent to take over, "kill" stops them.',
    )
    drain_timeout: float = setting(
        "10m", DURATION, "How long a drain waits; then the jobs are stopped and reported as interrupted."
    )
    listen: str = setting("127.0.0.1:9747", TEXT, 'HOST:PORT of /healthz and /metrics; "" turns it off.', fixed=True)
    log_level: Literal["debug", "info", "warning", "error"] = setting(
        "info",
        one_of("debug", "info", "warning", "error"),
        'How much the agent logs: "debug", "info", "warning", "error".',
    )
    cloudwatch_log_group: str = setting(
        "",
        TEXT,
        "A CloudWatch log group for the agent's own log, beside the journal of the host; empty for none.",
        fixed=True,
    )
    metrics: Literal["", "emf"] = setting(
        "",
        one_of("", "emf"),
        '"emf": CloudWatch metrics of the group, of which each host writes its part into cloudwatch_log_group once a'
        " minute, in the embedded metric format; empty for none. CloudWatch bills each metric.",
        fixed=True,
    )
    metrics_jobs: int = setting(
        200, WHOLE, "At most so many jobs have metrics of their own, by name; the others share theirs. 0 for none."
    )
    aws_client: Literal["direct", "botocore"] = setting(
        "direct",
        one_of("direct", "botocore"),
        'Who makes the calls that are made all the time: "direct" does so at a fraction of the CPU time,'
        ' "botocore" is AWS\'s own client, which makes all others.',
        fixed=True,
    )


@dataclass(frozen=True, slots=True)
class Paths:
    """Where the agent keeps its files."""

    state: Path = setting(  # noqa: RUF009 - paths are immutable
        "/var/lib/cron-runner",
        PATH,
        "The journal, and the output that is not yet shipped. Kept over reboots.",
        fixed=True,
    )
    runtime: Path = setting(  # noqa: RUF009 - paths are immutable
        "/run/cron-runner", PATH, "The sockets.", fixed=True
    )
