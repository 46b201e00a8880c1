"""`[calendars]` of job files: dates, ranges and .ics files become days, and what is wrong with them is told by name."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from runner.cli.central.jobs_plan import plan_text
from runner.control.applying.files import Wanted, read_files
from runner.control.applying.plan import plan
from runner.control.definition import JobDefinition, changed, job_of
from runner.control.timetable.days import Allowed, days_of, difference, parse_days
from runner.control.timetable.timing import Timing, delay_of
from runner.errors import JobFilesInvalid

TODAY = date(2026, 11, 29)
DATES = 'dates = ["2026-12-25", "2027-05-06", "2026-12-31/2027-01-01", "2026-12-26"]'
JOBS = """
[groups.web]
queue = "https://sqs.eu-west-1.amazonaws.com/1/cron-web"
[defaults]
group = "web"
[calendars.bank-holidays]
dates = ["2026-12-25", "2027-05-06", "2026-12-31/2027-01-01", "2026-12-26"]
[jobs.nightly]
command = "true"
schedule = "7 3 * * 1-5"
timezone = "Europe/Berlin"
splay = "10m"
except = ["bank-holidays"]
"""
ICS = """BEGIN:VCALENDAR
VERSION:2.0
PRODID:-//test//EN
BEGIN:VEVENT
UID:1
SUMMARY:New Year
DTSTART;VALUE=DATE:20200101
RRULE:FREQ=YEARLY
END:VEVENT
BEGIN:VEVENT
UID:2
SUMMARY:Bridge days
DTSTART;VALUE=DATE:20261224
DTEND;VALUE=DATE:20261227
EXDATE;VALUE=DATE:20271224
END:VEVENT
BEGIN:VEVENT
UID:3
SUMMARY:Late at night
DTSTART:20270301T233000Z
DTEND:20270302T003000Z
END:VEVENT
BEGIN:VEVENT
UID:4
SUMMARY:Not any more
STATUS:CANCELLED
DTSTART;VALUE=DATE:20270401
END:VEVENT
END:VCALENDAR
"""


def read(tmp_path: Path, text: str) -> Wanted:
    path = tmp_path / "jobs.toml"
    path.write_text(text)
    return read_files([path], TODAY)


def faults(tmp_path: Path, text: str) -> list[str]:
    with pytest.raises(JobFilesInvalid) as caught:
        read(tmp_path, text)
    return [fault.removeprefix(f"{tmp_path}/") for fault in caught.value.faults]


def test_days_and_ranges_are_kept_with_the_job_and_come_back_from_the_table(tmp_path: Path) -> None:
    (job,) = read(tmp_path, JOBS).jobs
    assert job.timing.calendars == {"bank-holidays": "2026-12-25/2026-12-26,2026-12-31/2027-01-01,2027-05-06"}
    assert (job.timing.splay, job.timing.but, job.timing.only) == (600.0, ("bank-holidays",), ())
    assert job_of(job.item()) == job
    assert job.says()["except"] == ["bank-holidays"]
    assert "splay" not in JobDefinition("web", "plain", schedule="0 3 * * *").item()


def test_dates_without_quotes_are_dates_in_toml_and_in_yaml(tmp_path: Path) -> None:
    toml = read(tmp_path, JOBS.replace('"2026-12-25"', "2026-12-25")).jobs
    path = tmp_path / "jobs.yaml"
    path.write_text(
        "groups: {web: {queue: https://sqs.eu-west-1.amazonaws.com/1/cron-web}}\n"
        "calendars: {bank-holidays: {dates: [2026-12-25, 2027-05-06, 2026-12-31/2027-01-01, 2026-12-26]}}\n"
        "jobs: {nightly: {group: web, command: 'true', schedule: 7 3 * * 1-5, timezone: Europe/Berlin, splay: 10m,"
        " except: bank-holidays}}\n"
    )
    assert read_files([path], TODAY).jobs == toml


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        (
            'except = ["bank-holidays"]',
            'except = ["bank-holiday"]',
            'jobs.nightly.except: unknown calendar "bank-holiday", did you mean "bank-holidays"?',
        ),
        (
            'except = ["bank-holidays"]',
            'only = ["x"]',
            'jobs.nightly.only: unknown calendar "x"; add [calendars.x] to one of these files',
        ),
        ('"2026-12-25", ', '"2026-12-32", ', "calendars.bank-holidays.dates[0]: "),
        ('"2026-12-25", ', '"20261225", ', "calendars.bank-holidays.dates[0]: "),
        ('"2026-12-25", ', '"2026-12-25/2026-12-24", ', "calendars.bank-holidays.dates[0]: "),
        ("dates = [", "date = [", 'calendars.bank-holidays: unknown field "date", did you mean "dates"?'),
        (DATES, "dates = []", "has no day"),
        (
            'dates = ["2026-12-25", "2027-05-06", "2026-12-31/2027-01-01", "2026-12-26"]',
            'file = "x.ics"',
            "cannot read",
        ),
        (
            'dates = ["2026-12-25", "2027-05-06", "2026-12-31/2027-01-01", "2026-12-26"]',
            'file = "x.txt"',
            "no .ics file",
        ),
        ('splay = "10m"', 'splay = "25h"', "jobs.nightly.splay: "),
        ('splay = "10m"', 'only = ["bank-holidays"]', "jobs.nightly.except: leaves no day"),
        ('schedule = "7 3 * * 1-5"\n', "", "jobs.nightly.splay: needs a schedule"),
    ],
)
def test_what_is_wrong_is_told_by_its_name(tmp_path: Path, old: str, new: str, fault: str) -> None:
    assert old in JOBS
    said = faults(tmp_path, JOBS.replace(old, new))
    assert [one for one in said if fault in one], said
    assert len(said) == (3 if "needs a schedule" in fault else 1), "nothing else is"


def test_a_calendar_that_ends_soon_is_told_by_name_and_one_that_goes_on_is_not(tmp_path: Path) -> None:
    assert read(tmp_path, JOBS).warnings == ()
    (said,) = read(tmp_path, JOBS.replace('"2027-05-06", "2026-12-31/2027-01-01", ', "")).warnings
    assert said.startswith("calendar bank-holidays ends on 2026-12-26, and job nightly uses it")
    (said,) = read(tmp_path, JOBS.replace("2026", "2024").replace("2027", "2025")).warnings
    assert said.startswith("calendar bank-holidays ended on 2025-05-06")


def test_an_ics_file_is_read_with_what_recurs_and_in_the_jobs_own_zone(tmp_path: Path) -> None:
    pytest.importorskip("recurring_ical_events")
    (tmp_path / "days.ics").write_text(ICS)
    text = JOBS.replace(
        'dates = ["2026-12-25", "2027-05-06", "2026-12-31/2027-01-01", "2026-12-26"]', 'file = "days.ics"'
    )
    wanted = read(
        tmp_path, text + '[jobs.far]\nschedule = "@daily"\ntimezone = "America/New_York"\nonly = "bank-holidays"\n'
    )
    berlin, new_york = (parse_days(job.timing.calendars["bank-holidays"]) for job in wanted.jobs)
    new_years = {date(year, 1, 1) for year in range(2025, 2032)}
    bridges = {date(2026, 12, day) for day in (24, 25, 26)}
    assert set(berlin) == new_years | bridges | {date(2027, 3, 2)}, "00:30 to 01:30 in Berlin"
    assert set(new_york) == new_years | bridges | {date(2027, 3, 1)}
    assert wanted.warnings == ()


@pytest.mark.parametrize(
    "text", ["", "BEGIN:VCALENDAR\nBEGIN:VEVENT\n", "no calendar\n", ICS.replace("YEARLY", "SECONDLY")]
)
def test_an_ics_file_that_is_none_is_told_and_costs_nothing(tmp_path: Path, text: str) -> None:
    pytest.importorskip("recurring_ical_events")
    (tmp_path / "days.ics").write_text(text)
    said = faults(tmp_path, JOBS.replace('dates = ["2026-12-25",', 'file = "days.ics"\ndates = ["2026-12-25",'))
    assert all(one.startswith("jobs.toml: calendars.bank-holidays: ") for one in said)
    assert len(said) == 1


def test_a_calendar_that_changes_is_a_change_of_each_job_that_has_it(tmp_path: Path) -> None:
    before = read(tmp_path, JOBS)
    after = read(tmp_path, JOBS.replace("2027-05-06", "2027-05-17"))
    planned = plan(after, before.jobs, {group.name: group for group in before.groups}, prune=True)
    assert [change.name for change in planned.changes] == ["web/nightly"]
    assert [name for name, _, _ in planned.changes[0].fields] == ["calendars"]
    assert plan_text(planned)[1] == "    calendars: bank-holidays: 1 day (2027-05-17) more, 1 day (2027-05-06) less"
    assert plan(before, before.jobs, {group.name: group for group in before.groups}, prune=True).changes == ()


def test_a_plan_says_of_calendars_how_many_days_they_have(tmp_path: Path) -> None:
    wanted = read(tmp_path, JOBS)
    said = plan_text(plan(wanted, [], {}, prune=True))
    assert "    calendars: bank-holidays (5 days, 2026-12-25 to 2027-05-06)" in said
    assert "    splay: 10m" in said
    assert difference({"a": ["2026-01-01"]}, {"b": ["2026-01-01/2026-01-02"]}) == (
        "a is not used any more; b is new, b (2 days, 2026-01-01 to 2026-01-02)"
    )


def test_defaults_that_need_a_schedule_are_no_fault_of_a_job_without_one(tmp_path: Path) -> None:
    text = JOBS.replace('group = "web"\n', 'group = "web"\nsplay = "5m"\ntimezone = "Europe/Rome"\n', 1)
    assert len(read(tmp_path, text + "[jobs.by-hand]\ncommand = 'true'\n").jobs) == 2


def test_the_delay_is_constant_below_the_splay_and_by_the_name_alone() -> None:
    delays = {f"job-{n}": delay_of(f"job-{n}", 3600.0) for n in range(500)}
    assert all(0 <= delay < 3600 and delay == int(delay) for delay in delays.values())
    assert len(set(delays.values())) > 400
    assert delays == {name: delay_of(name, 3600.0) for name in delays}
    assert all(abs(delay_of(name, 60.0) - delay / 60) <= 1 for name, delay in delays.items()), "the same part of it"
    assert delay_of("job", None) == 0.0


def test_fire_times_up_to_a_change_of_the_splay_keep_their_delay() -> None:
    old = JobDefinition("web", "j", schedule="* * * * *", timing=Timing(splay=3600.0), since=5.0, revision=1)
    new = changed(old, JobDefinition("web", "j", schedule="* * * * *"), by="ann", now=1_900_000_000.0)
    assert (new.timing.moved, new.since) == ((1_900_000_000.0, delay_of("j", 3600.0)), 5.0)
    assert job_of(new.item()) == new
    later = changed(new, JobDefinition("web", "j", schedule="* * * * *"), by="ann", now=1_900_000_060.0)
    assert later.timing.moved == new.timing.moved, "not over yet"
    later = changed(later, JobDefinition("web", "j", schedule="* * * * *"), by="ann", now=1_900_004_000.0)
    assert later.timing.moved is None


def test_the_days_that_are_left_come_in_stretches() -> None:
    def day(text: str) -> date:
        return date.fromisoformat(text)

    only = days_of([(day("2027-01-01"), day("2027-01-10")), (day("2027-02-01"), day("2027-02-03"))])
    but = days_of([(day("2027-01-05"), day("2027-01-06")), (day("2027-02-03"), day("2027-02-09"))])
    assert Allowed(only, but).stretches(day("2026-12-01")) == [
        (day("2027-01-01"), day("2027-01-04")),
        (day("2027-01-07"), day("2027-01-10")),
        (day("2027-02-01"), day("2027-02-02")),
    ]
    assert Allowed(None, but).stretches(day("2027-01-05")) == [
        (day("2027-01-07"), day("2027-02-02")),
        (day("2027-02-10"), None),
    ]
    assert Allowed(only).stretches(day("2027-03-01")) == []
    assert Allowed().stretches(day("2027-03-01")) == [(day("2027-03-01"), None)]
