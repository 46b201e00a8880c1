"""The stubs of SQS: the job queue with its receipts, its visibility and its twelve hours; the results queue; the
dead-letter queue."""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING, Any

from runner.aws.sqs import Failed, Received
from runner.errors import AwsUnavailable
from tests.simulation import checkers
from tests.simulation.virtual import CLOCK, EPOCH

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from runner.aws.sqs import Outgoing
    from tests.simulation.life import Life
    from tests.simulation.world import Message

LIMIT_S = 12 * 3600.0


class JobQueue:
    """Stands in for runner.aws.sqs.Queue, for one agent."""

    label = "jobs"

    def __init__(self, life: Life) -> None:
        self._life, self._world = life, life.world
        self.fifo = life.world.kind.fifo

    async def _ask(self, action: str) -> None:
        await asyncio.sleep(self._world.one_of((0.001, 0.01, 0.2)))
        if self._world.goes_wrong(0.08):
            raise AwsUnavailable(action, "ServiceUnavailable", "simulated")

    async def _answer(self, action: str) -> None:
        await asyncio.sleep(0.01)
        if self._world.goes_wrong(0.05):
            raise AwsUnavailable(action, "ConnectionReset", "the answer was lost")

    async def receive(self, count: int, wait: float, visibility: float) -> list[Received]:
        asked = time.clock_gettime(time.CLOCK_BOOTTIME)
        await self._ask("ReceiveMessage")
        until = CLOCK.mono + wait
        while not (ready := self._visible(count)) and not self._world.copies and CLOCK.mono < until:
            await asyncio.sleep(min(0.1, until - CLOCK.mono) if self._next_due() < until else until - CLOCK.mono)
        for message in ready:
            checkers.may_come_again(self._world, self._life, message)
        if len(ready) < count:
            ready += self._copies()
        received = [self._hold(message, visibility, asked) for message in ready]
        if received:
            self._world.note("received", *(one.receipt for one in received))
        await self._answer("ReceiveMessage")
        for message in ready:
            message.keeper = self._life.name
        return received

    def _next_due(self) -> float:
        # What is sent while a poll waits is found by the next one: sends are rare, and polls short.
        return min((message.due for message in self._world.messages.values()), default=CLOCK.mono + 1e9)

    def _visible(self, count: int) -> list[Message]:
        held = {message.group for message in self._world.messages.values() if message.due > CLOCK.mono}
        found = [
            message
            for message in self._world.messages.values()
            if message.due <= CLOCK.mono and not (self.fifo and message.group in held)
        ]
        return found[:count]

    def _copies(self) -> list[Message]:
        """A standard queue delivers at least once: now and then one that somebody holds comes again all the same."""
        copies, self._world.copies = self._world.copies, []
        if copies or self.fifo or not self._world.goes_wrong(0.03):
            return copies
        held = [message for message in self._world.messages.values() if message.due > CLOCK.mono and message.count]
        return [self._world.one_of(held)] if held else []

    def _hold(self, message: Message, visibility: float, asked: float) -> Received:
        message.count += 1
        message.receipt += 1
        message.keeper = None
        message.held, message.due = CLOCK.mono, CLOCK.mono + visibility
        sent = EPOCH + 1000.0
        receipt, arrived = f"{message.id}:{message.receipt}", time.clock_gettime(time.CLOCK_BOOTTIME)
        return Received(message.id, receipt, message.body, message.count, sent, message.group, asked, arrived)

    async def extend(self, entries: Sequence[tuple[str, int]]) -> list[Failed]:
        try:
            return await self._extend(entries)
        except AwsUnavailable:
            for receipt, _ in entries:
                self._let_go(self._world.messages.get(receipt.partition(":")[0]))
            raise

    def _let_go(self, message: Message | None) -> None:
        """It may come again to whom it is held by."""
        if message is not None:
            message.keeper = None

    async def _extend(self, entries: Sequence[tuple[str, int]]) -> list[Failed]:
        await self._ask("ChangeMessageVisibilityBatch")
        failed = []
        for index, (receipt, seconds) in enumerate(entries):
            _, message = self._world.held_by(receipt)
            if seconds != int(self._world.kind.visibility):  # it is handed back, or will come after the agent has gone
                self._let_go(message)
            if message is None or message.due <= CLOCK.mono:
                failed.append(Failed(index, "ReceiptHandleIsInvalid", sender_fault=True, gone=True))
            elif CLOCK.mono + seconds > message.held + LIMIT_S:
                failed.append(Failed(index, "InvalidParameterValue", sender_fault=True, gone=True))
            else:
                message.due = CLOCK.mono + seconds
        await self._answer("ChangeMessageVisibilityBatch")
        return failed

    async def delete(self, receipts: Sequence[str]) -> list[Failed]:
        await self._ask("DeleteMessageBatch")
        for receipt in receipts:
            name, message = self._world.held_by(receipt)
            if message is not None:
                checkers.may_delete(self._world, self._life, message)
                del self._world.messages[name]
                self._world.deleted.add(name)
                self._world.note("deleted", name)
        await self._answer("DeleteMessageBatch")
        if self._world.deletions_unanswered:
            raise AwsUnavailable("DeleteMessageBatch", "ConnectionReset", "the answer was lost")
        return []


class ResultsQueue:
    """Stands in for the Queue that events go to."""

    fifo = False
    label = "results"

    def __init__(self, life: Life) -> None:
        self._world = life.world

    async def send(self, batch: Sequence[Outgoing]) -> list[Failed]:
        world = self._world
        await asyncio.sleep(world.one_of((0.001, 0.01, 0.2)))
        if world.results_away or world.goes_wrong(0.08):
            raise AwsUnavailable("SendMessageBatch", "ServiceUnavailable", "simulated")
        for entry in batch:
            event: dict[str, Any] = json.loads(entry.body)
            world.note("delivered", event["id"], event["data"].get("outcome", ""))
            world.deliver(event)
        await asyncio.sleep(0.01)
        if world.goes_wrong(0.05):
            raise AwsUnavailable("SendMessageBatch", "ConnectionReset", "the answer was lost")
        return []


class DeadLetters:
    """Stands in for runner.agent.intake.dead_letters.DeadLetters."""

    def __init__(self, life: Life) -> None:
        self._world = life.world

    async def send(self, message: Received, *, crowded: Callable[[], bool] = lambda: False) -> bool:
        await asyncio.sleep(self._world.one_of((0.001, 0.2, 2.0)))
        while self._world.dead_letters_away:
            await asyncio.sleep(1.0)
        self._world.buried.add(message.message_id)
        return not crowded()
