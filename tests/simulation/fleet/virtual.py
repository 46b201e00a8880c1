"""Virtual time: a clock that leaps to the next timer, and the loop that makes it leap.

`install` has to come before anything of `runner` is imported, and changes the whole process: worlds run in processes
of their own.
"""

from __future__ import annotations

import asyncio
import contextvars
import heapq
import time
from typing import Any

EPOCH = 1_900_000_000.0 - 1_900_000_000.0 % 86400
BEGIN = 1000.0
# CLOCK_BOOTTIME and CLOCK_MONOTONIC are different clocks: what mixes them up is far off at once.
BOOT_AHEAD = 5000.0

skew: contextvars.ContextVar[float] = contextvars.ContextVar("skew", default=0.0)
"""How far the wall clock of the host that runs now is ahead, in seconds."""


class Clock:
    mono = BEGIN


def now() -> float:
    """The true time, in unix seconds, whatever a host's clock says."""
    return EPOCH + Clock.mono


def install() -> None:
    time.monotonic = lambda: Clock.mono
    time.time = lambda: EPOCH + Clock.mono + skew.get()
    time.clock_gettime = lambda _: Clock.mono + BOOT_AHEAD  # type: ignore[assignment]


class Loop(asyncio.SelectorEventLoop):
    """With nothing to do now, it is the time of the next timer."""

    _scheduled: Any
    _ready: Any
    _timer_cancelled_count: int

    def time(self) -> float:
        return Clock.mono

    def _run_once(self) -> None:
        while self._scheduled and self._scheduled[0]._cancelled:  # noqa: SLF001 - the loop's own timers
            handle = heapq.heappop(self._scheduled)
            handle._scheduled = False  # noqa: SLF001 - as above
            self._timer_cancelled_count -= 1
        if not self._ready and self._scheduled:
            Clock.mono = max(Clock.mono, self._scheduled[0]._when)  # noqa: SLF001 - as above
        super()._run_once()  # type: ignore[misc]
