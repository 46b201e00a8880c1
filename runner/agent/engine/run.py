"""One run, from its acceptance until nothing is owed for it: carries out what the table says (runs/step.py).

Order matters in every rule: a fact is in the journal before the world is told, the supervisor may forget an end only
when it is in the journal, and the message is deleted last. Killed at any point, the next agent asks the same table with
what the journal and the supervisor know (reconcile.py), and repeats at most steps that can be repeated.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from runner.agent.engine.attempts import Attempts
from runner.agent.runs.inputs import Accepted, Input, LeaseLost, LimitNear, StopAsked
from runner.agent.runs.run import State
from runner.agent.runs.standing import Phase, phase_of
from runner.agent.runs.step import Impossible, Order, Rule, step

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable

    from runner.agent.runs.run import Execution
    from runner.agent.services import Services

log = structlog.get_logger()

STRICT = False
"""Under test: an input that cannot happen is raised, and not only logged."""

_STATES = {
    Phase.ACCEPTED: State.ACCEPTED,
    Phase.RUNNING: State.RUNNING,
    Phase.BACKOFF: State.BACKOFF,
    Phase.ENDED: State.ENDED,
}
_ACTS = {order: f"do_{order.name.lower()}" for order in Order}
_IGNORED = "it is ignored, and the run stays where it stands; report this with the lines before it"


class Run(Attempts):
    """Drives one execution: `do_` and an order's name carries it out, and may bring the next input."""

    def __init__(self, services: Services, execution: Execution) -> None:
        super().__init__(services, execution)
        self.task: asyncio.Task[None] | None = None

    # -- from outside

    async def stop(self, cause: str, detail: str = "", grace: float | None = None) -> None:
        """End it: its process by stop signal, grace and kill; a retry that is waited for does not happen."""
        self.unwanted(cause, detail, grace)
        await self.drive(StopAsked(self._live))

    def leave(self) -> None:
        """The agent goes away and the run goes on: the next agent takes it over from the journal."""
        if self.task is not None:
            self.task.cancel()

    def reach_limit(self) -> None:
        """SQS will not hold the message much longer; called on the event loop by the lease keeper."""
        log.warning("run_taken_over", run_id=self.execution.run_id, job=self.execution.job.job)
        self._services.spawn(self._aside(LimitNear()), f"take over {self.execution.run_id}")

    def lease_lost(self, why: str) -> None:
        """Apply `[queue] on_lost_lease`; called on the event loop by the lease keeper."""
        happened = LeaseLost(why, self._services.config.queue.on_lost_lease)
        if (rule := self.ruled(happened)) is not None:
            for order in rule.orders:
                getattr(self, _ACTS[order])(happened)

    def do_free_room(self, _: Input) -> None:
        self._services.roster.no_more_attempts(self)

    def do_forget(self, _: Input) -> None:
        self._services.roster.ended(self)

    def do_kill(self, lost: LeaseLost) -> None:
        self._services.spawn(self.stop("lost_lease", lost.why), f"stop {self.execution.run_id}")

    # -- the table

    async def execute(self) -> None:
        """A new execution that is in the journal: everything until nothing is owed to the queue."""
        await self.drive(Accepted())

    async def drive(self, happened: Input | None) -> None:
        """What follows from this, and from what that brings, until nothing more does."""
        while happened is not None:
            rule = self.ruled(happened)
            if rule is None:
                return
            self.enter(rule)
            happened = await self.carry_out(rule.orders, happened)

    def ruled(self, happened: Input) -> Rule | None:
        """The rule for what has happened; None where it cannot have."""
        phase = phase_of(self.execution)
        try:
            return step(phase, happened, self.execution, self.stopped)
        except Impossible as error:
            if STRICT:
                raise
            log.error("impossible_input", run_id=self.execution.run_id, error=str(error), detail=_IGNORED)
            return None

    async def carry_out(self, orders: tuple[Order, ...], happened: Input) -> Input | None:
        """Orders of a rule in turn; what the last one brings. Nothing is waited for between two that do not wait."""
        made: Input | None = None
        for order in orders:
            done: Input | Awaitable[Input | None] | None = getattr(self, _ACTS[order])(happened)
            made = done if done is None or isinstance(done, Input) else await done
        return made

    async def _aside(self, happened: Input) -> None:
        """What follows at once from something beside the way of the run, which goes on as it does."""
        if (rule := self.ruled(happened)) is not None:
            await self.carry_out(rule.orders, happened)

    def enter(self, rule: Rule) -> None:
        """The phase that a rule leads to."""
        if rule.then is not rule.phase:
            self.execution.collecting = rule.then is Phase.COLLECTING
            if rule.then in _STATES:
                self.execution.state = _STATES[rule.then]
