"""Admission as a function of values."""

from __future__ import annotations

from dataclasses import replace

import pytest

from runner.agent.admission import Active, Admit, Hold, Skip, decide, hand_back, room
from runner.config import Admission
from runner.protocol.job import Job

NOW = 1_800_000_000.0
ONE = Admission(policy="one-at-a-time")
FREE = Admission(policy="free-for-all")
JOB = Job(job="backup", run_id="b-2", argv=("true",), command="true")
OTHER = Active("r-1", "report")
SAME = Active("b-1", "backup")


def test_one_at_a_time_asks_for_one_message_and_only_while_nothing_runs() -> None:
    assert room(ONE, taking_room=0, held=0) == 1
    assert room(ONE, taking_room=1, held=0) == 0


def test_free_for_all_asks_for_what_is_left_of_max_jobs_and_never_more_than_ten() -> None:
    assert room(FREE, 500, 0) == 10
    assert room(replace(FREE, max_jobs=16), 9, 0) == 7
    assert room(replace(FREE, max_jobs=16), 0, 0) == 10
    assert room(replace(FREE, max_jobs=16), 16, 0) == 0


def test_nothing_is_asked_for_while_something_is_held() -> None:
    assert room(FREE, 0, 1) == 0


def test_a_second_run_waits_for_the_first_under_one_at_a_time() -> None:
    assert decide(ONE, JOB, (), NOW) == Admit()
    assert decide(ONE, JOB, (OTHER,), NOW) == Hold("one-at-a-time: another run is active")


def test_max_jobs_holds() -> None:
    assert decide(replace(FREE, max_jobs=1), JOB, (OTHER,), NOW) == Hold("max_jobs: 1 of 1 are running")


@pytest.mark.parametrize(
    ("overlap", "expected"),
    [
        ("allow", Admit()),
        ("skip", Skip("overlap", "run b-1 of backup is active")),
        ("wait", Hold("overlap: waits for run b-1 of backup")),
        ("replace", Admit(replaces=("b-1",))),
    ],
)
def test_overlap_with_a_run_of_the_same_job(overlap: str, expected: object) -> None:
    job = replace(JOB, overlap=overlap)
    assert decide(FREE, job, (OTHER, SAME), NOW) == expected
    assert decide(FREE, job, (OTHER,), NOW) == Admit()


def test_replace_takes_the_place_of_the_run_that_it_ends() -> None:
    assert decide(ONE, replace(JOB, overlap="replace"), (SAME,), NOW) == Admit(replaces=("b-1",))


def test_after_not_after_a_run_is_stale() -> None:
    job = replace(JOB, not_after=NOW)
    assert decide(FREE, job, (), NOW) == Admit()
    decision = decide(FREE, job, (), NOW + 0.001)
    assert isinstance(decision, Skip)
    assert decision.reason == "stale"


@pytest.mark.parametrize(
    ("delivery", "most", "expected"), [(1, None, True), (99, None, True), (1, 5, True), (3, 5, True), (4, 5, False)]
)
def test_a_hand_back_never_triggers_the_redrive_policy(delivery: int, most: int | None, *, expected: bool) -> None:
    assert hand_back(delivery, most) is expected
