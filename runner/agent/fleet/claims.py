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

from runner.agent.clocks import boottime
from runner.agent.fleet.claim import Stake, Wish, new_stake
from runner.aws.backoff import pause, retrying
from runner.errors import AwsUnavailable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from runner.aws.table import Table
    from runner.protocol.job import Job

log = structlog.get_logger()

_TABLE_AWAY = "nothing is started meanwhile, what runs goes on; see [fleet] table, its region and permissions"

_TAKEN = "another host has taken it over in the fleet's table"
_ENDED_ELSEWHERE = "it has ended, and another host has its run in the fleet's table"

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
class Another:
    """The run id is that of a run of another job, or of the same one that was told to do something else."""

    job: str

    def __str__(self) -> str:
        return f"its run id is that of another run, of job {self.job}, on another host"


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


Answer = Clear | Over | Elsewhere | Another | Busy | Away


class Stakes:
    """`lease_s` is how long the table believes a host that says nothing. `on_lost` is told the execution, and why: once
    the table has said that another has what was its. `unready` says why nothing may be claimed, before it is asked for.
    """

    def __init__(
        self,
        table: Table,
        group: str,
        lease_s: float,
        *,
        on_lost: Callable[[str, str], None],
        unready: Callable[[], Awaitable[str | None]] | None = None,
    ) -> None:
        self._table = table
        self._group = group
        self._lease_s = lease_s
        self._on_lost = on_lost
        self._unready = unready
        self._stakes: dict[str, Stake] = {}
        self._changed = asyncio.Event()
        self._places = asyncio.Semaphore(AT_ONCE)
        self.failing_since: float | None = None  # CLOCK_MONOTONIC
        self.failing_by = ""

    # -- in

    async def enter(self, execution: str, job: Job, *, starts: bool = True) -> Answer:
        """May this run start here? With Clear, and with Busy, its claim is held: `leave` gives it up. With every other
        answer nothing is, or it is given up without a further word. One that is to be told without a start needs no
        lock of its job."""
        if self._unready is not None and (why := await self._unready()) is not None:
            return Away(why)
        locks = starts and job.overlap != "allow"
        before = self._stakes.get(execution)
        stake = self._stake(execution, job, locks=locks) if before is None else before
        async with stake.turn:
            stake.wish = Wish.HOLD
            if stake.lock is None and locks:
                stake.lock = self._stake(execution, job).lock
            self._stakes[execution] = stake
            try:
                async with self._places:
                    refused = await stake.ask(self._table, self._lease_s)
            except AwsUnavailable as error:
                self.failed(error)
                self._free_later(stake)
                return Away(str(error))
            self.answered()
            if stake.claim.held is None:
                self._free_later(stake)
                if refused is not None and another(stake.claim.note, refused.note):
                    return Another(refused.note.partition(" ")[0])
                return Over() if refused is not None and refused.done else Elsewhere()
            if refused is not None:
                stake.lock = None  # no renewal is to take it for a run that does not start
            self._changed.set()
            return Clear() if refused is None else Busy(refused.note)

    def resume(self, execution: str, job: Job) -> None:
        """An execution of the agent before us: its stake is taken again, by the renewals."""
        stake = self._stakes[execution] = self._stake(execution, job, unsure=True)
        stake.due = boottime()
        self._changed.set()

    def _stake(self, execution: str, job: Job, *, locks: bool | None = None, unsure: bool = False) -> Stake:
        locks = job.overlap != "allow" if locks is None else locks
        return new_stake(self._group, execution, job, locks=locks, unsure=unsure)

    def _free_later(self, stake: Stake) -> None:
        """It does not start now. What may be held of it is given up by the renewals, unless it is asked for again."""
        stake.wish = Wish.FREE
        if stake.claim.ours or (stake.lock is not None and stake.lock.ours):
            stake.due = boottime() + RETRY_S
            self._changed.set()
        else:
            self._stakes.pop(stake.execution, None)

    # -- on

    async def renew_forever(self) -> None:
        """The renewal task; asleep while nothing is held."""
        async with asyncio.TaskGroup() as tasks:
            while True:
                self._changed.clear()
                now = boottime()
                for stake in [stake for stake in self._stakes.values() if stake.due <= now]:
                    stake.due = float("inf")  # until it is done
                    tasks.create_task(self._attend(stake), name=f"stake of {stake.run_id}")
                following = min((stake.due for stake in self._stakes.values()), default=float("inf"))
                if following == float("inf"):
                    await self._changed.wait()
                else:
                    await pause(min(LONGEST_SLEEP_S, max(0.05, following - now)), self._changed)

    async def _attend(self, stake: Stake) -> None:
        """What is due: a renewal, or what was asked for and is not wanted any more."""
        try:
            if stake.wish is Wish.HOLD:
                await self._renew(stake, self._lease_s)
            else:
                await self._give_up(stake)
        except AwsUnavailable as error:
            self.failed(error)
            stake.due = boottime() + RETRY_S
        finally:
            self._changed.set()

    async def _renew(self, stake: Stake, lease_s: float) -> None:
        async with stake.turn:
            if stake.wish is not Wish.HOLD or self._stakes.get(stake.execution) is not stake:
                return  # it has left meanwhile
            if stake.until > boottime() + lease_s:
                stake.due = stake.until - lease_s * 2 / 3  # extended meanwhile, and not to be cut short
                return
            async with self._places:
                refused = await stake.renew(self._table, lease_s)
            self.answered()
            if refused is not None:
                self._lose(stake, _TAKEN)

    def _lose(self, stake: Stake, why: str) -> None:
        if not stake.told_lost:
            stake.told_lost = True
            self._on_lost(stake.execution, why)

    async def extend(self, lease_s: float) -> None:
        """Hold everything for that long from now, before the agent goes away for a while; one try."""
        held = [stake for stake in self._stakes.values() if stake.wish is Wish.HOLD]
        for done in await asyncio.gather(*(self._renew(stake, lease_s) for stake in held), return_exceptions=True):
            if isinstance(done, AwsUnavailable):
                self.failed(done)  # the renewals go on
            elif isinstance(done, BaseException):
                raise done

    # -- out

    async def leave(self, execution: str, *, again: bool) -> None:
        """Give up what an execution holds: `again`, for another to have it; else the run is over for good. Asks until
        the table has answered, or the execution is asked for again."""
        stake = self._stakes.get(execution)
        if stake is None:
            return
        stake.wish, stake.due = Wish.FREE if again else Wish.OVER, float("inf")
        async for attempt in retrying(on_failure=self._leave_failed):
            with attempt:
                await self._give_up(stake)

    async def end(self, execution: str, job: Job, *, again: bool) -> None:
        """`leave` for an execution that ended under an agent before us."""
        if execution not in self._stakes:
            self._stakes[execution] = self._stake(execution, job, unsure=True)
        await self.leave(execution, again=again)

    async def _give_up(self, stake: Stake) -> None:
        async with stake.turn:
            if stake.wish is Wish.HOLD or self._stakes.get(stake.execution) is not stake:
                return  # it is asked for again, or has left
            ours = await stake.give_up(self._table)
            del self._stakes[stake.execution]
            self.answered()
            if not ours:
                self._lose(stake, _ENDED_ELSEWHERE)

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


def another(mine: str, theirs: str) -> bool:
    """Whether two claims' notes (`Job.mark`) are of different runs. Where one is a declared job's and the other not,
    hosts are configured differently, and nobody can tell; one without a note is of an older version."""
    if not mine or not theirs:
        return False
    (job, _, told), (other, _, told_other) = mine.partition(" "), theirs.partition(" ")
    of_one_kind = told.partition(":")[0] == told_other.partition(":")[0]
    return job != other or (of_one_kind and told != told_other)
