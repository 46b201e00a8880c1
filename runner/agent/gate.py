"""The way into a sink: so many batches at once, and in an outage one try at a time for all streams together.

500 running jobs are 500 streams; each waiting for itself, they would knock at a service that is away many times a
second.
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


class Gate:
    """Shared by all channels of a sink; `draw` gives random numbers in [0, 1)."""

    def __init__(self, parallel: int, *, draw: Callable[[], float] = random.random) -> None:
        self._free = asyncio.Semaphore(parallel)
        self._trying = asyncio.Lock()
        self._failures = 0
        self._until = 0.0
        self._draw = draw

    @contextlib.asynccontextmanager
    async def turn(self, closing: asyncio.Event) -> AsyncIterator[None]:
        """Wait for a place, and while the sink is away for the next try; `closing` cuts that wait short."""
        async with self._free:
            if not self._failures:
                yield
                return
            async with self._trying:
                await self._wait(closing)
                yield

    async def _wait(self, closing: asyncio.Event) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(self._until):
                await closing.wait()

    def succeeded(self) -> None:
        self._failures = 0
        self._until = 0.0

    def failed(self, error: Exception) -> float:
        """Note the failure of a try; returns the seconds that only this channel has to wait by itself."""
        if isinstance(error, AwsUnavailable) and error.kind in _OF_ONE_STREAM:
            return delay(3, self._draw())
        self._failures += 1
        wait = delay(self._failures, self._draw())
        self._until = asyncio.get_running_loop().time() + wait
        return 0.0
