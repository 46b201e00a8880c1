"""``cron-runner maintenance JOB on|off``: let the runs of a job be skipped, on every host of its group."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from runner.cli import fleet, printing

if TYPE_CHECKING:
    import argparse

    from runner.aws.session import Session
    from runner.aws.table import Table

EXAMPLE: Final = """\
cron-runner maintenance nightly on --note "database is moved"
cron-runner maintenance nightly off
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which job, on or off, and why."""
    parser.add_argument("job", metavar="JOB")
    parser.add_argument("switch", metavar="on|off", choices=("on", "off"))
    parser.add_argument("--note", metavar="TEXT", default="", help="why")
    fleet.add_options(parser)
    parser.epilog = (
        "Runs of the job that are due meanwhile are skipped, with an event that says so; what runs goes on.\n"
        f"Every host of the group sees it within seconds.\n\n{parser.epilog}"
    )


def execute(args: argparse.Namespace) -> int:
    """Turn it on or off."""
    from runner.aws import directives  # noqa: PLC0415 - `--help` needs none of it
    from runner.control import store  # noqa: PLC0415

    on = args.switch == "on"

    async def work(_: Session, table: Table) -> tuple[str, str]:
        # A job that nobody applied may be under maintenance too, where its group is named.
        group = args.group or (await store.job(table, args.job)).group
        before = (await directives.read(table, group)).maintenance.get(args.job) if on else None
        note = args.note or (before.why if before is not None else "")
        await directives.maintenance(table, group, args.job, on=on, by=fleet.whoami(), why=note, now=time.time())
        return str(group), note

    group, note = fleet.run(args, work)
    told = f"{args.job} of group {group} is {'under maintenance: its runs are skipped' if on else 'run again'}"
    if args.json:
        printing.document({"job": args.job, "group": group, "maintenance": on}, indent=None)
    else:
        printing.lines(f"{told}{fleet.still(args.note, note)}")
    return 0
