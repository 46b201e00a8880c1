"""This host as a member of its fleet: what it holds in the fleet's table, and what it is told there.

Directives are switches in the table: a pause of the whole group, runs to cancel, jobs under maintenance. Every few
seconds one small query shows whether they are others than before, and only then they are read. Nothing is claimed on
older word than that. Who turned them on, and why, goes into the log and into the events that follow.
"""

from __future__ import annotations

import asyncio
import random
import time
from typing import TYPE_CHECKING, Protocol

import structlog

from runner.agent.fleet.claims import Stakes
from runner.agent.runs.pause import Pause
from runner.aws import directives, leases
from runner.aws.backoff import retrying
from runner.aws.directives import Directive, Directives
from runner.errors import AwsUnavailable
from runner.protocol.units import format_time

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from runner.aws.table import Table

    class Pausing(Protocol):
        """Takes what the fleet says of this host's pause."""

        def tell(self, source: str, pause: Pause | None) -> None: ...

    class Orders(Protocol):
        """Carries out what is told of runs."""

        def has(self, run_id: str) -> bool: ...

        async def cancel(self, run_id: str, *, by: str, note: str = "") -> object: ...

        def replace(self, run_id: str, *, by: str) -> None: ...


log = structlog.get_logger()

LOOK_EVERY_S = (4.0, 6.0)
FIRST_LOOK_WITHIN_S = 5.0
# What is told holds for so long: a look or two may fail. What is claimed on older word might be paused by now.
FRESH_S = 15.0
# A change by a command of an older version has no number.
READ_ALL_EVERY_S = 60.0
_NOT_READ = "they are no directives of this version, and nothing is done about them; see who writes into the table"
REPLACED = "overlap = replace"
"""What a cancel says that a run of the same job on another host asks for."""


