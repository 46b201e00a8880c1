"""Admission: may this run start now? Pure functions of what is asked, what runs, the host's load and the time."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Literal

from runner.agent.runs.admission.amounts import (
    CPU,
    JOBS,
    MEMORY,
    NOTHING,
    Amounts,
    exact,
    kept_from,
    lacking,
    less,
    plus,
    shown,
    times,
)
from runner.protocol.suggest import unknown
from runner.protocol.units import format_time

if TYPE_CHECKING:
    from collections.abc import Mapping

    from runner.agent.runs.admission.occupancy import Ledger
    from runner.config import Admission
    from runner.protocol.job import Job, Resources

# SQS gives at most ten messages to one receive.
MOST_MESSAGES = 10
# How much of a host stays on offer where the reserve would leave nothing of it.
LEFT_OVER = 0.5


@dataclass(frozen=True, slots=True)
class HostLoad:
    """What the host (or the container around us) has, and how much of it is in use; None where nobody knows yet.

    `cores` and `busy` are in cores, `memory` and `available` in bytes.
    """

    cores: float
    memory: int
    busy: float | None = None
    available: int | None = None


@dataclass(frozen=True, slots=True)
class Terms:
    """On what terms this host admits: the configuration applied to the host's size.

    `offered` holds only what limits the policy; `default` is what a job counts for that declares nothing.
    `measured`: whether memory that somebody else uses is missing from what is offered.
    """

    policy: Literal["one-at-a-time", "resources", "free-for-all"]
    offered: Amounts
    default: Amounts
    hold: float
    max_load: float = 1.0
    measured: bool = False

    def asked(self, resources: Resources) -> Amounts:
        """What a run of these declared resources counts for."""
        asked = dict(self.default)
        if resources.cpu is not None:
            asked[CPU] = exact(resources.cpu)
        if resources.memory is not None:
            asked[MEMORY] = resources.memory
        for name, amount in resources.named.items():
            asked[name] = exact(amount)
        return asked


def terms(admission: Admission, host: HostLoad | None) -> Terms:
    """The terms of this configuration. Only the policy "resources" needs to know the host."""
    wanted = admission.resources
    default = {CPU: wanted.default_cpu, MEMORY: wanted.default_memory, JOBS: 1}
    if admission.policy != "resources" or host is None:
        most = 1 if admission.policy == "one-at-a-time" else admission.max_jobs
        return Terms(admission.policy, {JOBS: most} if most else NOTHING, default, admission.hold)
    offered: dict[str, float] = {
        CPU: _offer(wanted.cpu, host.cores, wanted.reserve_cpu),
        MEMORY: _offer(wanted.memory, host.memory, wanted.reserve_memory),
        **wanted.named,
    }
    if admission.max_jobs:
        offered[JOBS] = admission.max_jobs
    return Terms(
        policy="resources",
        offered={name: exact(amount) for name, amount in offered.items()},
        default={name: min(amount, offered.get(name, amount)) for name, amount in default.items()},
        hold=admission.hold,
        max_load=wanted.max_load,
        # Who offers more memory than there is means to over-commit it: what is free of the real one is no limit then.
        measured=wanted.memory is None or wanted.memory <= host.memory,
    )


def _offer(said: float | None, there: float, reserve: float) -> float:
    if said is not None:
        return said
    return there - reserve if there > reserve else there * LEFT_OVER


@dataclass(frozen=True, slots=True)
class Admit:
    """Start it now. `replaces` are the runs of the same job that are cancelled first."""

    replaces: tuple[str, ...] = ()


class WaitsFor(Enum):
    """What one that cannot start now waits for; the value is the word for counting, but for room: there it is what
    lacks, by whatever name the host's owner gave it."""

    ROOM = "room"
    OVERLAP = "overlap"  # a run of its job, or of its group, that is before it
    RETURNED = "returned"  # the one before it of its group, which was handed back
    CLAIMED = "claimed"  # another host has the run itself
    FLEET = "fleet"  # the fleet's table, which does not answer
    PAUSED = "paused"
    BLOCKED = "blocked"  # nothing may start at all
    NEVER = "never"  # nothing: it can never run here, and nobody knows yet whether it may go back

    @property
    def goes_back_at_once(self) -> bool:
        """Whether another host, or a later time, is better than any wait here."""
        return self in (WaitsFor.RETURNED, WaitsFor.CLAIMED, WaitsFor.PAUSED, WaitsFor.NEVER)


@dataclass(frozen=True, slots=True)
class Hold:
    """Not now. `reason` says in words what it waits for; `lacks` names what there is no room of."""

    waits_for: WaitsFor
    reason: str
    lacks: str = ""

    @property
    def kind(self) -> str:
        """One word for counting."""
        return self.lacks or self.waits_for.value

    @property
    def for_room(self) -> bool:
        return self.waits_for is WaitsFor.ROOM


def lacks(name: str, reason: str) -> Hold:
    """It waits for room: there is too little of this."""
    return Hold(WaitsFor.ROOM, reason, name)


@dataclass(frozen=True, slots=True)
class Skip:
    """Not at all. `reason` is the event's word, `detail` says it in words."""

    reason: Literal["overlap", "stale", "maintenance"]
    detail: str


