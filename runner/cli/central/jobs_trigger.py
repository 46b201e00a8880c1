"""``cron-runner jobs trigger``: a run of a job now."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from runner.cli import fleet, printing
from runner.cli.run_ids import run_id_of
from runner.cli.signing import signer_of

if TYPE_CHECKING:
    import argparse

    from runner.aws.session import Session
    from runner.aws.table import Table


def trigger(args: argparse.Namespace) -> int:
    """Enqueue it and print its id; with an id that was given before it is the same run."""
    from runner.aws.sqs import Outgoing, Queue  # noqa: PLC0415 - `--help` needs none of it
    from runner.cli.runs.send_delivery import deliver  # noqa: PLC0415
    from runner.control import store  # noqa: PLC0415
    from runner.control.trigger import triggered  # noqa: PLC0415

    signer = signer_of(args.key) if args.key else None
    given = None if args.run_id is None else run_id_of(args.run_id, "trigger a run")

    async def work(session: Session, table: Table) -> dict[str, str]:
        job = await store.job(table, args.job, args.group)
        group = await store.group(table, job.group)
        run_id, body = triggered(job, now=time.time(), by=fleet.whoami(), signer=signer, run_id=given)
        queue = Queue(session, url=group.queue)
        outgoing = Outgoing.of_run(body, job.name, run_id, fifo=queue.fifo)
        again = f"trigger it again with --run-id {run_id}, and it is one run even if the queue has it already"
        await deliver(queue, outgoing, again)
        return {"job": job.name, "group": job.group, "run_id": run_id, "queue": queue.label}

    sent = fleet.run(args, work)
    if args.json:
        printing.document(sent, indent=None)
    else:
        printing.lines(sent["run_id"])
    return 0
