"""``cron-runner send JOB [-- COMMAND…]``: puts a job on the group's queue and prints its run id."""

from __future__ import annotations

import json
import os
import secrets
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn, cast

from runner.cli import printing
from runner.cli.interrupted import leave_at_once
from runner.errors import AwsUnavailable, CronRunnerError, WrongUsage

if TYPE_CHECKING:
    import argparse
    from collections.abc import Coroutine, Mapping, Sequence

    from runner.config.model import Config

EXAMPLE: Final = """\
cron-runner send cleanup --timeout 10m -- find /tmp -mtime +7 -delete
cron-runner send report --shell 'make report | mail -s report ops' --env STAGE=live
cron-runner send backup --print > backup.json
"""

# A queue that is away for a moment is asked again; a person or a script that waits longer wants to be told.
_TRIES: Final = 3
_LATE_S: Final = 8.0  # more than the tries take where AWS says at once that it will not
# Where AWS may have taken it all the same: the failure is of the answer, or nobody knows.
_PERHAPS_SENT: Final = frozenset({"timeout", "unreachable", "server", "bad_answer", "throttled", "other"})
_BESIDE_MESSAGE: Final = frozenset(
    {"message", "print", "json", "config", "execute", "refuse", "run_id", "takes_command"}
)
_DURATIONS: Final = {
    "--timeout": "stopped after this time: seconds, or 90s, 15m, 1h30m",
    "--grace": "from the stop signal to SIGKILL",
    "--no-output-timeout": "stopped when it is silent for longer",
    "--min-duration": "has failed when it succeeds sooner",
}
_SPELT: Final = {"job": "JOB", "args": "--arg", "labels": "--label", "after_dashes": "-- COMMAND"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The message's fields that a person types, and where the message goes."""
    parser.set_defaults(takes_command=True)
    parser.usage = "cron-runner send JOB [options] [-- COMMAND ...]"
    parser.add_argument("job", nargs="?", metavar="JOB", help="the job's name (not needed with --message)")
    what = parser.add_argument_group("what runs")
    what.add_argument("--shell", metavar="TEXT", help="a command for the host's shell, instead of -- COMMAND ...")
    what.add_argument(
        "--arg",
        action="append",
        dest="args",
        metavar="TEXT",
        help="an argument of a declared job; repeatable; --arg=-v for one with a dash",
    )
    what.add_argument(
        "--env", action="append", type=_pair, metavar="NAME=VALUE", help="a variable of its environment; repeatable"
    )
    what.add_argument("--stdin", metavar="FILE", help="a file for the job's standard input; - is this one")
    what.add_argument("--cwd", metavar="DIRECTORY", help="the directory that it starts in")
    what.add_argument("--user", metavar="NAME", help="must be allowed by the host")
    what.add_argument("--cpu", type=float, metavar="CORES", help="what it needs to be admitted")
    what.add_argument("--memory", metavar="SIZE", help="what it needs to be admitted, such as 512M")
    limits = parser.add_argument_group("how it runs and when it has failed")
    for name, text in _DURATIONS.items():
        limits.add_argument(name, metavar="DURATION", help=text)
    limits.add_argument("--retries", type=int, metavar="N", help="tries after a failed one")
    limits.add_argument(
        "--overlap", choices=("allow", "skip", "wait", "replace"), help="while a run of the same job is active"
    )
    limits.add_argument(
        "--stop-signal", choices=("TERM", "INT", "HUP", "QUIT", "USR1", "USR2"), help="what asks it to end"
    )
    limits.add_argument(
        "--ack", choices=("on-finish", "on-start"), help="on-finish: at least once; on-start: at most once"
    )
    limits.add_argument("--fail-on", action="append", metavar="REGEX", help="fails if a line matches; repeatable")
    limits.add_argument("--require", action="append", metavar="REGEX", help="fails if no line matches; repeatable")
    limits.add_argument("--scheduled-at", metavar="TIME", help="RFC 3339, such as 2030-01-31T04:00:00Z")
    limits.add_argument("--not-after", metavar="TIME", help="skipped as stale after this time")
    message = parser.add_argument_group("the message")
    message.add_argument("--run-id", metavar="ID", help="two messages with one run id are one run")
    message.add_argument(
        "--label",
        action="append",
        type=_pair,
        metavar="NAME=VALUE",
        dest="labels",
        help="copied to its events; repeatable",
    )
    message.add_argument(
        "--message",
        metavar="FILE",
        help="send this message (- is standard input), without JOB, command or any option of a job but --run-id",
    )
    message.add_argument("--print", action="store_true", help="show the message and send nothing")
    message.add_argument("--json", action="store_true", help="print what was sent as JSON")


def execute(args: argparse.Namespace) -> int:
    """Build or read the message, check it as a host would, and send it."""
    from runner.protocol.envelope import unwrap  # noqa: PLC0415
    from runner.protocol.message import (  # noqa: PLC0415 - `--help` needs none of it
        InvalidMessage,
        parse_message,
    )

    body = _build(args) if args.message is None else _captured(args)
    try:
        message = parse_message(body)
    except InvalidMessage as error:
        raise CronRunnerError(f"cannot send the message: a host would reject it: {error}") from error
    if args.print:
        printing.data(f"{body.rstrip()}\n")
        return 0
    run_id = message.run_id
    if run_id is not None and args.run_id not in (None, run_id):
        raise WrongUsage(f"cannot send run {run_id} as {args.run_id}: leave --run-id out, or change the message's")
    if run_id is None:
        # Named here and not by SQS, so that a message sent twice after a timeout is still one run.
        run_id = args.run_id or new_run_id(time.time())
        body = json.dumps(cast("dict[str, Any]", unwrap(body)) | {"run_id": run_id})
    sent = _send(args.config, body, message.job, run_id)
    if args.json:
        printing.document(sent, indent=None)
    else:
        printing.lines(sent["run_id"])
    return 0


def new_run_id(now: float) -> str:
    """A run id that sorts by time: ``20300131T040000-`` and eight random hex digits."""
    return f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime(now))}-{secrets.token_hex(4)}"


