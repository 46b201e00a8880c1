"""The scheduler's minute: enqueues what is due, and lets the watch look for what did not happen."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

import structlog

from runner.aws.sqs import Outgoing, Queue, batches
from runner.control import skips, store, turn, watch
from runner.control.chains import firing
from runner.control.definition import message_at, run_id_at
from runner.control.due import CATCH_UP_AT_MOST_S, cut, unreadable
from runner.control.pace import Pace
from runner.control.turn import Behind
from runner.errors import AwsUnavailable, CronRunnerError
from runner.protocol.table import DAY_S
from runner.protocol.units import format_time

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from runner.aws.session import Session
    from runner.aws.table import Table
    from runner.control.definition import GroupDefinition, JobDefinition
    from runner.control.definitions import Definitions
    from runner.control.due import Fire, Span
    from runner.control.recording.measured import Measured
    from runner.control.turn import Turn

log: structlog.stdlib.BoundLogger = structlog.get_logger()

SLICE: Final = 200
"""Fires between two notes of how far it has come: what a crash may send twice."""
WATCH_AGAIN_S: Final = 3600.0
_FIRST_WIDTH_S: Final = 600.0
_FIRE_S: Final = 10.0
_TRIES: Final = 4
_TRY_AGAIN_S: Final = 0.3
_MISSED: Final = "the scheduler was away; each job's `missed` says what is caught up with; its log says why it was away"
_OVER: Final = (
    "the next minute sends the rest; where that comes often, give the function more memory, which is more CPU"
)
_NO_GROUP: Final = (
    "the group is not in the table, or of another version: apply a job file with its [groups.NAME], or upgrade this"
)
_TAKEN_OVER: Final = "this one took longer than its turn, and another goes on; see how long its invocations take"
_REFUSED: Final = "SQS never takes it, so this run is left out; correct the job's message: `cron-runner jobs show`"


class NotEnqueued(CronRunnerError):
    """SQS did not take all that was due; the next minute goes on from there."""


class _Stopped(Exception):
    """The turn ends here: its time is over, or it is another's."""


@dataclass(slots=True)
class Report:
    """What one minute has done. ``skipped`` are fire times that calendars leave out, ``left_out`` the jobs (GROUP/NAME)
    that could not be read, and why."""

    enqueued: int = 0
    skipped: int = 0
    dropped: int = 0
    refused: int = 0
    notices: int = 0
    lost: int = 0
    busy: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    unfinished: list[str] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)


async def minute(
    session: Session,
    table: Table,
    *,
    now: float,
    definitions: Definitions | None = None,
    measured: Measured | None = None,
) -> Report:
    """Do what is due at ``now`` (unix seconds) in every group, then catch up with what was missed.

    A group that fails, as for a queue that is gone, holds up no other; it is in the report, and is caught up with.
    With ``definitions``, kept from minute to minute, jobs are read only when they have changed. ``measured`` is told of
    runs that are lost.
    """
    pace = Pace()
    report = Report()
    if definitions is None:
        groups, jobs = await asyncio.gather(store.groups(table), store.jobs(table))
    else:
        groups, jobs = await definitions.at(now)
    of_group: dict[str, list[JobDefinition]] = {name: [] for name in groups}
    for job in jobs:
        of_group.setdefault(job.group, []).append(job)
    minutes = [_Minute(session, table, group, of_group[name], now, pace, report) for name, group in groups.items()]
    # What is on time comes first in all groups: who has much to catch up with holds up nobody.
    await asyncio.gather(*(one.on_time() for one in minutes))
    await asyncio.gather(*(one.missed() for one in minutes))
    for name in of_group.keys() - groups.keys():
        report.failed[name] = _NO_GROUP
    try:
        report.lost, news = await watch.open_runs(table, now=now, measured=measured)
        report.notices += news
    except CronRunnerError as error:
        report.failed["watch"] = str(error)
    try:
        owed = await firing.resend(table, session, now=now, within=_FIRE_S)
        report.failed |= {f"{group}: what runs after others": error for group, error in owed.items()}
    except CronRunnerError as error:
        report.failed["what runs after others"] = str(error)
    return report


