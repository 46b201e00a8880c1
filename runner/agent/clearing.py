"""What the fleet says before a run starts here: no other host has it, nor another run of its job where that matters.

A run whose turn has come has its room already; it is asked for at the fleet's table, and starts, is answered, or
waits in the line once more until it may be asked for again. One that is told without a start (skipped, cancelled,
never fit) is asked for as well: no word about a run goes around its claim.
"""

from __future__ import annotations

import asyncio
import random
import time
from typing import TYPE_CHECKING

import structlog

from runner.agent.fleet.claims import Answer, Away, Busy, Clear, Elsewhere, Over
from runner.agent.runs.admission.line import HandBack
from runner.agent.runs.admission.policy import Hold, Skip, WaitsFor
from runner.aws.backoff import pause

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from runner.agent.answers import Answers
    from runner.agent.fleet.member import Member
    from runner.agent.runs.admission.line import Waiting
    from runner.agent.runs.ticket import Ticket
    from runner.agent.services import Services

log = structlog.get_logger()

# An answer holds this long; many who wait for the same lock do not ask together.
ASK_AGAIN_S = (2.0, 4.0)


class Clearing:
    """`begin` starts a waiting run, `back` puts it into the line again, `hand_back` on the queue. `welcome`: whether a
    run may still start, of what can change while it is asked for."""

    def __init__(
        self,
        services: Services,
        answers: Answers,
        member: Member,
        *,
        begin: Callable[[Waiting[Ticket]], None],
        back: Callable[[Waiting[Ticket]], None],
        hand_back: Callable[[HandBack[Ticket]], None],
        welcome: Callable[[Waiting[Ticket]], bool],
    ) -> None:
        self._services = services
        self._answers = answers
        self._member = member
        self._begin = begin
        self._back = back
        self._hand_back = hand_back
        self._welcome = welcome
        self._asking: dict[str, Waiting[Ticket]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopping = asyncio.Event()

    @property
    def asking(self) -> Iterable[Waiting[Ticket]]:
        """Those who are asked for now."""
        return self._asking.values()

    def find(self, run_id: str) -> Waiting[Ticket] | None:
        """The run of this id that is being asked for."""
        return self._asking.get(run_id)

    def ask(self, waiting: Waiting[Ticket]) -> None:
        """Its turn has come, and its room is taken; or it is to be told without a start, which only the one may do
        who has its claim: a copy of a run that is over elsewhere has an end already."""
        self._asking[waiting.job.run_id] = waiting
        self._services.keeper.hold(waiting.ticket.lease)
        task = self._services.spawn(self._ask(waiting), f"ask for {waiting.job.run_id}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def stop(self) -> None:
        """The agent stops: who is asked for now is handed back with its answer."""
        self._stopping.set()

    async def stopped(self) -> None:
        """All who were asked for when the agent was told to stop are answered."""
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _ask(self, waiting: Waiting[Ticket]) -> None:
        ticket, job = waiting.ticket, waiting.job
        while True:
            ticket.cancelled = ticket.cancelled or self._member.cancelled(job.run_id)
            answer = await self._member.stakes.enter(ticket.execution, job, starts=not ticket.ends)
            ticket.cancelled = ticket.cancelled or self._member.cancelled(job.run_id)
            if self._stopping.is_set() or ticket.lease.lost:
                del self._asking[job.run_id]
                await self._give_up(waiting)
                return
            if not ticket.ends or not isinstance(answer, Elsewhere | Away):
                break
            # It starts nothing, and waits for no room: it waits here.
            if self._goes_back(waiting, answer):
                del self._asking[job.run_id]
                return
            await pause(_draw(), self._stopping)
        del self._asking[job.run_id]
        if isinstance(answer, Over):
            await self._over(waiting)
        elif ticket.ends:
            await self._end(waiting)
        elif isinstance(answer, Clear) and self._welcome(waiting):
            self._start(waiting)
        else:
            self._services.roster.not_started(job.run_id)
            await self._refused(waiting, answer)

    async def _give_up(self, waiting: Waiting[Ticket]) -> None:
        self._services.roster.not_started(waiting.job.run_id)
        lease = waiting.ticket.lease
        if not lease.lost:
            await self._services.keeper.release([lease], 0)
        self._services.keeper.drop(lease)
        self._leave(waiting, again=True)

    def _start(self, waiting: Waiting[Ticket]) -> None:
        self._begin(waiting)
        for run_id in waiting.replaced:
            self._services.spawn(self._member.replaced(run_id), f"replaced {run_id}")

    async def _over(self, waiting: Waiting[Ticket]) -> None:
        job = waiting.job
        self._services.roster.not_started(job.run_id)
        log.info("run_over_elsewhere", run_id=job.run_id, job=job.job)
        self._services.spawn(self._member.over(job.run_id), f"over {job.run_id}")
        await self._answers.delete_held(waiting.ticket.lease)

    async def _end(self, waiting: Waiting[Ticket]) -> None:
        """Its claim is ours: tell what becomes of it."""
        ticket, job = waiting.ticket, waiting.job
        if ticket.cancelled is not None:
            self._begin(waiting)  # to be told like any other run that was cancelled
            return
        self._services.roster.not_started(job.run_id)
        if isinstance(ticket.ending, Skip):
            telling = self._answers.skip(job, ticket.received, ticket.ending, ticket.lease)
        else:
            assert ticket.ending is not None
            telling = self._answers.reject(ticket.received, ticket.ending, ticket.lease)
        await asyncio.wait({self._services.answer(ticket.received, telling, f"tell {job.run_id}")})
        self._leave(waiting, again=False)

    def _goes_back(self, waiting: Waiting[Ticket], answer: Elsewhere | Away) -> bool:
        """By the rules for those who wait: a copy of a run that another host has goes back at once, while the table is
        away one is held for a time first."""
        services = self._services
        if not services.may_go_back(waiting.delivery):
            return False
        hold = _hold(answer)
        if not hold.waits_for.goes_back_at_once and time.monotonic() - waiting.since < services.config.admission.hold:
            return False
        services.roster.not_started(waiting.job.run_id)
        self._hand_back(HandBack(waiting, hold))
        return True

    async def _refused(self, waiting: Waiting[Ticket], answer: Answer) -> None:
        job = waiting.job
        match answer:
            case Busy(run_id) if job.overlap == "skip":
                waiting.ticket.ending = Skip("overlap", f"run {run_id} of {job.job} is active on another host")
                await self._end(waiting)
            case Busy(run_id):
                # Not held while it waits: a copy that another host is asked for may be first.
                self._leave(waiting, again=True)
                if job.overlap == "replace" and run_id not in waiting.replaced:
                    waiting.replaced.add(run_id)
                    self._services.spawn(self._member.replace(run_id, by=job.run_id), f"replace {run_id}")
                word = "replaces" if job.overlap == "replace" else "waits for"
                self._wait(waiting, Hold(WaitsFor.OVERLAP, f"overlap: {word} run {run_id} on another host"))
            case Elsewhere() | Away():
                self._wait(waiting, _hold(answer))
            case Clear():
                # Paused, under maintenance or too late by now: that is decided in the line.
                self._leave(waiting, again=True)
                self._back(waiting)

    def _leave(self, waiting: Waiting[Ticket], *, again: bool) -> None:
        """Not waited for: it asks until the table has answered."""
        execution, run_id = waiting.ticket.execution, waiting.job.run_id
        self._services.spawn(self._member.leave(execution, run_id, again=again), f"leave {execution}")

    def _wait(self, waiting: Waiting[Ticket], why: Hold) -> None:
        waiting.elsewhere = why
        waiting.not_before = time.monotonic() + _draw()
        self._back(waiting)


def _hold(answer: Elsewhere | Away) -> Hold:
    return Hold(WaitsFor.CLAIMED if isinstance(answer, Elsewhere) else WaitsFor.FLEET, str(answer))


def _draw() -> float:
    low, high = ASK_AGAIN_S
    return low + random.random() * (high - low)  # noqa: S311 - jitter
