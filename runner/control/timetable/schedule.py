"""When a job is due: cron with five fields, AWS's cron with six, rates and single times. Pure.

Cron's five fields are Debian's cron's, also where the clock changes (cron.py). AWS's `cron(…)` is EventBridge
Scheduler's there: what the change leaves out is skipped, and the hour that comes twice counts once. Fire times do not
depend on when they are asked for: the times in (a, c] are those in (a, b] and those in (b, c].
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from runner.control.timetable.aws_cron import AwsCron, parse_aws_cron
from runner.control.timetable.cron import Cron, has_seconds, parse_cron, sets_timezone
from runner.control.timetable.zones import LAST_MOMENT, zone
from runner.protocol.suggest import nearest, shown

if TYPE_CHECKING:
    from collections.abc import Iterator

_HELP: Final = 'give cron such as "0 3 * * *", "cron(0 3 * * ? *)", "rate(5 minutes)" or "at(2030-01-31T06:00:00)"'
_MACROS: Final = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
_RATE: Final = re.compile(r"rate\(\s*([0-9]{1,6})\s+(minute|hour|day)s?\s*\)", re.IGNORECASE)
_AT: Final = re.compile(r"at\(\s*(\d{4}-\d\d-\d\dT\d\d:\d\d(?::\d\d)?)\s*\)", re.IGNORECASE)
_UNITS: Final = {"minute": 60, "hour": 3600, "day": 86_400}
_LONGEST_RATE_S: Final = 36_525 * 86_400
_FIRST_YEAR: Final = 1971
_LAST_YEAR: Final = 9999


@dataclass(frozen=True, slots=True)
class Rate:
    """Every ``every_s`` seconds, counted from 1970-01-01T00:00Z, so that it does not depend on when it was set."""

    every_s: int
    text: str

    def after(self, moment: float, zone: ZoneInfo) -> Iterator[float]:  # noqa: ARG002 - a rate knows no zone
        turn = int(moment // self.every_s)
        while True:
            turn += 1
            yield float(turn * self.every_s)

    def words(self) -> str:
        return f"every {self.text}"


@dataclass(frozen=True, slots=True)
class At:
    """Once, at a local time without a zone."""

    local: datetime

    def after(self, moment: float, zone: ZoneInfo) -> Iterator[float]:
        due = self.local.replace(tzinfo=zone).timestamp()
        if due > moment:
            yield due

    def words(self) -> str:
        return f"once, at {self.local:%Y-%m-%d %H:%M:%S}"


@dataclass(frozen=True, slots=True)
class Schedule:
    """A schedule in its timezone; ``text`` is as it was written."""

    text: str
    timezone: str
    rule: Cron | AwsCron | Rate | At

    def due(self, after: float, until: float) -> list[float]:
        """The fire times (unix seconds) in (``after``, ``until``], in order."""
        return list(_until(self.rule.after(after, zone(self.timezone)), min(until, LAST_MOMENT)))

    def coming(self, after: float, count: int) -> list[float]:
        """The next ``count`` fire times after a moment; fewer where there are no more."""
        times = _until(self.rule.after(after, zone(self.timezone)), LAST_MOMENT)
        return [due for due, _ in zip(times, range(count), strict=False)]

    def words(self) -> str:
        """The schedule in words, as far as it has some."""
        where = "" if isinstance(self.rule, Rate) else f" ({self.timezone})"
        return f"{self.rule.words()}{where}"


@functools.lru_cache(maxsize=20_000)
def parse_schedule(text: str, timezone: str = "UTC") -> Schedule:
    """A schedule; ValueError says what was wrong and what is right."""
    said = " ".join(text.split())
    rule = _parse(said)
    schedule = Schedule(text, timezone, rule)
    if isinstance(rule, Cron | AwsCron) and not _comes(schedule):
        raise ValueError(f"{shown(text)} never comes; check its day and month")
    return schedule


def _comes(schedule: Schedule) -> bool:
    from cronsim import CronSimError  # noqa: PLC0415

    try:
        return bool(schedule.coming(0.0, 1))
    except CronSimError:  # what the 30th of February is to it
        return False


def parse_timezone(text: str) -> str:
    """A name of the tz database; ValueError where there is none of the name."""
    try:
        return str(zone(text).key)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        near = nearest(text, available_timezones())
        question = f', did you mean "{near}"?' if near else ""
        raise ValueError(
            f'{shown(text)} is not a timezone{question}; give a name such as "UTC" or "Europe/Berlin"'
        ) from None


def local(moment: float, timezone: str) -> datetime:
    """A moment as the clock there shows it."""
    return datetime.fromtimestamp(moment, zone(timezone))


def midnight(day: date, timezone: str) -> float:
    """The first moment of a day there. It is searched for: a change of the clock may leave midnight out, or come to the
    evening before once more."""
    naive = int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp())
    low, high = naive - 86_400, naive + 86_400
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if local(middle, timezone).date() >= day else (middle, high)
    return float(high)


def _parse(said: str) -> Cron | AwsCron | Rate | At:
    lower = said.lower()
    if wrong := sets_timezone(said):
        raise ValueError(wrong)
    if lower.startswith("@"):
        if lower not in _MACROS:
            raise ValueError(f"{shown(said)} is not a schedule; one of {', '.join(_MACROS)}, or {_HELP}")
        return Cron(_MACROS[lower])
    if lower.startswith("rate("):
        return _rate(said)
    if lower.startswith("at("):
        return _at(said)
    if lower.startswith("cron("):
        if not said.endswith(")"):
            raise ValueError(f"{shown(said)} has no closing bracket; {_HELP}")
        return parse_aws_cron(said[len("cron(") : -1])
    return _bare_fields(said)


def _bare_fields(said: str) -> Cron | AwsCron:
    match len(said.split()):
        case 5:
            return parse_cron(said, _HELP)
        case 6 if "?" not in said:
            raise ValueError(has_seconds(said))
        case 6:
            return parse_aws_cron(said)
        case count:
            fields = "1 field" if count == 1 else f"{count} fields"
            raise ValueError(f"{shown(said)} is not a schedule: it has {fields}; {_HELP}")


def _rate(said: str) -> Rate:
    match = _RATE.fullmatch(said)
    if match is None or int(match[1]) == 0:
        raise ValueError(
            f'{shown(said)} is not a rate; give one such as "rate(5 minutes)", "rate(1 hour)", "rate(2 days)"'
        )
    number, unit = int(match[1]), match[2].lower()
    if number * _UNITS[unit] > _LONGEST_RATE_S:
        raise ValueError(f"{shown(said)} is longer than a hundred years; nothing that far away can be shown")
    return Rate(number * _UNITS[unit], f"{number} {unit}{'s' if number > 1 else ''}")


def _at(said: str) -> At:
    match = _AT.fullmatch(said)
    try:
        when = datetime.fromisoformat(match[1]) if match else None
    except ValueError:
        when = None
    if when is None:
        raise ValueError(
            f'{shown(said)} is not a time; give local time without an offset, such as "at(2030-01-31T06:00:00)"'
        )
    if not _FIRST_YEAR <= when.year < _LAST_YEAR:
        raise ValueError(
            f"{shown(said)} cannot be shown in every timezone; give a year of {_FIRST_YEAR} to {_LAST_YEAR - 1}"
        )
    return At(when)


def _until(times: Iterator[float], until: float) -> Iterator[float]:
    for due in times:
        if due > until:
            return
        yield due
