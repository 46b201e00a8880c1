"""What is due for a stretch of time, by each job's own policy for what was missed."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from runner.control.definition import JobDefinition, job_of
from runner.control.due import ON_TIME_S, cut, due, latest, unreadable
from runner.control.timetable.firing import forget
from runner.control.timetable.schedule import Schedule, parse_schedule

if TYPE_CHECKING:
    from collections.abc import Sequence

T0 = 1_900_000_020.0  # 2030-03-17T17:47:00Z
DAY = 86_400.0
Policy = Any


def job(schedule: str = "* * * * *", missed: Policy = "last", since: float = 0.0, zone: str = "UTC") -> JobDefinition:
    return JobDefinition("web", "j", schedule=schedule, missed=missed, since=since, timezone=zone)


def minutes(one: JobDefinition, after: float, until: float) -> list[float]:
    """The fire times, in minutes before ``until``."""
    return [(fire.at - until) / 60 for fire in due([one], after, until).fires]


@pytest.mark.parametrize("missed", ["skip", "last", "all"])
def test_no_policy_leaves_out_what_is_on_time(missed: Policy) -> None:
    for late in (0, 30, 60, 120, 149, 200, 3600, 10 * DAY):
        until = T0 + 20
        found = {fire.at for fire in due([job(missed=missed)], until - late, until).fires}
        assert found >= set(parse_schedule("* * * * *").due(until - min(late, ON_TIME_S), until)), late


def test_of_what_was_missed_last_keeps_the_latest_where_nothing_is_on_time() -> None:
    assert minutes(job(missed="last"), T0 - 200, T0) == [-2, -1, 0]
    hourly = job("0 * * * *", "last")
    assert minutes(hourly, T0 - 10 * 3600, T0) == [-47], "17:00 alone"
    assert minutes(hourly, T0 - 10 * 3600, T0 + 13 * 60 + 60) == [-1], "18:00 is on time"
    assert minutes(replace(hourly, missed="skip"), T0 - 10 * 3600, T0) == []
    assert len(minutes(replace(hourly, missed="all"), T0 - 10 * 3600, T0)) == 10


def test_a_policy_has_its_own_bound_and_what_it_leaves_out_is_counted() -> None:
    monthly = job("0 3 1 * *", "last")
    assert len(due([monthly], T0 - 40 * DAY, T0).fires) == 1, "sixteen days ago"
    often = job("*/5 * * * *", "skip")
    found = due([often], T0 - 30 * DAY, T0)
    assert found.dropped + len(found.fires) == 30 * 288
    every = due([job("0 * * * *", "all")], T0 - 10 * DAY, T0)
    assert (len(every.fires), every.dropped) == (7 * 24, 3 * 24)


def test_nothing_of_a_long_outage_is_listed_but_what_is_enqueued(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[float] = []
    whole = Schedule.due

    def counted(self: Schedule, after: float, until: float) -> list[float]:
        found = whole(self, after, until)
        looked.append(len(found))
        return found

    monkeypatch.setattr(Schedule, "due", counted)
    for missed in ("skip", "last", "all"):
        looked.clear()
        found = due([job("* * * * *", missed)], T0 - 700 * DAY, T0 + 0.25, listed=False)
        assert len(found.fires) == 3
        assert sum(looked) < 100, missed
        assert found.behind is (missed == "all")


def test_each_fire_time_is_on_one_side_of_what_is_on_time() -> None:
    for fraction in (0.0, 1e-7, 0.0000004, 0.25, 0.999999, 0.9999999):
        until = T0 + fraction
        edge = cut(until)
        seconds = [T0 - ON_TIME_S + n for n in (-2, -1, 0, 1, 2)]
        assert [at > edge for at in seconds] == [at >= until - ON_TIME_S for at in seconds]
        assert all(abs(at - edge) >= 0.5 for at in seconds), "no rounding moves one over it"


@pytest.mark.parametrize("schedule", ["* * * * *", "17 3 * * *", "0 0 29 2 *", "rate(7 hours)", "cron(0 9 ? * MON *)"])
@pytest.mark.parametrize("count", [1, 3, 50])
def test_the_latest_times_are_the_end_of_all_times(schedule: str, count: int) -> None:
    parsed = parse_schedule(schedule, "Europe/Berlin")
    for after in (T0 - 5 * 365 * DAY, T0 - 3 * DAY, T0 - 60, T0):
        if schedule == "* * * * *" and after < T0 - 10 * DAY:
            continue
        assert latest(parsed, after, T0, count) == parsed.due(after, T0)[-count:]


def damaged(**fields: object) -> JobDefinition:
    """A job as a table may hold it: of another version, or another tz database."""
    item: dict[str, object] = job().item() | {"sk": "JOB", "pk": "web#JOB#bad"}
    for name, value in fields.items():
        if value is ...:
            del item[name]
        else:
            item[name] = value
    return job_of(item)


@pytest.mark.parametrize(
    "fields",
    [
        {"timezone": "Mars/Olympus"},
        {"timezone": "../etc/passwd"},
        {"schedule": "every(third tuesday)"},
        {"schedule": "rate(5 minutes)", "timezone": "Mars/Olympus"},
        {"schedule": 5},
        {"schedule": ["* * * * *"]},
        {"missed": "some"},
        {"message": "not json"},
        {"message": "[]"},
        {"message": ...},
        {"since": "yesterday"},
        {"notify": {"whom": 1}},
        {"notify": "ops"},
        {"retention": "long"},
        {"revision": ...},
        {"timezone": None},
    ],
    ids=str,
)
def test_a_job_that_cannot_be_read_is_a_fault_of_its_own(fields: dict[str, object]) -> None:
    bad = damaged(**fields)
    others: Sequence[JobDefinition] = [replace(job(), name="a"), bad, replace(job(), name="z")]
    found = due(others, T0 - 60, T0)
    assert [fire.name for fire in found.fires] == ["a", "z"]
    assert [fault.name for fault, _ in found.faults] == [bad.name]
    assert all(why for _, why in found.faults)
    assert [fault for fault, _ in unreadable(others)] == [bad]


def test_a_schedule_that_breaks_while_it_is_looked_at_is_that_jobs_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Schedule.due

    def breaks(self: Schedule, after: float, until: float) -> list[float]:
        if self.text == "@hourly":
            raise OverflowError("date value out of range")
        return whole(self, after, until)

    monkeypatch.setattr(Schedule, "due", breaks)
    forget()  # what another test has looked at
    found = due([replace(job("@hourly"), name="bad"), job()], T0 - 60, T0)
    assert [fire.name for fire in found.fires] == ["j"]
    assert [(one.name, why) for one, why in found.faults] == [("bad", "date value out of range")]
