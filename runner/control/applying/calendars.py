"""`[calendars.NAME]` of job files: days that are written out, or those of an .ics file, as the table keeps them.

Whoever fires a job needs no library for that: what recurs is written out here, at `jobs apply`.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from runner.control.timetable.days import Days, both, days_of, parse_days, parse_range
from runner.control.timetable.timing import LONGEST_SPLAY_S
from runner.control.timetable.zones import zone
from runner.protocol import fields
from runner.protocol.invalid import InvalidMessage
from runner.protocol.suggest import nearest, shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from runner.control.definition import JobDefinition

YEARS_BACK: Final = 1
YEARS_AHEAD: Final = 5
"""What recurs is written out from the beginning of the year before this one to the end of the fifth after it."""
SOON: Final = timedelta(days=90)
LARGEST_TEXT: Final = 24 * 1024
"""Bytes of days that a job may have of one calendar: some 2,000 of them, and its item has to hold all it names."""
_LARGEST_FILE: Final = 4 * 1024 * 1024
_MOST_EVENTS: Final = 5000
_MOST_TIMES: Final = 50_000
_TOO_OFTEN: Final = ("SECONDLY", "MINUTELY", "HOURLY")


@dataclass(frozen=True, slots=True)
class Calendar:
    """A calendar of a job file at ``where``; ``path`` is its .ics file."""

    name: str
    where: str
    dates: Days
    path: Path | None = None

    def days(self, timezone: str, today: date) -> Days:
        """Its days in a time zone, which matters to events with a time of the day; ValueError says what is wrong."""
        found = self.dates
        if self.path is not None:
            found = both(found, _of_file(self.path, timezone, today.year))
        if not found.ranges:
            raise ValueError("has no day; give it some, or leave it out")
        if len(str(found)) > LARGEST_TEXT:
            raise ValueError(f"has {len(found)} days in {len(found.ranges)} ranges, more than a job can keep")
        return found


def parse_calendar(where: str, name: str, table: object, near: Path) -> Calendar:
    """One `[calendars.NAME]`; raises InvalidMessage. ``near`` is the job file: an .ics is looked for beside it."""
    given = fields.table(where, table)
    fields.job_name(where, name)
    if unknown := [key for key in given if key not in ("dates", "file")]:
        meant = nearest(unknown[0], ("dates", "file"))
        question = f', did you mean "{meant}"?' if meant else "; give dates, or a file"
        fields.refuse(where, f"unknown field {shown(unknown[0])}{question}")
    if not given:
        fields.refuse(where, "has no day; give dates, or an .ics file")
    path = None
    if "file" in given:
        said = fields.name(f"{where}.file", given["file"])
        if not said.lower().endswith(".ics"):
            fields.refuse(f"{where}.file", f"{shown(said)} is no .ics file; give one, or write its days out as dates")
        path = near.parent / said
    ranges = fields.items(f"{where}.dates", given.get("dates", []), _range)
    return Calendar(name, where, days_of(ranges), path)


def _range(path: str, value: object) -> tuple[date, date]:
    try:
        return parse_range(value)
    except ValueError as error:
        fields.refuse(path, str(error))


def splay(path: str, value: object) -> float | None:
    """A splay in whole seconds; None for none."""
    seconds = fields.duration(path, value)
    if seconds > LONGEST_SPLAY_S:
        fields.refuse(path, f"{shown(value)} is more than a day; give at most 24h")
    return float(int(seconds)) or None


def names(path: str, value: object) -> tuple[str, ...]:
    """The names of calendars, or one."""
    said = (fields.name(path, value),) if isinstance(value, str) else fields.items(path, value, fields.name)
    return tuple(dict.fromkeys(said))


def with_days(
    jobs: Iterable[tuple[str, JobDefinition]],
    calendars: Mapping[str, Calendar | None],
    today: date,
    faults: list[str],
) -> Iterator[JobDefinition]:
    """Jobs, each at a place of a file, with the days of the calendars that they name; the faults to ``faults``."""
    told: set[str] = set()
    for where, job in jobs:
        days: dict[str, str] = {}
        for field, name in [*(("except", one) for one in job.timing.but), *(("only", one) for one in job.timing.only)]:
            if name not in calendars:
                faults.append(f"{where}.{field}: {_unknown(name, calendars)}")
                continue
            calendar = calendars[name]
            if calendar is None:  # what is wrong with it is told
                continue
            try:
                days[name] = str(calendar.days(job.timezone, today))
            except ValueError as error:
                if name not in told:
                    faults.append(f"{calendar.where}: {error}")
                told.add(name)
        if len(days) < len({*job.timing.but, *job.timing.only}):
            continue
        timing = replace(job.timing, calendars=days)
        if days and timing.allowed.from_on(date.min) is None:
            faults.append(f"{where}.except: leaves no day of those in only; it would never be fired")
            continue
        yield replace(job, timing=timing)


def _unknown(name: str, calendars: Mapping[str, Calendar | None]) -> str:
    near = nearest(name, calendars)
    question = f', did you mean "{near}"?' if near else f"; add [calendars.{name}] to one of these files"
    return f"unknown calendar {shown(name)}{question}"


def ending(jobs: Iterable[JobDefinition], today: date) -> list[str]:
    """What to say of the calendars that have ended, or end soon: from then on no day is left out, or none is left."""
    found: dict[tuple[str, date], list[str]] = {}
    for job in jobs:
        for name, text in job.timing.calendars.items():
            if (last := parse_days(text).last) < today + SOON:
                found.setdefault((name, last), []).append(job.name)
    said = []
    for (name, last), of in sorted(found.items()):
        named = f"job {of[0]} uses it" if len(of) == 1 else f"{len(of)} jobs use it, {of[0]} the first"
        word = "ended" if last < today else "ends"
        said.append(f"calendar {name} {word} on {last}, and {named}: give it the days that follow, and apply it again")
    return said


@functools.lru_cache(maxsize=256)
def _of_file(path: Path, timezone: str, year: int) -> Days:
    """The days of an .ics file; ValueError says what is wrong with it."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}; give a file beside the job file") from None
    if len(raw) > _LARGEST_FILE:
        raise ValueError(f"{path} has {len(raw)} bytes; no calendar of days is as large")
    try:
        import icalendar  # noqa: PLC0415 - for those who have an .ics file
        import recurring_ical_events  # noqa: PLC0415
    except ImportError:
        raise ValueError(
            f"cannot read {path}: icalendar and recurring-ical-events are not installed; install cron-runner[control],"
            " or write its days out as dates"
        ) from None
    try:
        calendar = icalendar.Calendar.from_ical(raw)
        _refuse_too_much(path, list(calendar.walk("VEVENT")))
        asked = recurring_ical_events.of(calendar, components=["VEVENT"])
        return days_of(_ranges(path, asked, timezone, year))
    except InvalidMessage as error:
        raise ValueError(str(error)) from None
    except Exception as error:  # noqa: BLE001 - whatever a library makes of a file, it is the file's fault, and named
        said = " ".join(str(error).split())[:200]
        raise ValueError(f"{path} cannot be read as a calendar: {said or type(error).__name__}") from None


