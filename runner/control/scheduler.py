"""The scheduler's minute: enqueues what is due, and lets the watch look for what did not happen."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import structlog

from runner.aws.sqs import Outgoing, Queue, batches
from runner.control import store, turn, watch
from runner.control.definition import message_at, run_id_at
from runner.control.due import due
from runner.errors import AwsUnavailable, CronRunnerError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from runner.aws.session import Session
    from runner.aws.table import Table
    from runner.control.definition import GroupDefinition, JobDefinition
    from runner.control.due import Fire
    from runner.control.turn import Turn

log: structlog.stdlib.BoundLogger = structlog.get_logger()

SLICE: Final = 200
"""Fires between two notes of how far it has come: what a crash may send twice."""
BUDGET_S: Final = 45.0
"""A function that still has fires to send by then leaves them to the next minute."""
_TRIES: Final = 4
_TRY_AGAIN_S: Final = 0.3
_MISSED: Final = "the scheduler was away; each job's `missed` says what is caught up with; its log says why it was away"
_OVER: Final = (
    "the next minute sends the rest; where that comes often, give the function more memory, which is more CPU"
)
_TAKEN_OVER: Final = "this one took longer than its turn, and another goes on; see how long its invocations take"
_REFUSED: Final = "SQS never takes it, so this run is left out; correct the job's message: `cron-runner jobs show`"


class NotEnqueued(CronRunnerError):
    """SQS did not take all that was due; the next minute goes on from there."""


@dataclass(slots=True)
class Report:
    """What one minute has done."""

    enqueued: int = 0
    dropped: int = 0
    refused: int = 0
    notices: int = 0
    lost: int = 0
    busy: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    unfinished: list[str] = field(default_factory=list)


async def minute(session: Session, table: Table, *, now: float) -> Report:
    """Do what is due at ``now`` (unix seconds) in every group.

    A group that fails, as for a queue that is gone, holds up no other; it is in the report, and is caught up with.
    """
    deadline = time.monotonic() + BUDGET_S
    report = Report()
    groups, jobs = await asyncio.gather(store.groups(table), store.jobs(table))
    of_group: dict[str, list[JobDefinition]] = {name: [] for name in groups}
    for job in jobs:
        of_group.setdefault(job.group, []).append(job)
    minutes = (
        _Minute(session, table, group, of_group[name], now, deadline, report).run() for name, group in groups.items()
    )
    await asyncio.gather(*minutes)
    for name in of_group.keys() - groups.keys():
        report.failed[name] = "the group is not in the table: apply a job file with its [groups.NAME]"
    try:
        report.lost, news = await watch.open_runs(table, now=now)
        report.notices += news
    except AwsUnavailable as error:
        report.failed["watch"] = str(error)
    return report


@dataclass(slots=True)
class _Minute:
    """One group's minute."""

    session: Session
    table: Table
    group: GroupDefinition
    jobs: list[JobDefinition]
    now: float
    deadline: float
    report: Report

    async def run(self) -> None:
        try:
            held = await turn.take(self.table, self.group.name, now=self.now)
            if held is None:
                self.report.busy.append(self.group.name)
                return
            while held is not None:
                held = await self._stretch(held)
        except CronRunnerError as error:
            self.report.failed[self.group.name] = str(error)
            log.error("group_not_scheduled", group=self.group.name, error=str(error))

    async def _stretch(self, held: Turn) -> Turn | None:
        """Enqueue and watch one stretch of time; the next one where there is time left between its end and now."""
        if self.group.fire == "scheduler":
            found = due(self.jobs, held.after, held.until)
            left = [fire for fire in found.fires if fire.place > held.reached]
            if not await self._enqueue(held, left):
                return None
            if not held.reached and found.dropped:
                self.report.dropped += found.dropped
                log.warning("fire_times_missed", group=self.group.name, dropped=found.dropped, detail=_MISSED)
        self.report.notices += await watch.due_runs(
            self.table, self.group, self.jobs, held.after, held.until, now=self.now
        )
        if held.until < self.now:
            following = turn.following(held, self.now)
            return following if await turn.reached(self.table, following, "") else None
        await turn.done(self.table, held)
        return None

    async def _enqueue(self, held: Turn, fires: Sequence[Fire]) -> bool:
        """Send them all, with a note after each slice; False where the turn has to end before."""
        queue = Queue(self.session, url=self.group.queue, sends_as="enqueue")
        for start in range(0, len(fires), SLICE):
            if time.monotonic() > self.deadline:
                self.report.unfinished.append(self.group.name)
                log.warning("minute_is_over", group=self.group.name, left=len(fires) - start, detail=_OVER)
                return False
            piece = fires[start : start + SLICE]
            await self._send(queue, piece)
            # Behind the last slice too: what comes after it may fail, and must not have it sent again.
            if not await turn.reached(self.table, held, piece[-1].place):
                log.warning("turn_taken_over", group=self.group.name, detail=_TAKEN_OVER)
                return False
        return True

    async def _send(self, queue: Queue, fires: Sequence[Fire]) -> None:
        messages = [_outgoing(fire, fifo=queue.fifo) for fire in fires]
        cut = batches(messages, lambda message: len(message.body))
        answers = await asyncio.gather(*(_insist(queue, batch) for batch in cut), return_exceptions=True)
        for answer in answers:
            if isinstance(answer, BaseException):
                raise answer
            # Never to be taken: to try it again each minute would hold up every other job of the group for ever.
            self.report.refused += len(answer)
            for run_id in answer:
                log.error("message_refused", group=self.group.name, run_id=run_id, detail=_REFUSED)
        self.report.enqueued += len(fires)


async def _insist(queue: Queue, batch: Sequence[Outgoing]) -> list[str]:
    """Send one batch, what SQS refuses for now again; the run ids that it will never take."""
    left, never = list(batch), list[str]()
    for attempt in range(_TRIES):
        try:
            failed = await queue.send(left)
        except AwsUnavailable:
            if attempt == _TRIES - 1:
                raise
        else:
            never += [left[one.index].id for one in failed if one.sender_fault]
            left = [left[one.index] for one in failed if not one.sender_fault]
            if not left:
                return never
        await asyncio.sleep(_TRY_AGAIN_S * 2**attempt)
    raise NotEnqueued(f"cannot enqueue {len(left)} messages on {queue.label}: SQS refused them {_TRIES} times")


def _outgoing(fire: Fire, *, fifo: bool) -> Outgoing:
    run_id = run_id_at(fire.job.name, fire.at)
    return Outgoing(
        id=run_id,
        body=message_at(fire.job, fire.at),
        group_id=fire.job.name if fifo else None,
        dedup_id=run_id if fifo else None,
    )
