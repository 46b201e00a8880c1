"""A line of a crontab as Debian's cron takes it apart, and when it would start it: an oracle for `jobs import crontab`.

Written from cron 3.0pl1-162 (entry.c), character by character as that reads, and independent of the product; the walk
is `cron_model`'s, minute by minute, over all days that could match and all on which a clock changes. By hand:

    python tests/support/cron_entry.py --lines 2000 --years 12
"""

from __future__ import annotations

import argparse
import random
import sys
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from cron_model import Entry, fires

from runner.control.crontab.fields import schedule_of
from runner.control.timetable.schedule import parse_schedule
from runner.control.timetable.zones import changes, offset_at, zone

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

MONTHS: Final = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
DAYS: Final = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"]
_BOUNDS: Final = ((0, 59, []), (0, 23, []), (1, 31, []), (1, 12, MONTHS), (0, 7, DAYS))
_DAY_MIN: Final = 1440


class Bad(Exception):
    """What cron calls a bad minute, hour and so on."""


class _Reader:
    """entry.c's view of a line: one character at a time, and one that can be looked at."""

    def __init__(self, text: str) -> None:
        self.text, self.at = text, 0

    @property
    def char(self) -> str:
        return self.text[self.at] if self.at < len(self.text) else "\n"

    def step(self) -> None:
        self.at += 1


def entry_of(line: str) -> Entry:
    """The first five fields of a line; raises Bad."""
    reader = _Reader(line)
    sets, stars = [], []
    for low, high, names in _BOUNDS:
        stars.append(reader.char == "*")
        sets.append(_list(reader, low, high, names))
    days = {number % 7 for number in sets[4]}
    fields = (*map(frozenset, sets[:4]), frozenset(days))
    return Entry(fields, stars[0] or stars[1], stars[2] or stars[4])


def _list(reader: _Reader, low: int, high: int, names: list[str]) -> set[int]:
    found: set[int] = set()
    while True:
        _range(reader, found, low, high, names)
        if reader.char != ",":
            break
        reader.step()
    while reader.char not in " \t\n":
        reader.step()
    if reader.char == "\n":
        raise Bad("the line ends")
    while reader.char in " \t":
        reader.step()
    return found


def _range(reader: _Reader, found: set[int], low: int, high: int, names: list[str]) -> None:
    step = 1
    if reader.char == "*":
        first, last = low, high
        reader.step()
    else:
        first = last = _number(reader, low, names)
        if reader.char == "-":
            reader.step()
            last = _number(reader, low, names)
        elif reader.char == "/":
            raise Bad("a step without a range")
        else:
            if not low <= first <= high:
                raise Bad(first)
            found.add(first)
            return
    if reader.char == "/":
        reader.step()
        step = _number(reader, 0, [])
        if step <= 0:
            raise Bad("no step")
    if not (low <= first <= high and low <= last <= high):
        raise Bad((first, last))
    while first <= last:
        found.add(first)
        first += step


def _number(reader: _Reader, low: int, names: list[str]) -> int:
    said = ""
    while reader.char.isascii() and reader.char.isalnum():
        said += reader.char
        reader.step()
    if said.lower() in names:
        return names.index(said.lower()) + low
    if not said.isdigit():
        raise Bad(said)
    return int(said)


