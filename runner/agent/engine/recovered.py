"""A run that an agent before us has accepted: how the orders are carried out that follow when it is found again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from runner.agent.engine.run import Run
from runner.agent.runs.adoption import sequence_of
from runner.agent.runs.inputs import Accepted
from runner.agent.runs.run import MessageState, State
from runner.agent.runs.step import Order

if TYPE_CHECKING:
    from runner.agent.runs.inputs import Found, Input

log = structlog.get_logger()


class Recovered(Run):
    """`take_up` once, before anything is received."""

    async def take_up(self, found: Found, name: str) -> None:
        """What its row and the supervisor ask for; the last of it, and all that comes of that, in a task of its own."""
        rule = self.ruled(found)
        if rule is None:
            return
        # Of one that has ended nothing is waited for: there may be thousands, and AWS may be away.
        ready = len(rule.orders) - 1 if self.active else 0
        self.enter(rule)
        await self.carry_out(rule.orders[:ready], found)
        if Order.ENLIST in rule.orders and Order.BEGIN not in rule.orders:
            execution, known = self.execution, found.there is not None
            log.info(
                "run_resumed",
                run_id=execution.run_id,
                job=execution.job.job,
                state=execution.state,
                known=known,
            )

        async def go_on() -> None:
            await self.drive(await self.carry_out(rule.orders[ready:], found))

        self.task = self._services.spawn(go_on(), f"{name} {self.execution.run_id}")

    async def do_follow(self, found: Found) -> None:
        """Let the shipper go on with the output of an attempt that may still write, and grew as the marks say."""
        services, spool = self._services, found.spool
        marks = (found.there.exit or found.there).marks if found.there is not None else ()
        if spool is not None:
            await services.shipper.resume(spool.tag, secrets=spool.secrets, rules=spool.rules, marks=marks)
        else:
            # Started, and the agent died before the row of its spool was on disk.
            await services.spools.opened(self.tag(), self.secrets(), self.rules())
            await services.shipper.resume(self.tag(), secrets=self.secrets(), rules=self.rules(), marks=marks)

    def do_take_up(self, found: Found) -> None:
        there = found.there
        if there is not None:
            self.execution.pid, self.execution.started_at = there.pid, there.started_at
            self.began(there.started_boottime, there.user)
            self._services.shipper.learn(self.execution.key, there.secrets)

    def do_say_started_again(self, found: Found) -> None:
        if found.there is not None:
            # Under the number that it had: it may have been told by an agent of whose journal nothing is left.
            self.say_started(found.there.as_started(), sequence_of(found.there))

    def do_enlist(self, _: Found) -> None:
        execution, services = self.execution, self._services
        services.roster.add(self)
        if execution.lease is not None:
            services.keeper.hold(execution.lease)
        if services.fleet is not None:
            services.fleet.stakes.resume(execution.id, execution.job)

    def do_begin(self, _: Found) -> Input:
        return Accepted()

    async def do_watch_again(self, _: Found) -> Input:
        self._services.link.watch(self.execution.key)
        return await self._end_of()

    async def do_disown(self, _: Found) -> None:
        execution = self.execution
        log.info("run_not_started", run_id=execution.run_id, job=execution.job.job)
        execution.state, execution.message = State.ENDED, MessageState.GONE
        execution.ended_at = self._services.now()
        await self._services.journal.save(execution)
