"""AWS's cron with six fields: `minutes hours day-of-month month day-of-week year`. Pure.

Fields and wildcards are those of EventBridge Scheduler's user guide. What differs from cron: days of the week count
from 1 (Sunday), exactly one of the two day fields is `?`, and there are years, `L`, `W` and `#`. Each field is
written out for cronsim, which walks local time without a zone; years and `W`, which it does not know, are sieved.
"""

from __future__ import annotations

import calendar
import re
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Final

from runner.protocol.suggest import shown

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from zoneinfo import ZoneInfo

_MONTHS: Final = {name.upper(): number for number, name in enumerate(calendar.month_abbr) if name}
_DAYS: Final = {name: number for number, name in enumerate(("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"), 1)}
_FIRST_YEAR: Final = 1970
_LAST_YEAR: Final = 2199
_NEAREST: Final = re.compile(r"([0-9]{1,2})W")
_NTH: Final = re.compile(r"([1-7]|[A-Z]{3})#([1-5])")
_LAST_OF: Final = re.compile(r"([1-7]|[A-Z]{3})L")


@dataclass(frozen=True, slots=True)
class AwsCron:
    """``fields`` are cronsim's five; ``years`` is None for every one; ``weekday_near`` the n of `nW`."""

    said: str
    fields: str
    years: frozenset[int] | None
    weekday_near: int | None

    def after(self, moment: float, zone: ZoneInfo) -> Iterator[float]:
        from cronsim import CronSim  # noqa: PLC0415 - for those who look at a schedule

        here = datetime.fromtimestamp(moment, zone).replace(tzinfo=None)
        if self.years is not None and here.year < min(self.years):
            here = datetime(min(self.years) - 1, 12, 31, 23, 59, 59)  # noqa: DTZ001 - local time, as below
        last_year = max(self.years) if self.years is not None else _LAST_YEAR
        if here.year > last_year:
            return
        for naive in CronSim(self.fields, here):
            if naive.year > last_year:
                return
            if not self._matches(naive):
                continue
            due = naive.replace(tzinfo=zone)  # fold 0: of an hour that comes twice the first
            # A local time that the clock leaves out comes back as another one: it is skipped.
            exists = due.astimezone(UTC).astimezone(zone).replace(tzinfo=None) == naive
            if exists and (unix := due.timestamp()) > moment:
                yield unix

    def words(self) -> str:
        return f"cron({self.said})"

    def _matches(self, naive: datetime) -> bool:
        if self.years is not None and naive.year not in self.years:
            return False
        return self.weekday_near is None or naive.date() == _weekday_near(naive.year, naive.month, self.weekday_near)


def parse_aws_cron(text: str) -> AwsCron:
    """Six fields; ValueError says which one is wrong."""
    said = " ".join(text.split())
    parts = said.upper().split(" ") if said else []
    if len(parts) != 6:
        count = "1 field" if len(parts) == 1 else f"{len(parts)} fields"
        raise ValueError(
            f"cron({said}) has {count} and AWS's has six: minutes, hours, day-of-month, month, day-of-week, year;"
            ' give "cron(0 3 * * ? *)", or five fields without cron()'
        )
    minute, hour, day, month, weekday, year = parts
    if (day == "?") == (weekday == "?"):
        both = "both day fields are" if day == "?" else "none of the day fields is"
        raise ValueError(f'cron({said}): {both} "?"; give "?" in exactly one of day-of-month and day-of-week')
    days, near = _day_of_month(said, day)
    fields = (
        _written(_numbers(said, "minutes", minute, 0, 59), 0, 59),
        _written(_numbers(said, "hours", hour, 0, 23), 0, 23),
        days,
        _written(_numbers(said, "month", month, 1, 12, _MONTHS), 1, 12),
        _day_of_week(said, weekday),
    )
    years = None if year == "*" else frozenset(_numbers(said, "year", year, _FIRST_YEAR, _LAST_YEAR))
    return AwsCron(said, " ".join(fields), years, near)


