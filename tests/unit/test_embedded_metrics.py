"""Documents in CloudWatch's embedded metric format: a sample of values, and what the recorder makes of attempts."""

from __future__ import annotations

from typing import Any

import pytest

from runner.agent.operator.metrics.embedded import SampledHistogram
from runner.control.recording.measured import Measured
from runner.protocol.emf import document
from runner.protocol.units import format_time

from embedded import all_points, data_points

NOW = 1_900_000_020.0


def attempt(job: str | None = "nightly", n: int = 1, group: str = "web", **parts: Any) -> dict[str, Any]:
    due = {"scheduled_at": format_time(NOW - 30)}
    return {"group": group, "job": job, "run_id": "r", "attempt": n, "execution": "x", **due, **parts}


def started(at: float) -> dict[str, Any]:
    return {"started": {"started_at": format_time(at)}}


def ended(at: float, outcome: str = "succeeded", **more: Any) -> dict[str, Any]:
    return {"ended": {"kind": "finished", "at": format_time(at), "outcome": outcome, "duration_s": 10.0, **more}}


def points(*steps: tuple[dict[str, Any] | None, dict[str, Any]], defined: bool = True, most: int = 200) -> Any:
    lines: list[str] = []
    measured = Measured(lines.append, most)
    for old, new in steps:
        measured.wrote(old, new, defined=defined, now=NOW)
    measured.flush()
    measured.flush()
    return all_points(lines)


def of(**dimensions: str) -> tuple[tuple[str, str], ...]:
    return tuple(dimensions.items())


def test_a_document_is_one_line_whose_units_are_in_its_names() -> None:
    line = document(NOW, {"group": "web"}, {"a_seconds": [1, 2], "b_bytes": 3, "c": 4}, more={"host": "h"})
    assert "\n" not in line
    assert data_points(line) == {
        ("a_seconds", of(group="web")): [1, 2],
        ("b_bytes", of(group="web")): [3],
        ("c", of(group="web")): [4],
    }
    assert '"Unit":"Bytes"' in line


@pytest.mark.parametrize("count", [0, 1, 100, 101, 5000])
def test_a_sample_is_fair_small_and_has_the_largest(count: int) -> None:
    histogram = SampledHistogram((1.0,))
    for value in range(count):
        histogram.observe(float(value))
    taken = histogram.take()
    assert len(taken) == min(count, 100)
    assert max(taken, default=None) == (count - 1 if count else None)
    if count == 5000:
        assert 1500 < sum(taken) / len(taken) < 3500
    assert histogram.take() == []
    assert sum(histogram.counts) == count


def test_an_attempt_is_counted_by_outcome_duration_and_lateness() -> None:
    begun = attempt(**started(NOW - 20))
    found = points((None, begun), (begun, begun | ended(NOW - 10)))
    assert found == {
        ("job_lateness_seconds", of(group="web", job="nightly")): [10],
        ("job_lateness_seconds", of(group="web")): [10],
        ("job_duration_seconds", of(group="web", job="nightly")): [10],
        ("job_duration_seconds", of(group="web")): [10],
        ("job_runs", of(group="web", job="nightly", outcome="succeeded")): [1],
    }


def test_what_was_in_the_table_is_not_counted_again() -> None:
    whole = attempt(**started(NOW - 20), **ended(NOW - 10))
    assert points((whole, whole | {"seen_at": "later"})) == {}


def test_only_the_last_attempt_is_a_run_and_a_retry_is_not_late() -> None:
    first, second = attempt(**ended(NOW - 10, "failed", will_retry=True)), attempt(n=2, **started(NOW))
    found = points((None, first), (None, second), (second, second | ended(NOW, "timed_out")))
    assert found["job_duration_seconds", of(group="web", job="nightly")] == [10, 10]
    assert [key for key in found if key[0] == "job_runs"] == [
        ("job_runs", of(group="web", job="nightly", outcome="timed_out"))
    ]
    assert not [key for key in found if key[0] == "job_lateness_seconds"]


@pytest.mark.parametrize("kind", ["skipped", "rejected"])
def test_what_never_ran_is_counted_as_what_it_is(kind: str) -> None:
    item = attempt(ended={"kind": kind, "at": format_time(NOW), "reason": "stale"})
    assert points((None, item)) == {("job_runs", of(group="web", job="nightly", outcome=kind)): [1]}


def test_a_run_that_is_given_up_is_lost() -> None:
    begun = attempt(**started(NOW - 20))
    found = points((begun, begun | {"lost": {"at": format_time(NOW)}}))
    assert found == {("job_runs", of(group="web", job="nightly", outcome="lost")): [1]}


def test_names_that_senders_make_up_are_counted_together() -> None:
    made_up = [(None, attempt(job=f"job-{n}", **ended(NOW))) for n in range(1000)]
    assert points(*made_up, defined=False)["job_runs", of(group="web", job="~others", outcome="succeeded")] == [1000]
    apart = {key[1] for key in points(*made_up, most=3) if key[0] == "job_runs"}
    assert len(apart) == 4
    assert of(group="~others", job="~others", outcome="succeeded") in apart
    no_job = points((None, attempt(job=None, **ended(NOW, "rejected"))))
    assert ("job_runs", of(group="web", job="~others", outcome="rejected")) in no_job


def test_many_values_are_several_documents() -> None:
    found = points(*((None, attempt(**ended(NOW))) for _ in range(250)))
    assert len(found["job_duration_seconds", of(group="web", job="nightly")]) == 250


@pytest.mark.parametrize("at", [NOW - 30 * 86400, NOW + 86400])
def test_what_cloudwatch_would_not_take_is_counted_where_it_was_heard(at: float) -> None:
    lines: list[str] = []
    measured = Measured(lines.append)
    measured.wrote(None, attempt(**ended(at)), defined=True, now=NOW)
    measured.flush()
    assert all(f'"Timestamp":{int(NOW // 60 * 60 * 1000)}' in line for line in lines)
    assert lines
