"""This host as a member of its fleet: what it holds in the fleet's table, and what it is told there.

Directives are switches in the table, seen with one small query every few seconds: a pause of the whole group, runs to
cancel, jobs under maintenance. Who turned them on, and why, goes into the log and into the events that follow.
"""

from __future__ import annotations

import asyncio
import random
import time
from typing import TYPE_CHECKING

import structlog

from runner.agent.pausing import Pause
from runner.agent.stakes import Stakes
from runner.aws import directives
from runner.aws.backoff import retrying
from runner.aws.directives import Directive, Directives
from runner.errors import AwsUnavailable
from runner.protocol.units import format_time

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from runner.agent.operations import Operations
    from runner.agent.services import Services
    from runner.aws.table import Table

log = structlog.get_logger()

LOOK_EVERY_S = (4.0, 6.0)
FIRST_LOOK_WITHIN_S = 5.0
REPLACED = "overlap = replace"
"""What a cancel says that a run of the same job on another host asks for."""


class Member:
    """Made at the start of the agent; `obey` is its task once there is somebody to carry out what is told."""

    def __init__(self, table: Table, group: str, lease_s: float, *, on_lost: Callable[[str, str], None]) -> None:
        self.table = table
        self.stakes = Stakes(table, group, lease_s, on_lost=on_lost)
        self.told = Directives(None, {}, {})
        self.last_look: float | None = None  # CLOCK_MONOTONIC
        self._group = group
        self._obeyed: dict[str, str] = {}

    @property
    def maintenance(self) -> Mapping[str, str]:
        """Jobs that are not to run now, and why their runs are skipped, in words."""
        return {job: _under_maintenance(said) for job, said in self.told.maintenance.items()}

    def cancelled(self, run_id: str) -> str | None:
        """By whom, and why, a run is not to start; None where nobody said so."""
        directive = self.told.cancelled.get(run_id)
        return None if directive is None else _by(directive)

    async def replace(self, run_id: str, *, by: str) -> None:
        """Ask whichever host has this run to cancel it for the newer one `by`."""
        async for attempt in retrying(on_failure=lambda error, _: self.stakes.failed(error)):
            with attempt:
                await directives.cancel(self.table, self._group, run_id, by=f"run {by}", why=REPLACED, now=time.time())

    # -- what is told

    async def first_look(self, services: Services) -> None:
        """Before anything is received: a paused group stays paused over a restart. Without an answer nothing can be
        claimed either, so nothing starts."""
        try:
            async with asyncio.timeout(FIRST_LOOK_WITHIN_S):
                await self._look(services)
        except TimeoutError:
            log.warning(
                "fleet_table_unavailable",
                error=f"no answer within {FIRST_LOOK_WITHIN_S:.0f} s",
                detail="nothing is started until it answers; see network, proxy and VPC endpoint of DynamoDB",
            )

    async def obey(self, services: Services, operations: Operations) -> None:
        """Look every few seconds, and do what is told."""
        while True:
            await self._carry_out(services, operations)
            low, high = LOOK_EVERY_S
            await asyncio.sleep(low + random.random() * (high - low))  # noqa: S311 - jitter
            await self._look(services)

    async def _look(self, services: Services) -> None:
        try:
            self.told = await directives.read(self.table, self._group)
        except AwsUnavailable as error:
            self.stakes.failed(error)  # what was told last holds
            return
        self.stakes.answered()
        self.last_look = time.monotonic()
        paused = self.told.paused
        services.pausing.tell(
            "group", None if paused is None else Pause(f"{paused.by} for the whole group", paused.at, paused.why)
        )

    async def _carry_out(self, services: Services, operations: Operations) -> None:
        for run_id, directive in self.told.cancelled.items():
            if self._obeyed.get(run_id) == directive.number or not operations.has(run_id):
                continue
            self._obeyed[run_id] = directive.number
            if directive.why == REPLACED:
                run = services.roster.get(run_id)
                if run is not None and run.stopped is None:
                    services.spawn(run.stop("replace", f"by {directive.by}"), f"replace {run_id}")
            else:
                await operations.cancel(run_id, by=directive.by, note=directive.why[:200])
        self._obeyed = {run_id: number for run_id, number in self._obeyed.items() if run_id in self.told.cancelled}


def _under_maintenance(directive: Directive) -> str:
    """Why a run is skipped, in words."""
    words = f"under maintenance by {directive.by} since {format_time(directive.at)}"
    return f"{words}: {directive.why}" if directive.why else words


def _by(directive: Directive) -> str:
    return f"by {directive.by}: {directive.why}" if directive.why else f"by {directive.by}"
