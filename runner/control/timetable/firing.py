"""When a job is fired, all told: the times of its schedule, on the days of its calendars, each a splay later. Pure."""

from __future__ import annotations

import functools
import math
from bisect import bisect_right
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final, NamedTuple

from runner.control.timetable.days import Allowed
from runner.control.timetable.schedule import local
from runner.control.timetable.zones import LAST_MOMENT, zone

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from runner.control.timetable.schedule import Schedule

_PAGE_S: Final = 600
_PAGED_S: Final = 6 * _PAGE_S
"""A longer stretch is looked at as it is: what stands in pages is what every minute asks for."""


class Time(NamedTuple):
    """A fire time: when it is sent, and the time of the schedule by which its run is named. Unix seconds."""

    at: float
    scheduled: float


@dataclass(frozen=True, slots=True)
class Timetable:
    """``delay`` is by how much each fire time is sent later. Of EventBridge Scheduler nobody knows that before:
    ``within`` its flexible window. Up to ``moved[0]`` it is ``moved[1]``. No fire time up to ``since`` counts."""

    schedule: Schedule
    allowed: Allowed = Allowed()  # noqa: RUF009 - it is frozen
    delay: float = 0.0
    within: float = 0.0
    moved: tuple[float, float] | None = None
    since: float = 0.0

    def sent_at(self, scheduled: float) -> float:
        """When a fire time is sent, at the latest."""
        if self.moved is not None and scheduled <= self.moved[0]:
            return scheduled + self.moved[1]
        return scheduled + self.delay + self.within

    def due(self, after: float, until: float) -> list[Time]:
        """What is sent in (``after``, ``until``], in order."""
        return [time for time in self._sent(after, until) if self.on(time.scheduled)]

    def left_out(self, after: float, until: float) -> list[Time]:
        """What is not sent then as its calendars leave out its day, in order."""
        if self.allowed.every:
            return []
        return [time for time in self._sent(after, until) if not self.on(time.scheduled)]

    def coming(self, after: float, count: int) -> list[Time]:
        """The next ``count`` that are sent after a moment, or where nobody knows when, may be from then on; fewer where
        there are no more."""
        found: list[Time] = []
        begin = after - max(self.delay, self.moved[1] if self.moved is not None else 0.0)
        for scheduled in self._allowed_after(max(begin, self.since)):
            at = self.sent_at(scheduled) - self.within
            if at > after:
                found.append(Time(at, scheduled))
            if len(found) >= count:
                break
        return sorted(found)

    def on(self, scheduled: float) -> bool:
        """Whether its calendars leave a fire time."""
        return self.allowed.every or local(scheduled, self.schedule.timezone).date() in self.allowed

    def _sent(self, after: float, until: float) -> list[Time]:
        late = self.delay + self.within
        if self.moved is None:
            return [Time(at + late, at) for at in _times(self.schedule, max(after - late, self.since), until - late)]
        turn, was = self.moved
        times = [
            *(Time(at + was, at) for at in _times(self.schedule, max(after - was, self.since), min(until - was, turn))),
            *(Time(at + late, at) for at in _times(self.schedule, max(after - late, self.since, turn), until - late)),
        ]
        return sorted(times)

    def _allowed_after(self, moment: float) -> Iterator[float]:
        """The fire times on allowed days; over a gap of days without looking at each time in it."""
        here = zone(self.schedule.timezone)
        while True:
            for due in self.schedule.rule.after(moment, here):
                if due > LAST_MOMENT:
                    return
                if self.allowed.every:
                    yield due
                    continue
                day = local(due, self.schedule.timezone).date()
                on = self.allowed.from_on(day)
                if on is None:
                    return
                if on == day:
                    yield due
                elif on - day > timedelta(days=2):
                    # Clocks are at most a day from UTC: what is due the evening before is left out again.
                    moment = datetime(on.year, on.month, on.day, tzinfo=UTC).timestamp() - 86_400.0
                    break
            else:
                return


def _times(schedule: Schedule, after: float, until: float) -> Sequence[float]:
    """The schedule's times in (``after``, ``until``]. Many jobs have the same schedule, each with another delay: ten
    minutes of it are looked at once for all."""
    if until <= after:
        return ()
    if until - after > _PAGED_S:
        return _stretch(schedule, after, until)
    pages = range(math.floor(after / _PAGE_S), math.floor(until / _PAGE_S) + 1)
    found: list[float] = []
    for page in pages:
        times = _page(schedule, page)
        found += times[bisect_right(times, after) : bisect_right(times, until)]
    return found


@functools.lru_cache(maxsize=16_384)
def _page(schedule: Schedule, page: int) -> tuple[float, ...]:
    """The times from the beginning of a page to before its end, so that each is on one."""
    start = page * _PAGE_S
    return tuple(at for at in schedule.due(start - 1.0, start + _PAGE_S) if start <= at < start + _PAGE_S)


@functools.lru_cache(maxsize=2048)
def _stretch(schedule: Schedule, after: float, until: float) -> tuple[float, ...]:
    return tuple(schedule.due(after, until))


def forget() -> None:
    """Look at all schedules anew."""
    _page.cache_clear()
    _stretch.cache_clear()
