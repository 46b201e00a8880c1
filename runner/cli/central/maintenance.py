"""``cron-runner maintenance JOB on|off``: let the runs of a job be skipped, on every host of its group."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from runner.cli import fleet, printing
from runner.cli.numbers import lasting, moment
from runner.errors import WrongUsage

if TYPE_CHECKING:
    import argparse

    from runner.aws.session import Session
    from runner.aws.table import Table

EXAMPLE: Final = """\
cron-runner maintenance nightly on --note "database is moved"
cron-runner maintenance nightly on --for 2h
cron-runner maintenance nightly on --until 2030-01-31T06:00:00+01:00
cron-runner maintenance nightly off
"""
_LONGEST: Final = "3650d"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which job, on or off, and why."""
    parser.add_argument("job", metavar="JOB")
    parser.add_argument("switch", metavar="on|off", choices=("on", "off"))
    parser.add_argument("--note", metavar="TEXT", default="", help="why")
    ends = parser.add_mutually_exclusive_group()
    ends.add_argument(
        "--for", dest="lasts", metavar="DURATION", type=lasting("1s", _LONGEST), help="it ends by itself after so long"
    )
    ends.add_argument(
        "--until", metavar="TIME", type=moment, help="it ends by itself then, such as 2030-01-31T06:00:00Z"
    )
    fleet.add_options(parser)
    parser.epilog = (
        "Runs of the job that are due meanwhile are skipped, with an event that says so; what runs goes on.\n"
        f"Every host of the group sees it within seconds.\n\n{parser.epilog}"
    )


def execute(args: argparse.Namespace) -> int:
    """Turn it on or off."""
    from runner.aws import directives  # noqa: PLC0415 - `--help` needs none of it
    from runner.control import store  # noqa: PLC0415
    from runner.protocol.units import time_of  # noqa: PLC0415

    on, now = args.switch == "on", time.time()
    until = _end(args, on=on, now=now)

    async def work(_: Session, table: Table) -> tuple[str, str]:
        # A job that nobody applied may be under maintenance too, where its group is named.
        group = args.group or (await store.job(table, args.job)).group
        before = (await directives.read(table, group)).under_maintenance(args.job, now) if on else None
        note = args.note or (before.why if before is not None else "")
        await directives.maintenance(table, group, args.job, on=on, by=fleet.whoami(), why=note, now=now, until=until)
        return str(group), note

    group, note = fleet.run(args, work)
    if args.json:
        said = {"job": args.job, "group": group, "maintenance": on, **({"until": time_of(until)} if on else {})}
        printing.document(said, indent=None)
        return 0
    ends = "" if until is None else f" until {fleet.second(str(time_of(until)))}"
    word = f"under maintenance{ends}: its runs are skipped" if on else "run again"
    printing.lines(f"{args.job} of group {group} is {word}{fleet.still(args.note, note)}")
    return 0


def _end(args: argparse.Namespace, *, on: bool, now: float) -> float | None:
    """When it ends by itself (unix seconds); None: when somebody ends it."""
    from runner.protocol.units import format_time, parse_duration  # noqa: PLC0415 - `--help` needs none of it

    if args.lasts is None and args.until is None:
        return None
    if not on:
        raise WrongUsage("cannot use --for or --until with off: it ends now; leave them out")
    until = float(now + args.lasts if args.until is None else args.until)
    if until <= now:
        raise WrongUsage(f"cannot end it at {fleet.second(format_time(until))}: that is over; give a time to come")
    if until > now + parse_duration(_LONGEST):
        raise WrongUsage(f"cannot end it at {fleet.second(format_time(until))}: give at most {_LONGEST} from now")
    return until
