"""The door: where received messages become runs, wait, or go back.

The decisions are made in runs/admission/; here is what follows from them, and what they are made on: the configuration
in use, the host's load, and what the redrive policy allows.
"""

from __future__ import annotations

import asyncio
import random
import time
from typing import TYPE_CHECKING

import structlog

from runner.agent.engine.run import Run
from runner.agent.host.measuring import Offer
from runner.agent.returning import Returning
from runner.agent.runs.admission.line import (
    Dropped,
    Effect,
    Explained,
    HandBack,
    Line,
    Rejected,
    Replace,
    Skipped,
    Start,
    View,
    Waiting,
)
from runner.agent.runs.admission.looking_away import Yields
from runner.agent.runs.admission.policy import Decision, Skip, WaitsFor, decide, hand_back, room, stale
from runner.agent.runs.burden import weight
from runner.agent.runs.run import Execution, MessageState
from runner.agent.runs.ticket import Ticket
from runner.aws.backoff import pause
from runner.protocol.message import InvalidMessage

if TYPE_CHECKING:
    from collections.abc import Callable

    from runner.agent.answers import Answers
    from runner.agent.clearing import Clearing
    from runner.agent.runs.lease import Lease
    from runner.agent.services import Services
    from runner.aws.sqs import Received
    from runner.protocol.job import Job

log = structlog.get_logger()

_LEASE_LOST = "it was not renewed in time, and comes again to some host; see why calls to SQS failed or hung"

HAND_BACK_DELAY_S = (5.0, 15.0)
# Another host runs it: its copy need not be looked at often, and each look is a receive.
CLAIMED_DELAY_S = (45.0, 75.0)
LOOK_EVERY_S = 0.5
# So many may wait for other runs of their jobs while everything else goes on.
MOST_HELD = 100


