"""A job is in trouble from the first thing that is wrong to the success that nothing stands against."""

from __future__ import annotations

from typing import Any

import pytest

from runner.control.notices.delivery import QUIET_S, still_news
from runner.control.notices.facts import Fact
from runner.control.notices.news import news_of
from runner.control.recording.job_status import after_end, holds, in_trouble, moment, others_in_trouble
from runner.protocol import table as keys
from runner.protocol.units import format_time, parse_time

T0 = 1_900_000_000.0
Item = dict[str, Any]


def run(name: str, state: str, at: float, *, due: float | None = None) -> Item:
    """A run of `nightly` that has been in a state since ``at`` (seconds after T0)."""
    closed = state not in ("running", "retrying")
    return {
        "group": "web",
        "job": "nightly",
        "run_id": name,
        "state": state,
        "execution": "e",
        "attempt": 1,
        "host": "h",
        "scheduled_at": None if due is None else format_time(T0 + due),
        "started_at": format_time(T0 + at - 10),
        "at": format_time(T0 + at - 10),
        "ended_at": format_time(T0 + at) if closed else None,
        "seen_at": format_time(T0 + at),
        "duration_s": 10,
        "reason": None,
        "exit_code": 0,
        "signal": None,
        "log": None,
        keys.EXPIRES: int(T0 + at) + 86_400,
    }


def told_of(name: str, news: Any, at: float, *, due: float | None = None) -> Fact:
    return Fact(
        id=f"{news}/{name}",
        news=news,
        group="web",
        job="nightly",
        at=T0 + at,
        run_id=name,
        due_at=None if due is None else T0 + due,
    )


class Job:
    """A job's runs and its status as recorder and watch keep them, and what people were told."""

    def __init__(self) -> None:
        self.status: Item | None = None
        self.runs: dict[str, Item] = {}
        self.told: list[str] = []

    def goes(self, name: str, state: str, at: float, *, due: float | None = None) -> list[str]:
        """A run has come to a state; the news of that."""
        before, after = self.runs.get(name), run(name, state, at, due=due)
        self.runs[name] = after
        others = others_in_trouble(self.status, after)
        holding = {one["run_id"] for one in others if holds(one, self.runs.get(one["run_id"]), after)}
        new = after_end(self.status, after, holding, T0 + at)
        facts = news_of(before, after, {}, (self.status, new), None)
        self.status = new or self.status
        return [fact.news for fact in facts if fact.news not in ("started", "success")]

    def watched(self, name: str, news: Any, at: float, *, due: float | None = None) -> None:
        self.status = in_trouble(self.status, told_of(name, news, at, due=due), int(T0), T0 + at)


@pytest.fixture
def job() -> Job:
    return Job()


def test_a_failure_is_over_with_the_next_success(job: Job) -> None:
    assert job.goes("a", "succeeded", 10) == []
    assert job.goes("b", "failed", 20) == ["failure"]
    assert job.goes("c", "failed", 30) == ["failure"]
    assert job.status is not None
    assert job.status["failing_since"] == format_time(T0 + 20)
    assert job.goes("d", "cancelled", 40) == []
    assert job.goes("e", "succeeded", 50) == ["recovery"]
    assert job.goes("f", "succeeded", 60) == []


@pytest.mark.parametrize("news", ["too-long", "not-finished"])
def test_a_run_that_is_late_is_over_when_it_succeeds(job: Job, news: str) -> None:
    job.goes("a", "running", 10, due=0)
    job.watched("a", news, 100, due=0)
    assert job.goes("a", "succeeded", 200, due=0) == ["recovery"]


@pytest.mark.parametrize("end", ["failed", "lost"])
def test_a_run_that_is_late_and_fails_is_over_when_another_succeeds(job: Job, end: str) -> None:
    job.goes("a", "running", 10)
    job.watched("a", "too-long", 100)
    assert job.goes("a", end, 200) == ["failure" if end == "failed" else "lost"]
    assert job.goes("b", "succeeded", 300) == ["recovery"]


def test_a_run_that_hangs_is_not_over_because_others_succeed(job: Job) -> None:
    job.goes("hangs", "running", 10)
    job.watched("hangs", "too-long", 100)
    assert job.goes("b", "succeeded", 200) == []
    assert job.goes("c", "failed", 250) == ["failure"]
    assert job.goes("d", "succeeded", 300) == []
    assert job.goes("hangs", "succeeded", 400) == ["recovery"]
    assert job.goes("e", "succeeded", 500) == []


def test_a_run_that_hung_and_was_cancelled_is_over_with_the_next_success(job: Job) -> None:
    job.goes("hangs", "running", 10)
    job.watched("hangs", "too-long", 100)
    assert job.goes("hangs", "cancelled", 200) == []
    assert job.goes("b", "succeeded", 300) == ["recovery"]


def test_a_run_that_hung_and_was_cancelled_is_over_where_the_job_was_well_before(job: Job) -> None:
    job.goes("a", "succeeded", 5)
    job.goes("hangs", "running", 10)
    job.watched("hangs", "too-long", 100)
    assert job.goes("hangs", "cancelled", 200) == ["recovery"]
    assert job.status is not None
    assert (job.status["state"], job.status["failing_since"]) == ("succeeded", None)


def test_a_cancelled_run_ends_no_trouble_of_others(job: Job) -> None:
    job.goes("a", "failed", 5)
    job.goes("hangs", "running", 10)
    job.watched("hangs", "too-long", 100)
    assert job.goes("hangs", "cancelled", 200) == []
    assert job.goes("b", "succeeded", 300) == ["recovery"]


