"""What this host's executions hold in the fleet's table: each the claim of its run, and the lock of its job where the
job's `overlap` asks for one. Renewed while the run goes on, so that a host that dies frees both within their lease.

A stake is known by its execution, which is also its holder in the table: the agent that takes over after a crash
takes the same lease again, whatever its predecessor knew of tokens.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from runner.agent.lease import boottime
from runner.aws import leases
from runner.aws.backoff import pause, retrying
from runner.aws.leases import Held, Taken
from runner.errors import AwsUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    from runner.aws.table import Table
    from runner.protocol.job import Job

log = structlog.get_logger()

_TABLE_AWAY = "nothing is started meanwhile, what runs goes on; see [fleet] table, its region and permissions"

RETRY_S = 2.0
AT_ONCE = 8
# CLOCK_BOOTTIME may leap over a suspend while the loop's clock does not.
LONGEST_SLEEP_S = 30.0


@dataclass(frozen=True, slots=True)
class Clear:
    """The run is ours, and no other of its job is active where that matters."""


@dataclass(frozen=True, slots=True)
class Over:
    """The run has run to its end on another host."""

    def __str__(self) -> str:
        return "it has run to its end on another host"


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """Another host has the run."""

    def __str__(self) -> str:
        return "another host runs it"


@dataclass(frozen=True, slots=True)
class Busy:
    """Another run of the job is active in the fleet."""

    run_id: str

    def __str__(self) -> str:
        return f"run {self.run_id} of its job is active on another host"


@dataclass(frozen=True, slots=True)
class Away:
    """The table cannot be asked; `detail` says why."""

    detail: str

    def __str__(self) -> str:
        return f"cannot ask the fleet's table: {self.detail}"


Answer = Clear | Over | Elsewhere | Busy | Away


@dataclass(slots=True, eq=False)
class Stake:
    """`claim` and `lock` are None until the table has confirmed them. `until` and `due` are CLOCK_BOOTTIME."""

    execution: str
    run_id: str
    job: str
    locks: bool
    claim: Held | None = None
    lock: Held | None = None
    until: float = 0.0
    due: float = 0.0
    lost: bool = False


class Stakes:
    """`lease_s` is how long the table believes a host that says nothing. `on_lost` is told the execution, and why."""

    def __init__(self, table: Table, group: str, lease_s: float, *, on_lost: Callable[[str, str], None]) -> None:
        self._table = table
        self._group = group
        self._lease_s = lease_s
        self._on_lost = on_lost
        self._stakes: dict[str, Stake] = {}
        self._changed = asyncio.Event()
        self._places = asyncio.Semaphore(AT_ONCE)
        self.failing_since: float | None = None  # CLOCK_MONOTONIC
        self.failing_by = ""

    def __len__(self) -> int:
        return len(self._stakes)

    # -- in

    async def enter(self, execution: str, job: Job) -> Answer:
        """May this run start here? With Clear, and with Busy, its claim is held: `leave` gives it up."""
        stake = Stake(execution, job.run_id, job.job, locks=job.overlap != "allow")
        try:
            async with self._places:
                taken = await self._take(stake, self._lease_s)
        except AwsUnavailable as error:
            self.failed(error)
            return Away(str(error))
        self.answered()
        if stake.claim is None:
            return Over() if taken is not None and taken.done else Elsewhere()
        self._keep(stake)
        return Clear() if taken is None else Busy(taken.note)

    def resume(self, execution: str, job: Job) -> None:
        """An execution of the agent before us: its stake is taken again, by the renewals."""
        self._keep(Stake(execution, job.run_id, job.job, locks=job.overlap != "allow", until=boottime()))
        self._changed.set()

    async def _take(self, stake: Stake, lease_s: float) -> Taken | None:
        """Take, or renew, both parts for another lease; what was refused. The claim first: a copy of a message asks
        for the lock of a run that has it, or has had it."""
        began, now = boottime(), time.time()
        claim: Held | Taken
        if stake.claim is not None:
            claim = await leases.renew(self._table, stake.claim, lease_s, now=now)
        else:
            claim = await leases.claim_run(self._table, self._group, stake.run_id, stake.execution, lease_s, now=now)
        if isinstance(claim, Taken):
            return claim
        stake.claim = claim
        if stake.locks and isinstance(lock := await self._take_lock(stake, lease_s, now), Taken):
            return lock
        stake.until, stake.due = began + lease_s, began + lease_s / 3
        return None

    async def _take_lock(self, stake: Stake, lease_s: float, now: float) -> Held | Taken:
        if stake.lock is not None:
            lock = await leases.renew(self._table, stake.lock, lease_s, now=now)
        else:
            lock = await leases.lock_job(
                self._table, self._group, stake.job, stake.execution, stake.run_id, lease_s, now=now
            )
        if isinstance(lock, Held):
            stake.lock = lock
        return lock

    def _keep(self, stake: Stake) -> None:
        self._stakes[stake.execution] = stake
        if len(self._stakes) == 1:
            self._changed.set()

    # -- on

    async def renew_forever(self) -> None:
        """The renewal task; asleep while nothing is held."""
        while True:
            self._changed.clear()
            now = boottime()
            due = [stake for stake in self._stakes.values() if stake.due <= now and not stake.lost]
            if due:
                await asyncio.gather(*(self._renew(stake, self._lease_s) for stake in due))
                continue
            if not self._stakes:
                await self._changed.wait()
                continue
            following = min((stake.due for stake in self._stakes.values() if not stake.lost), default=now + 30.0)
            await pause(min(LONGEST_SLEEP_S, max(0.05, following - now)), self._changed)

    async def _renew(self, stake: Stake, lease_s: float) -> None:
        try:
            async with self._places:
                taken = await self._take(stake, lease_s)
        except AwsUnavailable as error:
            self.failed(error)
            now = boottime()
            stake.due = now + RETRY_S
            if now >= stake.until:
                self._lose(stake, f"the fleet's table was not reached for {self._lease_s:.0f}s: {error}")
            return
        self.answered()
        # What has left meanwhile is no loss: `leave` ended it.
        if taken is not None and stake.execution in self._stakes:
            self._lose(stake, "another host has taken it over in the fleet's table")

    def _lose(self, stake: Stake, why: str) -> None:
        stake.lost = True
        self._on_lost(stake.execution, why)

    async def extend(self, lease_s: float) -> None:
        """Hold everything for that long from now, before the agent goes away for a while; one try."""
        held = [stake for stake in self._stakes.values() if not stake.lost]
        await asyncio.gather(*(self._renew(stake, lease_s) for stake in held))

    # -- out

    async def leave(self, execution: str, *, again: bool) -> None:
        """Give up what an execution holds: `again`, for another to have it; else the run is over for good. Asks until
        the table has answered."""
        stake = self._stakes.pop(execution, None)
        if stake is None:
            return
        async for attempt in retrying(on_failure=self._leave_failed):
            with attempt:
                await self._leave(stake, again=again)
        self.answered()

    async def end(self, execution: str, job: Job, *, again: bool) -> None:
        """`leave` for an execution that ended under an agent before us."""
        self._stakes.setdefault(execution, Stake(execution, job.run_id, job.job, locks=job.overlap != "allow"))
        await self.leave(execution, again=again)

    async def _leave(self, stake: Stake, *, again: bool) -> None:
        if stake.claim is None and isinstance(await self._take(stake, self._lease_s), Taken) and stake.claim is None:
            return  # ended before, or another's by now
        if stake.lock is not None and await leases.release(self._table, stake.lock) is not None:
            stake.lock = None
        if stake.claim is not None:
            if again:
                await leases.release(self._table, stake.claim)
            else:
                await leases.finish_run(self._table, stake.claim, now=time.time())

    # -- how the table answers

    def answered(self) -> None:
        if self.failing_since is not None:
            log.warning("fleet_table_available_again", seconds=round(time.monotonic() - self.failing_since, 1))
        self.failing_since = None

    def failed(self, error: AwsUnavailable) -> None:
        if self.failing_since is None:
            self.failing_since = time.monotonic()
            log.warning("fleet_table_unavailable", error=str(error), detail=_TABLE_AWAY)
        self.failing_by = str(error)

    def _leave_failed(self, error: AwsUnavailable, _wait: float) -> None:
        self.failed(error)