class Door:
    """`blocked_by` says why nothing may start although there is room."""

    def __init__(self, services: Services, answers: Answers, *, fifo: bool = False) -> None:
        self._services = services
        self._fifo = fifo
        self._answers = answers
        self._line: Line[Ticket] = Line(services.roster.ledger)
        self.offer = Offer(lambda: services.config.admission, services.roster, services.link)
        self._looking = asyncio.Event()
        self._releasing: asyncio.Task[None] | None = None
        self.yields = Yields()
        self.blocked_by: Callable[[], str | None] = lambda: None
        self.max_receive_count: int | None = None
        self.redrive_known = False
        self._clearing: Clearing | None = None
        if services.fleet is not None:
            from runner.agent.clearing import Clearing  # noqa: PLC0415 - only for members of a fleet

            self._clearing = Clearing(
                services,
                answers,
                services.fleet,
                begin=self._start,
                back=self._back,
                hand_back=self._hand_back,
                welcome=self._welcome,
            )
        services.come_back = Returning(services.roster, self._line, self.offer, self._settle).come_back
        services.burden.also, services.burden.eased = self._also_held, services.roster.changed.set
        services.pausing.changed = self._pause_changed
        services.may_go_back = lambda delivery: self.redrive_known and hand_back(delivery, self.max_receive_count)

    def shut(self) -> tuple[str | None, bool]:
        """Why nothing may be received whatever room there is; whether that is a pause."""
        paused = self._services.pausing.current
        return (str(paused), True) if paused is not None else (self.blocked_by(), False)

    def learn(self, max_receive_count: int | None) -> None:
        """The redrive policy is known by now; None: there is none."""
        self.max_receive_count, self.redrive_known = max_receive_count, True

    @property
    def held(self) -> list[Waiting[Ticket]]:
        """Those who wait, oldest first."""
        return self._line.waiting

    # -- what is decided on

    def room(self) -> tuple[int, str]:
        """How many messages may be asked for, and why none."""
        held = len(self._here())
        if held >= MOST_HELD:
            return 0, f"{held} held runs"
        beside, why = self._services.burden.room()
        if not beside:
            return 0, why
        asked, why = room(self.offer.on(), self._services.roster.ledger, self.offer.load, self._line.kept)
        return min(asked, beside), why

    def _here(self) -> list[Waiting[Ticket]]:
        """Those who wait, and those whom the fleet is asked for."""
        return [*self.held, *(self._clearing.asking if self._clearing is not None else ())]

    def _also_held(self) -> tuple[int, int]:
        """Messages of those who wait and of runs, as far as they take no room; the memory that all of them take."""
        roster = self._services.roster
        # As it came and as it was read.
        return roster.owed, roster.weight + 2 * sum(weight(waiting.ticket.received) for waiting in self._here())

    def foresee(self, job: Job) -> Decision:
        """What would be decided on a job that came now; nothing is taken or kept for it."""
        view = self._view()
        ledger = self._services.roster.ledger
        return view.shut() or decide(view.on, job, ledger, view.load, view.now, self._line.kept)

    def _view(self) -> View:
        paused, fleet = self._services.pausing.current, self._services.fleet
        return View(
            on=self.offer.on(),
            load=self.offer.load,
            now=self._services.now(),
            clock=time.monotonic(),
            max_receive_count=self.max_receive_count,
            redrive_known=self.redrive_known,
            blocked=self.blocked_by(),
            paused=None if paused is None else str(paused),
            maintenance=fleet.maintenance if fleet else {},
        )

    # -- in

    def enter(self, arrivals: list[tuple[Job, Received, Lease]]) -> None:
        """Decide on what was just received, behind those who wait already."""
        for job, received, lease in arrivals:
            ticket = Ticket(received, lease)
            # On a standard queue a group only says whose message it is, and orders nothing.
            group = received.group_id if self._fifo else None
            waiting = Waiting(job, ticket, time.monotonic(), received.delivery, group)
            self._line.join(waiting)
        self._settle()

    def find(self, run_id: str) -> Waiting[Ticket] | None:
        """The waiting message of this run."""
        return self._line.find(run_id) or (self._clearing.find(run_id) if self._clearing else None)

    def asks_fleet(self, run_id: str) -> bool:
        """Whether the fleet is being asked for it: its turn has come."""
        return self._clearing is not None and self._clearing.find(run_id) is not None

    def cancel(self, run_id: str, detail: str) -> bool:
        """End a waiting run before it starts, as one that was cancelled; False where none waits under this id."""
        waiting = self._line.leave(run_id)
        asked_for = self._clearing.find(run_id) if self._clearing else None
        if waiting is not None:
            waiting.ticket.cancelled = detail
            if self._clearing is None:
                self._start(waiting)
            else:
                self._clearing.ask(waiting)
        elif asked_for is not None:
            asked_for.ticket.cancelled = detail
        return waiting is not None or asked_for is not None

    # -- on

    async def run(self) -> None:
        """Look after those who wait, and measure while the policy asks for it."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._look_after(), name="held")
            tasks.create_task(self.offer.measure(), name="load")

    async def _look_after(self) -> None:
        freed = self._services.roster.freed
        while True:
            if not self.held:
                self._looking.clear()
                await self._looking.wait()
            await pause(LOOK_EVERY_S, freed)
            freed.clear()
            self._settle()
            await asyncio.sleep(0.01)  # ends that come in quick succession are looked at together

    def _settle(self) -> None:
        for waiting in self.held:
            waiting.lost = waiting.ticket.lease.lost
        for effect in self._line.settle(self._view()):
            self._act(effect)
        if self.held:
            self._looking.set()

    def _pause_changed(self) -> None:
        roster = self._services.roster
        roster.changed.set()
        roster.freed.set()

    # -- out

    def release(self) -> None:
        """The agent stops: all that waits is handed back at once, for the other hosts."""
        leases = [waiting.ticket.lease for waiting in self.held if not waiting.ticket.lease.lost]
        self._line.waiting = []
        if self._clearing is not None:
            self._clearing.stop()
        if leases:
            self._services.counts.handed_back["stopping"] += len(leases)
            log.info("messages_handed_back", messages=len(leases), reason="the agent is stopping")
            self._releasing = self._services.spawn(self._services.keeper.release(leases, 0), "hand back the held")

    async def released(self) -> None:
        """What was held when the agent was told to stop is on the queue again."""
        if self._releasing is not None:
            await asyncio.wait({self._releasing})
        if self._clearing is not None:
            await self._clearing.stopped()

    def _act(self, effect: Effect[Ticket]) -> None:
        waiting = effect.waiting
        job, ticket, services = waiting.job, waiting.ticket, self._services
        match effect:
            case Start():
                self._admitted(waiting)
            case Replace(run_ids=run_ids):
                self._cancel(run_ids, by=job.run_id)
            case Skipped(skip=skip):
                self._told(waiting, skip)
            case Rejected(detail=detail):
                error = InvalidMessage(detail, reason="does_not_fit").of(job)
                self._told(waiting, error)
            case HandBack():
                self._hand_back(effect)
            case Dropped():
                log.warning("held_lease_lost", run_id=job.run_id, job=job.job, detail=_LEASE_LOST)
                services.keeper.drop(ticket.lease)
            case Explained():
                services.keeper.hold(ticket.lease)
                log.info("run_held", run_id=job.run_id, job=job.job, reason=waiting.reason)

    def _admitted(self, waiting: Waiting[Ticket]) -> None:
        """Start it, or in a fleet ask for it first."""
        if self._clearing is None:
            self._start(waiting)
        else:
            self._clearing.ask(waiting)

    def _told(self, waiting: Waiting[Ticket], ending: Skip | InvalidMessage) -> None:
        """Nothing is started for it, and that is told; in a fleet by the host that has its claim."""
        job, ticket, services = waiting.job, waiting.ticket, self._services
        if self._clearing is not None:
            ticket.ending = ending
            self._clearing.ask(waiting)
        elif isinstance(ending, Skip):
            skipping = self._answers.skip(job, ticket.received, ending, ticket.lease)
            services.answer(ticket.received, skipping, f"skip {job.run_id}")
        else:
            rejecting = self._answers.reject(ticket.received, ending, ticket.lease)
            services.answer(ticket.received, rejecting, f"reject {job.run_id}")

    def _welcome(self, waiting: Waiting[Ticket]) -> bool:
        """Whether it may start, of what may have changed since its turn came."""
        view, job = self._view(), waiting.job
        return not (stale(job, view.now) or view.under_maintenance(job.job) or view.shut())

    def _back(self, waiting: Waiting[Ticket]) -> None:
        """The fleet did not let it start now."""
        self._line.rejoin(waiting)
        self._looking.set()

    def _start(self, waiting: Waiting[Ticket]) -> None:
        """Make a run of it; one that was cancelled goes that way too, to be told like any other."""
        services, received, lease = self._services, waiting.ticket.received, waiting.ticket.lease
        execution = Execution(
            job=waiting.job,
            message_id=received.message_id,
            delivery=lease.delivery,
            sent_at=received.sent_at,
            accepted_at=services.now(),
            boot_id=services.source.host.boot_id,
            owner=services.owner,
            supervisor=services.instance(),
            message=MessageState.LEASED,
            lease=lease,
            id=waiting.ticket.execution,
            weight=weight(received),
            group=waiting.group,
        )
        lease.execution = execution.id
        run = Run(services, execution)
        services.roster.add(run)
        if waiting.ticket.cancelled is not None:
            # It starts nothing and takes no room.
            run.unwanted("cancel", waiting.ticket.cancelled)
            services.roster.no_more_attempts(run)
        services.keeper.hold(lease)
        run.task = services.spawn(self._execute(run), f"run {execution.run_id}")

    async def _execute(self, run: Run) -> None:
        await self._services.journal.accept(run.execution)
        await run.execute()

    def _cancel(self, run_ids: tuple[str, ...], by: str) -> None:
        for run_id in run_ids:
            old = self._services.roster.get(run_id)
            if old is not None and old.stopped is None:
                self._services.spawn(old.stop("replace", f"by run {by}"), f"replace {run_id}")

    def _hand_back(self, effect: HandBack[Ticket]) -> None:
        waiting = effect.waiting
        draw = random.random()  # noqa: S311 - jitter
        if effect.never:
            delay = self.yields.plan(time.monotonic(), waiting.delivery, draw)
        else:
            low, high = CLAIMED_DELAY_S if effect.hold.waits_for is WaitsFor.CLAIMED else HAND_BACK_DELAY_S
            delay = low + draw * (high - low)
        self._services.counts.handed_back[effect.hold.kind] += 1
        log.info(
            "run_handed_back",
            run_id=waiting.job.run_id,
            job=waiting.job.job,
            reason=f"it does not fit this host: {effect.hold.reason}" if effect.never else effect.hold.reason,
            delivery=waiting.delivery,
            seconds=round(delay),
        )
        release = self._services.keeper.release([waiting.ticket.lease], delay)
        self._services.answer(waiting.ticket.received, release, f"hand back {waiting.job.run_id}")
