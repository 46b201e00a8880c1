"""Whatever the order of events, and however often they come, a run's state is the same."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.control.definition import JobDefinition
from runner.control.notices.news import news_of
from runner.control.recording.job_status import after_end
from runner.control.recording.run_state import attempt_lost, attempt_told, is_open, lost_at, run_of
from runner.control.recording.told import NotAnEvent, parse_event
from runner.protocol import table as keys
from runner.protocol.event import HostFacts, RunFacts, Source, run_event
from runner.protocol.units import parse_time

T0 = 1_900_000_000.0
JOB = JobDefinition("web", "nightly", too_long=600.0, retention=3600.0)


def event(
    kind: Any, at: float, *, execution: str = "e1", attempt: int = 1, sequence: int = 1, host: str = "a", **data: Any
) -> str:
    source = Source("web", HostFacts(host, None, "boot", "linux", "1"))
    facts = RunFacts(execution, "nightly", "nightly-1", 1, scheduled_at=T0)
    return run_event(source, facts, kind=kind, attempt=attempt, sequence=sequence, time=T0 + at, data=data).body


def started(at: float, **more: Any) -> str:
    return event("started", at, started_at=T0 + at, timeout_s=1800.0, pid=7, log={"group": "g", "stream": "s"}, **more)


def finished(at: float, outcome: str, **more: Any) -> str:
    given = {"reason": outcome, "exit_code": 0, "finished_at": T0 + at, "duration_s": 1.5, "will_retry": False}
    return event("finished", at, outcome=outcome, **(given | more))


def fold(bodies: list[str]) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """The run and its attempts after these events, as the recorder makes them."""
    attempts: dict[str, dict[str, Any]] = {}
    run: dict[str, Any] | None = None
    for body in bodies:
        told = parse_event(body)
        assert told is not None
        key = f"{told.execution}/{told.attempt}"
        attempts[key] = attempt_told(attempts.get(key), told)
        run = run_of(attempts.values(), run, JOB)
    assert run is not None
    return run, attempts


STORIES = {
    "plain": ([started(1), finished(5, "succeeded", sequence=2)], "succeeded"),
    "running": ([started(1), event("heartbeat", 31, sequence=2, running_s=30)], "running"),
    "retried": (
        [
            started(1),
            finished(5, "failed", sequence=2, exit_code=3, will_retry=True),
            started(15, attempt=2, sequence=3),
            finished(25, "succeeded", attempt=2, sequence=4),
        ],
        "succeeded",
    ),
    "between two attempts": ([started(1), finished(5, "failed", sequence=2, will_retry=True)], "retrying"),
    "on another host after the first was lost": (
        [
            started(1),
            finished(60, "lost", sequence=2, exit_code=None),
            started(90, execution="e0", host="b"),
            finished(99, "failed", execution="e0", host="b", sequence=2, exit_code=1),
        ],
        "failed",
    ),
    "skipped": ([event("skipped", 2, reason="maintenance")], "skipped"),
    "skipped on one host, run on another": (
        [
            started(1),
            finished(9, "succeeded", sequence=2),
            event("skipped", 20, execution="e2", host="b", reason="stale"),
        ],
        "succeeded",
    ),
    "rejected": ([event("rejected", 2, reason="invalid", detail="command: is missing")], "rejected"),
    "interrupted, and run again": (
        [
            started(1),
            finished(5, "interrupted", sequence=2),
            started(30, execution="e9", host="b"),
            event("heartbeat", 60, execution="e9", host="b", sequence=2),
        ],
        "running",
    ),
}


@pytest.mark.parametrize("name", STORIES)
def test_a_story_has_its_end(name: str) -> None:
    bodies, state = STORIES[name]
    run, _ = fold(bodies)
    assert run["state"] == state
    assert run["job_key"] == "JOB#nightly"
    assert (run["state_key"] == "OPEN") == is_open(state)


@given(st.sampled_from(sorted(STORIES)), st.data())
@settings(max_examples=300, deadline=None)
def test_order_and_repeats_change_nothing(name: str, data: st.DataObject) -> None:
    bodies, _ = STORIES[name]
    expected = fold(bodies)
    repeated = data.draw(st.lists(st.sampled_from(bodies), max_size=6))
    told = data.draw(st.permutations(bodies + repeated))
    assert fold(told) == expected


def test_what_history_shows_is_there() -> None:
    run, attempts = fold(STORIES["retried"][0])
    assert (run["host"], run["attempt"], run["attempts"], run["exit_code"]) == ("a", 2, 2, 0)
    assert parse_time(run["started_at"]) == T0 + 15
    assert parse_time(run["ended_at"]) == T0 + 25
    assert run["log"] == {"group": "g", "stream": "s"}
    assert run[keys.EXPIRES] == int(T0 + 25 + 3600)
    assert run["state_key"] == f"GOOD#{run['ended_at'][:10]}"
    assert attempts["e1/1"]["ended"]["exit_code"] == 3
    failed, _ = fold(STORIES["on another host after the first was lost"][0])
    assert failed["state_key"].startswith("FAILED#")
    assert failed["host"] == "b"


def test_a_rejected_run_says_what_is_wrong_with_its_message() -> None:
    run, _ = fold(STORIES["rejected"][0])
    assert run["reason"] == "invalid: command: is missing"
    assert run["state_key"].startswith("FAILED#")


def test_a_silent_run_is_lost_and_heard_of_again() -> None:
    first = started(1, heartbeat_s=30.0)
    run, attempts = fold([first, event("heartbeat", 31, sequence=2)])
    assert lost_at(run, attempts["e1/1"]["started"]) == T0 + 31 + 90
    assert parse_time(run["state_at"]) == T0 + 31 + 90  # sooner than its ten minutes
    lost = run_of([attempt_lost(attempts["e1/1"], now=T0 + 122)], run, JOB)
    assert (lost["state"], lost["reason"]) == ("lost", "its host sends nothing any more")
    assert lost["state_key"].startswith("FAILED#")

    for late, state in (
        (event("heartbeat", 61, sequence=3), "running"),
        (finished(40, "succeeded", sequence=3), "succeeded"),
    ):
        told = parse_event(late)
        assert told is not None
        again = run_of([attempt_told(attempt_lost(attempts["e1/1"], now=T0 + 122), told)], lost, JOB)
        assert again["state"] == state
    repeat = parse_event(first)
    assert repeat is not None
    assert run_of([attempt_told(attempt_lost(attempts["e1/1"], now=T0 + 122), repeat)], lost, JOB)["state"] == "lost"


def test_silence_is_counted_by_the_clock_of_who_hears() -> None:
    """A host whose clock is two hours behind, or whose events were on their way for so long, is not silent."""
    behind, item = 7200.0, None
    beats = [event("heartbeat", 30 * n, sequence=n + 2) for n in range(1, 4)]
    for place, body in enumerate([started(1, heartbeat_s=30.0), *beats, beats[0]]):
        told = parse_event(body)
        assert told is not None
        # The copy at the end was heard before, and says nothing of now.
        item = attempt_told(item, told, heard=told.at + behind + 500 * (place == 4))
    assert item is not None
    run = run_of([item], None, JOB)
    assert lost_at(run, item["started"]) == T0 + 90 + behind + 90
    assert parse_time(run["seen_at"]) == T0 + 90
    on_time = parse_event(beats[0])
    assert on_time is not None
    assert "heard_at" not in attempt_told(None, on_time, heard=on_time.at + 2), "what says nothing new costs nothing"


def test_without_heartbeats_a_run_is_lost_long_after_its_timeout() -> None:
    run, attempts = fold([started(1)])
    assert lost_at(run, attempts["e1/1"]["started"]) == T0 + 1 + 1800 + 900


def test_news_are_told_once() -> None:
    failed, attempts = fold([started(1), finished(5, "failed", sequence=2, output={"tail": "no disk"})])
    status = after_end(None, failed, (), T0 + 5)
    (told,) = news_of(None, failed, attempts["e1/1"], (None, status), "ann")
    assert (told.news, told.outcome, told.owner, told.tail) == ("failure", "failed", "ann", "no disk")
    assert news_of(failed, failed, attempts["e1/1"], (None, None), "ann") == []


def test_what_is_no_event_is_told_from_what_is_of_no_run() -> None:
    assert parse_event(json.dumps({"type": "cron-runner.agent.started", "data": {}})) is None
    assert parse_event(json.dumps({"type": "cron-runner.run.of-a-later-version"})) is None
    for body in ("", "[]", "{}", '{"type": "com.example.other"}', '{"type": "cron-runner.run.started", "data": 1}'):
        with pytest.raises(NotAnEvent):
            parse_event(body)
