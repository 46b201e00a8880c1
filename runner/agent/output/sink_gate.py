"""The way into a sink: so many batches at once, and in an outage one try at a time for all streams together.

A stream whose batch was not taken waits by itself. When nothing at all is taken any more, all wait together: 500
running jobs are 500 streams, which would else knock at a service that is away many times a second.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from typing import TYPE_CHECKING

from runner.aws.backoff import delay
from runner.errors import AwsUnavailable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

# What is wrong with one stream or one request says nothing about the others.
_OF_ONE_STREAM = frozenset({"refused", "missing", "denied"})
# So many failures in a row, of any streams, are an outage; fewer are a service that drops some calls.
OUTAGE_AFTER = 5


class Gate:
    """Shared by all channels of a sink; `draw` gives random numbers in [0, 1)."""

    def __init__(self, parallel: int, *, draw: Callable[[], float] = random.random) -> None:
        self._free = asyncio.Semaphore(parallel)
        self._entering = asyncio.Lock()  # two that wait for two places each would wait for each other
        self._of_large = min(2, parallel)
        self._trying = asyncio.Lock()
        self._failures = 0
        self._until = 0.0
        self._draw = draw

    @contextlib.asynccontextmanager
    async def turn(self, closing: asyncio.Event, *, large: bool = False) -> AsyncIterator[None]:
        """Wait for a place, and while the sink is away for the next try; `closing` cuts that wait short.

        A large batch takes two places: it is the batches in flight that make up the agent's memory.
        """
        places = self._of_large if large else 1
        taken = 0
        try:
            async with self._entering:
                while taken < places:
                    await self._free.acquire()
                    taken += 1
            if not self.away:
                yield
                return
            async with self._trying:
                await self._wait(closing)
                yield
        finally:
            for _ in range(taken):
                self._free.release()

    async def _wait(self, closing: asyncio.Event) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(self._until):
                await closing.wait()

    @property
    def away(self) -> bool:
        """Whether nothing has been taken for so long that all streams wait together."""
        return self._failures >= OUTAGE_AFTER

    def succeeded(self) -> None:
        self._failures = 0

    def failed(self, error: Exception, failures: int) -> float:
        """Note the failure of a try, the stream's `failures`-th in a row; returns the seconds that the stream waits.

        0 in an outage: then all wait at the gate, and whoever is first there tries next.
        """
        if not (isinstance(error, AwsUnavailable) and error.kind in _OF_ONE_STREAM):
            self._failures += 1
        if not self.away:
            return delay(failures, self._draw())
        wait = delay(self._failures - OUTAGE_AFTER + 1, self._draw())
        self._until = asyncio.get_running_loop().time() + wait
        return 0.0

    def pause(self, failures: int) -> float:
        """The seconds that a stream waits after its `failures`-th failure in a row that is no fault of the sink."""
        return delay(failures, self._draw())
