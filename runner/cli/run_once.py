"""``cron-runner run-once``: receive one message and run it here and now, as the agent would."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from runner.errors import CronRunnerError, MessageRejected

if TYPE_CHECKING:
    import argparse

    from runner.agent.once import Given
    from runner.config import Config

EXAMPLE: Final = """\
cron-runner run-once --wait 20s
cron-runner send backup --print -- /usr/bin/true | cron-runner run-once --message - --offline"""

NO_MESSAGE: Final = 75


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What to run, and how much of AWS takes part."""
    parser.add_argument(
        "--wait",
        default="20s",
        metavar="TIME",
        help="how long to wait for a message, such as 20s or 5m (default: 20s); then the exit status is 75",
    )
    parser.add_argument(
        "--message", metavar="FILE", help="run the message in this file (- is standard input), without the queue"
    )
    parser.add_argument(
        "--offline", action="store_true", help="with --message: no AWS at all, the output goes to the terminal only"
    )
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="show what would run, as whom and with what, and run nothing; a message of the queue is handed back at "
        "once, and SQS counts that as one receive (towards the redrive policy's maxReceiveCount)",
    )
    parser.add_argument("--json", action="store_true", help="with --dry-run: show it as JSON")


def execute(args: argparse.Namespace) -> int:
    """Run one message; the job's own exit status, or 124, 125, 126, 127, 128+n, 75."""
    from runner import config, log  # noqa: PLC0415 - `--help` needs none of it
    from runner.protocol.units import parse_duration  # noqa: PLC0415

    if args.offline and args.message is None:
        raise CronRunnerError("cannot run offline without a message: add --message FILE")
    if args.json and not args.dry_run:
        raise CronRunnerError("cannot use --json without --dry-run: the job's own output is what run-once prints")
    try:
        wait = parse_duration(args.wait)
    except ValueError as error:
        raise CronRunnerError(f"cannot use --wait {args.wait}: {error}") from error
    settings = config.load(args.config, os.environ, offline=args.offline)
    log.configure("warning")
    given = None if args.message is None else _given(args.message)
    if args.dry_run:
        return _dry_run(settings, given, wait, as_json=args.json)
    from runner.agent.once import once  # noqa: PLC0415

    return once(settings, given=given, wait=wait, offline=args.offline)


def _given(name: str) -> Given:
    from runner.agent.once import Given  # noqa: PLC0415

    try:
        text = sys.stdin.read() if name == "-" else Path(name).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CronRunnerError(f"cannot read the message: {error}; give a file of UTF-8 text, or -") from error
    body, message_id = _captured(text)
    return Given(body, message_id or f"once-{os.urandom(8).hex()}")


def _captured(text: str) -> tuple[str, str]:
    """The body, also out of what ``aws sqs receive-message`` prints."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text, ""
    messages = value.get("Messages") if isinstance(value, dict) else None
    if not isinstance(messages, list) or len(messages) != 1 or not isinstance(messages[0], dict):
        return text, ""
    [message] = messages
    if not isinstance(message.get("Body"), str):
        return text, ""
    return message["Body"], str(message.get("MessageId", ""))


def _dry_run(settings: Config, given: Given | None, wait: float, *, as_json: bool) -> int:
    from runner.agent.explain import explain, peek  # noqa: PLC0415
    from runner.protocol.units import format_duration  # noqa: PLC0415

    if given is None:
        given = peek(settings, wait)
        if given is None:
            print(f"cron-runner: no message came within {format_duration(wait)}", file=sys.stderr)  # noqa: T201
            return NO_MESSAGE
    try:
        lines = explain(settings, given.body, given.message_id)
    except MessageRejected as error:
        print(f"rejected: {error.fault.reason}: {error.fault.detail}")  # noqa: T201 - the answer
        return 125
    if as_json:
        print(json.dumps(dict(lines), indent=2, ensure_ascii=False))  # noqa: T201
    else:
        width = max(len(name) for name, _ in lines)
        for name, value in lines:
            print(f"{name:<{width}}  {value if isinstance(value, str) else json.dumps(value)}")  # noqa: T201
    return 0
