"""Which fire times of which jobs are to be enqueued for a stretch of time. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from runner.control.definition import JobDefinition

ON_TIME_S: Final = 150.0
"""A fire time that is older was missed: the scheduler runs each minute, and one turn may fail without notice."""
CATCH_UP_AT_MOST_S: Final = 7 * 86_400.0


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
class Due:
    """What to enqueue, in order, and how many fire times were dropped because they were missed."""

    fires: tuple[Fire, ...]
    dropped: int


def due(jobs: Iterable[JobDefinition], after: float, until: float) -> Due:
    """The enabled jobs that are due in (``after``, ``until``], what was missed by each one's own policy.

    Where some time was missed (older than `ON_TIME_S` at ``until``): `skip` keeps what is on time, `last` the
    latest alone, `all` everything, up to a week back.
    """
    fires: list[Fire] = []
    dropped = 0
    for job in jobs:
        schedule = job.parsed() if job.enabled else None
        if schedule is None:
            continue
        times = schedule.due(max(after, job.since, until - CATCH_UP_AT_MOST_S), until)
        kept = times
        if times and times[0] < until - ON_TIME_S:
            if job.missed == "skip":
                kept = [at for at in times if at >= until - ON_TIME_S]
            elif job.missed == "last":
                kept = times[-1:]
        dropped += len(times) - len(kept)
        fires += [Fire(at, job.name, job) for at in kept]
    fires.sort(key=lambda fire: (fire.at, fire.name))
    return Due(tuple(fires), dropped)
