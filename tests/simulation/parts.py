"""The stubs of what an agent has in its own process beside the loop: the journal's threads, and the shipper."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Any

from runner.agent.runs.output import OutputReport
from tests.simulation.virtual import CLOCK

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.simulation.life import Life

A_MOMENT = 1e-9


class Database:
    """Stands in for journal/database.py's Database: the same classes, each in its own order, on the host's disk."""

    blocked_since = None
    blocked_by = ""

    def __init__(self, life: Life) -> None:
        self._world, self._host = life.world, life.host
        self._loop = life.world.loop
        self.begun = 0
        self.remembered: Callable[[], list[Any]] = list
        self._unflushed: list[tuple[list[Any], asyncio.TimerHandle]] = []
        self._gathered: dict[str, list[Any]] = {"durable": [], "now": [], "lazy": [], "told": []}
        self._last = dict.fromkeys(self._gathered, 0.0)
        self._flushed = 0.0
        self._flushes = 0

    @property
    def progress(self) -> float:
        return CLOCK.mono

    def write(self, *statements: Any, when: str = "durable") -> asyncio.Future[Any]:
        return self._gather(statements, when)

    def call(self, work: Callable[[Any], Any], *, when: str = "durable") -> asyncio.Future[Any]:
        return self._gather(work, when)

    def _gather(self, work: Any, when: str) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = self._loop.create_future()
        self._gathered[when].append((work, future))
        if len(self._gathered[when]) == 1:
            wait = {"now": 0.0, "told": 0.0, "durable": 0.02, "lazy": 0.25}[when]
            self._loop.call_later(wait, self._hand_over, when)
        return future

    def _hand_over(self, when: str) -> None:
        items, self._gathered[when] = self._gathered[when], []
        if items:
            self._last[when] = max(self._last[when], CLOCK.mono + self._world.one_of((0, 0.002, 0.03))) + A_MOMENT
            self._loop.call_at(self._last[when], self._commit, items, when)

    def _commit(self, items: list[Any], when: str) -> None:
        results, number = self._host.commit([work for work, _ in items])
        self._settle_or_flush(items, results, number, when)

    def _settle_or_flush(self, items: list[Any], results: list[Any], number: int, when: str) -> None:
        if when == "durable" or (when == "told" and self._flushes):
            self._flushes += 1
            self._flushed = max(self._flushed, CLOCK.mono + self._world.one_of((0.001, 0.04))) + A_MOMENT
            flush = self._loop.call_at(self._flushed, self._flush, number, items, results)
            self._unflushed.append((items, flush))
        else:
            self._loop.call_soon(_settle, items, results)

    def _flush(self, number: int, items: list[Any], results: list[Any]) -> None:
        self._host.flush(number)
        self._flushes -= 1
        del self._unflushed[0]
        _settle(items, results)

    def begin_anew(self) -> None:
        """The journal was put aside. The new one has what the agent knows, and what nobody has been told of yet."""
        self.begun += 1
        again, self._unflushed, self._flushes = self._unflushed, [], 0
        self._commit([(tuple(self.remembered()), self._loop.create_future())], "durable")
        for items, flush in again:
            flush.cancel()
            self._commit(items, "durable")

    async def close(self) -> None:
        """What was handed in is committed, and flushed."""
        for when, items in self._gathered.items():
            if items:
                self._gathered[when] = []
                self._commit(items, when)
        await asyncio.sleep(1.0)


def _settle(items: list[Any], results: list[Any]) -> None:
    for (_, future), result in zip(items, results, strict=True):
        if not future.done():
            future.set_result(result)


class Shipper:
    """Stands in for runner.agent.output.shipper.Shipper. There is no output; how long it takes to arrive is drawn."""

    def __init__(self, life: Life) -> None:
        self._world = life.world
        self.open_: dict[str, bool] = {}
        self.followed = ()  # no output has a place that it is shipped up to

    def open(self, tag: Any, **_: object) -> int:
        if self._world.disk_full or self._world.goes_wrong(0.04):
            raise OSError(28, "No space left on device")
        self.open_[tag.key] = self._world.chance(0.7)
        return os.open(os.devnull, os.O_RDWR)

    def learn(self, key: str, _secrets: object = ()) -> None:
        assert key in self.open_, key

    async def resume(self, tag: Any, **_: object) -> None:
        await asyncio.sleep(0.001)
        self.open_[tag.key] = False

    def grew(self, _sizes: object) -> None:
        """Nothing is written."""

    def use(self, _change: object) -> None:
        """There are no sinks."""

    async def finish(self, key: str, _end: object, *, within: float = 5.0) -> OutputReport:
        assert key in self.open_, key
        await asyncio.sleep(self._world.one_of((0, 0.01, 0.5, within)) if within else 0)
        return OutputReport(0, 0, 0, truncated=False, tail="", failed_on=None, missing=None, lines=0)

    async def settled(self, _key: str) -> None:
        await asyncio.sleep(self._world.one_of((0, 1.0, 9.0)))

    def has_settled(self, key: str) -> bool:
        return self.open_.get(key, True)

    def forget(self, key: str) -> None:
        self.open_.pop(key, None)

    def backlog(self) -> int:
        return 0

    def destination(self, *_: object) -> None:
        return None

    async def run(self) -> None:
        await asyncio.Event().wait()
