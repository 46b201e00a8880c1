"""Admission: may this run start now? Pure functions of what is asked, what runs and the time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from runner.protocol.units import format_time

if TYPE_CHECKING:
    from collections.abc import Sequence

    from runner.config import Admission
    from runner.protocol.job import Job

# SQS gives at most ten messages to one receive.
MOST_MESSAGES = 10


@dataclass(frozen=True, slots=True)
class Admit:
    """Start it now. `replaces` are the runs of the same job that are cancelled first."""

    replaces: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Hold:
    """Not now; `reason` says what it waits for, in words."""

    reason: str


@dataclass(frozen=True, slots=True)
class Skip:
    """Not at all. `reason` is the event's word, `detail` says it in words."""

    reason: Literal["overlap", "stale", "maintenance"]
    detail: str


Decision = Admit | Hold | Skip


@dataclass(frozen=True, slots=True)
class Active:
    """A run that takes room."""

    run_id: str
    job: str


def room(admission: Admission, taking_room: int, held: int) -> int:
    """How many messages may be asked for: as many as could start at once, none while anything is held."""
    if held:
        return 0
    if admission.policy == "one-at-a-time":
        return 1 if taking_room == 0 else 0
    if admission.max_jobs:
        return max(0, min(MOST_MESSAGES, admission.max_jobs - taking_room))
    return MOST_MESSAGES


def decide(admission: Admission, job: Job, active: Sequence[Active], now: float) -> Decision:
    """Decide on one job. `active` are the runs that take room, oldest first; `now` is unix seconds."""
    if job.not_after is not None and now > job.not_after:
        return Skip("stale", f"it was not to start after {format_time(job.not_after)}")
    same = [run for run in active if run.job == job.job]
    if same and job.overlap == "skip":
        return Skip("overlap", f"run {same[0].run_id} of {job.job} is active")
    if same and job.overlap == "wait":
        return Hold(f"overlap: waits for run {same[0].run_id} of {job.job}")
    others = [run for run in active if run not in same] if job.overlap == "replace" else active
    full = _full(admission, len(others))
    if full is not None:
        return Hold(full)
    if same and job.overlap == "replace":
        # The old run's processes are gone before the new one starts.
        return Admit(replaces=tuple(run.run_id for run in same))
    return Admit()


def _full(admission: Admission, taking_room: int) -> str | None:
    if admission.policy == "one-at-a-time":
        return "one-at-a-time: another run is active" if taking_room else None
    if admission.max_jobs and taking_room >= admission.max_jobs:
        return f"max_jobs: {taking_room} of {admission.max_jobs} are running"
    return None


def hand_back(delivery: int, max_receive_count: int | None) -> bool:
    """Whether a message may be handed back without risking that the redrive policy takes it away.

    SQS moves a message to the dead-letter queue when its receive count passes maxReceiveCount; a hand-back
    counts as a receive all the same.
    """
    return max_receive_count is None or delivery < max_receive_count - 1
