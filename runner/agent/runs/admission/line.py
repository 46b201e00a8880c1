"""The line of those who wait: every decision about received messages, as one state machine without any I/O.

A message joins the line when it is received; `settle` goes through the line from the oldest to the newest, changes
what runs and who waits, and returns what is to be done about it. Whoever calls it does that, and nothing else.

    joins ──▶ waiting ──▶ Start | Skipped | Rejected | HandBack | Dropped
                 │ ▲
                 └─┘ Replace (its room is kept while the older run ends)

Fair: while the longest waiting run lacks room, the room that it asks for is kept for it, and only what is left
beside that can be had by the others. So small runs pass a large one where they do not delay it, and nowhere else.
"""

from __future__ import annotations

from bisect import insort
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, TypeVar

from runner.agent.runs.admission.amounts import less, plus
from runner.agent.runs.admission.policy import (
    Admit,
    Decision,
    Hold,
    Kept,
    NeverFits,
    Skip,
    WaitsFor,
    decide,
    hand_back,
    stale,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from runner.agent.runs.admission.amounts import Amounts
    from runner.agent.runs.admission.occupancy import Ledger
    from runner.agent.runs.admission.policy import HostLoad, Terms
    from runner.protocol.job import Job

# Messages whose lease the driver keeps: it knows what `ticket` is.
T = TypeVar("T")


@dataclass(slots=True, eq=False)
class Waiting(Generic[T]):
    """A received message in the line. `since` is monotonic seconds; `held` says what it waits for."""

    job: Job
    ticket: T
    since: float
    delivery: int
    group: str | None = None  # of a FIFO queue: its messages run one after the other
    lost: bool = False
    held: Hold | None = None
    replaced: set[str] = field(default_factory=set)
    elsewhere: Hold | None = None  # what the fleet said
    not_before: float = 0.0  # monotonic seconds: until then that holds

    @property
    def kind(self) -> str:
        """One word for what it waits for; "" before that is decided."""
        return "" if self.held is None else self.held.kind

    @property
    def reason(self) -> str:
        """The same in words."""
        return "" if self.held is None else self.held.reason

    def said_elsewhere(self, clock: float) -> Hold | None:
        """What the fleet said, as long as it need not be asked again."""
        return self.elsewhere if clock < self.not_before else None


@dataclass(frozen=True, slots=True)
class View:
    """What a decision is made on. `now` is unix seconds, `clock` monotonic ones.

    `max_receive_count` is None where messages may be received without end; `redrive_known` is False until SQS
    has said so: until then nothing is handed back. `blocked`: why nothing may start at all.
    `paused`: why nothing may start or wait here. `maintenance`: jobs that are not run now, and why.
    """

    on: Terms
    load: HostLoad | None
    now: float
    clock: float
    max_receive_count: int | None = None
    redrive_known: bool = True
    blocked: str | None = None
    paused: str | None = None
    maintenance: Mapping[str, str] = field(default_factory=dict)

    def shut(self) -> Hold | None:
        """Why nothing may start, whatever it is."""
        if self.paused is not None:
            return Hold(WaitsFor.PAUSED, self.paused)
        return None if self.blocked is None else Hold(WaitsFor.BLOCKED, self.blocked)

    def under_maintenance(self, job: str) -> Skip | None:
        why = self.maintenance.get(job)
        return None if why is None else Skip("maintenance", why)

    def may_go_back(self, delivery: int) -> bool:
        return self.redrive_known and hand_back(delivery, self.max_receive_count)


@dataclass(frozen=True, slots=True)
class Start(Generic[T]):
    """Its room is taken; start it."""

    waiting: Waiting[T]


@dataclass(frozen=True, slots=True)
class Replace(Generic[T]):
    """Cancel these runs of its job; it starts when they are gone."""

    waiting: Waiting[T]
    run_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Skipped(Generic[T]):
    """It is not run, and that is told."""

    waiting: Waiting[T]
    skip: Skip


@dataclass(frozen=True, slots=True)
class Rejected(Generic[T]):
    """It can never run here, and may not go back: tell it, and bury the message."""

    waiting: Waiting[T]
    detail: str


@dataclass(frozen=True, slots=True)
class HandBack(Generic[T]):
    """Another host, or a later time; `hold` says why."""

    waiting: Waiting[T]
    hold: Hold

    @property
    def never(self) -> bool:
        """It can never run on this host."""
        return self.hold.waits_for is WaitsFor.NEVER


@dataclass(frozen=True, slots=True)
class Dropped(Generic[T]):
    """Its lease is lost: it is on the queue again, and no longer ours."""

    waiting: Waiting[T]


@dataclass(frozen=True, slots=True)
class Explained(Generic[T]):
    """It waits for something else than before; worth a line in the log."""

    waiting: Waiting[T]


Effect = Start[T] | Replace[T] | Skipped[T] | Rejected[T] | HandBack[T] | Dropped[T] | Explained[T]


@dataclass(slots=True)
class _Ahead:
    """Who stands before the one that is decided on: held runs by job, active or held ones by group."""

    groups: dict[str, str]
    jobs: dict[str, str] = field(default_factory=dict)
    gone: set[str] = field(default_factory=set)  # groups that have handed a message back in this round

    def in_group(self, group: str | None) -> Hold | None:
        """Why the group's next message may not start."""
        if group is None:
            return None
        if group in self.gone:
            return Hold(WaitsFor.RETURNED, f"the message before it of group {group} was handed back")
        before = self.groups.get(group)
        return None if before is None else Hold(WaitsFor.OVERLAP, f"overlap: waits for run {before} of group {group}")


class Line(Generic[T]):
    """Those who wait, oldest first, and the room that is kept for the one who has lacked it longest."""

    def __init__(self, running: Ledger) -> None:
        self._running = running
        self.waiting: list[Waiting[T]] = []
        self.kept: Kept | None = None
        self._first = False  # whether room is kept for the one who lacks it longest
        self.before: Kept | None = None  # room that is kept for a run that had some, and comes back for it

    def join(self, waiting: Waiting[T]) -> None:
        """Received just now; `settle` decides."""
        self.waiting.append(waiting)

    def rejoin(self, waiting: Waiting[T]) -> None:
        """It could not start after all, and has its old place again."""
        insort(self.waiting, waiting, key=lambda other: other.since)

    def find(self, run_id: str) -> Waiting[T] | None:
        return next((waiting for waiting in self.waiting if waiting.job.run_id == run_id), None)

    def leave(self, run_id: str) -> Waiting[T] | None:
        """Somebody does not want it any more; None where it does not wait, or is not ours any more."""
        waiting = self.find(run_id)
        if waiting is None or waiting.lost:
            return None
        self.waiting = [other for other in self.waiting if other is not waiting]
        return waiting

    def settle(self, view: View) -> list[Effect[T]]:
        """Decide on all of them, in order. What starts takes its room in the ledger at once."""
        self.kept, self._first = self.before, self.before is not None
        ahead = _Ahead(groups=self._running.groups())
        effects: list[Effect[T]] = []
        staying: list[Waiting[T]] = []
        for waiting in self.waiting:
            decision = self._decide(waiting, view, ahead)
            before = waiting.kind
            for effect in self._act(waiting, decision, view):
                effects.append(effect)
                if not isinstance(effect, Replace):
                    self._left(waiting, effect, ahead)
                    break
            else:
                staying.append(waiting)
                ahead.jobs.setdefault(waiting.job.job, waiting.job.run_id)
                if waiting.group is not None:
                    ahead.groups[waiting.group] = waiting.job.run_id
                if waiting.kind != before:
                    effects.append(Explained(waiting))
        self.waiting = staying
        return effects

    def _left(self, waiting: Waiting[T], effect: Effect[T], ahead: _Ahead) -> None:
        """It waits no more; what that means for the rest of its group."""
        if waiting.group is None:
            return
        if isinstance(effect, Start):
            ahead.groups[waiting.group] = waiting.job.run_id
        elif isinstance(effect, HandBack):
            ahead.gone.add(waiting.group)

    def _decide(self, waiting: Waiting[T], view: View, ahead: _Ahead) -> Decision | None:
        """The decision on one; None when it is not ours any more."""
        if waiting.lost:
            return None
        sooner = (
            stale(waiting.job, view.now)
            or view.under_maintenance(waiting.job.job)
            or view.shut()
            or ahead.in_group(waiting.group)
            or waiting.said_elsewhere(view.clock)
        )
        if sooner is not None:
            return sooner
        decision = decide(view.on, waiting.job, self._running, view.load, view.now, self.kept)
        before = ahead.jobs.get(waiting.job.job)
        if before is not None and waiting.job.overlap == "wait" and isinstance(decision, Admit | Hold):
            return Hold(WaitsFor.OVERLAP, f"overlap: waits for run {before} of {waiting.job.job}, held before it")
        return decision

    def _act(self, waiting: Waiting[T], decision: Decision | None, view: View) -> Iterator[Effect[T]]:
        """What follows from the decision; nothing, or only a Replace, where it goes on waiting."""
        match decision:
            case None:
                yield Dropped(waiting)
            case Skip():
                yield Skipped(waiting, decision)
            case NeverFits(detail):
                yield from self._never(waiting, detail, view)
            case Admit(replaces) if replaces:
                yield from self._replace(waiting, replaces, view)
            case Admit():
                self._running.add(waiting.job.run_id, waiting.job.job, waiting.job.resources, waiting.group)
                yield Start(waiting)
            case Hold():
                yield from self._hold(waiting, decision, view)

    def _never(self, waiting: Waiting[T], detail: str, view: View) -> Iterator[Effect[T]]:
        if view.may_go_back(waiting.delivery):
            yield HandBack(waiting, Hold(WaitsFor.NEVER, detail))
        elif view.redrive_known:
            yield Rejected(waiting, detail)
        else:
            waiting.held = Hold(WaitsFor.NEVER, detail)

    def _replace(self, waiting: Waiting[T], replaces: tuple[str, ...], view: View) -> Iterator[Effect[T]]:
        waiting.held = Hold(WaitsFor.OVERLAP, f"overlap: replaces run {replaces[0]}")
        new = tuple(run_id for run_id in replaces if run_id not in waiting.replaced)
        waiting.replaced.update(new)
        # Whom it replaces is not cancelled for somebody else's sake: what becomes free is kept for it.
        gets = self._running.counted(replaces)
        asked = view.on.asked(waiting.job.resources)
        self._keep(waiting, {name: max(0.0, amount) for name, amount in less(asked, gets).items()})
        if new:
            yield Replace(waiting, new)

    def _hold(self, waiting: Waiting[T], hold: Hold, view: View) -> Iterator[Effect[T]]:
        over = view.clock - waiting.since >= view.on.hold or hold.waits_for.goes_back_at_once
        if over and view.may_go_back(waiting.delivery):
            yield HandBack(waiting, hold)
            return
        waiting.held = hold
        if hold.for_room and not self._first:
            self._first = True
            self._keep(waiting, view.on.asked(waiting.job.resources))

    def _keep(self, waiting: Waiting[T], amounts: Amounts) -> None:
        """Set room aside for it."""
        if self.kept is None:
            self.kept = Kept(waiting.job.run_id, amounts)
        else:
            self.kept = Kept(self.kept.run_id, plus(self.kept.amounts, amounts))