class Member:
    """Made at the start of the agent; `obey` is its task once there is somebody to carry out what is told."""

    def __init__(self, table: Table, group: str, lease_s: float, *, on_lost: Callable[[str, str], None]) -> None:
        self.table = table
        self.stakes = Stakes(table, group, lease_s, on_lost=on_lost, unready=self._unready)
        self.told = Directives(None, {}, {})
        self.last_look: float | None = None  # CLOCK_MONOTONIC
        self._group = group
        self._pausing: Pausing | None = None
        self._obeyed: dict[str, str] = {}
        self._asked_to_go: set[str] = set()
        self._looking = asyncio.Lock()
        self._tried = 0.0  # CLOCK_MONOTONIC, the end of the last try of a look
        self._number: str | None = None
        self._read: float | None = None  # CLOCK_MONOTONIC, when the directives were read

    @property
    def maintenance(self) -> Mapping[str, str]:
        """Jobs that are not to run now, and why their runs are skipped, in words."""
        now = time.time()
        return {job: _under_maintenance(said) for job, said in self.told.maintenance.items() if said.holds(now)}

    def cancelled(self, run_id: str) -> str | None:
        """By whom, and why, a run is not to start; None where nobody said so."""
        directive = self.told.cancelled.get(run_id)
        return None if directive is None else _by(directive)

    async def leave(self, execution: str, run_id: str, *, again: bool) -> None:
        """`Stakes.leave`; and with the run goes the word that it was to be cancelled, after its claim, which alone
        keeps a copy from running then."""
        await self.stakes.leave(execution, again=again)
        if not again and run_id in self.told.cancelled:
            await self._forget_cancel(run_id)

    async def replace(self, run_id: str, *, by: str) -> None:
        """Ask whichever host has this run to cancel it for the newer one `by`."""
        self._asked_to_go.add(run_id)
        async for attempt in retrying(on_failure=self._failed):
            with attempt:
                await directives.cancel(self.table, self._group, run_id, by=f"run {by}", why=REPLACED, now=time.time())
        if run_id not in self._asked_to_go:
            await self._forget_where_over(run_id)  # it has gone before the word was written

    async def replaced(self, run_id: str) -> None:
        """A run that may have been asked to go is gone."""
        if run_id in self._asked_to_go:
            self._asked_to_go.discard(run_id)
            await self._forget_where_over(run_id)

    async def over(self, run_id: str) -> None:
        """A copy found that its run is over: the word is of no use any more."""
        if run_id in self.told.cancelled:
            await self._forget_cancel(run_id)

    async def _forget_where_over(self, run_id: str) -> None:
        """One that was interrupted instead may come again, to be cancelled then."""
        over = False
        async for attempt in retrying(on_failure=self._failed):
            with attempt:
                over = await leases.run_is_over(self.table, self._group, run_id)
        if over:
            await self._forget_cancel(run_id)

    async def _forget_cancel(self, run_id: str) -> None:
        async for attempt in retrying(on_failure=self._failed):
            with attempt:
                await directives.forget_cancel(self.table, self._group, run_id)

    def _failed(self, error: AwsUnavailable, _wait: float) -> None:
        self.stakes.failed(error)

    # -- what is told

    async def first_look(self, pausing: Pausing) -> None:
        """Before anything is received: a paused group stays paused over a restart. Without an answer nothing is
        claimed, so nothing starts."""
        self._pausing = pausing
        try:
            async with asyncio.timeout(FIRST_LOOK_WITHIN_S):
                await self._look(pausing)
        except TimeoutError:
            log.warning(
                "fleet_table_unavailable",
                error=f"no answer within {FIRST_LOOK_WITHIN_S:.0f} s",
                detail="nothing is started until it answers; see network, proxy and VPC endpoint of DynamoDB",
            )

    async def obey(self, pausing: Pausing, orders: Orders) -> None:
        """Look every few seconds, and do what is told."""
        self._pausing = pausing
        while True:
            await self._carry_out(orders)
            low, high = LOOK_EVERY_S
            await asyncio.sleep(low + random.random() * (high - low))  # noqa: S311 - jitter
            # An idle host does little else: by the cheaper read, which a change may escape until the next look.
            await self._look(pausing, consistent=False)

    async def _unready(self) -> str | None:
        """Why nothing may be claimed: what is told is not known as of now. Looks where it is not."""
        if not self._fresh and self._pausing is not None:
            await self._look(self._pausing)
        if self._fresh:
            return None
        return (
            f"what it says to cancel, to pause and to maintain is not known: {self.stakes.failing_by or 'not read yet'}"
        )

    @property
    def _fresh(self) -> bool:
        return self.last_look is not None and time.monotonic() - self.last_look < FRESH_S

    async def _look(self, pausing: Pausing, *, consistent: bool = True) -> None:
        """One look at a time, of which the last one's word holds; who waited for one that failed need not try again."""
        asked = time.monotonic()
        async with self._looking:
            if self._tried > asked:
                return
            try:
                await self._see(consistent=consistent)
            except AwsUnavailable as error:
                self.stakes.failed(error)  # what was told last holds
                return
            finally:
                self._tried = time.monotonic()
            self.stakes.answered()
        paused = self.told.paused
        if paused is not None and not paused.holds(time.time()):
            paused = None
        pausing.tell(
            "group",
            None
            if paused is None
            else Pause(f"{paused.by} for the whole group", paused.at, paused.why, until=paused.until),
        )

    async def _see(self, *, consistent: bool) -> None:
        began = time.monotonic()
        number = await directives.number(self.table, self._group, consistent=consistent)
        if self._read is None or number != self._number or began - self._read >= READ_ALL_EVERY_S:
            told = await directives.read(self.table, self._group)
            if told.unread and told.unread != self.told.unread:
                log.warning("fleet_items_not_read", items=told.unread[:10], count=len(told.unread), detail=_NOT_READ)
            self.told = told
            self._number, self._read = number, began
        self.last_look = began

    async def _carry_out(self, orders: Orders) -> None:
        for run_id, directive in self.told.cancelled.items():
            if self._obeyed.get(run_id) == directive.number or not orders.has(run_id):
                continue
            self._obeyed[run_id] = directive.number
            if directive.why == REPLACED:
                orders.replace(run_id, by=directive.by)
            else:
                await orders.cancel(run_id, by=directive.by, note=directive.why[:200])
        self._obeyed = {run_id: number for run_id, number in self._obeyed.items() if run_id in self.told.cancelled}


def _under_maintenance(directive: Directive) -> str:
    """Why a run is skipped, in words."""
    words = f"under maintenance by {directive.by} since {format_time(directive.at)}"
    if directive.until is not None:
        words += f" until {format_time(directive.until)}"
    return f"{words}: {directive.why}" if directive.why else words


def _by(directive: Directive) -> str:
    return f"by {directive.by}: {directive.why}" if directive.why else f"by {directive.by}"
