"""What the change of a run means to people: facts from the run before and after. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from runner.control.notices.facts import Fact
from runner.control.recording.job_status import last_end
from runner.control.recording.run_state import FAILURES, LOST, RUNNING, is_open
from runner.protocol.units import format_duration, parse_time

if TYPE_CHECKING:
    from collections.abc import Mapping

    from runner.control.definition import JobDefinition
    from runner.control.notices.notify import News

Item = dict[str, Any]


def news_of(
    before: Mapping[str, Any] | None,
    after: Mapping[str, Any],
    attempt: Mapping[str, Any],
    status: tuple[Mapping[str, Any] | None, Mapping[str, Any] | None],
    owner: str | None,
) -> list[Fact]:
    """The facts of one step of a run; none where it is where it was.

    ``attempt`` is the one that speaks for it, ``status`` the job's before this step and, where it changes, after it.
    """
    if not after["job"]:
        return []
    facts: list[Fact] = []
    same = before is not None and _place(before) == _place(after)
    if same and not (status[0] or {}).get("failing_since"):
        return []  # it had been lost, and that is how it ended: when, is no news, unless the job is well by it
    if same:
        pass
    elif after["state"] == RUNNING:
        facts.append(fact("started", after, attempt, owner))
    elif after["state"] in FAILURES:
        silent = after["state"] == LOST and "ended" not in attempt
        facts.append(fact("lost" if silent else "failure", after, attempt, owner))
    elif after["state"] == "succeeded":
        facts.append(fact("success", after, attempt, owner))
    if since := _well_since_then(after, *status):
        facts.append(fact("recovery", after, attempt, owner, previous=parse_time(since)))
    elif _failing_again(after, *status):
        facts.append(_fell_back(after, status[1] or {}, owner))
    return facts


def fact(
    news: News,
    run: Mapping[str, Any],
    attempt: Mapping[str, Any],
    owner: str | None,
    *,
    previous: float | None = None,
) -> Fact:
    """One fact of a run."""
    ended = attempt.get("ended", {})
    seen = run["ended_at"] if not is_open(run["state"]) else run["seen_at"]
    return Fact(
        id=f"{news}/{run['group']}/{run['run_id']}/{run['execution']}/{run['attempt']}",
        news=news,
        group=run["group"],
        job=run["job"],
        at=parse_time(seen),
        run_id=run["run_id"],
        due_at=_time(run["scheduled_at"]),
        started_at=_time(run["started_at"]),
        duration_s=run["duration_s"],
        host=run["host"],
        attempt=run["attempt"],
        outcome=None if is_open(run["state"]) else run["state"],
        reason=run["reason"],
        exit_code=run["exit_code"],
        signal=run["signal"],
        tail=(ended.get("output") or {}).get("tail"),
        log=run["log"] or {},
        owner=owner,
        previous=previous,
    )


def not_done(
    news: News, job: JobDefinition, run_id: str, due_at: float, limit: float, found: Mapping[str, Any] | None
) -> Fact:
    """The fact that a run has not started, or not finished, in time; ``found`` is its item where there is one."""
    what = "start" if news == "not-started" else "finish"
    state = "nothing is known of it" if found is None else f"it is {found['state']}"
    return Fact(
        id=f"{news}/{job.group}/{run_id}",
        news=news,
        group=job.group,
        job=job.name,
        at=due_at + limit,
        run_id=run_id,
        due_at=due_at,
        started_at=_time(found["started_at"]) if found else None,
        host=found["host"] if found else None,
        reason=f"did not {what} within {format_duration(limit)} of the time it was due: {state}",
        log=(found["log"] or {}) if found else {},
        owner=job.owner,
    )


def _place(run: Mapping[str, Any]) -> tuple[Any, ...]:
    return run["state"], run["execution"], run["attempt"]


def _well_since_then(
    run: Mapping[str, Any], before: Mapping[str, Any] | None, after: Mapping[str, Any] | None
) -> str | None:
    """Since when the job had been in trouble, where it is not any more."""
    if after is None or after["failing_since"]:
        return None
    # A bad end that is heard of after the good one that followed it: it is told, and so is that it is over.
    return run["ended_at"] if run["state"] in FAILURES else (before or {}).get("failing_since")


def _failing_again(run: Mapping[str, Any], before: Mapping[str, Any] | None, after: Mapping[str, Any] | None) -> bool:
    """Whether the job was well by this run, which after all did not end so: it succeeded on one host, was given out
    once more, and was cancelled there. Who was told that the job is well has to hear that it is not."""
    if before is None or after is None or before["failing_since"] or run["state"] in FAILURES:
        return False
    return before["state"] == "succeeded" and after["state"] in FAILURES


def _fell_back(run: Mapping[str, Any], status: Mapping[str, Any], owner: str | None) -> Fact:
    """The failure that is the job's last end again."""
    end = last_end(status, run["job"])
    return Fact(
        id=f"failure/{run['group']}/{run['run_id']}/{run['execution']}/{run['attempt']}/again",
        news="failure",
        group=run["group"],
        job=run["job"],
        at=parse_time(end["ended_at"]),
        run_id=end["run_id"],
        due_at=_time(end["scheduled_at"]),
        outcome=end["state"],
        reason=f"run {run['run_id']}, which had succeeded after it, was run once more and is {run['state']} now",
        owner=owner,
    )


def _time(text: str | None) -> float | None:
    return parse_time(text) if text else None
