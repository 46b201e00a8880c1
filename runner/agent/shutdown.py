"""The end of an agent's life: what becomes of its jobs, and of what it owes to the queue."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import structlog

from runner.agent.clocks import boottime
from runner.agent.host.stopping import Manner
from runner.agent.runs.run import MessageState, State
from runner.protocol.units import format_duration

if TYPE_CHECKING:
    from collections.abc import Callable

    from runner.agent.services import Services
    from runner.config import Config

log = structlog.get_logger()

# Long enough for a restart or an upgrade; the next agent renews as soon as it is there.
LEFT_LEASE_S = 900.0
SETTLE_WITHIN_S = 10.0


def waits_for(config: Config, how: Manner, runs: int) -> str:
    """What a stop waits for and how long, and how to make it shorter: for whoever has typed Ctrl-C and sees nothing."""
    poll = f"a poll under way is finished first (up to {format_duration(config.queue.wait)})"
    if how is Manner.LEAVE or not runs:
        return poll
    jobs = "1 job" if runs == 1 else f"{runs} jobs"
    if how is Manner.KILL:
        return f"{jobs} stopped now, with their grace; another signal kills at once"
    limit = format_duration(config.agent.drain_timeout)
    return f"waits for {jobs}, up to {limit}; a second signal (Ctrl-C) stops them, a third kills them; {poll}"


class Departure:
    """Nothing is received any more. `polling` ends when the receive under way has; `signals` counts the askers."""

    def __init__(self, services: Services, polling: asyncio.Task[None], signals: Callable[[], int]) -> None:
        self._services = services
        self._polling = polling
        self._signals = signals

    async def go(self, how: Manner, reason: str) -> None:
        """Returns when the agent may go away."""
        if how is Manner.LEAVE:
            await self._leave()
        else:
            await self._wind_up(reason, kill=how is Manner.KILL)

    async def _leave(self) -> None:
        """The jobs go on: their messages are held until the next agent is there."""
        await self._extend()
        await self._until(self._polling.done, None)
        await self._extend()  # what was admitted in the last moment, and what could not be extended before
        for run in self._services.roster.all():
            run.leave()

    async def _extend(self) -> None:
        leases = [
            run.execution.lease
            for run in self._services.roster.all()
            if run.execution.lease is not None
            and run.execution.message is MessageState.LEASED
            and run.execution.lease.until < boottime() + LEFT_LEASE_S / 2
        ]
        await self._services.keeper.extend(leases, LEFT_LEASE_S)
        if self._services.fleet is not None:
            await self._services.fleet.stakes.extend(LEFT_LEASE_S)

    async def _wind_up(self, reason: str, *, kill: bool) -> None:
        """Wait for the jobs, or stop them; then for what is owed to the queue."""
        services = self._services
        handled, stage = 1, 0
        if kill:
            stage = self._stop_all(reason, stage)
        deadline = time.monotonic() + services.config.agent.drain_timeout
        while services.roster.taking_room or not self._polling.done():
            self._end_backoffs(reason)
            if self._signals() > handled or time.monotonic() > deadline:
                # A second signal stops the jobs that are drained; the next one kills without grace what is left.
                for _ in range(max(1, self._signals() - handled)):
                    stage = self._stop_all(reason, stage)
                handled, deadline = self._signals(), float("inf")
            await self._until(lambda: not services.roster.taking_room and self._polling.done(), 0.1)
        await self._until(lambda: not services.roster.all(), SETTLE_WITHIN_S)
        for run in services.roster.all():
            run.leave()

    def _stop_all(self, reason: str, stage: int) -> int:
        """Stop every job with its grace the first time, and without any from then on. Returns the next stage."""
        active = list(self._services.roster.active())
        if active:
            how = "with their grace; another signal kills them at once" if stage == 0 else "at once"
            log.info("stopping_jobs", runs=len(active), detail=f"their processes are stopped {how}")
        for run in active:
            stop = run.stop("shutdown", reason, None if stage == 0 else 0.0)
            self._services.spawn(stop, f"stop {run.execution.run_id}")
        return stage + 1

    def _end_backoffs(self, reason: str) -> None:
        """A further attempt is another host's to make, where another host can get the message."""
        services = self._services
        for run in services.roster.all():
            if run.execution.state is not State.BACKOFF or run.stopped is not None:
                continue
            if run.execution.message is MessageState.LEASED:
                services.spawn(run.stop("shutdown", reason), f"stop {run.execution.run_id}")
            else:
                # Only this host answers for it: the journal keeps it for the next agent.
                services.roster.ended(run)
                run.leave()

    async def _until(self, done: Callable[[], bool], within: float | None) -> None:
        deadline = None if within is None else time.monotonic() + within
        # Rounds of a few conditions of different parts, for the seconds of a stop only.
        while not done() and (deadline is None or time.monotonic() < deadline):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
