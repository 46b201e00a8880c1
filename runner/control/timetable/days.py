"""Days as a calendar names them: single ones and ranges, as one text of the table. Pure.

A text is `2026-12-24/2027-01-01,2027-05-01`: ranges with both ends, in order, none touching another; so the same days
are always the same text.
"""

from __future__ import annotations

import functools
import re
from bisect import bisect_right
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Final

from runner.protocol.suggest import shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

FIRST: Final = date(1971, 1, 1)
LAST: Final = date(9998, 12, 31)
_SHOWN: Final = 5
_DAY: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_HELP: Final = 'give a day such as "2026-12-24", or a range with both its ends such as "2026-12-24/2027-01-01"'


@dataclass(frozen=True, slots=True)
class Days:
    """Ranges of days by their ordinals, in order, no two of which touch."""

    ranges: tuple[tuple[int, int], ...]

    def __contains__(self, day: date) -> bool:
        return self.range_of(day.toordinal()) is not None

    def __len__(self) -> int:
        return sum(last - first + 1 for first, last in self.ranges)

    def __iter__(self) -> Iterator[date]:
        return (date.fromordinal(day) for first, last in self.ranges for day in range(first, last + 1))

    def __str__(self) -> str:
        return ",".join(
            f"{date.fromordinal(first)}" + (f"/{date.fromordinal(last)}" if last > first else "")
            for first, last in self.ranges
        )

    @property
    def first(self) -> date:
        return date.fromordinal(self.ranges[0][0])

    @property
    def last(self) -> date:
        return date.fromordinal(self.ranges[-1][1])

    def range_of(self, ordinal: int) -> tuple[int, int] | None:
        """The range in which a day is."""
        at = bisect_right(self.ranges, (ordinal, _END)) - 1
        return self.ranges[at] if at >= 0 and ordinal <= self.ranges[at][1] else None

    def from_on(self, ordinal: int) -> int | None:
        """The first day that is not before this one."""
        at = bisect_right(self.ranges, (ordinal, _END)) - 1
        if at >= 0 and ordinal <= self.ranges[at][1]:
            return ordinal
        return self.ranges[at + 1][0] if at + 1 < len(self.ranges) else None


_END: Final = LAST.toordinal()
NONE: Final = Days(())


def days_of(ranges: Iterable[tuple[date, date]]) -> Days:
    """Ranges with both their ends, in whatever order."""
    return _joined((first.toordinal(), last.toordinal()) for first, last in ranges)


def _joined(ranges: Iterable[tuple[int, int]]) -> Days:
    found: list[tuple[int, int]] = []
    for first, last in sorted(ranges):
        if found and first <= found[-1][1] + 1:
            found[-1] = (found[-1][0], max(found[-1][1], last))
        else:
            found.append((first, last))
    return Days(tuple(found))


def both(one: Days, other: Days) -> Days:
    """The days of either."""
    return _joined((*one.ranges, *other.ranges)) if one.ranges and other.ranges else one if one.ranges else other


@functools.lru_cache(maxsize=4096)
def parse_days(text: str) -> Days:
    """What `str` of days wrote; ValueError for anything else."""
    return days_of(parse_range(part) for part in text.split(","))


def parse_range(text: object) -> tuple[date, date]:
    """One entry of `dates`: a day or a range; ValueError says what is wrong."""
    if type(text) is date:
        return _known(text, text), text
    if not isinstance(text, str):
        raise ValueError(f"{shown(text)} is no day; {_HELP}")  # noqa: TRY004 - of a file
    first, slash, last = text.strip().partition("/")
    begin = _day(first, text)
    end = _day(last, text) if slash else begin
    if end < begin:
        raise ValueError(f"{shown(text)} ends before it begins; {_HELP}")
    return begin, end


def _day(text: str, said: str) -> date:
    if not _DAY.fullmatch(text):  # 20261224 and 2026-W52-4 are dates to Python, too
        raise ValueError(f"{shown(said)} is no day; {_HELP}")
    try:
        day = date.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{shown(said)} is no day; {_HELP}") from None
    return _known(day, said)


def _known(day: date, said: object) -> date:
    if not FIRST <= day <= LAST:
        raise ValueError(f"{shown(str(said))} is outside the known years")
    return day


def summary(calendars: Mapping[str, Sequence[str]]) -> str:
    """Calendars, each with its days as texts, in a few words: `bank-holidays (9 days, 2026-12-25 to 2027-12-26)`."""
    found = []
    for name, texts in calendars.items():
        days = parse_days(",".join(texts))
        count = "1 day" if len(days) == 1 else f"{len(days)} days"
        found.append(f"{name} ({count}, {days.first}{'' if days.first == days.last else f' to {days.last}'})")
    return ", ".join(found)


def difference(old: Mapping[str, Sequence[str]], new: Mapping[str, Sequence[str]]) -> str:
    """What became of calendars, day by day, as far as a few words can say it."""
    found = []
    for name in sorted({*old, *new}):
        before, after = (set(parse_days(",".join(one[name]))) if name in one else set() for one in (old, new))
        if name not in new:
            found.append(f"{name} is not used any more")
        elif name not in old:
            found.append(f"{name} is new, {summary({name: new[name]})}")
        elif before != after:
            parts = ((after - before, "more"), (before - after, "less"))
            found.append(f"{name}: {', '.join(f'{_few(days)} {word}' for days, word in parts if days)}")
    return "; ".join(found)


def _few(days: set[date]) -> str:
    said = str(days_of((day, day) for day in days)).split(",")
    shown = ", ".join(said[:_SHOWN]) + (", …" if len(said) > _SHOWN else "")
    return f"{len(days)} day{'' if len(days) == 1 else 's'} ({shown})"


@dataclass(frozen=True, slots=True)
class Allowed:
    """The days on which a job is fired: those of ``only``, where there are such, but not those of ``but``."""

    only: Days | None = None
    but: Days = NONE

    @property
    def every(self) -> bool:
        return self.only is None and not self.but.ranges

    def __contains__(self, day: date) -> bool:
        return (self.only is None or day in self.only) and day not in self.but

    def from_on(self, day: date) -> date | None:
        """The first such day that is not before this one; None where there is none any more."""
        at = day.toordinal()
        while at <= _END:
            if self.only is not None:
                found = self.only.from_on(at)
                if found is None:
                    return None
                at = found
            left_out = self.but.range_of(at)
            if left_out is None:
                return date.fromordinal(at)
            at = left_out[1] + 1
        return None

    def stretches(self, day: date) -> list[tuple[date, date | None]]:
        """From this day on the stretches of such days, with both their ends; the last one's may be None: for ever."""
        found: list[tuple[date, date | None]] = []
        start = self.from_on(day)
        while start is not None:
            end = self._end(start)
            found.append((start, end))
            start = self.from_on(date.fromordinal(end.toordinal() + 1)) if end is not None else None
        return found

    def _end(self, start: date) -> date | None:
        at = start.toordinal()
        ends = [first - 1 for first, _ in self.but.ranges if first > at][:1]
        if self.only is not None and (mine := self.only.range_of(at)) is not None:
            ends.append(mine[1])
        return date.fromordinal(min(ends)) if ends else None
