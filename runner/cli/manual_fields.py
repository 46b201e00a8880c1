"""What each field of a job message does, in the users' words: for cron-runner.toml(5).

A test holds this table against the one that messages are parsed by.
"""

from __future__ import annotations

from typing import Final

# Field → type and meaning. The type's first letter is small: it stands behind the field's name.
FIELDS: Final[dict[str, tuple[str, str]]] = {
    "version": ("the number 1", "The version of the message's format; may be left out."),
    "job": (
        "text",
        "The job's name: up to 128 of A-Z a-z 0-9 . _ -, with a letter or digit first. Every message has one;"
        " a declared job has it from its table or its file.",
    ),
    "group": ("text", "The group that it is for; hosts of another one refuse it. A signed message names it."),
    "run_id": (
        "text",
        "Names the run, up to 128 characters; one outside A-Z a-z 0-9 . _ - becomes -. Two messages with one run id"
        " are one run. Default: the SQS message id.",
    ),
    "command": (
        "text or list of texts",
        "A text runs under the `shell` of [run], a list is an argv that runs without a shell. Required, unless the"
        " host declares the job.",
    ),
    "args": (
        "list of texts",
        "More arguments for a declared job: appended to its argv, or `$@` of its shell command. Refused unless the"
        " declaration says allow_args = true.",
    ),
    "env": ("table of texts", "Environment variables, beside those of [run] env and of the declaration."),
    "secrets": (
        "table of texts",
        'Environment variables whose values the host fetches right before each attempt: {"DB_PASSWORD": "ssm:/prod/db",'
        ' "KEY": "secretsmanager:prod/api#key"}. In a message only what [run] allowed_secrets has.',
    ),
    "cwd": ("absolute path", "The directory that it starts in. Default: [run] cwd."),
    "user": (
        "text",
        "The user that it runs as: [run] user, or one of allowed_users. root only where allowed_users names it.",
    ),
    "unix_group": ("text", "Its primary group: one that its user is a member of."),
    "umask": ("octal text", 'Its umask, such as "027".'),
    "nice": (
        "whole number",
        "Its niceness, not below [run] min_nice, up to 19; below 0 needs a supervisor that runs as root.",
    ),
    "stdin": ("text", "Given on standard input; otherwise that is /dev/null."),
    "timeout": ("duration", "How long one attempt may take before it is stopped. Default: [run] timeout."),
    "grace": ("duration", "The time between the stop signal and SIGKILL. Default: [run] grace."),
    "stop_signal": ("text", "TERM, INT, HUP, QUIT, USR1 or USR2. Default: TERM."),
    "resources": (
        "table",
        '{"cpu": 0.5, "memory": "512M", NAME: n}: what it needs to be admitted under the policy "resources". Default:'
        " default_cpu and default_memory of [admission.resources].",
    ),
    "limits": (
        "table",
        '{"memory": "1G", "cpu": 2, "pids": 500}: what it is held to, by its cgroup. Default: no limits.',
    ),
    "retries": (
        "whole number or table",
        'Further attempts on the same host after a failed one: n, or {"max": n, "backoff": "30s", "factor": 2,'
        ' "max_backoff": "10m"}. Default: 0.',
    ),
    "overlap": (
        "text",
        "What happens when a run of the same job is active on this host: allow, skip (it is not run), wait (in"
        " order) or replace (the active one is cancelled). Default: allow.",
    ),
    "success": (
        "table",
        '{"exit_codes": [0], "fail_on": [regex], "require": [regex]}: an exit code outside the list fails the run; so'
        " does a line of output that matches fail_on, and the lack of one that matches require. Patterns are RE2's.",
    ),
    "no_output_timeout": ("duration", "A run that is silent for longer is stopped, and has failed."),
    "min_duration": ("duration", "A run that succeeds sooner than this has failed."),
    "scheduled_at": ("RFC 3339 time", "When it was due; told to the job and in its events."),
    "not_after": ("RFC 3339 time", "After this time it is skipped as stale."),
    "traceparent": (
        "text",
        "The trace that the run belongs to, as W3C's trace context has it; the job sees it as TRACEPARENT, events and"
        " log lines carry it. Default: what the message's AWSTraceHeader says, else none.",
    ),
    "ack": (
        "text",
        "on-finish: the message is deleted when the run has ended, so it runs at least once. on-start: it is deleted"
        " before the command starts, so it runs at most once. Default: on-finish.",
    ),
    "labels": ("table of texts", "Copied to every event of the run."),
    "allow_args": ("true or false", "Whether a message may give args. Default: false."),
    "allow_env": ("list of texts", "The environment variables that a message may set. Default: none."),
    "params": (
        "table of tables",
        'What may be said when the job is started: [jobs.NAME.params.day] with type ("string", "date", "integer" or'
        ' "choice"), default (without one it has to be given), pattern (RE2, of all of the value), choices, and to:'
        ' "env" (default), the variable of its name in capitals, - as _; or "arg", a word behind the command\'s own,'
        " in the order in which they stand. A message gives them as those variables of env, and as args; a value that"
        " does not fit is refused.",
    ),
}
