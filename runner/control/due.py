"""Which fire times of which jobs are to be enqueued for a stretch of time. Pure."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from runner.errors import CronRunnerError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from runner.control.definition import JobDefinition
    from runner.control.schedule import Schedule

ON_TIME_S: Final = 150.0
"""A fire time that is older was missed: the scheduler runs each minute, and one turn may fail without notice."""
CATCH_UP_AT_MOST_S: Final = 7 * 86_400.0
_FIRST_LOOK_S: Final = 3600.0


@dataclass(frozen=True, slots=True, order=True)
class Fire:
    """A job that is due; the order is that of ``place``, the same whenever a stretch of time is looked at."""

    at: float
    name: str
    job: JobDefinition

    @property
    def place(self) -> str:
        """Where it stands among the fires of its group."""
        return f"{self.at:015.3f} {self.name}"


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch (``after``, ``until``] of which all fire times but ``kept`` are left out."""

    schedule: Schedule
    after: float
    until: float
    kept: int = 0

    def left_out(self) -> int:
        """How many that is: every one has to be looked at, so whoever has many looks at the clock, too."""
        return _count(self.schedule, self.after, self.until) - self.kept


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
        fires += [Fire(at, job.name, job) for at in times]
        spans += left
        behind = behind or (job.missed == "all" and job.enabled and not listed and _start(job, after) < cut(until))
    fires.sort(key=lambda fire: (fire.at, fire.name))
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


def latest(schedule: Schedule, after: float, until: float, count: int) -> list[float]:
    """The last ``count`` fire times in (``after``, ``until``], in order, found without those before them."""
    width = _FIRST_LOOK_S
    while True:
        start = max(after, until - width)
        found = schedule.due(start, until)
        if len(found) >= count or start <= after:
            return found[-count:]
        width *= 2


def _of_job(job: JobDefinition, after: float, until: float, *, listed: bool) -> tuple[list[float], list[Span]]:
    """The times to enqueue, and the stretches that are left out."""
    schedule = job.parsed()
    if schedule is None or not job.enabled:
        return [], []
    start, on_time = _start(job, after), cut(until)
    kept = list(_times(schedule, max(start, on_time), until))
    if start >= on_time:
        return kept, []
    if job.missed == "all":
        oldest = max(start, until - CATCH_UP_AT_MOST_S)
        missed = list(_times(schedule, oldest, on_time)) if listed else []
        return missed + kept, [Span(schedule, start, oldest)] if start < oldest else []
    if job.missed == "last" and not kept:
        kept = list(_latest(schedule, start, on_time))
        return kept, [Span(schedule, start, on_time, len(kept))]
    return kept, [Span(schedule, start, on_time)]


def _start(job: JobDefinition, after: float) -> float:
    return max(after, job.since)


def cut(until: float) -> float:
    """What is due behind this moment is on time. Between two seconds, where no fire time is, so that no rounding of
    it on its way through the table puts one on both sides, or on neither."""
    return math.ceil(until - ON_TIME_S) - 0.5


# Many jobs have the same schedule; each is looked at once for a stretch of time.


@functools.lru_cache(maxsize=2048)
def _times(schedule: Schedule, after: float, until: float) -> tuple[float, ...]:
    return tuple(schedule.due(after, until))


@functools.lru_cache(maxsize=2048)
def _latest(schedule: Schedule, after: float, until: float) -> tuple[float, ...]:
    return tuple(latest(schedule, after, until, 1))


@functools.lru_cache(maxsize=2048)
def _count(schedule: Schedule, after: float, until: float) -> int:
    return len(schedule.due(after, until))
