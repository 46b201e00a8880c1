"""A queue that does what a test says: for what no stand-in can be brought to do at a given moment."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from runner.aws.sqs import Failed, Outgoing
from runner.errors import AwsUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

# How a call ends: the entries that it refuses, or an error of the call as a whole.
Answer = list[Failed] | AwsUnavailable


def away(code: str = "ConnectFailed") -> AwsUnavailable:
    return AwsUnavailable("Any", code, "scripted", "unreachable")


@dataclass
class ScriptedQueue:
    """Answers call after call as `answers` say, then takes everything; keeps what it was asked.

    `judge` looks at every body that is sent, and returns why it is refused.
    """

    fifo: bool = False
    answers: deque[Answer] = field(default_factory=deque)
    extended: list[list[tuple[str, float]]] = field(default_factory=list)
    deleted: list[list[str]] = field(default_factory=list)
    offered: list[list[Outgoing]] = field(default_factory=list)
    taken: list[Outgoing] = field(default_factory=list)
    judge: Callable[[Outgoing], Failed | None] = lambda _: None

    async def extend(self, entries: Sequence[tuple[str, float]]) -> list[Failed]:
        self.extended.append(list(entries))
        return await self._answer()

    async def delete(self, receipts: Sequence[str]) -> list[Failed]:
        self.deleted.append(list(receipts))
        return await self._answer()

    async def send(self, entries: Sequence[Outgoing]) -> list[Failed]:
        self.offered.append(list(entries))
        failed = await self._answer()
        for index, entry in enumerate(entries):
            if (fault := self.judge(entry)) is not None:
                failed.append(Failed(index, fault.code, fault.sender_fault, fault.detail))
        refused = {failure.index for failure in failed}
        self.taken += [entry for index, entry in enumerate(entries) if index not in refused]
        return failed

    async def _answer(self) -> list[Failed]:
        await asyncio.sleep(0)
        answer = self.answers.popleft() if self.answers else []
        if isinstance(answer, AwsUnavailable):
            raise answer
        return list(answer)
