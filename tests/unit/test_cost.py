"""The monthly bill: counts times prices, and the page that says it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from runner.control.cost import MONTH_S, Fleet, a_month, bill, fleet_of, hosts_alone
from runner.control.definition import JobDefinition
from runner.control.timetable.schedule import parse_schedule

ROOT = Path(__file__).parents[2]
NOW = 1_900_000_021.0


@pytest.mark.parametrize(
    ("schedule", "runs"),
    [("* * * * *", 43_200), ("*/5 * * * *", 8640), ("@daily", 30), ("rate(7 days)", 4), ("at(2020-01-01T00:00:00)", 0)],
)
def test_the_runs_of_a_month(schedule: str, runs: float) -> None:
    assert a_month(parse_schedule(schedule, "UTC"), NOW) == pytest.approx(runs, rel=0.02)


def test_a_fleet_is_what_its_schedules_say() -> None:
    jobs = [
        JobDefinition("a", "often", schedule="* * * * *", message={"overlap": "skip"}, retention=MONTH_S),
        JobDefinition("a", "off", schedule="* * * * *", enabled=False),
        JobDefinition("b", "daily", schedule="@daily", retention=MONTH_S),
        JobDefinition("b", "by-hand"),
        JobDefinition("b", "nowhere", schedule="@daily", timezone="Mars/Olympus"),
    ]
    found = fleet_of(jobs, {"a": "scheduler", "b": "eventbridge"}.__getitem__, hosts=3, run_s=1.0, now=NOW)
    assert (found.hosts, found.groups, found.jobs) == (3, 2, 5)
    assert found.runs == pytest.approx(43_230, rel=0.01)
    assert found.locked_runs == pytest.approx(43_200, rel=0.01)
    assert found.by_eventbridge == pytest.approx(30, abs=1)
    assert found.kept_s == pytest.approx(MONTH_S)


def test_a_bill_grows_with_what_it_is_for_and_with_nothing_else() -> None:
    idle = bill(Fleet(1, 1, 1, 0))
    assert {line.by for line in idle} == {"hosts", "minutes"}
    busy = {line.what: line for line in bill(Fleet(1, 1, 1, 1e6, by_eventbridge=1e6)) if line.by == "runs"}
    assert busy["table writes"].usd == pytest.approx((17 + 2 + 1) * 0.625)
    assert busy["schedules"].usd == pytest.approx(1.0)
    assert sum(line.usd for line in idle if line.by == "hosts") * 40 == pytest.approx(
        sum(line.usd for line in bill(Fleet(40, 1, 1, 0)) if line.by == "hosts")
    )
    assert hosts_alone(5000, 0) == pytest.approx(5000 * MONTH_S / 5 * 0.5 * 0.125e-6)


def test_the_page_has_the_figures_of_these_prices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "tests" / "bench"))
    import bill as page

    assert page.table() in (ROOT / "docs" / "cost.md").read_text(), "python tests/bench/bill.py writes them"
    assert page.chart() == (ROOT / "docs" / "cost.svg").read_text()
    sys.modules.pop("bill")


def test_what_runs_after_others_runs_as_often_as_they_all_do() -> None:
    jobs = [
        JobDefinition("g", "both", after=("daily", "after-hourly")),
        JobDefinition("g", "after-hourly", after=("hourly",)),
        JobDefinition("g", "hourly", schedule="0 * * * *"),
        JobDefinition("g", "daily", schedule="0 3 * * *"),
        JobDefinition("g", "off", after=("hourly",), enabled=False),
    ]
    fleet = fleet_of(jobs, lambda _: "eventbridge", hosts=1, run_s=60.0, now=1_900_000_000.0)
    assert fleet.runs == pytest.approx(720 + 720 + 30 + 30, rel=0.05)
    assert fleet.by_eventbridge == pytest.approx(720 + 30, rel=0.05), "its schedules fire the heads alone"
