"""``cron-runner hosts``: the hosts of the fleet, and when each was last heard of."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

from runner.cli import fleet, printing

if TYPE_CHECKING:
    import argparse

    from runner.aws.session import Session
    from runner.aws.table import Table

EXAMPLE: Final = """\
cron-runner hosts
cron-runner hosts --group web --json
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Whose hosts."""
    fleet.add_options(parser)


def execute(args: argparse.Namespace) -> int:
    """Show them, by group; those that are silent say for how long."""
    from runner.control.hosts import host_of, reported  # noqa: PLC0415 - `--help` needs none of it
    from runner.protocol.units import parse_time  # noqa: PLC0415 - as above

    async def work(_: Session, table: Table) -> list[dict[str, Any]]:
        return [host_of(item, time.time()) for item in await reported(table, args.group)]

    hosts = fleet.run(args, work)
    if args.json:
        printing.document(hosts)
        return 0
    if not hosts:
        printing.say("no host has reported itself; each does where [fleet] table and report are set")
        return 0
    rows = [
        [
            one["group"],
            one["host"],
            one["state"],
            one["version"] or "-",
            "-" if one["running"] is None else str(one["running"]),
            f"{fleet.span(max(0.0, time.time() - parse_time(one['seen_at'])))} ago",
            one["why"] or "",
        ]
        for one in hosts
    ]
    printing.lines(*fleet.aligned(("GROUP", "HOST", "STATE", "VERSION", "RUNNING", "SEEN", "REASON"), rows, "HOST"))
    return 0
