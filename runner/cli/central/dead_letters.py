"""``cron-runner dead-letters list | show | redrive | drop``: what no host could run, why, and what becomes of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from runner.cli import printing
from runner.cli.numbers import whole
from runner.errors import NotThere, WrongUsage

if TYPE_CHECKING:
    import argparse

    from runner.cli.central.dead_letters_held import Letter

EXAMPLE: Final = """\
cron-runner dead-letters list
cron-runner dead-letters show 5fea7756-0ea4-451a-a703-a558b933e274
cron-runner dead-letters redrive --all
cron-runner dead-letters redrive --new-run-id 5fea7756-0ea4-451a-a703-a558b933e274
cron-runner dead-letters drop 5fea7756-0ea4-451a-a703-a558b933e274
"""
_EXAMPLES: Final = {"list": "--json", "show": "MESSAGE_ID", "redrive": "--all", "drop": "MESSAGE_ID"}
_MOST: Final = 1000
_TITLES: Final = ("MESSAGE", "SENT", "JOB", "RUN", "RECEIVED", "WHY")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The words below it."""
    from runner.cli.words import Words  # noqa: PLC0415 - main imports this module when it is asked for

    parser.epilog = (
        "WHY is what a host with this configuration finds wrong with the message, or that it has been received as\n"
        "often as its queue allows. To look at them each is received once and handed back at once.\n"
        f"Exit status: 0, 1 a message that was named is not there.\n\n{parser.epilog}"
    )
    words = Words(parser, "dead-letters")

    def word(name: str, summary: str) -> argparse.ArgumentParser:
        added = words.add(name, summary, _EXAMPLES[name])
        added.set_defaults(what=name)
        return added

    listed = word("list", "the messages of the dead-letter queue, and why each is there")
    listed.add_argument("--limit", metavar="N", type=whole(1, _MOST), default=100, help="so many at most (100)")
    shown = word("show", "one of them, values of variables masked")
    shown.add_argument("message_id", metavar="MESSAGE_ID", nargs="+", help="as `list` names it")
    for name, summary in (
        ("redrive", "put them on the job queue again, under the same run id"),
        ("drop", "delete them"),
    ):
        added = word(name, summary)
        added.add_argument("message_id", metavar="MESSAGE_ID", nargs="*", help="as `list` names it")
        added.add_argument("--all", action="store_true", help=f"all of them, {_MOST} at most")
        if name == "redrive":
            added.add_argument("--new-run-id", action="store_true", help="each as another run than it was")


def execute(args: argparse.Namespace) -> int:
    """Do what was asked; 1 where a message that was named is not there."""
    if args.what in ("redrive", "drop") and args.all == bool(args.message_id):
        raise WrongUsage(f"cannot {args.what} that: name MESSAGE_IDs, or say --all")
    from runner.cli.central.dead_letters_held import do  # noqa: PLC0415 - `--help` needs none of it

    named = list(dict.fromkeys(getattr(args, "message_id", ())))
    letters = do(args, named, args.limit if args.what == "list" else _MOST)
    missing = [one for one in named if one not in {letter.message_id for letter in letters}]
    told = [_told(letter, args.what) for letter in letters]
    if args.json:
        printing.document(told)
    elif args.what == "list":
        _list(letters)
    elif args.what == "show":
        for letter in letters:
            printing.lines(*_lines(letter))
    else:
        for letter in letters:
            printing.lines(
                f"dropped {letter.message_id}"
                if args.what == "drop"
                else f"{letter.message_id} is on the job queue again, as run {letter.sent_as}"
            )
        if not letters and args.all:
            printing.say("no dead letters")
    if missing:
        raise NotThere(
            f"cannot {args.what} {', '.join(missing)}: the dead-letter queue has no such message, or somebody else "
            "holds it; see `cron-runner dead-letters list`"
        )
    return 0


def _told(letter: Letter, what: str) -> dict[str, Any]:
    from runner.protocol.units import format_time  # noqa: PLC0415 - `--help` needs none of it

    told: dict[str, Any] = {
        "message_id": letter.message_id,
        "sent_at": format_time(letter.sent_at),
        "received": letter.received,
        "job": letter.job,
        "run_id": letter.run_id,
        "reason": letter.reason,
        "detail": letter.detail,
    }
    if what == "show":
        told |= {"body": letter.shown, "body_sha256": letter.sha256, "attributes": letter.attributes}
    if what == "redrive":
        told["sent_as"] = letter.sent_as
    return told


def _list(letters: list[Letter]) -> None:
    from runner.cli import fleet  # noqa: PLC0415 - `--help` needs none of it
    from runner.protocol.units import format_time  # noqa: PLC0415

    if not letters:
        printing.say("no dead letters")
        return
    rows = [
        (
            letter.message_id,
            fleet.clock(format_time(letter.sent_at)),
            letter.job or "-",
            letter.run_id or "-",
            str(letter.received),
            f"{letter.reason}: {letter.detail}",
        )
        for letter in letters
    ]
    printing.lines(*fleet.aligned(_TITLES, rows, "MESSAGE"))


def _lines(letter: Letter) -> list[str]:
    from runner.protocol.units import format_time  # noqa: PLC0415 - `--help` needs none of it

    return [
        f"message {letter.message_id}",
        f"  sent      {format_time(letter.sent_at)}, received {letter.received} times",
        f"  run       {letter.run_id or '-'} of {letter.job or 'no job'}",
        f"  why       {letter.reason}: {letter.detail}",
        f"  body      {letter.shown}",
    ]