def _refuse_too_much(path: Path, events: list[Any]) -> None:
    if len(events) > _MOST_EVENTS:
        raise InvalidMessage(f"{path} has {len(events)} events; the most is {_MOST_EVENTS}")
    for event in events:
        rules = event.get("RRULE", [])
        for rule in rules if isinstance(rules, list) else [rules]:
            if often := [freq for freq in rule.get("FREQ", []) if str(freq).upper() in _TOO_OFTEN]:
                title = shown(str(event.get("SUMMARY", "")))
                raise InvalidMessage(f"{path}: event {title} recurs {often[0]}, and a calendar is of days")


def _ranges(path: Path, asked: Any, timezone: str, year: int) -> Iterator[tuple[date, date]]:
    count = 0
    for month in range(12 * (year - YEARS_BACK), 12 * (year + YEARS_AHEAD + 1)):
        begin, end = (date(at // 12, at % 12 + 1, 1) for at in (month, month + 1))
        # A day more on both sides: what is of this month in the job's zone may be of another one in the event's.
        for event in asked.between(begin - timedelta(days=1), end + timedelta(days=1)):
            count += 1
            if count > _MOST_TIMES:
                raise InvalidMessage(f"{path} has more than {_MOST_TIMES} times within {YEARS_AHEAD} years")
            days = _of_event(event.start, event.end, timezone)
            if str(event.get("STATUS", "")).upper() != "CANCELLED" and days[0].year <= year + YEARS_AHEAD:
                yield days


def _of_event(start: date, end: date, timezone: str) -> tuple[date, date]:
    """The days of one time of an event, whose end is not part of it (RFC 5545, 3.6.1)."""
    if not isinstance(start, datetime):
        return start, max(start, end - timedelta(days=1))
    assert isinstance(end, datetime)
    begin, over = (one.astimezone(zone(timezone)) if one.tzinfo is not None else one for one in (start, end))
    last = over - timedelta(microseconds=1) if end > start else over
    return begin.date(), max(begin.date(), last.date())
