"""When jobs are due: cron, AWS's cron, rates, and the days on which the clock changes."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.control.timetable.schedule import local, parse_schedule, parse_timezone

BERLIN = "Europe/Berlin"


def unix(text: str, zone: str = "UTC") -> float:
    moment = datetime.fromisoformat(text)
    return (moment if moment.tzinfo else moment.replace(tzinfo=ZoneInfo(zone))).timestamp()


def utc(schedule: str, zone: str, after: str, until: str) -> list[str]:
    """The fire times as UTC, to the minute."""
    due = parse_schedule(schedule, zone).due(unix(after, zone), unix(until, zone))
    return [datetime.fromtimestamp(moment, UTC).strftime("%m-%dT%H:%M") for moment in due]


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        # 2026-03-29 02:00 CET → 03:00 CEST; 2026-03-28T23:00Z is local midnight.
        ("30 2 * * *", ["03-29T01:00"]),  # cron: left out, so right after the change
        ("0 3 * * *", ["03-29T01:00"]),
        ("0,30 2 * * *", ["03-29T01:00"]),  # two that are left out are one
        ("30 * * * *", [f"03-{day}T{hour:02}:30" for day, hour in [(28, 23), *((29, h) for h in range(6))]]),
        ("cron(30 2 * * ? *)", []),  # AWS: skipped
        ("cron(0 3 * * ? *)", ["03-29T01:00"]),
        ("cron(30 0/1 * * ? *)", [f"03-{day}T{hour:02}:30" for day, hour in [(28, 23), *((29, h) for h in range(6))]]),
        ("rate(2 hours)", ["03-29T00:00", "03-29T02:00", "03-29T04:00"]),
    ],
)
def test_the_day_that_is_an_hour_short(schedule: str, expected: list[str]) -> None:
    # Local midnight to 07:59, which is 05:59 UTC... of a day with 23 hours.
    assert utc(schedule, BERLIN, "2026-03-29T00:00:00", "2026-03-29T07:59:00") == expected


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        # 2026-10-25 03:00 CEST → 02:00 CET: 02:30 comes at 00:30Z and 01:30Z.
        ("30 2 * * *", ["10-25T00:30"]),  # once
        ("30 * * * *", ["10-24T22:30", "10-24T23:30", "10-25T00:30", "10-25T01:30", "10-25T02:30"]),  # real hours
        ("cron(30 2 * * ? *)", ["10-25T00:30"]),
        ("cron(30 * * * ? *)", ["10-24T22:30", "10-24T23:30", "10-25T00:30", "10-25T02:30"]),  # AWS repeats none
        ("0 3 * * *", ["10-25T02:00"]),
    ],
)
def test_the_day_that_is_an_hour_long(schedule: str, expected: list[str]) -> None:
    assert utc(schedule, BERLIN, "2026-10-25T00:00:00", "2026-10-25T03:59:00") == expected


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("cron(0 10 * * ? *)", ["01-01", "01-02"]),
        ("cron(0 18 ? * MON-FRI *)", ["01-01", "01-02", "01-05"]),  # 1 January 2026 is a Thursday
        ("cron(0 18 ? * 2-6 *)", ["01-01", "01-02", "01-05"]),
        ("cron(0 8 1 * ? *)", ["01-01", "02-01"]),
        ("cron(0 8 L * ? *)", ["01-31", "02-28"]),
        ("cron(0 8 3W * ? *)", ["01-02", "02-03"]),  # 3 January is a Saturday
        ("cron(0 8 1W 8 ? *)", ["08-03"]),  # 1 August is a Saturday, and July is not August
        ("cron(0 8 31W 5 ? *)", ["05-29"]),  # 31 May is a Sunday
        ("cron(0 8 ? * 3#2 *)", ["01-13", "02-10"]),  # the second Tuesday
        ("cron(0 8 ? * FRI#1 *)", ["01-02", "02-06"]),
        ("cron(0 8 ? * 6L *)", ["01-30", "02-27"]),  # the last Friday
        ("cron(0 8 ? * L *)", ["01-03", "01-10"]),
        ("cron(0 8 ? * 2/2 *)", ["01-02", "01-05", "01-07"]),  # Monday, Wednesday, Friday
        ("cron(0 8 1/10 * ? *)", ["01-01", "01-11", "01-21", "01-31", "02-01"]),
        ("0 8 1 jan,feb ? 2027", ["01-01", "02-01"]),
        ("cron(0 8 29 2 ? 2028)", ["02-29"]),
        ("@monthly", ["01-01", "02-01"]),
        ("0 8 * * mon", ["01-05", "01-12"]),
        # EventBridge's ranges go on behind the last value.
        ("cron(0 7 ? * MON-SUN *)", ["01-01", "01-02", "01-03", "01-04", "01-05"]),
        ("cron(0 7 ? * FRI-MON *)", ["01-02", "01-03", "01-04", "01-05", "01-09"]),
        ("cron(0 7 ? * SAT-TUE/2 *)", ["01-03", "01-05", "01-10"]),
        ("cron(0 9 1 NOV-FEB ? *)", ["01-01", "02-01", "11-01", "12-01"]),
        ("cron(0 9 30-2 * ? *)", ["01-01", "01-02", "01-30", "01-31", "02-01"]),
        ("cron(0 9 LW * ? *)", ["01-30", "02-27", "03-31"]),  # the last Monday to Friday
    ],
)
def test_days(schedule: str, expected: list[str]) -> None:
    coming = parse_schedule(schedule).coming(unix("2025-12-31T23:59:00"), len(expected))
    assert [datetime.fromtimestamp(moment, UTC).strftime("%m-%d") for moment in coming] == expected


def test_a_single_time_is_local_and_comes_once() -> None:
    schedule = parse_schedule("at(2026-07-01T12:00:00)", BERLIN)
    assert schedule.coming(0.0, 5) == [unix("2026-07-01T10:00:00+00:00")]
    assert schedule.coming(unix("2026-07-01T10:00:00+00:00"), 5) == []
    years = parse_schedule("cron(0 0 1 1 ? 2026-2027)")
    assert len(years.coming(0.0, 9)) == 2


@pytest.mark.parametrize(
    ("schedule", "says"),
    [
        ("", "0 fields"),
        ("often", "1 field"),
        ("61 * * * *", "bad minute"),
        ("* * * * ?", '"?"'),
        ("0 0 30 2 *", "bad day-of-month"),
        ("@dayly", "@daily"),
        ("cron(0 3 * * *)", "5 fields"),
        ("cron(0 3 * * * *)", 'none of the day fields is "?"'),
        ("cron(0 3 ? * ? *)", 'both day fields are "?"'),
        ("cron(0 3 ? * 0 *)", 'day-of-week "0"'),
        ("cron(0 3 ? * 8 *)", "1 to 7 or SUN to SAT"),
        ("cron(0 3 * * ? 2031-2030)", "from the smaller to the larger"),
        ("cron(0 3 ? * 3#1,6#3 *)", "one day with #"),
        ("cron(0 3 L-3 * ? *)", "L stands alone"),
        ("cron(0 3 32 * ? *)", "1 to 31"),
        ("cron(0 3 30 2 ? *)", "never comes"),
        ("cron(0 3 * * ? 1969)", "1970 to 2199"),
        ("cron(0/0 3 * * ? *)", "the step"),
        ("cron(0 3 * * ? *", "closing bracket"),
        ("rate(0 minutes)", "not a rate"),
        ("rate(5 fortnights)", "not a rate"),
        ("at(tomorrow)", "not a time"),
        ("at(2026-13-01T00:00:00)", "not a time"),
        # What cannot be shown somewhere in the world.
        ("at(9999-12-31T23:59:59)", "1971 to 9998"),
        ("at(0001-01-01T00:00:00)", "1971 to 9998"),
        ("rate(999999 days)", "a hundred years"),
        # Other crons' lines.
        ("0 30 2 * * *", 'leave it out ("30 2 * * *")'),
        ("*/10 * * * * *", "nothing here is finer than a minute"),
        ("CRON_TZ=Europe/Berlin 0 3 * * *", 'give "0 3 * * *" as the schedule, and timezone = "Europe/Berlin"'),
        ("TZ=UTC @daily", 'timezone = "UTC"'),
    ],
)
def test_what_is_not_a_schedule_is_refused_with_the_reason(schedule: str, says: str) -> None:
    with pytest.raises(ValueError, match=re.escape(says)):
        parse_schedule(schedule)


def test_a_timezone_that_is_near_is_suggested() -> None:
    assert parse_timezone("America/New_York") == "America/New_York"
    for wrong in ("Europe/Berlim", "../etc/passwd", "", "CEST+2"):
        with pytest.raises(ValueError, match="is not a timezone"):
            parse_timezone(wrong)
    with pytest.raises(ValueError, match='did you mean "Europe/Berlin"'):
        parse_timezone("Europe/Berlim")


SCHEDULES = [
    "30 2 * * *",
    "*/20 * * * *",
    "0 1-4 * * *",
    "15 */3 * * 0",
    "cron(30 2 * * ? *)",
    "cron(0/25 * ? * SUN *)",
]
MARCH, OCTOBER = unix("2026-03-28T12:00:00"), unix("2026-10-24T12:00:00")


@given(
    st.sampled_from(SCHEDULES),
    st.sampled_from([MARCH, OCTOBER]),
    st.lists(st.integers(0, 48 * 60), min_size=2, max_size=12),
    st.sampled_from([BERLIN, "UTC", "America/New_York", "Australia/Lord_Howe"]),
)
@settings(deadline=None)  # a busy machine is slow now and then
def test_how_time_is_cut_into_windows_changes_nothing(schedule: str, start: float, cuts: list[int], zone: str) -> None:
    parsed = parse_schedule(schedule, zone)
    moments = sorted({start + cut * 60 for cut in cuts})
    pieces = [due for a, b in pairwise(moments) for due in parsed.due(a, b)]
    assert pieces == parsed.due(moments[0], moments[-1])


@pytest.mark.parametrize(
    ("schedule", "words"),
    [
        ("0 0 1-31 * 1", "At 00:00 every day"),  # one of the two day fields is enough, and all days are in one
        ("0 0 5 * 0-6", "At 00:00 every day"),
        ("0 0 * * 1-7", "At 00:00 every day"),
        ("0 0 */1 * 1", "At 00:00 on Monday"),  # a field that begins with * does not suffice alone
        ("0-59 * * * *", "Every minute"),
        ("0 0-23 * * *", "At the start of every hour"),
        ("0 3 1 1-12 *", "At 03:00 on the first day of every month"),
        ("0 3 * * 1-5", "At 03:00 on Monday through Friday"),
    ],
)
def test_words_are_made_by_the_rule_of_the_firing(schedule: str, words: str) -> None:
    assert parse_schedule(schedule).words() == f"{words} (UTC)"


@pytest.mark.parametrize(
    "schedule", ["rate(36525 days)", "at(9998-12-31T23:59:59)", "cron(0 0 1 1 ? 2199)", "0 0 29 2 *"]
)
@pytest.mark.parametrize("zone", ["America/New_York", "Pacific/Kiritimati", "UTC"])
def test_what_is_a_schedule_can_be_shown_as_far_as_it_comes(schedule: str, zone: str) -> None:
    parsed = parse_schedule(schedule, zone)
    for after in (0.0, unix("2026-01-01T00:00:00"), unix("9998-01-01T00:00:00"), unix("9999-12-29T00:00:00")):
        assert all(local(moment, zone).year <= 9999 for moment in parsed.coming(after, 3))
    assert parsed.due(unix("9990-01-01T00:00:00"), 4e12) == parsed.coming(unix("9990-01-01T00:00:00"), 1000)
