"""``cron-runner jobs backfill``: the fire times of a stretch that have no run, run after all."""

from __future__ import annotations

import sys
import time
from collections import Counter
from typing import TYPE_CHECKING, Final

from runner.cli import fleet, printing
from runner.cli.signing import add_key, signer_of
from runner.errors import CronRunnerError, WrongUsage

if TYPE_CHECKING:
    import argparse

    from runner.aws.session import Session
    from runner.aws.table import Table
    from runner.control.backfill import Found
    from runner.control.definition import JobDefinition
    from runner.protocol.signed import Signer

ASKED_FROM: Final = 100
"""More fire times than these are sent only where somebody says yes."""
_SHOWN: Final = 20
NOT_SENT: Final = 1


def add_options(parser: argparse.ArgumentParser) -> None:
    """Which fire times, and how sure."""
    parser.add_argument(
        "--from", dest="begin", metavar="TIME", required=True, help="the first: a day of the job's zone, or a time"
    )
    parser.add_argument(
        "--to", dest="end", metavar="TIME", help="the last, included; a day is meant whole (default: now)"
    )
    parser.add_argument("--dry-run", action="store_true", help="show what would be sent, and send nothing")
    parser.add_argument("--yes", action="store_true", help=f"do not ask, as is done for more than {ASKED_FROM}")
    parser.add_argument("--note", metavar="TEXT", default="", help="why, for the audit trail")
    add_key(parser, "sign each run for itself, where hosts take no job's own signature later than an hour")


def backfill(args: argparse.Namespace) -> int:
    """Send what is missing; 1 where somebody said no."""
    from runner.aws import directives  # noqa: PLC0415 - `--help` needs none of it
    from runner.control import backfill as work_of  # noqa: PLC0415
    from runner.control import store  # noqa: PLC0415

    signer = signer_of(args.key) if args.key else None
    now = time.time()

    async def work(session: Session, table: Table) -> int:
        job = await store.job(table, args.job, args.group)
        group = await store.group(table, job.group)
        begin, end = _stretch(args, job, now)
        found = await work_of.look(table, job, group, begin, end, now)
        sent: list[str] = []
        if not args.json:
            printing.lines(*_text(job, found, dry=args.dry_run))
        if found.missing and not args.dry_run:
            if len(found.missing) > ASKED_FROM and not args.yes and not _agreed(len(found.missing)):
                return NOT_SENT
            what = f"JOB#{job.name} backfill {_run_id(job, found.missing[0])} {len(found.missing)}"
            await directives.record(table, job.group, what, by=fleet.whoami(), why=args.note, now=now)
            sent = await _send(session, group.queue, job, found, signer)
        if args.json:
            printing.document(work_of.as_json(job, found, sent))
        elif not args.dry_run:
            printing.lines(f"sent {len(sent)}" if sent else "nothing to send")
        return 0

    return int(fleet.run(args, work))


def _stretch(args: argparse.Namespace, job: JobDefinition, now: float) -> tuple[float, float]:
    """From when to when, in unix seconds; a day that is not over yet counts up to now."""
    from runner.control.backfill import moment  # noqa: PLC0415 - `--help` needs none of it

    try:
        begin = moment(args.begin, job.timezone, end=False)
    except ValueError as error:
        raise WrongUsage(f"cannot read --from: {error}, or a day such as 2026-01-31") from None
    try:
        end = now if args.end is None else moment(args.end, job.timezone, end=True)
        ahead = args.end is not None and moment(args.end, job.timezone, end=False) > now
    except ValueError as error:
        raise WrongUsage(f"cannot read --to: {error}, or a day such as 2026-01-31") from None
    if begin > now or ahead:
        raise WrongUsage("cannot backfill what is to come: its schedule fires that itself; give times that are over")
    if end < begin:
        raise WrongUsage("cannot backfill: --to is before --from")
    return begin, min(end, now)


async def _send(session: Session, queue_url: str, job: JobDefinition, found: Found, signer: Signer | None) -> list[str]:
    """Send them, ten at a time, in order; the run ids that were taken."""
    from runner.aws.sqs import Outgoing, Queue, batches  # noqa: PLC0415 - `--help` needs none of it
    from runner.control.backfill import messages  # noqa: PLC0415
    from runner.control.scheduler import insist  # noqa: PLC0415

    queue = Queue(session, url=queue_url, sends_as="enqueue")
    outgoing = [
        Outgoing(run_id, body, job.name if queue.fifo else None, run_id if queue.fifo else None)
        for run_id, body in messages(job, found.missing, signer, now=time.time())
    ]
    sent: list[str] = []
    for batch in batches(outgoing, lambda message: len(message.body)):
        refused = await insist(queue, batch)
        sent += [one.id for one in batch if one.id not in refused]
        if refused:
            raise CronRunnerError(
                f"cannot send run {refused[0]}: SQS never takes its message; {len(sent)} were sent: correct the job,"
                " and do it again, which sends the others"
            )
    return sent


def _text(job: JobDefinition, found: Found, *, dry: bool) -> list[str]:
    from runner.control.timetable.schedule import local  # noqa: PLC0415 - `--help` needs none of it

    lines = [
        f"  {local(at, job.timezone):%a %Y-%m-%d %H:%M %Z}  {run_id}"
        for at, run_id in ((at, _run_id(job, at)) for at in found.missing[:_SHOWN])
    ]
    if len(found.missing) > _SHOWN:
        lines.append(f"  … and {len(found.missing) - _SHOWN} more")
    counts = [f"{len(found.missing)} {'would be' if dry else 'to be'} sent"]
    if found.there:
        states = ", ".join(f"{number} {state}" for state, number in sorted(Counter(found.there.values()).items()))
        counts.append(f"{len(found.there)} there already ({states})")
    if found.left_out:
        counts.append(f"{len(found.left_out)} on days that its calendars leave out")
    return [*lines, f"{job.name}: {', '.join(counts)}"]


def _run_id(job: JobDefinition, at: float) -> str:
    from runner.control.definition import run_id_at  # noqa: PLC0415 - `--help` needs none of it

    return run_id_at(job.name, at)


def _agreed(count: int) -> bool:
    if not sys.stdin.isatty():
        raise CronRunnerError(
            f"cannot ask whether to send {count} runs without a terminal; add --yes, or --dry-run to look only"
        )
    return input(f"send {count} runs? [y/N] ").strip().lower() in ("y", "yes")
