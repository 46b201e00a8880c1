"""When jobs are due next, kept until the first of the times has come: to find them costs more than the whole page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from runner.control.applying.eventbridge import timetable_of
from runner.errors import CronRunnerError

if TYPE_CHECKING:
    from runner.control.definition import GroupDefinition, JobDefinition

HOUR_S: Final = 3600.0
_MARGIN_S: Final = 600.0
_LEAST: Final = 5
"""Times that are looked for at once."""
_MOST: Final = 60
"""Times of a job in an hour that are shown."""


class DueTimes:
    """Of one source. A job that cannot be read, or is disabled, is due never."""

    def __init__(self) -> None:
        self._next: dict[tuple[str, str], tuple[Any, int, list[float]]] = {}
        self._hours: dict[tuple[str, str], tuple[Any, float, list[float]]] = {}

    def coming(self, job: JobDefinition, group: GroupDefinition | None, now: float, count: int) -> list[float]:
        """The next ``count`` times, fewer where there are no more."""
        key, of = (job.group, job.name), _identity(job, group)
        kept = self._next.get(key)
        if kept is None or kept[0] != of or kept[1] < count or (kept[2] and kept[2][0] <= now):
            most = max(count, _LEAST)
            self._next[key] = kept = of, most, _coming(job, group, now, most)
        return kept[2][:count]

    def within_an_hour(self, job: JobDefinition, group: GroupDefinition | None, now: float) -> list[float]:
        """The times of the next hour, so many at most."""
        key, of = (job.group, job.name), _identity(job, group)
        kept = self._hours.get(key)
        if kept is None or kept[0] != of or kept[1] < now + HOUR_S:
            until = now + HOUR_S + _MARGIN_S
            self._hours[key] = kept = of, until, _due(job, group, now, until)
        return [at for at in kept[2] if now < at <= now + HOUR_S][:_MOST]


def _identity(job: JobDefinition, group: GroupDefinition | None) -> tuple[Any, ...]:
    """What the times follow from."""
    return job.revision, job.schedule, job.timezone, job.since, job.enabled, job.timing, group and group.fire


def _coming(job: JobDefinition, group: GroupDefinition | None, now: float, count: int) -> list[float]:
    if not job.enabled:
        return []
    try:
        timetable = timetable_of(job, group)
        return [one.at for one in timetable.coming(now, count)] if timetable is not None else []
    except (CronRunnerError, ArithmeticError, ValueError, LookupError):
        return []


def _due(job: JobDefinition, group: GroupDefinition | None, now: float, until: float) -> list[float]:
    if not job.enabled:
        return []
    try:
        timetable = timetable_of(job, group)
        if timetable is None:
            return []
        # Where nobody knows when in a window: from its beginning on, as `coming` has it.
        return [one.at - timetable.within for one in timetable.due(now, until + timetable.within)]
    except (CronRunnerError, ArithmeticError, ValueError, LookupError):
        return []
