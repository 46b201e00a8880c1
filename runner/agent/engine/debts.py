"""What is owed for a run beside its process: its claim in the fleet's table, its event, its message."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from runner.agent.runs.inputs import Continued
from runner.agent.runs.run import MessageState, State

if TYPE_CHECKING:
    from runner.agent.runs.inputs import Input, LeaseLost
    from runner.agent.runs.lease import Lease
    from runner.agent.runs.run import Execution
    from runner.agent.services import Services

log = structlog.get_logger()

_AFTER_END = "its end is told once more when its message comes again; another host would run it again"


class Debts:
    """Carries out the orders that are about a run's claim, event and message: `do_` and the order's name, each."""

    def __init__(self, services: Services, execution: Execution) -> None:
        self.execution = execution
        self._services = services
        self._accepted: asyncio.Future[None] | None = None  # of its last event
        self._leaving: asyncio.Task[None] | None = None
        self._owed: Lease | None = execution.lease  # the message that its end is to settle

    @property
    def leaving_fleet(self) -> bool:
        """Whether the fleet's table has yet to hear of its end."""
        return self._leaving is not None and not self._leaving.done()

    @property
    def end_told(self) -> bool:
        """Whether the results queue has taken its end, as far as this process has seen; its message goes only then."""
        if self.execution.state is not State.ENDED:
            return False
        accepted = self._accepted
        seen = accepted is not None and accepted.done() and not accepted.cancelled() and accepted.exception() is None
        return seen or self.execution.message is MessageState.GONE

    # -- the claim

    def do_leave_claim(self, _: Input) -> None:
        self._leave_claim(again=False)

    def do_return_claim(self, _: Input) -> None:
        self._leave_claim(again=True)

    def _leave_claim(self, *, again: bool) -> None:
        self._owed = self.execution.lease
        self._leaving = self._services.leave_fleet(self.execution, again=again)

    async def do_await_claim(self, _: Input) -> None:
        if self._leaving is not None:
            # Before the message: a copy of it that another host gets is to find out how this one ended.
            await asyncio.wait({self._leaving})

    async def do_end_claim(self, _: Input) -> None:
        await self._end_claim(again=False)

    async def do_free_old_claim(self, _: Input) -> None:
        await self._end_claim(again=True)

    async def _end_claim(self, *, again: bool) -> None:
        if self._services.fleet is not None:
            await self._services.fleet.stakes.end(self.execution.id, self.execution.job, again=again)

    # -- the event

    async def do_await_event(self, _: Input) -> None:
        if self._accepted is not None:
            await self._accepted
        else:
            # Who has neither message nor event when the host is lost can never tell what became of the run.
            await self._services.outbox.delivered(self.execution.id)

    # -- the message

    def do_hold(self, _: Input) -> None:
        if self.execution.lease is not None:
            self._services.keeper.hold(self.execution.lease)

    async def do_delete(self, _: Input) -> None:
        if self._owed is not None:
            await self._services.keeper.delete_held(self._owed)

    def do_drop(self, _: Input) -> None:
        if self._owed is not None:
            self._services.keeper.drop(self._owed)

    async def do_release(self, _: Input) -> None:
        if self._owed is not None and not self._owed.lost:
            await self._services.keeper.release([self._owed], 0)

    async def do_give_up_message(self, _: Input) -> None:
        self.execution.message = MessageState.GONE
        await self._services.commit(self.execution)

    async def do_note_gone(self, _: Input) -> None:
        self.execution.message = MessageState.GONE
        await self._services.journal.message_gone(self.execution.id)

    async def do_take_over(self, _: Input) -> Continued:
        """Answer for the run alone from here on: the journal first, then the deletion."""
        execution, services = self.execution, self._services
        lease = execution.lease
        if lease is not None:
            execution.message = MessageState.TAKEN_OVER
            await services.commit(execution)
            await services.keeper.delete_held(lease)
            execution.lease = None
        return Continued()

    # -- a lease that is lost

    def do_warn_lost(self, lost: LeaseLost) -> None:
        log.warning("lease_lost_after_end", run_id=self.execution.run_id, why=lost.why, detail=_AFTER_END)

    def do_note_lost(self, lost: LeaseLost) -> None:
        execution = self.execution
        execution.lease_lost = True
        log.error("lease_lost", run_id=execution.run_id, job=execution.job.job, why=lost.why, policy=lost.policy)
