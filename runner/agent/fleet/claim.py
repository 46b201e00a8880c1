"""What one execution holds in the fleet's table: the claim of its run, and the lock of its job where that matters.

The table's word is what counts, and a call whose answer was lost leaves open what that is: such a part is *unknown*
until a later call was answered, and is given up like one that is held. All of it is done by whoever has the stake's
`turn`: a renewal beside an end would take again what was just given up.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

from runner.agent.clocks import boottime
from runner.aws import leases
from runner.aws.leases import Held, Taken
from runner.protocol import table as keys

if TYPE_CHECKING:
    from runner.aws.table import Table
    from runner.protocol.job import Job


class Wish(Enum):
    """What is to become of a stake."""

    HOLD = "hold"
    FREE = "free"  # for another to have it
    OVER = "over"  # its run is never to run again


@dataclass(slots=True, eq=False)
class Part:
    """One lease: `held` as the table confirmed it last, `unsure` where it may be ours besides."""

    key: keys.Key
    note: str = ""
    keep_s: float = 0.0
    marked: bool = False  # the note says what it is a lease of, and that is never another's
    held: Held | None = None
    unsure: bool = False

    @property
    def ours(self) -> bool:
        """Whether the table may say so."""
        return self.unsure or self.held is not None

    async def take(self, table: Table, holder: str, lease_s: float) -> Taken | None:
        """Take or renew it for that long from now; what is there where it is another's."""
        now, held = time.time(), self.held
        self.held, self.unsure = None, True
        answer: Held | Taken | None = None
        if held is not None:
            answer = await leases.renew(table, held, lease_s, now=now)
        if not isinstance(answer, Held):
            # What ran out and what was given up is nobody's: it is taken again.
            answer = await leases.acquire(
                table, self.key, holder, lease_s, now=now, note=self.note, keep_s=self.keep_s, marked=self.marked
            )
        self.unsure = False
        if isinstance(answer, Taken):
            return answer
        self.held = answer
        return None

    async def release(self, table: Table, holder: str) -> None:
        """Another may have it. That it was not ours any more is the same."""
        if self.ours:
            await leases.release(table, self.held or Held(self.key, holder, 0, 0.0))
            self.held, self.unsure = None, False


@dataclass(slots=True, eq=False)
class Stake:
    """`until` and `due` are CLOCK_BOOTTIME: for how long the claim holds, and when there is something to be done.
    Every coroutine needs `turn`, which its caller has."""

    execution: str
    run_id: str
    job: str
    claim: Part
    lock: Part | None
    wish: Wish = Wish.HOLD
    until: float = 0.0
    due: float = float("inf")
    told_lost: bool = False
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def ask(self, table: Table, lease_s: float) -> Taken | None:
        """Claim, and lock only what is claimed: a copy of a message asks for the lock of a run that has it, or has had
        it. What was refused."""
        while True:
            began = boottime()
            refused = await self._take(table, self.claim, lease_s)
            if refused is None and self.lock is not None:
                refused = await self._take(table, self.lock, lease_s)
            # An answer that took as long as the lease says what was: others may have taken it since.
            if boottime() < began + lease_s:
                return refused

    async def renew(self, table: Table, lease_s: float) -> Taken | None:
        """Both parts, each for itself: a run that lost one goes on, and so does the other. What was refused."""
        refused = await self._take(table, self.claim, lease_s)
        if self.lock is not None:
            refused = await self._take(table, self.lock, lease_s) or refused
        return refused

    async def _take(self, table: Table, part: Part, lease_s: float) -> Taken | None:
        began = boottime()
        refused = await part.take(table, self.execution, lease_s)
        if part is self.claim:
            self.until, self.due = began + lease_s, began + lease_s / 3
        return refused

    async def give_up(self, table: Table) -> bool:
        """As it is wished; False where the run's end is another's to say, since that one has its claim."""
        if self.lock is not None:
            await self.lock.release(table, self.execution)
        if self.wish is Wish.FREE:
            await self.claim.release(table, self.execution)
            return True
        claim = self.claim.held or Held(self.claim.key, self.execution, 0, 0.0)
        return await leases.finish_run(table, claim, now=time.time())


def new_stake(group: str, execution: str, job: Job, *, locks: bool, unsure: bool = False) -> Stake:
    """`unsure`: an agent before us may have taken it."""
    run_id = job.run_id
    claim = Part(keys.claim(group, run_id), note=job.mark(), keep_s=keys.CLAIM_KEPT_S, marked=True, unsure=unsure)
    lock = Part(keys.lock(group, job.job), note=run_id, unsure=unsure) if locks else None
    return Stake(execution, run_id, job.job, claim, lock)
