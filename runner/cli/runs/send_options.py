"""The options of ``cron-runner send``: the fields of a message that a person types, and where it goes."""

from __future__ import annotations

import argparse
from typing import Final

from runner.cli.numbers import lasting
from runner.cli.runs.wait import JOBS_OWN
from runner.cli.signing import add_key

_DURATIONS: Final = {
    "--timeout": "stopped after this time: seconds, or 90s, 15m, 1h30m",
    "--grace": "from the stop signal to SIGKILL",
    "--no-output-timeout": "stopped when it is silent for longer",
    "--min-duration": "has failed when it succeeds sooner",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The message's fields that a person types, and where the message goes."""
    parser.set_defaults(takes_command=True)
    parser.usage = "cron-runner send JOB [options] [-- COMMAND ...]"
    parser.usage_status_with = ("--wait", JOBS_OWN)  # type: ignore[attr-defined] # main._CommandParser's
    parser.add_argument("job", nargs="?", metavar="JOB", help="the job's name (not needed with --message)")
    _add_what(parser.add_argument_group("what runs"))
    _add_how(parser.add_argument_group("how it runs and when it has failed"))
    _add_message(parser.add_argument_group("the message"))


def _add_what(what: argparse._ArgumentGroup) -> None:
    what.add_argument("--shell", metavar="TEXT", help="a command for the host's shell, instead of -- COMMAND ...")
    what.add_argument(
        "--arg",
        action="append",
        dest="args",
        metavar="TEXT",
        help="an argument of a declared job; repeatable; --arg=-v for one with a dash",
    )
    _add_pairs(what, "--env", "env", "NAME=VALUE", "a variable of its environment")
    _add_pairs(what, "--secret", "secrets", "NAME=REFERENCE", "a variable that the host fetches: ssm:/prod/db")
    what.add_argument("--stdin", metavar="FILE", help="a file for the job's standard input; - is this one")
    what.add_argument("--cwd", metavar="DIRECTORY", help="the directory that it starts in")
    what.add_argument("--user", metavar="NAME", help="must be allowed by the host")
    what.add_argument("--unix-group", metavar="NAME", help="instead of the user's own")
    what.add_argument("--umask", metavar="OCTAL", help="such as 027")
    what.add_argument("--nice", type=int, metavar="N", help="from 19, the most patient, as far down as the host allows")
    what.add_argument("--cpu", type=float, metavar="CORES", help="what it needs to be admitted")
    what.add_argument("--memory", metavar="SIZE", help="what it needs to be admitted, such as 512M")
    _add_pairs(what, "--resource", "resources", "NAME=N", "a named resource that it needs to be admitted")
    _add_pairs(what, "--limit", "limits", "NAME=AMOUNT", "what it is held to: memory=1G, cpu=2, pids=500")


def _add_how(how: argparse._ArgumentGroup) -> None:
    for name, text in _DURATIONS.items():
        how.add_argument(name, metavar="DURATION", help=text)
    how.add_argument("--retries", type=int, metavar="N", help="tries after a failed one")
    how.add_argument("--backoff", metavar="DURATION", help="with --retries: until the first of them (30s)")
    how.add_argument(
        "--overlap", choices=("allow", "skip", "wait", "replace"), help="while a run of the same job is active"
    )
    how.add_argument(
        "--stop-signal", choices=("TERM", "INT", "HUP", "QUIT", "USR1", "USR2"), help="what asks it to end"
    )
    how.add_argument(
        "--ack", choices=("on-finish", "on-start"), help="on-finish: at least once; on-start: at most once"
    )
    how.add_argument("--fail-on", action="append", metavar="REGEX", help="fails if a line matches; repeatable")
    how.add_argument("--require", action="append", metavar="REGEX", help="fails if no line matches; repeatable")
    how.add_argument("--scheduled-at", metavar="TIME", help="RFC 3339, such as 2030-01-31T04:00:00Z")
    how.add_argument("--not-after", metavar="TIME", help="skipped as stale after this time")


def _add_message(message: argparse._ArgumentGroup) -> None:
    message.add_argument("--run-id", metavar="ID", help="two messages with one run id are one run")
    _add_pairs(message, "--label", "labels", "NAME=VALUE", "copied to its events")
    message.add_argument(
        "--traceparent", metavar="CONTEXT", help='the trace that it belongs to (W3C), such as "$TRACEPARENT"'
    )
    message.add_argument(
        "--message",
        metavar="FILE",
        help="send this message (- is standard input), without JOB, command or any option of a job but --run-id",
    )
    when = message.add_mutually_exclusive_group()
    when.add_argument(
        "--delay", metavar="DURATION", type=lasting("0s", "15m"), help="SQS hands it out so much later, at most 15m"
    )
    when.add_argument("--at", metavar="TIME", help="the same, to a time within 15m, such as 2030-01-31T04:00:00Z")
    message.add_argument(
        "--group-id", metavar="ID", help="its message group: on a FIFO queue one runs after the other (default: JOB)"
    )
    add_key(message, "sign it, for one run within half a day")
    message.add_argument("--print", action="store_true", help="show the message and send nothing")
    message.add_argument("--json", action="store_true", help="print what was sent as JSON")
    message.add_argument(
        "--wait",
        action="store_true",
        help="wait until the run has ended; the exit status is the job's, as of run-once, and 125 for all else",
    )
    message.add_argument("--follow", action="store_true", help="with --wait: show its output meanwhile")


def _add_pairs(group: argparse._ArgumentGroup, option: str, dest: str, metavar: str, summary: str) -> None:
    group.add_argument(option, action="append", type=_pair, dest=dest, metavar=metavar, help=f"{summary}; repeatable")


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    return name, value
