"""When jobs are fired, against a walk that looks at each minute: splay, calendars, zones, and the days of a change."""

from __future__ import annotations

import random
from datetime import UTC, datetime

import pytest
from timetable_walk import difference, random_job

from runner.control.definition import GroupDefinition, JobDefinition
from runner.control.timetable.firing import Timetable
from runner.control.timetable.schedule import parse_schedule
from runner.control.timetable.timing import Timing, delay_of

T0 = 1_900_000_020.0  # 2030-03-17T17:47:00Z
HOLIDAYS = {"bank-holidays": "2030-03-18"}


@pytest.mark.parametrize("seed", range(4))
def test_a_job_is_fired_when_a_walk_over_all_minutes_says_so(seed: int) -> None:
    draw = random.Random(seed)
    assert [said for _ in range(3) if (said := difference(draw, random_job(draw), 2026 + draw.randrange(10)))] == []


def test_each_fire_time_is_sent_once_however_the_time_is_cut_and_the_splay_changes() -> None:
    draw = random.Random(3)
    for _ in range(60):
        old, new = (draw.choice((0.0, 90.0, 600.0, 3600.0)) for _ in range(2))
        turn = T0 + draw.randrange(3600)
        schedule = parse_schedule(draw.choice(("* * * * *", "*/7 * * * *", "0 * * * *")))
        before = Timetable(schedule, delay=old)
        after = Timetable(schedule, delay=new, moved=(turn, old))
        cuts = sorted(T0 + draw.randrange(4 * 3600) for _ in range(40))
        found = []
        for begin, end in zip([T0, *cuts], [*cuts, T0 + 5 * 3600], strict=True):
            # As the scheduler sees it: what was applied in between counts from then on.
            found += (before if end <= turn else after).due(begin, end)
        expected = [at for at in schedule.due(T0 - 3600, T0 + 5 * 3600) if after.sent_at(at) in _within(T0, 5 * 3600)]
        assert sorted(time.scheduled for time in found) == expected


class _within:  # noqa: N801 - reads as a word
    def __init__(self, start: float, lasts: float) -> None:
        self.start, self.end = start, start + lasts

    def __contains__(self, at: float) -> bool:
        return self.start < at <= self.end


def test_what_is_left_out_and_what_is_sent_are_all_there_is() -> None:
    schedule = parse_schedule("0 */6 * * *", "Europe/Berlin")
    timing = Timing(but=("bank-holidays",), calendars=HOLIDAYS)
    timetable = Timetable(schedule, timing.allowed, delay=600.0)
    both = sorted([*timetable.due(T0, T0 + 3 * 86_400), *timetable.left_out(T0, T0 + 3 * 86_400)])
    assert [time.scheduled for time in both] == schedule.due(T0 - 600, T0 - 600 + 3 * 86_400)
    assert len(timetable.left_out(T0, T0 + 3 * 86_400)) == 4


def test_days_far_ahead_are_found_without_looking_at_each_time_before_them(monkeypatch: pytest.MonkeyPatch) -> None:
    job = JobDefinition("web", "j", schedule="* * * * *", timing=Timing(only=("far",), calendars={"far": "2038-07-01"}))
    timetable = job.timetable()
    assert timetable is not None
    looked = 0
    from runner.control.timetable import firing

    whole = firing.local

    def counted(moment: float, timezone: str) -> datetime:
        nonlocal looked
        looked += 1
        return whole(moment, timezone)

    monkeypatch.setattr(firing, "local", counted)
    (first, *_) = timetable.coming(T0, 1)
    assert datetime.fromtimestamp(first.at, UTC).isoformat() == "2038-07-01T00:00:00+00:00"
    assert looked < 2000
    assert len(timetable.coming(T0, 2000)) == 1440, "and none behind them"


@pytest.mark.parametrize(
    ("schedule", "timing", "after", "words"),
    [
        (
            "7 3 * * 1-5",
            Timing(but=("bank-holidays",), calendars=HOLIDAYS),
            ("extract", "load"),
            "03:07 Europe/Berlin on working days but not on bank-holidays, after extract and load",
        ),
        ("0 3 * * *", Timing(), (), "03:00 Europe/Berlin every day"),
        (
            "0 3 * * *",
            Timing(only=("bank-holidays",), calendars=HOLIDAYS),
            (),
            "03:00 Europe/Berlin on bank-holidays",
        ),
        ("*/5 * * * *", Timing(), (), "every fifth minute of every hour, Europe/Berlin"),
        ("cron(0 3 ? * MON-FRI *)", Timing(), (), "03:00 Europe/Berlin on working days"),
        ("rate(5 minutes)", Timing(), ("load",), "every 5 minutes, after load"),
        (None, Timing(), ("load",), "after load"),
        (None, Timing(), (), ""),
    ],
)
def test_what_all_of_it_comes_to_in_words(
    schedule: str | None, timing: Timing, after: tuple[str, ...], words: str
) -> None:
    job = JobDefinition("web", "j", schedule=schedule, timezone="Europe/Berlin", timing=timing, after=after)
    assert job.words(None) == words


def test_a_splay_is_said_as_the_delay_that_it_is() -> None:
    job = JobDefinition("web", "j", schedule="0 3 * * *", timing=Timing(splay=600.0))
    assert delay_of("j", 600.0) == 57.0
    assert job.words(None) == "03:00 UTC every day, 57s later by its splay of 10m"
    by_aws = GroupDefinition("web", "q", fire="eventbridge")
    assert job.words(by_aws) == "03:00 UTC every day, within the 10m that follow"
