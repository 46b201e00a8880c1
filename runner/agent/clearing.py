"""What the fleet says before a run starts here: no other host has it, nor another run of its job where that matters.

A run whose turn has come has its room already; it is asked for at the fleet's table, and starts, is answered, or
waits in the line once more until it may be asked for again.
"""

from __future__ import annotations

import asyncio
import random
import time
from typing import TYPE_CHECKING

import structlog

from runner.agent.admission import Hold, Skip
from runner.agent.stakes import Answer, Away, Busy, Clear, Elsewhere, Over

if TYPE_CHECKING:
    from collections.abc import Callable

    from runner.agent.answers import Answers
    from runner.agent.fleet import Member
    from runner.agent.held import Ticket
    from runner.agent.services import Services
    from runner.agent.waiting import Waiting

log = structlog.get_logger()

# An answer holds this long; many who wait for the same lock do not ask together.
ASK_AGAIN_S = (2.0, 4.0)


class Clearing:
    """`begin` starts a waiting run, `back` puts it into the line again."""

    def __init__(
        self,
        services: Services,
        answers: Answers,
        member: Member,
        *,
        begin: Callable[[Waiting[Ticket]], None],
        back: Callable[[Waiting[Ticket]], None],
    ) -> None:
        self._services = services
        self._answers = answers
        self._member = member
        self._begin = begin
        self._back = back
        self._asking: dict[str, Waiting[Ticket]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopping = False

    def find(self, run_id: str) -> Waiting[Ticket] | None:
        """The run of this id that is being asked for."""
        return self._asking.get(run_id)

    def ask(self, waiting: Waiting[Ticket]) -> None:
        """Its turn has come, and its room is taken."""
        self._asking[waiting.job.run_id] = waiting
        self._services.keeper.hold(waiting.ticket.lease)
        task = self._services.spawn(self._ask(waiting), f"ask for {waiting.job.run_id}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def stop(self) -> None:
        """The agent stops: who is asked for now is handed back with its answer."""
        self._stopping = True

    async def stopped(self) -> None:
        """All who were asked for when the agent was told to stop are answered."""
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _ask(self, waiting: Waiting[Ticket]) -> None:
        ticket, job = waiting.ticket, waiting.job
        answer = await self._member.stakes.enter(ticket.execution, job)
        del self._asking[job.run_id]
        if self._stopping or ticket.lease.lost:
            await self._give_up(waiting)
        elif isinstance(answer, Clear):
            self._begin(waiting)
        else:
            self._services.roster.not_started(job.run_id)
            await self._refused(waiting, answer)

    async def _give_up(self, waiting: Waiting[Ticket]) -> None:
        self._services.roster.not_started(waiting.job.run_id)
        lease = waiting.ticket.lease
        if not lease.lost:
            await self._services.keeper.release([lease], 0)
        self._services.keeper.drop(lease)
        self._leave(waiting.ticket, again=True)

    async def _refused(self, waiting: Waiting[Ticket], answer: Answer) -> None:
        ticket, job = waiting.ticket, waiting.job
        match answer:
            case Over():
                log.info("run_over_elsewhere", run_id=job.run_id, job=job.job)
                await self._answers.delete_held(ticket.lease)
            case Busy(run_id) if job.overlap == "skip":
                skip = Skip("overlap", f"run {run_id} of {job.job} is active on another host")
                await self._answers.skip(job, ticket.received, skip, ticket.lease)
                self._leave(ticket, again=False)
            case Busy(run_id):
                # Not held while it waits: a copy that another host is asked for may be first.
                self._leave(ticket, again=True)
                if job.overlap == "replace" and run_id not in waiting.replaced:
                    waiting.replaced.add(run_id)
                    self._services.spawn(self._member.replace(run_id, by=job.run_id), f"replace {run_id}")
                word = "replaces" if job.overlap == "replace" else "waits for"
                self._wait(waiting, Hold("overlap", f"overlap: {word} run {run_id} on another host"))
            case Elsewhere():
                self._wait(waiting, Hold("claimed", str(answer)))
            case Away():
                self._wait(waiting, Hold("fleet", str(answer)))
            case Clear():
                pass

    def _leave(self, ticket: Ticket, *, again: bool) -> None:
        """Not waited for: it asks until the table has answered."""
        self._services.spawn(self._member.stakes.leave(ticket.execution, again=again), f"leave {ticket.execution}")

    def _wait(self, waiting: Waiting[Ticket], why: Hold) -> None:
        low, high = ASK_AGAIN_S
        waiting.elsewhere = why
        waiting.not_before = time.monotonic() + low + random.random() * (high - low)  # noqa: S311 - jitter
        self._back(waiting)