@pytest.mark.parametrize("after", ["cancelled", "skipped", "rejected"])
def test_a_success_that_does_not_count_any_more_is_told(job: Job, after: str) -> None:
    job.goes("a", "failed", 10)
    assert job.goes("b", "succeeded", 20) == ["recovery"]
    # Another host was given it once more, and it ended otherwise there.
    assert job.goes("b", after, 30) == ["failure"]
    assert job.status is not None
    assert job.status["failing_since"]
    assert job.goes("c", "succeeded", 40) == ["recovery"]


def test_a_run_given_up_that_had_been_cancelled_leaves_no_end(job: Job) -> None:
    job.goes("a", "running", 10)
    assert job.goes("a", "lost", 100) == ["lost"]
    assert job.goes("a", "cancelled", 50) == []
    assert job.status is not None
    assert (job.status["state"], job.status["run_id"], job.status["last"]) == (None, None, "")
    assert job.goes("b", "failed", 40) == ["failure"]
    assert job.status["state"] == "failed"
    assert job.goes("c", "succeeded", 200) == ["recovery"]


def test_a_run_that_never_came_is_made_up_for_by_one_that_was_due_later(job: Job) -> None:
    job.watched("missing", "not-started", 160, due=100)
    job.watched("missing", "not-finished", 190, due=100)
    assert job.goes("before", "succeeded", 200, due=40) == [], "it was late itself"
    assert job.goes("after", "succeeded", 230, due=220) == ["recovery"]


def test_a_run_that_comes_late_is_over_with_its_own_success(job: Job) -> None:
    job.watched("late", "not-started", 160, due=100)
    assert job.goes("late", "running", 180, due=100) == []
    assert job.goes("another", "succeeded", 200, due=160) == [], "the late one has not shown yet that it is well"
    assert job.goes("late", "succeeded", 300, due=100) == ["recovery"]


def test_a_run_that_was_handed_back_is_expected_until_a_later_one_succeeds(job: Job) -> None:
    job.goes("a", "running", 10, due=0)
    job.watched("a", "too-long", 100, due=0)
    assert job.goes("a", "interrupted", 150, due=0) == []
    assert job.status is not None
    assert [one["run_id"] for one in job.status["troubles"]] == ["a"]
    assert job.goes("b", "succeeded", 200, due=180) == ["recovery"]


def test_a_bad_end_that_is_heard_of_late_opens_nothing_for_good(job: Job) -> None:
    assert job.goes("b", "succeeded", 20) == []
    assert job.goes("a", "failed", 10) == ["failure", "recovery"]
    assert job.goes("c", "failed", 30) == ["failure"]
    assert job.goes("x", "failed", 15) == ["failure"], "the job is failing"
    assert job.goes("y", "succeeded", 18) == [], "it succeeded before the last failure"
    assert job.goes("d", "succeeded", 40) == ["recovery"]


def test_a_lost_run_that_is_heard_of_again_is_well(job: Job) -> None:
    job.goes("a", "running", 10)
    assert job.goes("a", "lost", 100) == ["lost"]
    assert job.goes("a", "succeeded", 90) == ["recovery"]


def test_the_clock_of_a_status_only_rises_and_its_notices_keep_their_order(job: Job) -> None:
    job.watched("a", "too-long", 100)
    first = job.status
    job.goes("a", "succeeded", 40)  # by a recorder whose clock is behind
    second = job.status
    times = [moment(status, T0, place) for status in (first, second) for place in range(3)]
    assert times == sorted(set(times))
    assert first is not None
    assert parse_time(first["changed_at"]) == T0 + 100
    assert moment(None, T0) == T0


def test_a_status_is_kept_for_as_long_as_something_is_wrong(job: Job) -> None:
    job.goes("a", "failed", 10)
    assert job.status is not None
    assert job.status[keys.EXPIRES] > T0 + 366 * 86_400, "a yearly job's next run has to know"
    job.goes("b", "succeeded", 20)
    assert job.status[keys.EXPIRES] == run("b", "succeeded", 20)[keys.EXPIRES]


def test_many_troubles_are_no_more_than_one_read(job: Job) -> None:
    for number in range(300):
        job.watched(f"r{number}", "not-started", number, due=number)
    assert job.status is not None
    assert len(job.status["troubles"]) == 100
    assert job.goes("late", "succeeded", 400, due=298) == []
    assert job.goes("next", "succeeded", 420, due=300) == ["recovery"]


# -- what is told of it, where a target was away for a while


def said(*facts: tuple[str, float]) -> list[bool]:
    """Whether each is news, of facts as they are delivered: (news, when it was written)."""
    last: Item = {}
    answers = []
    for news, made in facts:
        fact = told_of(f"{made:g}", news, made)
        answer, last = still_news(last, fact, format_time(T0 + made))
        answers.append(answer)
    return answers


@pytest.mark.parametrize("trouble", ["failure", "too-long", "not-started", "not-finished", "lost"])
def test_a_word_that_was_overtaken_is_not_told(trouble: str) -> None:
    assert said((trouble, 10), ("recovery", 20)) == [True, True]
    assert said(("recovery", 20), (trouble, 10)) == [True, False], "it would open an incident that nobody closes"
    assert said((trouble, 10), (trouble, 30), ("recovery", 20))[-1] is False, "it would close one too early"
    assert said(("recovery", 20), (trouble, 30), ("recovery", 40)) == [True, True, True]
    assert said((trouble, 30), (trouble, 10), ("recovery", 20))[-1] is False


def test_a_job_that_goes_on_failing_is_told_of_once_an_hour_and_every_time_after_a_recovery() -> None:
    assert said(("failure", 0), ("failure", QUIET_S - 1), ("failure", QUIET_S)) == [True, False, True]
    assert said(("failure", 0), ("recovery", 1), ("failure", 2)) == [True, True, True]
    assert said(("failure", 0), ("failure", 0)) == [True, True], "the same one again, which was not taken"
