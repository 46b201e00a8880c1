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

from runner.agent.answers import taken_by_another
from runner.agent.fleet.claims import Another, Answer, Away, Busy, Clear, Elsewhere, Over
from runner.agent.runs.admission.line import HandBack
from runner.agent.runs.admission.policy import Hold, Skip, WaitsFor
from runner.agent.runs.inputs import ClaimAnswered, Said
from runner.agent.runs.standing import Phase
from runner.agent.runs.step import Order, step
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
_SAID: dict[type[Answer], Said] = {
    Clear: Said.CLEAR,
    Busy: Said.BUSY,
    Elsewhere: Said.ELSEWHERE,
    Over: Said.OVER,
    Another: Said.ANOTHER,
    Away: Said.AWAY,
}


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
            rule = step(Phase.CLAIMING, self._answered(waiting, answer))
            if Order.ASK_AGAIN not in rule.orders:
                break
            # It starts nothing, and waits for no room: it waits here.
            await pause(_draw(), self._stopping)
        del self._asking[job.run_id]
        if rule.then is not Phase.ACCEPTED and not (Order.TELL in rule.orders and ticket.cancelled is not None):
            self._services.roster.not_started(job.run_id)
        for order in rule.orders:
            await self._carry_out(order, waiting, answer)

    def _answered(self, waiting: Waiting[Ticket], answer: Answer) -> ClaimAnswered:
        ticket, said, ends = waiting.ticket, _SAID[type(answer)], waiting.ticket.ends
        return ClaimAnswered(
            said,
            waiting.job.overlap,
            leaving=self._stopping.is_set() or ticket.lease.lost,
            ends=ends,
            welcome=ends or said is not Said.CLEAR or self._welcome(waiting),
            goes_back=ends and isinstance(answer, Elsewhere | Away) and self._may_go_back(waiting, answer),
        )

    async def _carry_out(self, order: Order, waiting: Waiting[Ticket], answer: Answer) -> None:
        match order:
            case Order.GIVE_UP:
                await self._give_up(waiting)
            case Order.HAND_BACK:
                assert isinstance(answer, Elsewhere | Away)
                self._hand_back(HandBack(waiting, _hold(answer)))
            case Order.DROP_COPY:
                await self._over(waiting)
            case Order.REFUSE:
                assert isinstance(answer, Another)
                self._refuse(waiting, answer)
            case Order.SKIP | Order.REPLACE:
                assert isinstance(answer, Busy)
                self._heed(waiting, answer.run_id, replace=order is Order.REPLACE)
            case Order.TELL:
                await self._end(waiting)
            case Order.BEGIN_HERE:
                self._start(waiting)
            case Order.FREE_CLAIM:
                # Not held while it waits: a copy that another host is asked for may be first.
                self._leave(waiting, again=True)
            case Order.TO_LINE:
                # Paused, under maintenance or too late by now: that is decided in the line.
                self._back(waiting)
            case _:
                self._wait(waiting, answer)

    def _heed(self, waiting: Waiting[Ticket], other: str, *, replace: bool) -> None:
        """Another run of its job is active: this one is skipped for it, or asks it to go."""
        if not replace:
            waiting.ticket.ending = Skip("overlap", f"run {other} of {waiting.job.job} is active on another host")
        elif other not in waiting.replaced:
            waiting.replaced.add(other)
            self._services.spawn(self._member.replace(other, by=waiting.job.run_id), f"replace {other}")

    async def _give_up(self, waiting: Waiting[Ticket]) -> None:
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
        log.info("run_over_elsewhere", run_id=job.run_id, job=job.job)
        self._services.spawn(self._member.over(job.run_id), f"over {job.run_id}")
        await self._answers.delete_held(waiting.ticket.lease)

    def _refuse(self, waiting: Waiting[Ticket], answer: Another) -> None:
        """Its run id is another run's, whose claim is of no concern to it."""
        ticket, job = waiting.ticket, waiting.job
        error = taken_by_another(job, answer.job, "on another host")
        rejecting = self._answers.reject(ticket.received, error, ticket.lease)
        self._services.answer(ticket.received, rejecting, f"reject {job.run_id}")

    async def _end(self, waiting: Waiting[Ticket]) -> None:
        """Its claim is ours: tell what becomes of it."""
        ticket, job = waiting.ticket, waiting.job
        if ticket.cancelled is not None:
            self._begin(waiting)  # to be told like any other run that was cancelled
            return
        if isinstance(ticket.ending, Skip):
            telling = self._answers.skip(job, ticket.received, ticket.ending, ticket.lease)
        else:
            assert ticket.ending is not None
            telling = self._answers.reject(ticket.received, ticket.ending, ticket.lease)
        await asyncio.wait({self._services.answer(ticket.received, telling, f"tell {job.run_id}")})
        self._leave(waiting, again=False)

    def _may_go_back(self, waiting: Waiting[Ticket], answer: Elsewhere | Away) -> bool:
        """By the rules for those who wait: a copy of a run that another host has goes back at once, while the table is
        away one is held for a time first."""
        services = self._services
        if not services.may_go_back(waiting.delivery):
            return False
        held = time.monotonic() - waiting.since
        return _hold(answer).waits_for.goes_back_at_once or held >= services.config.admission.hold

    def _leave(self, waiting: Waiting[Ticket], *, again: bool) -> None:
        """Not waited for: it asks until the table has answered."""
        execution, run_id = waiting.ticket.execution, waiting.job.run_id
        self._services.spawn(self._member.leave(execution, run_id, again=again), f"leave {execution}")

    def _wait(self, waiting: Waiting[Ticket], answer: Answer) -> None:
        if isinstance(answer, Busy):
            word = "replaces" if waiting.job.overlap == "replace" else "waits for"
            why = Hold(WaitsFor.OVERLAP, f"overlap: {word} run {answer.run_id} on another host")
        else:
            assert isinstance(answer, Elsewhere | Away)
            why = _hold(answer)
        waiting.elsewhere = why
        waiting.not_before = time.monotonic() + _draw()
        self._back(waiting)


def _hold(answer: Elsewhere | Away) -> Hold:
    return Hold(WaitsFor.CLAIMED if isinstance(answer, Elsewhere) else WaitsFor.FLEET, str(answer))


def _draw() -> float:
    low, high = ASK_AGAIN_S
    return low + random.random() * (high - low)  # noqa: S311 - jitter