def coming(entry: Entry, timezone: ZoneInfo, start: int, count: int, most_days: int = 366 * 60) -> list[int]:
    """The next ``count`` minutes (since 1970, UTC) after one in which cron starts the entry."""
    found: list[int] = []
    begin = start
    near = {change.at // 86_400 + step for change in _changes(timezone, start, most_days) for step in (-1, 0, 1)}
    day = start // _DAY_MIN
    while len(found) < count and day < start // _DAY_MIN + most_days:
        end = (day + 1) * _DAY_MIN - 1
        if day in near:
            # From a day before: what is left over of a change is known then.
            found += [minute for minute in fires(entry, timezone, begin - _DAY_MIN, end) if minute > begin]
        else:
            ahead = offset_at(timezone, (begin + 1) * 60) // 60
            if _could(entry, begin + 1 + ahead) or _could(entry, end + ahead):
                found += [minute for minute in range(begin + 1, end + 1) if entry.matches(minute + ahead)]
        begin = end
        day += 1
    return found[:count]


def _changes(timezone: ZoneInfo, start: int, most_days: int) -> list:
    found = []
    for change in changes(timezone, start * 60 - 2 * 86_400):
        if change.at > (start + (most_days + 2) * _DAY_MIN) * 60:
            return found
        if change.before != change.after:
            found.append(change)
    return found


def _could(entry: Entry, wall: int) -> bool:
    """Whether the entry matches some minute of this day of the clock on the wall."""
    _, _, days, months, weekdays = entry.fields
    date = (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(minutes=wall)).date()
    day, weekday = date.day in days, date.isoweekday() % 7 in weekdays
    return date.month in months and ((day and weekday) if entry.both_days else (day or weekday))


def random_fields(draw: random.Random) -> str:
    """Five fields as people, and fuzzers, write them; some that cron refuses."""
    return " ".join(_random_field(draw, *bounds) for bounds in _BOUNDS)


def _random_field(draw: random.Random, low: int, high: int, names: list[str]) -> str:
    if draw.random() < 0.3:
        return "*"
    return ",".join(_random_part(draw, low, high, names) for _ in range(draw.choice((1, 1, 1, 2, 3))))


def _random_part(draw: random.Random, low: int, high: int, names: list[str]) -> str:
    def number() -> str:
        if names and draw.random() < 0.4:
            word = draw.choice(names)
            return draw.choice((word, word.title(), word.upper()))
        said = draw.randint(low, high if draw.random() < 0.97 else high + 3)
        return f"{said:02}" if draw.random() < 0.1 else str(said)

    span = draw.choice((lambda: "*", number, number, number, lambda: f"{number()}-{number()}"))()
    if draw.random() < 0.3:
        span += f"/{draw.choice((1, 2, 3, 5, 7, 15, 20, 40, 100))}"
    return span + draw.choice(("#2", "L", "x") if draw.random() < 0.03 else ("",))


def difference(fields: str, name: str, start: int, count: int, years: int) -> str | None:
    """What differs in the next fire times of a line; "" where nothing does, None of one that is told as refused."""
    try:
        entry = entry_of(f"{fields} x")
    except Bad:
        entry = None
    try:
        written, _ = schedule_of(fields.split())
        schedule = parse_schedule(written, name)
    except ValueError as error:
        if entry is not None and (found := coming(entry, zone(name), start, 1, 366 * years)):
            return f"{fields!r} in {name}: {error}, and cron fires it at {found}"
        return None
    if entry is None:
        return f"{fields!r}: cron refuses it"
    expected = coming(entry, zone(name), start, count, 366 * years)
    found = [int(at) // 60 for at in schedule.coming(start * 60.0, len(expected))]
    return "" if found == expected else f"{fields!r} as {written!r} in {name}: {found[:4]} for {expected[:4]}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--lines", type=int, default=500)
    parser.add_argument("--years", type=int, default=10)
    args = parser.parse_args()
    draw = random.Random(args.seed)
    zones = ("Europe/Berlin", "Africa/Cairo", "Australia/Lord_Howe", "America/Santiago", "Asia/Beirut", "UTC")
    said = [
        difference(random_fields(draw), draw.choice(zones), 1_900_000_020 // 60, 200, args.years)
        for _ in range(args.lines)
    ]
    wrong = [one for one in said if one]
    sys.stdout.write("".join(f"{one}\n" for one in wrong))
    sys.stdout.write(f"{args.lines} lines, {said.count('')} imported, {said.count(None)} told, {len(wrong)} differ\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