def _day_of_month(said: str, field: str) -> tuple[str, int | None]:
    if field in ("?", "*"):
        return "*", None
    if field in ("L", "LW"):  # the last day; the last Monday to Friday
        return field, None
    if match := _NEAREST.fullmatch(field):
        near = int(match[1])
        if not 1 <= near <= 31:
            raise _wrong(said, "day-of-month", field, "the day before W is 1 to 31")
        return _written(list(range(max(1, near - 2), min(31, near + 2) + 1)), 1, 31), near
    if "L" in field or "W" in field:
        raise _wrong(said, "day-of-month", field, 'L stands alone, and W behind one day or L, as "15W" or "LW"')
    return _written(_numbers(said, "day-of-month", field, 1, 31), 1, 31), None


def _day_of_week(said: str, field: str) -> str:
    if field in ("?", "*"):
        return "*"
    if field == "L":
        return "6"  # the last day of the week is Saturday
    if match := _NTH.fullmatch(field):
        return f"{_day_number(said, match[1]) - 1}#{match[2]}"
    if match := _LAST_OF.fullmatch(field):
        return f"{_day_number(said, match[1]) - 1}L"
    if "#" in field or field.endswith("L"):
        raise _wrong(said, "day-of-week", field, 'give one day with # (1 to 5) or L, as "2#1" or "6L"')
    return ",".join(str(number - 1) for number in _numbers(said, "day-of-week", field, 1, 7, _DAYS))


def _day_number(said: str, word: str) -> int:
    return _numbers(said, "day-of-week", word, 1, 7, _DAYS)[0]


def _numbers(
    said: str, name: str, field: str, low: int, high: int, words: Mapping[str, int] | None = None
) -> list[int]:
    """All numbers that a list of numbers, ranges and steps stands for, in order."""
    found: set[int] = set()
    for term in field.split(","):
        span, slash, step_text = term.partition("/")
        step = int(step_text) if step_text.isascii() and step_text.isdigit() else 0
        if slash and step < 1:
            raise _wrong(said, name, field, "the step behind / is a whole number of 1 or more")
        if span == "*":
            start, end = low, high
        else:
            first, dash, last = span.partition("-")
            start = _number(said, name, field, first, low, high, words)
            end = _number(said, name, field, last, low, high, words) if dash else (high if slash else start)
        if end < start and name == "year":
            raise _wrong(said, name, field, "a range of years goes from the smaller to the larger")
        # EventBridge's ranges go on behind their last value with the first: FRI-MON, 22-4, NOV-FEB.
        stretch = end - start if end >= start else end - start + (high - low + 1)
        found |= {low + (start - low + count) % (high - low + 1) for count in range(0, stretch + 1, step or 1)}
    return sorted(found)


def _number(said: str, name: str, field: str, text: str, low: int, high: int, words: Mapping[str, int] | None) -> int:
    if words and text in words:
        return words[text]
    if not (text.isascii() and text.isdigit()) or not low <= int(text) <= high:
        names = f" or {next(iter(words))} to {list(words)[-1]}" if words else ""
        raise _wrong(said, name, field, f"it holds {low} to {high}{names}")
    return int(text)


def _written(numbers: list[int], low: int, high: int) -> str:
    return "*" if len(numbers) == high - low + 1 else ",".join(map(str, numbers))


def _weekday_near(year: int, month: int, day: int) -> date | None:
    """The Monday to Friday nearest to a day, within its month; None where the month has no such day."""
    last = calendar.monthrange(year, month)[1]
    if day > last:
        return None
    wanted = date(year, month, day)
    match wanted.weekday():
        case 5:  # Saturday: the Friday before, or the Monday after where that was another month
            return wanted.replace(day=day - 1 if day > 1 else day + 2)
        case 6:
            return wanted.replace(day=day + 1 if day < last else day - 2)
    return wanted


def _wrong(said: str, name: str, field: str, right: str) -> ValueError:
    return ValueError(f"cron({said}): {name} {shown(field)} is not right: {right}")
