"""``cron-runner send JOB [-- COMMAND…]``: puts a job on the group's queue and prints its run id."""

from __future__ import annotations

import json
import re
import secrets
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

from runner.cli import printing, signing
from runner.cli.runs.send_options import add_arguments  # noqa: F401 - what main asks a command for
from runner.cli.runs.wait import after_sending, of_a_job
from runner.errors import CronRunnerError, WrongUsage

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping

EXAMPLE: Final = """\
cron-runner send cleanup --timeout 10m -- find /tmp -mtime +7 -delete
cron-runner send report --shell 'make report | mail -s report ops' --env STAGE=live
cron-runner send backup --print > backup.json
cron-runner send backup --key ops.key -- /srv/app/bin/backup
cron-runner send migrate --wait --follow -- /srv/app/bin/migrate && echo done
"""

_BESIDE_MESSAGE: Final = frozenset(
    {
        *("message", "print", "json", "config", "execute", "refuse", "run_id", "takes_command"),
        *("delay", "at", "group_id", "wait", "follow", "key"),  # these are not in the message
    }
)
_SPELT: Final = {
    "job": "JOB",
    "args": "--arg",
    "labels": "--label",
    "secrets": "--secret",
    "after_dashes": "-- COMMAND",
    "resources": "--resource",
    "limits": "--limit",
}
_UMASK: Final = re.compile(r"[0-7]{1,4}")
_LONGEST_DELAY_S: Final = 900  # SQS's own


def execute(args: argparse.Namespace) -> int:
    """Build or read the message, check it as a host would, and send it."""
    if args.wait:
        return of_a_job(_execute, args)
    return _execute(args)


def _execute(args: argparse.Namespace) -> int:
    _refuse_what_does_not_go_together(args)
    delay_s = _delay(args, time.time())
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
    if args.print and not args.key:
        printing.data(f"{body.rstrip()}\n")
        return 0
    run_id = message.run_id
    if run_id is not None and args.run_id not in (None, run_id):
        raise WrongUsage(f"cannot send run {run_id} as {args.run_id}: leave --run-id out, or change the message's")
    said = cast("dict[str, Any]", unwrap(body))
    # Named here and not by SQS, so that a message sent twice after a timeout is still one run.
    run_id = run_id or args.run_id or new_run_id(time.time())
    if args.key or message.run_id is None:
        body = signing.of_run(said, args.key, args.config, run_id)
    if args.print:
        printing.data(f"{body}\n")
        return 0
    from runner.cli.runs.send_delivery import send  # noqa: PLC0415 - as above

    waiting = after_sending(args) if args.wait else None
    sent = send(args.config, body, message.job, run_id, delay_s=delay_s, group_id=args.group_id)
    if waiting is not None:
        return waiting(sent)
    if args.json:
        printing.document(sent, indent=None)
    else:
        printing.lines(sent["run_id"])
    return 0


def _refuse_what_does_not_go_together(args: argparse.Namespace) -> None:
    if args.follow and not args.wait:
        raise WrongUsage("cannot use --follow without --wait: add --wait")
    if args.print and args.wait:
        raise WrongUsage("cannot wait for what --print does not send: leave one of them out")


def new_run_id(now: float) -> str:
    """A run id that sorts by time: ``20300131T040000-`` and eight random hex digits."""
    return f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime(now))}-{secrets.token_hex(4)}"


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
        "secrets": dict(args.secrets) if args.secrets else None,
        "cwd": args.cwd,
        "user": args.user,
        "unix_group": args.unix_group,
        "umask": _umask(args.umask),
        "nice": args.nice,
        "stdin": None if args.stdin is None else _read(args.stdin),
        "timeout": _duration(args.timeout),
        "grace": _duration(args.grace),
        "no_output_timeout": _duration(args.no_output_timeout),
        "min_duration": _duration(args.min_duration),
        "resources": _given({"cpu": args.cpu, "memory": args.memory, **_amounts(args.resources)}) or None,
        "limits": _amounts(args.limits) or None,
        "retries": _retries(args),
        "overlap": args.overlap,
        "stop_signal": args.stop_signal,
        "ack": args.ack,
        "success": _given({"fail_on": args.fail_on, "require": args.require}) or None,
        "scheduled_at": args.scheduled_at,
        "not_after": args.not_after,
        "traceparent": args.traceparent,
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


def _amounts(pairs: list[tuple[str, str]] | None) -> dict[str, str | float]:
    """Amounts by name: numbers where they are some, else sizes as they were typed."""
    return {name: amount for name, text in pairs or () if (amount := _number(text)) is not None}


def _number(text: str) -> str | float:
    try:
        return int(text)
    except ValueError:
        pass
    try:
        return float(text)
    except ValueError:
        return text


def _umask(text: str | None) -> str | None:
    if text is not None and not _UMASK.fullmatch(text):
        raise WrongUsage(f"cannot use --umask {text}: give octal digits, such as 027")
    return text


def _retries(args: argparse.Namespace) -> int | dict[str, Any] | None:
    if args.backoff is None:
        return args.retries if args.retries is None else int(args.retries)
    if args.retries is None:
        raise WrongUsage("cannot use --backoff without --retries: say how many there are to be")
    return {"max": args.retries, "backoff": _duration(args.backoff)}


def _delay(args: argparse.Namespace, now: float) -> int | None:
    """For how many whole seconds SQS keeps it back."""
    delay: float | None = args.delay
    if delay is not None:
        return round(delay)
    if args.at is None:
        return None
    from runner.protocol.units import parse_time  # noqa: PLC0415 - `--help` needs none of it

    try:
        ahead: float = parse_time(args.at) - now
    except ValueError as error:
        raise WrongUsage(f"cannot send at {args.at}: {error}") from error
    if not -1 <= ahead <= _LONGEST_DELAY_S:
        raise WrongUsage(
            f"cannot send at {args.at}: SQS keeps a message back for 15m at most, and this is "
            f"{'over' if ahead < 0 else 'later'}; a job with a schedule runs at any time (`cron-runner jobs apply`)"
        )
    return max(0, round(float(ahead)))
