"""Cron on the days on which a clock changes, against a minute-by-minute model of Debian's cron."""

from __future__ import annotations

import random
from datetime import UTC, datetime

import pytest
from cron_model import changing, difference, entry_of, fires, random_line

from runner.control.timetable.zones import zone

# Clocks that change at midnight, by half an hour, at odd hours, across the date, once and for all, and never.
ZONES = (
    "Africa/Cairo",
    "Africa/Casablanca",
    "America/Havana",
    "America/Nuuk",
    "America/Santiago",
    "America/Scoresbysund",
    "America/Vancouver",
    "Asia/Beirut",
    "Asia/Jerusalem",
    "Atlantic/Azores",
    "Australia/Lord_Howe",
    "Europe/Berlin",
    "Europe/Chisinau",
    "Pacific/Apia",
    "Pacific/Chatham",
    "Pacific/Norfolk",
)


def minutes(line: str, name: str, day: str) -> list[str]:
    """What the model fires on a day of UTC."""
    start = int(datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp()) // 60
    found = fires(entry_of(line), zone(name), start - 1, start + 1439)
    return [f"{datetime.fromtimestamp(minute * 60, UTC):%H:%M}" for minute in found]


def test_the_model_says_what_its_source_does() -> None:
    # Berlin 2027-03-28: 02:00 CET → 03:00 CEST at 01:00Z; 2027-10-31: 03:00 → 02:00 at 01:00Z.
    assert minutes("30 2 * * *", "Europe/Berlin", "2027-03-28") == ["01:00"]
    assert minutes("30 2 * * *", "Europe/Berlin", "2027-10-31") == ["00:30"]
    assert minutes("30 * * * *", "Europe/Berlin", "2027-03-28")[:3] == ["00:30", "01:30", "02:30"]
    assert minutes("*/30 2 * * *", "Europe/Berlin", "2027-03-28") == []
    assert minutes("*/30 2 * * *", "Europe/Berlin", "2027-10-31") == ["00:00", "00:30", "01:00", "01:30"]


@pytest.mark.parametrize(
    ("line", "name", "year"),
    [
        ("*/30 1 * * 0", "Asia/Beirut", 2027),  # 00:00 is left out: the first hour of the day is 1
        ("*/30 0 * * 0", "Asia/Beirut", 2027),
        ("5 0 * * *", "Asia/Beirut", 2027),
        ("30 * * * *", "Australia/Lord_Howe", 2027),  # half an hour
        ("45 1 * * *", "Australia/Lord_Howe", 2027),
        ("*/10 1,2 * * *", "Australia/Lord_Howe", 2027),
        ("0 0 * * 6", "Africa/Cairo", 2027),
        ("59 23 * * *", "America/Havana", 2027),
        ("0 0 30 12 *", "Pacific/Apia", 2011),  # a whole day is left out: nothing is caught up with
        ("30 12 * * *", "Pacific/Apia", 2011),
    ],
)
def test_a_time_that_the_clock_leaves_out_or_shows_twice_is_debians_cron_s(line: str, name: str, year: int) -> None:
    said = [difference(line, name, at) for _, at in changing([name], year, year)]
    assert said
    assert set(said) == {""}


@pytest.mark.parametrize("seed", range(4))
def test_any_line_at_any_change_is_debians_cron_s(seed: int) -> None:
    draw = random.Random(seed)
    places = [*changing(ZONES, 2026, 2035), *changing(["Pacific/Apia"], 2011, 2011)]
    tried = [(random_line(draw), *draw.choice(places)) for _ in range(25)]
    assert [said for line, name, at in tried if (said := difference(line, name, at))] == []
