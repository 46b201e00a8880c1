"""``cron-runner jobs cost``: what AWS bills for the table's jobs in a month."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import TYPE_CHECKING

from runner.cli import fleet, printing

if TYPE_CHECKING:
    import argparse

    from runner.aws.session import Session
    from runner.aws.table import Table


def cost(args: argparse.Namespace) -> int:
    """The bill, position by position."""
    from runner.control import cost as costs  # noqa: PLC0415 - `--help` needs none of it
    from runner.control import store  # noqa: PLC0415

    async def work(_: Session, table: Table) -> int:
        jobs = [job for job in await store.jobs(table) if args.group in (None, job.group)]
        groups = await store.groups(table)

        def fire(group: str) -> str:
            return groups[group].fire if group in groups else "scheduler"

        of = costs.fleet_of(jobs, fire, hosts=args.hosts, run_s=args.took, now=time.time())
        lines = costs.bill(of)
        total = sum(line.usd for line in lines)
        if args.json:
            positions = [asdict(line) for line in lines]
            printing.document({"prices": costs.PRICES_OF, "fleet": asdict(of), "usd": total, "positions": positions})
            return 0
        printing.lines(
            f"{of.jobs:,} jobs of {of.groups:,} groups, {of.runs:,.0f} runs by their schedules in 30 days,"
            f" {of.hosts:,} hosts: about {total:,.2f} USD a month"
        )
        cells = [(line.by, line.what, f"{line.count:,.4g}", f"{line.usd:,.2f}") for line in lines]
        printing.lines(*fleet.aligned(("BY", "WHAT", "COUNT", "USD"), cells, "WHAT"))
        printing.lines(f"prices: {costs.PRICES_OF}; output in CloudWatch Logs and the hosts themselves come on top")
        return 0

    return int(fleet.run(args, work))