@dataclass(frozen=True, slots=True)
class NeverFits:
    """Not on this host, however empty it is; `detail` says why."""

    detail: str


Decision = Admit | Hold | Skip | NeverFits


@dataclass(frozen=True, slots=True)
class Kept:
    """Room that is set aside for the run that has waited longest."""

    run_id: str
    amounts: Amounts


def decide(
    on: Terms, job: Job, running: Ledger, load: HostLoad | None, now: float, kept: Kept | None = None
) -> Decision:
    """Decide on one job. `running` is what takes room, `now` is unix seconds, `kept` is not this job's to take."""
    late = stale(job, now)
    if late is not None:
        return late
    same = running.of_job(job.job)
    if same and job.overlap == "skip":
        return Skip("overlap", f"run {same[0]} of {job.job} is active")
    asked = on.asked(job.resources)
    never = never_fits(on, asked)
    if never is not None:
        return NeverFits(never)
    if same and job.overlap == "wait":
        return Hold(WaitsFor.OVERLAP, f"overlap: waits for run {same[0]} of {job.job}")
    replaces = same if job.overlap == "replace" else ()
    # What it replaces ends before it starts, so that room counts as its own already.
    lack = _lack(on, asked, free(on, running, load, without=replaces), load, kept)
    return lack or Admit(replaces)


def lack_of(on: Terms, job: Job, running: Ledger, load: HostLoad | None) -> Hold | None:
    """Why a run that had room before does not have it now; its turn comes before those who wait in the line."""
    return _lack(on, on.asked(job.resources), free(on, running, load), load, None)


def stale(job: Job, now: float) -> Skip | None:
    """Whether it is too late to start it."""
    if job.not_after is None or now <= job.not_after:
        return None
    return Skip("stale", f"it was not to start after {format_time(job.not_after)}")


def never_fits(on: Terms, asked: Amounts) -> str | None:
    """Why this can never run here; None where it can, given time."""
    if on.policy != "resources":
        return None
    for name, amount in asked.items():
        if name == JOBS:
            continue
        if name not in on.offered:
            known = [known for known in on.offered if known != JOBS]
            return f"{unknown('resource', name, known)} (this host does not offer it)"
        if amount > on.offered[name]:
            return f"{name} {shown(name, amount)} asked, this host offers {shown(name, on.offered[name])}"
    return None


def free(on: Terms, running: Ledger, load: HostLoad | None, without: tuple[str, ...] = ()) -> dict[str, float]:
    """What is free of all that is on offer, as if the runs in `without` were gone. Below zero: over-used."""
    left = less(on.offered, running.taken)
    if without:
        back = running.counted(without)
        left = {name: plus({name: amount}, {name: back.get(name, 0.0)})[name] for name, amount in left.items()}
    if on.measured and load is not None and load.available is not None:
        # What is asked for and not used yet looks free to the kernel, and will not be. The reserve is not taken off
        # once more: what the system and the agent use is just what it is for.
        returned = running.counted(without).get(MEMORY, 0.0) if without else 0.0
        left[MEMORY] = min(left[MEMORY], load.available - running.untouched + returned)
    return left


def _lack(
    on: Terms, asked: Amounts, left: Mapping[str, float], load: HostLoad | None, kept: Kept | None
) -> Hold | None:
    """Why it does not fit now."""
    if on.policy == "resources" and load is not None and load.busy is not None and load.cores > 0:
        share = min(1.0, load.busy / load.cores)  # two clocks make it a little more than all at times
        if share > on.max_load:
            return lacks("load", f"load {share:.0%} of the cores busy, above max_load {on.max_load:.0%}")
    name = lacking(asked, left)
    if name is not None:
        return lacks("jobs" if name == JOBS else name, _short(on, name, asked, left))
    if kept is not None:
        name = lacking(asked, kept_from(left, kept.amounts))
        if name is not None:
            what = "a place" if name == JOBS else f"{name} {shown(name, asked[name])} asked, but it"
            return lacks("jobs" if name == JOBS else name, f"{what} is kept for run {kept.run_id}, held longer")
    return None


def _short(on: Terms, name: str, asked: Amounts, left: Mapping[str, float]) -> str:
    if name != JOBS:
        return f"{name} {shown(name, asked[name])} asked, {shown(name, left[name])} free"
    if on.policy == "one-at-a-time":
        return "one-at-a-time: another run is active"
    most = on.offered[JOBS]
    return f"max_jobs: {most - left[JOBS]:.0f} of {most:.0f} are running"


def room(on: Terms, running: Ledger, load: HostLoad | None, kept: Kept | None = None) -> tuple[int, str]:
    """How many messages may be asked for: as many as default jobs could start at once; and why none."""
    asked = on.default
    left = free(on, running, load)
    lack = _lack(on, asked, left, load, kept)
    if lack is not None:
        return 0, lack.reason
    return times(asked, kept_from(left, kept.amounts) if kept else left, MOST_MESSAGES), ""


def hand_back(delivery: int, max_receive_count: int | None) -> bool:
    """Whether a message may be handed back without risking that the redrive policy takes it away.

    SQS moves a message to the dead-letter queue when its receive count passes maxReceiveCount; a hand-back
    counts as a receive all the same.
    """
    return max_receive_count is None or delivery < max_receive_count - 1