def _pair(text: str) -> tuple[str, str]:
    import argparse  # noqa: PLC0415 - loaded already by whoever parses

    name, equals, value = text.partition("=")
    if not equals or not name:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    return name, value


def _read(name: str) -> str:
    try:
        return sys.stdin.read() if name == "-" else Path(name).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise CronRunnerError(f"cannot read {name or 'a file without a name'}: {why}; give a file, or -") from error


def _captured(args: argparse.Namespace) -> str:
    """The message of ``--message FILE``, which says everything itself."""
    others = [
        _SPELT.get(name, f"--{name.replace('_', '-')}")
        for name, value in vars(args).items()
        if name not in _BESIDE_MESSAGE and value is not None and value != []
    ]
    if others:
        raise WrongUsage(
            f"cannot send --message {args.message} with {', '.join(others)}: the file says all of the message; "
            "change it there, or leave --message out"
        )
    return _read(args.message)


def _build(args: argparse.Namespace) -> str:
    """The message that the options describe; fields that were not given are not in it."""
    if not args.job:
        raise WrongUsage("cannot send a job without a name: type `cron-runner send JOB`, or use --message FILE")
    if args.shell is not None and args.after_dashes:
        raise WrongUsage("cannot send two commands: use either --shell TEXT or -- COMMAND ...")
    fields: dict[str, Any] = {
        "job": args.job,
        "run_id": args.run_id,
        "command": args.shell if args.shell is not None else args.after_dashes or None,
        "args": args.args,
        "env": dict(args.env) if args.env else None,
        "cwd": args.cwd,
        "user": args.user,
        "stdin": None if args.stdin is None else _read(args.stdin),
        "timeout": _duration(args.timeout),
        "grace": _duration(args.grace),
        "no_output_timeout": _duration(args.no_output_timeout),
        "min_duration": _duration(args.min_duration),
        "resources": _given({"cpu": args.cpu, "memory": args.memory}) or None,
        "retries": args.retries,
        "overlap": args.overlap,
        "stop_signal": args.stop_signal,
        "ack": args.ack,
        "success": _given({"fail_on": args.fail_on, "require": args.require}) or None,
        "scheduled_at": args.scheduled_at,
        "not_after": args.not_after,
        "labels": dict(args.labels) if args.labels else None,
    }
    return json.dumps(_given(fields))


def _given(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def _duration(text: str | None) -> str | float | None:
    """A bare number is seconds, and a number in the message."""
    try:
        return None if text is None else float(text)
    except ValueError:
        return text


def _send(config_path: Path | None, body: str, job: str, run_id: str) -> dict[str, str]:
    import asyncio  # noqa: PLC0415 - `--help` and `--print` need none of it

    from runner import config  # noqa: PLC0415
    from runner.cli import unit_environment  # noqa: PLC0415

    unit_environment.take(config_path)
    settings = config.load(config_path, os.environ)
    return asyncio.run(_deliver(settings, body, job, run_id))


async def _deliver(settings: Config, body: str, job: str, run_id: str) -> dict[str, str]:
    """Send it; on a FIFO queue in the order of its job, and once per run id within SQS's five minutes."""
    from runner.aws.session import Session  # noqa: PLC0415
    from runner.aws.sqs import Outgoing, Queue  # noqa: PLC0415

    again = f"send it again with --run-id {run_id}, and it is one run even if the queue has it already"
    signal.signal(signal.SIGINT, lambda *_: _given_up(again))
    session = Session(queue_url=settings.queue.url)
    queue = Queue(session, url=settings.queue.url, name=settings.queue.name)
    fifo = queue.fifo
    outgoing = Outgoing("0", body, job if fifo else None, run_id if fifo else None)
    try:
        refused = await _told_when_late(_insist(queue, [outgoing]), f"{queue.label} has not answered yet; {again}")
    except AwsUnavailable as error:
        may_be_there = f"; {again}" if error.kind in _PERHAPS_SENT else ""
        raise CronRunnerError(f"cannot send to {queue.label}: {error.code}: {error.detail}{may_be_there}") from error
    finally:
        session.close()
    if refused:
        raise CronRunnerError(
            f"cannot send to {queue.label}: {refused[0].code}: {refused[0].detail}; mend that, or send it again"
        )
    return {"job": job, "run_id": run_id, "queue": queue.label}


def _given_up(again: str) -> NoReturn:
    """Ctrl-C: the message may be on its way."""
    try:
        printing.note(f"given up; {again}")
    finally:
        leave_at_once(signal.SIGINT, None)


async def _told_when_late(work: Coroutine[Any, Any, Sequence[Any]], late: str) -> Sequence[Any]:
    """Do the work, and say this where it takes longer than a person waits without a word."""
    import asyncio  # noqa: PLC0415 - as above

    task = asyncio.create_task(work)
    done, _ = await asyncio.wait({task}, timeout=_LATE_S)
    if not done:
        printing.note(late)
    return await task


async def _insist(queue: Any, outgoing: Sequence[Any]) -> Sequence[Any]:
    from runner.aws.backoff import pause  # noqa: PLC0415

    for _ in range(_TRIES - 1):
        try:
            return tuple(await queue.send(outgoing))
        except AwsUnavailable:
            await pause(1.0)
    return tuple(await queue.send(outgoing))
