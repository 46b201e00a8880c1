"""``cron-runner run-once``: receive one message and run it here and now, as the agent would."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from runner.cli import printing
from runner.errors import ConfigError, CronRunnerError

if TYPE_CHECKING:
    import argparse

    from runner.config import Config
    from runner.once.once import Given

EXAMPLE: Final = """\
cron-runner run-once --wait 20s
cron-runner send backup --print -- /usr/bin/true | cron-runner run-once --message - --offline
cron-runner run-once --dry-run --dead-letter
aws sqs receive-message --queue-url "$QUEUE" > message.json && cron-runner run-once --message message.json
"""

# The list in which a message is captured: its body and its id there, and by what.
_CAPTURES: Final = {
    "Messages": ("Body", "MessageId", "`aws sqs receive-message`"),
    "Records": ("body", "messageId", "what logs the event in the Lambda function"),
}
NO_MESSAGE: Final = 75
# Of a job, what admission looks at: the rest may be large, or secret.
_DECIDING: Final = frozenset({"job", "run_id", "resources", "overlap", "not_after"})


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What to run, and how much of AWS takes part."""
    parser.set_defaults(prints=False)  # its exit status is the job's
    parser.usage_status = 125  # type: ignore[attr-defined] # main.Parser's: 2 may be the job's own
    parser.add_argument(
        "--wait",
        default="20s",
        metavar="TIME",
        help="how long to wait for a message, such as 20s or 5m (default: 20s); then the exit status is 75",
    )
    parser.add_argument(
        "--message",
        metavar="FILE",
        help="run the message in this file (- is standard input), without the queue: a body, or one message as "
        "`aws sqs receive-message` prints it or Lambda is given it",
    )
    parser.add_argument(
        "--offline", action="store_true", help="with --message: no AWS at all, the output goes to the terminal only"
    )
    parser.add_argument(
        "--dead-letter",
        action="store_true",
        help="run a message of the dead-letter queue, which stays there: delete or redrive it when all is well",
    )
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="show what would run, as whom and with what, and whether it would be admitted now, and run nothing; a "
        "message of the queue is handed back at "
        "once, and SQS counts that as one receive (towards the redrive policy's maxReceiveCount)",
    )
    parser.add_argument("--json", action="store_true", help="with --dry-run: show it as JSON")


def execute(args: argparse.Namespace) -> int:
    """Run one message; the job's own exit status, or 124, 125, 126, 127, 128+n, 75."""
    from runner import config, log  # noqa: PLC0415 - `--help` needs none of it
    from runner.cli import unit_environment  # noqa: PLC0415
    from runner.protocol.units import parse_duration  # noqa: PLC0415

    if args.offline and args.message is None:
        raise CronRunnerError("cannot run offline without a message: add --message FILE")
    if args.json and not args.dry_run:
        raise CronRunnerError("cannot use --json without --dry-run: the job's own output is what run-once prints")
    try:
        wait = parse_duration(args.wait)
    except ValueError as error:
        raise CronRunnerError(f"cannot use --wait {args.wait}: {error}") from error
    if args.dead_letter and (args.message is not None or args.offline):
        raise CronRunnerError("cannot use --dead-letter with --message or --offline: leave one of them out")
    unit_environment.take(args.config)
    try:
        settings = config.load(args.config, os.environ, offline=args.offline)
    except ConfigError as error:
        error.exit_status = 125  # every other number may be the job's
        raise
    log.configure("warning")
    given = None if args.message is None else _given(args.message)
    if given is None and (args.dry_run or args.dead_letter):
        given = _peeked(settings, wait, dead_letters=args.dead_letter)
        if given is None:
            return NO_MESSAGE
    if args.dry_run and given is not None:
        from runner.cli.runs.dry_run import dry_run  # noqa: PLC0415

        return dry_run(settings, given, as_json=args.json)
    from runner.once.once import once  # noqa: PLC0415

    return once(settings, given=given, wait=wait, offline=args.offline)


def _given(name: str) -> Given:
    from runner.once.once import Given  # noqa: PLC0415

    try:
        text = sys.stdin.read() if name == "-" else Path(name).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise CronRunnerError(
            f"cannot read the message {name or 'of a file without a name'}: {why}; give a file, or - for standard input"
        ) from error
    body, message_id = _captured(text)
    return Given(body, message_id or f"once-{os.urandom(8).hex()}")


def _captured(text: str) -> tuple[str, str]:
    """The body, also out of what ``aws sqs receive-message`` prints, or Lambda is given of a queue."""
    if not text.strip():
        raise CronRunnerError("cannot run an empty message: there was none to capture; look at the queue's depth")
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text, ""
    several = _listed_in(value)
    if several is None:
        return text, ""
    messages = value[several]
    body, identity, tool = _CAPTURES[several]
    if len(messages) != 1:
        raise CronRunnerError(
            f"cannot run {len(messages)} messages at once: keep one of the list, as "
            f"`jq '{{{several}: [.{several}[0]]}}'` does"
        )
    [message] = messages
    if not isinstance(message, dict) or not isinstance(message.get(body), str):
        raise CronRunnerError(f"cannot run the message: it has no {body}; capture it with {tool}")
    return message[body], str(message.get(identity, ""))


def _listed_in(value: object) -> str | None:
    """The field that lists captured messages. Lambda's records of another source than a queue are none."""
    if not isinstance(value, dict):
        return None
    if isinstance(value.get("Messages"), list):
        return "Messages"
    records = value.get("Records")
    of_a_queue = isinstance(records, list) and all(
        isinstance(record, dict) and record.get("eventSource") == "aws:sqs" for record in records
    )
    return "Records" if of_a_queue else None


def _peeked(settings: Config, wait: float, *, dead_letters: bool) -> Given | None:
    from runner.once.explain import peek  # noqa: PLC0415
    from runner.protocol.units import format_duration  # noqa: PLC0415

    given = peek(settings, wait, dead_letters=dead_letters)
    if given is None:
        what = "dead letter" if dead_letters else "message"
        printing.note(f"no {what} came within {format_duration(wait)}")
    return given
