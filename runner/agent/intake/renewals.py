"""Leases: the agent's hold on the messages it has received.

One keeper renews, deletes and hands back for all messages, in batches of ten. Time is CLOCK_BOOTTIME: it goes on
while a host is suspended, as SQS's own clock does, and no clock jump moves it.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import structlog

from runner.agent.clocks import boottime
from runner.agent.runs.lease import TAKE_OVER_S, extension
from runner.aws.backoff import retrying
from runner.errors import AwsUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from runner.agent.runs.lease import Lease
    from runner.aws.sqs import Queue

log = structlog.get_logger()

BATCH = 10
RETRY_S = 1.0
LINGER_S = 0.05
# The clock leaps over a suspend while the loop's does not.
LOOK_S = 30.0
# Leases that are due so shortly after one another (of their visibility) wait for the last: one look, full batches.
GATHER = 1 / 100


class LeaseKeeper:
    """Renews what is held, deletes what is done, hands back what is not wanted.

    `on_lost(lease, why)` and `on_limit(lease)` are called on the event loop, once each per hold.
    `on_renewed(leases)` gets every batch that SQS granted, for the journal.
    """

    def __init__(
        self,
        queue: Queue,
        visibility: float,
        *,
        on_lost: Callable[[Lease, str], None],
        on_limit: Callable[[Lease], None],
        on_renewed: Callable[[list[Lease]], object],
        clock: Callable[[], float] = boottime,
    ) -> None:
        self.visibility = visibility
        self._queue = queue
        self._on_lost = on_lost
        self._on_limit = on_limit
        self._on_renewed = on_renewed
        self._clock = clock
        self._held: dict[str, Lease] = {}  # by message id
        self._limited: set[str] = set()
        self.looks_at = float(
            "-inf"
        )  # when the renewal task looks at them by itself; while it is at it: no need to wake
        self._deleting: set[str] = set()  # receipts whose deletion SQS has been asked for, and may have made
        self._deletions: list[tuple[str, asyncio.Future[None]]] = []
        self._wake_renewal = asyncio.Event()
        self._wake_deletion = asyncio.Event()
        self._full_batch = asyncio.Event()
        self.renewed = 0
        self.lost = 0

    def hold(self, lease: Lease) -> None:
        """Keep renewing this lease until it is deleted, released or dropped. A message has one: the newest."""
        self._held[lease.message_id] = lease
        self._limited.discard(lease.message_id)
        if min(lease.due(), lease.taken + TAKE_OVER_S) < self.looks_at:
            self._wake_renewal.set()

    @property
    def holding(self) -> int:
        """How many messages are held."""
        return len(self._held)

    def drop(self, lease: Lease) -> None:
        """Renew it no more; its message comes back by itself."""
        if self._held.get(lease.message_id) is lease:
            del self._held[lease.message_id]
            self._limited.discard(lease.message_id)

    def delete(self, receipt: str) -> asyncio.Future[None]:
        """Delete a message, retried for ever; resolves when SQS has accepted it or no longer knows the receipt."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._deletions.append((receipt, future))
        self._wake_deletion.set()
        if len(self._deletions) >= BATCH:
            self._full_batch.set()
        return future

    async def delete_held(self, lease: Lease) -> None:
        """Delete the message of a lease, then let go of it. One that was received again while that was under way is
        deleted by its newest receipt: SQS keeps it, whatever it answered to the older one."""
        receipt = None
        while receipt != lease.receipt:
            receipt = lease.receipt
            await self.delete(receipt)
        self.drop(lease)

    async def release(self, leases: Iterable[Lease], delay: float) -> None:
        """Hand messages back, to be received again by anyone after `delay` seconds. One try: SQS does it anyway."""
        await self._extend_once(list(leases), delay, release=True)

    async def extend(self, leases: Iterable[Lease], seconds: float) -> None:
        """Hold messages for `seconds` from now, before the agent goes away for a while."""
        await self._extend_once(list(leases), seconds, release=False)

    async def _extend_once(self, leases: list[Lease], seconds: float, *, release: bool) -> None:
        now = self._clock()
        for lease in leases:
            if release:
                self.drop(lease)
        for batch in _tens(leases):
            wanted = [(lease.receipt, int(seconds) if release else extension(lease, now, seconds)) for lease in batch]
            try:
                failed = await self._queue.extend(wanted)
            except AwsUnavailable as error:
                log.warning("lease_change_failed", messages=len(batch), seconds=seconds, error=str(error))
                continue
            bad = {failure.index for failure in failed}
            granted = [lease for index, lease in enumerate(batch) if index not in bad]
            if not release:
                for lease in granted:
                    lease.until = now + extension(lease, now, seconds)
                self._on_renewed(granted)

    # -- renewal

    async def renew_forever(self) -> None:
        """The renewal task. What failed is tried again, at most one call a second, until the lease runs out."""
        while True:
            self._wake_renewal.clear()
            now = self._clock()
            self.looks_at = float("-inf")
            due, first = self._look(now)
            if due:
                await self._renew(sorted(due, key=lambda lease: lease.until))
                continue
            self.looks_at = min(now + LOOK_S, max(first, now + self.visibility * GATHER))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.looks_at - now):
                    await self._wake_renewal.wait()

    def _look(self, now: float) -> tuple[list[Lease], float]:
        """Those to be renewed now, and when the first of the others is; what has passed is said."""
        due, first = [], float("inf")
        for lease in list(self._held.values()):
            if not lease.lost and lease.until <= now:
                self._lose(lease, f"not renewed for {lease.visibility:.0f}s")
            elif now - lease.taken >= TAKE_OVER_S and lease.message_id not in self._limited:
                self._limited.add(lease.message_id)
                self._on_limit(lease)
            if lease.lost or self._held.get(lease.message_id) is not lease:
                continue  # whoever was told may have let go of it
            if (moment := lease.due()) <= now:
                due.append(lease)
            else:
                first = min(first, moment)
        return due, first

    def _lose(self, lease: Lease, why: str) -> None:
        if lease.receipt in self._deleting:
            # Nobody wants it any more: SQS has made the deletion whose answer was lost, or will make the next one.
            self.drop(lease)
            return
        lease.lost = True
        self.lost += 1
        self._on_lost(lease, why)

    async def _renew(self, due: list[Lease]) -> None:
        """Renew these; a second passes after each call that failed, as a whole or in part."""
        for batch in _tens(due):
            answered = True
            # The lease counts from before the call: SQS may have granted it at any moment since.
            started = self._clock()
            wanted = [(lease.receipt, extension(lease, started, self.visibility)) for lease in batch]
            receipts = [lease.receipt for lease in batch]
            try:
                failed = {failure.index: failure for failure in await self._queue.extend(wanted)}
            except AwsUnavailable as error:
                log.warning("lease_renewal_failed", messages=len(batch), error=str(error))
                await asyncio.sleep(RETRY_S)
                continue
            granted = []
            for index, lease in enumerate(batch):
                failure = failed.get(index)
                if lease.receipt != receipts[index]:
                    continue  # a redelivery changed the receipt meanwhile; that one carries its own time
                if failure is None:
                    lease.until = started + wanted[index][1]
                    lease.visibility = self.visibility
                    granted.append(lease)
                elif failure.gone and self._held.get(lease.message_id) is lease:
                    self._lose(lease, f"SQS refused the renewal: {failure.code}")
                elif not failure.gone:
                    answered = False
            if granted:
                self.renewed += len(granted)
                self._on_renewed(granted)
            await asyncio.sleep(0 if answered else RETRY_S)

    # -- deletion

    async def delete_forever(self) -> None:
        """The deletion task: natural batches, since what arrives during one call goes with the next."""
        while True:
            await self._wake_deletion.wait()
            if len(self._deletions) < BATCH:
                # A moment for the rest of a batch; the messages are invisible meanwhile.
                self._full_batch.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(LINGER_S):
                        await self._full_batch.wait()
            batch, self._deletions = self._deletions[:BATCH], self._deletions[BATCH:]
            if not self._deletions:
                self._wake_deletion.clear()
            if batch:
                await self._delete(batch)

    async def _delete(self, batch: list[tuple[str, asyncio.Future[None]]]) -> None:
        self._deleting.update(receipt for receipt, _ in batch)
        async for attempt in retrying(on_failure=self._delete_failed):
            with attempt:
                failures = {f.index: f for f in await self._queue.delete([receipt for receipt, _ in batch])}
        for index, (receipt, future) in enumerate(batch):
            failure = failures.get(index)
            if failure is None or failure.gone:
                self._deleting.discard(receipt)
            if failure is not None and not failure.gone:
                self._deletions.append((receipt, future))
                self._wake_deletion.set()
            elif not future.done():
                future.set_result(None)

    def _delete_failed(self, error: AwsUnavailable, wait: float) -> None:
        log.warning("delete_failed", error=str(error), retry_in=round(wait, 1))


def _tens(leases: list[Lease]) -> Iterable[list[Lease]]:
    for start in range(0, len(leases), BATCH):
        yield leases[start : start + BATCH]
