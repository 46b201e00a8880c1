"""Which fire times of which jobs are to be enqueued for a stretch of time. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

from runner.control.timetable.schedule import local
from runner.errors import CronRunnerError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from runner.control.definition import JobDefinition
    from runner.control.timetable.firing import Time, Timetable

T_co = TypeVar("T_co", covariant=True)

ON_TIME_S: Final = 150.0
"""A fire time that is older was missed: the scheduler runs each minute, and one turn may fail without notice."""
CATCH_UP_AT_MOST_S: Final = 7 * 86_400.0
_FIRST_LOOK_S: Final = 3600.0


class Times(Protocol[T_co]):
    """What is due, in order: of a schedule its times, of a timetable these and when they are sent."""

    def due(self, after: float, until: float) -> Sequence[T_co]: ...


@dataclass(frozen=True, slots=True, order=True)
class Fire:
    """A job that is due; the order is that of ``place``, the same whenever a stretch of time is looked at.

    ``at`` is when it is sent, ``scheduled`` the fire time that its run is named by. ``skipped``: nothing is sent, as
    its calendars leave out the day.
    """

    at: float
    name: str
    scheduled: float
    job: JobDefinition = field(compare=False)
    skipped: bool = field(default=False, compare=False)

    @property
    def why(self) -> str:
        """Why it is skipped: the calendars that leave out its day."""
        return self.job.timing.why(local(self.scheduled, self.job.timezone).date())

    @property
    def place(self) -> str:
        """Where it stands among the fires of its group."""
        place = f"{self.at:015.3f} {self.name}"
        # Where its splay was changed two of its fire times may be sent at once. A blank is before all of a name.
        return place if self.at == self.scheduled else f"{place} {self.scheduled:015.3f}"


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch (``after``, ``until``] of which all fire times but ``kept`` are left out."""

    timetable: Timetable
    after: float
    until: float
    kept: int = 0

    def left_out(self) -> int:
        """How many that is: every one has to be looked at, so whoever has many looks at the clock, too."""
        return len(self.timetable.due(self.after, self.until)) - self.kept


@dataclass(frozen=True, slots=True)
class Due:
    """What to enqueue, in order; what is left out; the jobs that could not be looked at, and why.

    ``behind`` says whether there are jobs whose missed times are to be enqueued and were not asked for.
    """

    fires: tuple[Fire, ...]
    spans: tuple[Span, ...] = ()
    faults: tuple[tuple[JobDefinition, str], ...] = ()
    behind: bool = False

    @property
    def dropped(self) -> int:
        """How many fire times are left out because they were missed."""
        return sum(span.left_out() for span in self.spans)


def due(jobs: Iterable[JobDefinition], after: float, until: float, *, listed: bool = True) -> Due:
    """The enabled jobs that are due in (``after``, ``until``], what was missed by each one's own policy.

    What is on time (not older than `ON_TIME_S` at ``until``) is due whatever the policy. Of what was missed, `skip`
    keeps nothing, `last` the latest one where nothing is on time, `all` everything, up to a week back, which is
    listed only where that is asked for. A job that cannot be read is a fault of its own.
    """
    fires: list[Fire] = []
    spans: list[Span] = []
    faults: list[tuple[JobDefinition, str]] = []
    behind = False
    for job in jobs:
        try:
            times, left = _of_job(job, after, until, listed=listed)
        except Exception as error:  # noqa: BLE001 - whatever is wrong with one job, the others are due; it is told
            faults.append((job, str(error)))
            continue
        fires += times
        spans += left
        behind = behind or (job.missed == "all" and job.enabled and not listed and _start(job, after) < cut(until))
    fires.sort()
    return Due(tuple(fires), tuple(spans), tuple(faults), behind)


def unreadable(jobs: Iterable[JobDefinition]) -> tuple[tuple[JobDefinition, str], ...]:
    """The jobs whose schedule cannot be read, and why, where somebody else fires them."""
    faults = []
    for job in jobs:
        try:
            job.parsed()
        except CronRunnerError as error:
            faults.append((job, str(error)))
    return tuple(faults)


def latest(times: Times[T_co], after: float, until: float, count: int) -> list[T_co]:
    """The last ``count`` of what is due in (``after``, ``until``], in order, found without those before them."""
    width = _FIRST_LOOK_S
    while True:
        start = max(after, until - width)
        found = times.due(start, until)
        if len(found) >= count or start <= after:
            return list(found[-count:])
        width *= 2


def _of_job(job: JobDefinition, after: float, until: float, *, listed: bool) -> tuple[list[Fire], list[Span]]:
    """What is to be enqueued or told as skipped, and the stretches that are left out."""
    timetable = job.timetable()
    if timetable is None or not job.enabled:
        return [], []
    start, on_time = _start(job, after), cut(until)
    kept = _fires(job, timetable, max(start, on_time), until)
    if start >= on_time:
        return kept, []
    if job.missed == "all":
        oldest = max(start, until - CATCH_UP_AT_MOST_S)
        missed = _fires(job, timetable, oldest, on_time) if listed else []
        return missed + kept, [Span(timetable, start, oldest)] if start < oldest else []
    if job.missed == "last" and not any(not fire.skipped for fire in kept):
        last = latest(timetable, start, on_time, 1)
        skipped = [] if kept else latest(_LeftOut(timetable), start, on_time, 1)
        more = [_fire(job, time) for time in last] + [
            _fire(job, time, skipped=True) for time in skipped if not last or time > last[0]
        ]
        return more + kept, [Span(timetable, start, on_time, len(last))]
    return kept, [Span(timetable, start, on_time)]


@dataclass(frozen=True, slots=True)
class _LeftOut:
    """The times that a job's calendars leave out."""

    timetable: Timetable

    def due(self, after: float, until: float) -> list[Time]:
        return self.timetable.left_out(after, until)


def _fires(job: JobDefinition, timetable: Timetable, after: float, until: float) -> list[Fire]:
    sent = [_fire(job, time) for time in timetable.due(after, until)]
    return sent + [_fire(job, time, skipped=True) for time in timetable.left_out(after, until)]


def _fire(job: JobDefinition, time: Time, *, skipped: bool = False) -> Fire:
    return Fire(time.at, job.name, time.scheduled, job, skipped)


def _start(job: JobDefinition, after: float) -> float:
    return max(after, job.since)


def cut(until: float) -> float:
    """What is due behind this moment is on time. Between two seconds, where no fire time is, so that no rounding of
    it on its way through the table puts one on both sides, or on neither."""
    return math.ceil(until - ON_TIME_S) - 0.5
