"""When a job is fired, by looking at each minute and second by its own: an oracle for splay, calendars and zones.

Fire times come from `cron_model`'s walk over the minutes of Debian's cron; the day of each is looked up in a set of all
days that are allowed, and the delay is added. Nothing of it is the product's but the tz database. By hand:

    python tests/support/timetable_walk.py --jobs 300 --years 10
"""

from __future__ import annotations

import argparse
import hashlib
import random
import sys
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Final

from cron_model import entry_of, fires, random_line

from runner.control.definition import JobDefinition
from runner.control.timetable.firing import Time
from runner.control.timetable.timing import Timing
from runner.control.timetable.zones import changes, zone

ZONES: Final = (
    *("Africa/Cairo", "America/Havana", "America/Nuuk", "America/Santiago", "Asia/Beirut", "Asia/Kathmandu"),
    *("Australia/Lord_Howe", "Europe/Berlin", "Pacific/Apia", "Pacific/Chatham", "Pacific/Kiritimati", "UTC"),
)
_STRETCH_MIN: Final = 5 * 1440


@dataclass(frozen=True)
class Job:
    """``only`` and ``but`` are sets of days, or None."""

    name: str
    line: str
    zone: str
    splay: float
    only: frozenset[date] | None
    but: frozenset[date]


def random_job(draw: random.Random) -> Job:
    days = [date(2026, 1, 1) + timedelta(days=number) for number in range(11 * 365)]

    def some(part: float) -> frozenset[date]:
        return frozenset(day for day in days if draw.random() < part)

    return Job(
        name=f"job-{draw.randrange(1000)}",
        line=random_line(draw),
        zone=draw.choice(ZONES),
        splay=draw.choice((0, 60, 600, 5400, 86_400)),
        only=draw.choice((None, some(0.5))),
        but=draw.choice((frozenset(), some(0.3))),
    )


def walked(job: Job, start: int, end: int) -> tuple[list[Time], list[Time]]:
    """What is sent in (start, end] (minutes since 1970), and what is left out."""
    digest = int(hashlib.sha256(job.name.encode()).hexdigest()[:16], 16)
    delay = digest * int(job.splay) >> 64
    here = zone(job.zone)
    sent: list[Time] = []
    left_out: list[Time] = []
    for minute in fires(entry_of(job.line), here, start - delay // 60 - 4 * 1440, end):
        time = Time(minute * 60.0 + delay, minute * 60.0)
        if start * 60 < time.at <= end * 60:
            day = datetime.fromtimestamp(time.scheduled, UTC).astimezone(here).date()
            allowed = (job.only is None or day in job.only) and day not in job.but
            (sent if allowed else left_out).append(time)
    return sent, left_out


def difference(draw: random.Random, job: Job, year: int) -> str:
    """What differs in some days of a year, around a change of the clock where there is one; "" where nothing does."""
    begin = datetime(year, 1, 1, tzinfo=UTC).timestamp()
    near = []
    for change in changes(zone(job.zone), begin):
        if change.at > begin + 364 * 86_400:
            break
        if change.before != change.after:
            near.append(change.at)
    at = draw.choice(near or [int(begin) + draw.randrange(360 * 86_400)])
    start = at // 60 - _STRETCH_MIN // 2 + draw.randrange(1440)
    end = start + _STRETCH_MIN
    made = _definition(job).timetable()
    assert made is not None
    expected = walked(job, start, end)
    found = made.due(start * 60.0, end * 60.0), made.left_out(start * 60.0, end * 60.0)
    pieces = [time for piece in range(start, end, 97) for time in made.due(piece * 60.0, min(piece + 97, end) * 60.0)]
    coming = [time for time in made.coming(start * 60.0, 300) if time.at <= end * 60]
    if found == expected and pieces == found[0] and coming == found[0][:300]:
        return ""
    return f"{job.line!r} in {job.zone}, {job.name} splay {job.splay}, {year}: {found[0][:3]} for {expected[0][:3]}"


def _definition(job: Job) -> JobDefinition:
    calendars = {"but": ",".join(map(str, sorted(job.but)))} if job.but else {}
    if job.only is not None:
        calendars["only"] = ",".join(map(str, sorted(job.only)))
    timing = Timing(
        splay=job.splay or None,
        but=("but",) if job.but else (),
        only=("only",) if job.only is not None else (),
        calendars=calendars,
    )
    return JobDefinition("web", job.name, schedule=job.line, timezone=job.zone, timing=timing)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=100)
    parser.add_argument("--years", type=int, default=10)
    args = parser.parse_args()
    draw = random.Random(args.seed)
    found = []
    for _ in range(args.jobs):
        job = random_job(draw)
        found += [said for year in range(2026, 2026 + args.years) if (said := difference(draw, job, year))]
    sys.stdout.write("".join(f"{said}\n" for said in found))
    sys.stdout.write(f"{args.jobs} jobs over {args.years} years, {len(found)} differ\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
