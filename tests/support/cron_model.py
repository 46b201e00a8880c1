"""Debian's cron as its main loop has it, minute by minute: an oracle for the times at which schedules fire.

Written from cron 3.0pl1 (cron.c, entry.c), and independent of the product but for where it takes the clocks of the
zones from. By hand, over every zone whose clock changes, and years of it:

    python tests/support/cron_model.py --years 10 --each 12
"""

from __future__ import annotations

import argparse
import random
import sys
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final
from zoneinfo import available_timezones

from runner.control.timetable.schedule import parse_schedule
from runner.control.timetable.zones import changes, zone

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from zoneinfo import ZoneInfo

_RANGES: Final = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))
_AROUND_MIN: Final = 27 * 60
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Entry:
    """A line of a crontab: what each field allows, and the flags that entry.c sets for a field that begins with `*`."""

    fields: tuple[frozenset[int], ...]
    wild: bool
    both_days: bool

    def matches(self, minute: int) -> bool:
        """``minute``: since 1970, on the clock on the wall."""
        minutes, hours, days, months, weekdays = self.fields
        if minute % 60 not in minutes or minute // 60 % 24 not in hours:
            return False
        day = (_EPOCH + timedelta(minutes=minute)).date()
        if day.month not in months:
            return False
        weekday = day.isoweekday() % 7 in weekdays
        return (day.day in days and weekday) if self.both_days else (day.day in days or weekday)


def entry_of(line: str) -> Entry:
    parts = line.split()
    fields = [_field(part, low, high) for part, (low, high) in zip(parts, _RANGES, strict=True)]
    fields[4] = frozenset(number % 7 for number in fields[4])
    star = [part.startswith("*") for part in parts]
    return Entry(tuple(fields), star[0] or star[1], star[2] or star[4])


def _field(text: str, low: int, high: int) -> frozenset[int]:
    found: set[int] = set()
    for term in text.split(","):
        span, _, step = term.partition("/")
        first, _, last = span.partition("-")
        start, end = (low, high) if span == "*" else (int(first), int(last or first))
        found.update(range(start, end + 1, int(step or 1)))
    return frozenset(found)


def fires(entry: Entry, timezone: ZoneInfo, start: int, end: int) -> list[int]:
    """The minutes (since 1970, UTC) in (start, end] in which cron starts the entry, each once."""

    def clock(minute: int) -> int:
        moment = datetime.fromtimestamp(minute * 60, UTC).astimezone(timezone)
        ahead = moment.utcoffset()
        assert ahead is not None
        return minute + int(ahead.total_seconds()) // 60

    found: list[int] = []
    virtual = clock(start)
    for now in range(start + 1, end + 1):
        running = clock(now)
        ahead = running - virtual
        wild = fixed = range(0)
        if ahead == 1:
            virtual = running
            wild = fixed = range(running, running + 1)
        elif 0 < ahead <= 5:
            wild = fixed = range(virtual + 1, running + 1)
            virtual = running
        elif 5 < ahead <= 180:
            wild, fixed = range(running, running + 1), range(virtual + 1, running + 1)
            virtual = running
        elif -180 < ahead <= 0:
            wild = range(running, running + 1)
        else:
            virtual = running
            wild = fixed = range(running, running + 1)
        if any(entry.matches(minute) for minute in (wild if entry.wild else fixed)):
            found.append(now)
    return found


def random_line(draw: random.Random) -> str:
    """Fields that Debian's cron takes, with their weight on the hours at which clocks change."""
    minute = draw.choice(("*", "0", "30", "*/30", "*/20", "15,45", "0-59", "10-50/20", "59", str(draw.randrange(60))))
    hours = ("*", "*/2", "0", "1", "2", "3", "0-3", "1,2", "0-23", "0-23/2", "23", "2-4", str(draw.randrange(24)))
    days = draw.choice(("*", "*", "*", "*/2", "1-31", "1-7", "25-31", "15"))
    weekdays = draw.choice(("*", "*", "*", "0", "7", "1-5", "6,0", "*/3", "0-6"))
    return f"{minute} {draw.choice(hours)} {days} {draw.choice(('*', '*', '*', '1-12', '3,10'))} {weekdays}"


def difference(line: str, name: str, at: int) -> str:
    """What differs between the product and the model around a moment (unix seconds); "" where nothing does."""
    start, end = at // 60 - _AROUND_MIN, at // 60 + _AROUND_MIN
    model = fires(entry_of(line), zone(name), start, end)
    ours = [int(due) // 60 for due in parse_schedule(line, name).due(start * 60, end * 60)]
    if model == ours:
        return ""
    missing, more = sorted(set(model) - set(ours)), sorted(set(ours) - set(model))
    return f"{line!r} in {name}: missing {_shown(missing)}, too many {_shown(more)}"


def _shown(minutes: list[int]) -> list[str]:
    return [f"{datetime.fromtimestamp(minute * 60, UTC):%Y-%m-%dT%H:%MZ}" for minute in minutes[:4]]


def changing(names: Iterable[str], first: int, last: int) -> Iterator[tuple[str, int]]:
    """Each change of these zones' clocks in these years: (zone, unix seconds)."""
    end = datetime(last + 1, 1, 1, tzinfo=UTC).timestamp()
    for name in names:
        for change in changes(zone(name), datetime(first, 1, 1, tzinfo=UTC).timestamp()):
            if change.at >= end:
                break
            if change.before != change.after:
                yield name, change.at


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=2026)
    parser.add_argument("--years", type=int, default=10)
    parser.add_argument("--each", type=int, default=4, help="lines tried at each change of each zone")
    args = parser.parse_args()
    draw = random.Random(args.seed)
    places = list(changing(sorted(available_timezones()), args.first, args.first + args.years - 1))
    found = [said for name, at in places for _ in range(args.each) if (said := difference(random_line(draw), name, at))]
    sys.stdout.write("".join(f"{said}\n" for said in found))
    count = len(places) * args.each
    zones = len({name for name, _ in places})
    sys.stdout.write(f"{count} tried at {len(places)} changes of {zones} zones, {len(found)} differ\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