@dataclass(slots=True)
class _Minute:
    """One group's minute."""

    session: Session
    table: Table
    group: GroupDefinition
    jobs: list[JobDefinition]
    now: float
    pace: Pace
    report: Report
    held: Turn | None = None
    behind: list[Behind] = field(default_factory=list)
    watched: float | None = None
    spans: tuple[Span, ...] = ()

    async def on_time(self) -> None:
        """Take the turn, enqueue what is on time, look for what did not happen."""
        since = [job.since for job in self.jobs if job.schedule and job.since]
        try:
            begin = min(since, default=None)
            self.held = await turn.take(self.table, self.group.name, now=self.now, begin=begin)
        except CronRunnerError as error:
            self.report.failed[self.group.name] = str(error)
            log.error("group_not_scheduled", group=self.group.name, error=str(error))
            return
        if self.held is None:
            self.report.busy.append(self.group.name)
            return
        await self._carefully(self._on_time)

    async def missed(self) -> None:
        """Catch up, and give the turn back."""
        if self.held is not None:
            await self._carefully(self._missed)

    async def _carefully(self, step: Callable[[Turn], Awaitable[None]]) -> None:
        """A step; where it fails or cannot go on the turn stays taken until its time is over, and the next goes on."""
        assert self.held is not None
        try:
            await step(self.held)
        except _Stopped:
            self.held = None
        except CronRunnerError as error:
            self.held = None
            self.report.failed[self.group.name] = str(error)
            log.error("group_not_scheduled", group=self.group.name, error=str(error))

    async def _on_time(self, held: Turn) -> None:
        faults: Sequence[tuple[JobDefinition, str]]
        if self.group.fire == "scheduler":
            found = await self.pace.due(self.jobs, held.after, held.until, listed=False)
            faults, self.spans, self.behind = found.faults, found.spans, list(held.behind)
            if found.behind:
                await self._open(held)
            fires = [fire for fire in found.fires if fire.place > held.reached]
            if not await self._enqueue(fires, self.pace.over, lambda place: turn.reached(self.table, held, place)):
                self.report.unfinished.append(self.group.name)
                log.warning("minute_is_over", group=self.group.name, detail=_OVER)
                raise _Stopped
            if fires or found.spans or found.behind:
                self._ours(await turn.fired(self.table, held))
        else:
            faults = unreadable(self.jobs)
        try:
            await self._watch(held, faults)
        except CronRunnerError as error:
            self._not_watched(held, str(error))

    async def _open(self, held: Turn) -> None:
        """Note what is to be caught up with, before what is on time is sent: that counts from there on."""
        end = cut(held.until)
        start = max(held.after, held.behind_to, held.until - CATCH_UP_AT_MOST_S)
        if start < end:
            # A turn before this one has sent up to `reached` what was on time then.
            self.behind.append(Behind(max(turn.end_of(start), held.reached), end))
            self._ours(await turn.opened(self.table, held, self.behind))

    async def _watch(self, held: Turn, faults: Sequence[tuple[JobDefinition, str]]) -> None:
        """Tell people what did not happen, and which jobs cannot be read."""
        found = await watch.due_runs(self.table, self.group, self.jobs, held.watched, held.until, now=self.now)
        for job, why in faults:
            self.report.left_out[f"{job.group}/{job.name}"] = why
        more = await watch.left_out(self.table, self.group, faults, now=self.now)
        self.report.notices += found.told + more.told
        for error in (*found.failed, *more.failed):
            self._not_watched(held, error)

    def _not_watched(self, held: Turn, error: str) -> None:
        """What could not be told is looked at again, for an hour."""
        self.watched = max(held.watched, held.until - WATCH_AGAIN_S)
        self.report.failed[f"{self.group.name}: watch"] = error

    async def _missed(self, held: Turn) -> None:
        """What was missed and is to run all the same, in the order of time, as far as there is time."""
        jobs = [job for job in self.jobs if job.missed == "all" and job.enabled and job.schedule]
        width = _FIRST_WIDTH_S
        while self.behind:
            stretch = self.behind[0]
            end = min(stretch.after + width, stretch.until)
            found = await self.pace.due(jobs, stretch.after - 0.5, end, listed=True)
            fires = [fire for fire in found.fires if fire.place > stretch.place]
            if not await self._enqueue(fires, self.pace.late, lambda place: self._caught_up(held, place)):
                break
            self.behind[:1] = [] if end >= stretch.until else [Behind(turn.end_of(end), stretch.until)]
            if self.pace.late():
                break
            width = min(width * 2 if len(fires) < SLICE else width / 2 if len(fires) > 10 * SLICE else width, DAY_S)
        if self.behind:
            log.info("catching_up", group=self.group.name, up_to=format_time(self.behind[0].after))
        dropped, all_of_them = await self.pace.left_out(self.spans)
        if dropped:
            self.report.dropped += dropped
            more = {} if all_of_them else {"at_least": True}
            log.warning("fire_times_missed", group=self.group.name, dropped=dropped, detail=_MISSED, **more)
        self._ours(await turn.done(self.table, held, self.behind, self.watched))

    async def _caught_up(self, held: Turn, place: str) -> bool:
        self.behind[0] = replace(self.behind[0], place=place)
        return await turn.caught_up(self.table, held, self.behind)

    async def _enqueue(
        self, fires: Sequence[Fire], over: Callable[[], bool], note: Callable[[str], Awaitable[bool]]
    ) -> bool:
        """Send them, with a note after each slice; False where time is over before. A first slice is always sent:
        what has no time left in any turn would never be sent."""
        queue = Queue(self.session, url=self.group.queue, sends_as="enqueue")
        for start in range(0, len(fires), SLICE):
            if start and over():
                return False
            piece = fires[start : start + SLICE]
            await self._send(queue, piece)
            # Behind the last slice too: what comes after it may fail, and must not have it sent again.
            self._ours(await note(piece[-1].place))
        return True

    def _ours(self, noted: bool) -> None:
        """Go on only while the turn is this one's."""
        if not noted:
            log.warning("turn_taken_over", group=self.group.name, detail=_TAKEN_OVER)
            raise _Stopped

    async def _send(self, queue: Queue, fires: Sequence[Fire]) -> None:
        skipped = [fire for fire in fires if fire.skipped]
        messages = [_outgoing(fire, fifo=queue.fifo) for fire in fires if not fire.skipped]
        cut = batches(messages, lambda message: len(message.body))
        answers = await asyncio.gather(*(insist(queue, batch) for batch in cut), return_exceptions=True)
        for answer in answers:
            if isinstance(answer, BaseException):
                raise answer
            # Never to be taken: to try it again each minute would hold up every other job of the group for ever.
            self.report.refused += len(answer)
            for run_id in answer:
                log.error("message_refused", group=self.group.name, run_id=run_id, detail=_REFUSED)
        self.report.enqueued += len(messages)
        if skipped:
            await skips.record(self.table, self.group, skipped, now=self.now)
            self.report.skipped += len(skipped)


async def insist(queue: Queue, batch: Sequence[Outgoing]) -> list[str]:
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
    run_id = run_id_at(fire.job.name, fire.scheduled)
    return Outgoing(
        id=run_id,
        body=message_at(fire.job, fire.scheduled),
        group_id=fire.job.name if fifo else None,
        dedup_id=run_id if fifo else None,
    )
