"""Where one run stands, for `status --run`: its phase, what it waits for, and what is owed for it still."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from runner.agent.operator.past_runs import job_of, rare
from runner.agent.runs.run import MessageState, State
from runner.agent.runs.standing import PAID_BY, Debt, Phase, phase_of, waits_for
from runner.protocol.units import format_time

if TYPE_CHECKING:
    from runner.agent.held import Door
    from runner.agent.runs.run import Execution
    from runner.agent.runs.table import Run
    from runner.agent.services import Services
    from runner.protocol.job import Job


class Standing:
    """Called on the agent's event loop."""

    def __init__(self, services: Services, door: Door) -> None:
        self._services = services
        self._door = door

    async def of(self, run_id: str) -> dict[str, Any]:
        """`phase`, `waits_for` in words and `owes`, words of `Debt`; `signed_by` where its message was signed, and
        `traceparent` where it has one; nothing of a run that this host does not know."""
        waiting = self._door.find(run_id)
        run = self._services.roster.get(run_id)
        if waiting is not None:
            asked = self._door.asks_fleet(run_id)
            return {
                "phase": Phase.CLAIMING if asked else Phase.WAITING,
                "waits_for": "the fleet's table to say who may start it" if asked else waiting.reason,
                "owes": [Debt.MESSAGE],
                **_rare(waiting.job),
            }
        if run is not None:
            return await self._of(run)
        rows = await self._services.journal.latest([run_id])
        if not rows or rows[0].owner != self._services.owner:
            return {}
        row = rows[0]
        owes = await self._owes(row.execution, f"{row.execution}/{row.attempt}", row.message)
        waits = next((PAID_BY[debt] for debt in owes), "")
        return {"phase": Phase(row.state), "waits_for": waits, "owes": owes, **_rare(job_of(row))}

    async def _of(self, run: Run) -> dict[str, Any]:
        execution = run.execution
        if execution.state is State.ENDED:
            owes = await self._owes(execution.id, execution.key, execution.message, claim=run.leaving_fleet)
        else:
            owes = [Debt.MESSAGE] if execution.message is MessageState.LEASED else []
        waits = waits_for(execution, _due(execution), self._obstacle() or run.lacks, owes)
        return {"phase": phase_of(execution), "waits_for": waits, "owes": owes, **_rare(execution.job)}

    async def _owes(self, execution: str, key: str, message: str, *, claim: bool = False) -> list[Debt]:
        """Of a run that has ended."""
        services, owes = self._services, []
        told = await services.journal.final_event(execution)
        if told is not None and not await services.journal.was_sent(told[0]):
            owes.append(Debt.EVENT)
        if claim:
            owes.append(Debt.CLAIM)
        if message == MessageState.LEASED:
            owes.append(Debt.MESSAGE)
        if not services.shipper.has_settled(key):
            owes.append(Debt.OUTPUT)
        return owes

    def _obstacle(self) -> str:
        if self._services.spool_error is not None:
            return f"no room for its output ({self._services.spool_error})"
        return "the supervisor is away" if self._services.link.away_since is not None else ""


def _rare(job: Job | None) -> dict[str, Any]:
    return rare(job) if job is not None else {}


def _due(execution: Execution) -> str:
    ended = execution.ended_at or 0.0
    return format_time(ended + execution.job.retries.delay(execution.attempt))
