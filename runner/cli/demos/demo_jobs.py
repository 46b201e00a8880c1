"""The jobs of ``cron-runner demo``: one of every kind, each with what must become of it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final


@dataclass(frozen=True, slots=True)
class Example:
    """A message for the demo's queue.

    ``outcome`` is the finished event's, or ``rejected``; ``reason`` must be found in the event's own.
    """

    job: str
    shows: str
    body: str
    outcome: str = "succeeded"
    reason: str = ""


def _message(job: str, command: str | list[str] | None = None, **fields: Any) -> str:
    said = {"job": job, "run_id": f"demo-{job}"} | ({} if command is None else {"command": command})
    return json.dumps(said | fields)


# It ignores TERM, forks, and hides its child in a session of its own.
_STUBBORN: Final = "trap '' TERM; setsid sh -c \"trap '' TERM; sleep 600\" & sleep 600; sleep 600"
_CHATTY_LINES: Final = 3000

EXAMPLES: Final = (
    Example("greet", "a shell command", _message("greet", 'echo "hello from $CRON_RUNNER_JOB as $(id -un)"')),
    Example("argv", "no shell between", _message("argv", ["printf", "%s\n", "$HOME stays $HOME"])),
    Example("sum", "standard input", _message("sum", "awk '{s += $1} END {print s}'", stdin="19\n23\n")),
    Example(
        "secret",
        "a value masked in output",
        _message("secret", 'echo "the token is $API_TOKEN"', env={"API_TOKEN": "correct-horse-battery"}),
    ),
    Example("backup", "a job declared by the host", _message("backup", args=["/srv/data", "/srv/photos"])),
    Example("exit-3", "failure by exit code", _message("exit-3", "exit 3"), "failed", "exit code 3"),
    Example(
        "quiet-failure",
        "exit 0, failed by fail_on",
        _message("quiet-failure", "echo 'ERROR: disk full'", success={"fail_on": ["^ERROR"]}),
        "failed",
        "output matched fail_on /^ERROR/",
    ),
    Example("too-slow", "timeout", _message("too-slow", "sleep 600", timeout="1s"), "timed_out", "timed out"),
    Example(
        "stubborn",
        "a tree that resists TERM",
        _message("stubborn", _STUBBORN, timeout="1s", grace="1s"),
        "timed_out",
        "timed out",
    ),
    Example("crash", "killed by a signal", _message("crash", "kill -SEGV $$"), "killed", "SIGSEGV"),
    Example("missing", "no such program", _message("missing", ["/no/such/program"]), "start_failed"),
    Example(
        "chatty",
        f"{_CHATTY_LINES} lines of output",
        _message("chatty", f"seq -f 'line %04g of {_CHATTY_LINES}' {_CHATTY_LINES}"),
    ),
    Example("typo", "a message that is refused", _message("typo", "true", timout=5), "rejected", "invalid"),
    Example(
        "from-sns",
        "an SNS notification",
        json.dumps({"Type": "Notification", "Message": _message("from-sns", "echo by way of SNS")}),
    ),
    Example(
        "from-events",
        "an EventBridge event",
        json.dumps(
            {
                "version": "0",
                "id": "6a7e8feb-b491-4cf7-a9f1-bf3703467718",
                "detail-type": "nightly",
                "source": "demo",
                "detail": json.loads(_message("from-events", "echo by way of EventBridge")),
            }
        ),
    ),
)

CONFIG: Final = """\
group = "demo"

[queue]
url = "{queue}"
visibility = "30s"
# A receive in flight is finished before the agent ends, and nobody wants to watch that for twenty seconds.
wait = "1s"

[results]
url = "{results}"

[admission]
policy = "free-for-all"
max_jobs = 4

[run]
user = "{user}"
allowed_users = [{allowed}]

[jobs.backup]
command = ["printf", "saved %s\\n"]
allow_args = true

[agent]
drain_timeout = "3s"
listen = ""

[paths]
state = "{state}"
runtime = "{runtime}"
"""
