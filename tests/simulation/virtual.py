"""Time that stands still while anybody works, and leaps to the next timer when nobody does.

An event loop without a selector: it runs one callback at a time, in asyncio's own order, so that an agent can be
killed between any two. Every callback has the context of the life that made it, whose death takes all of its callbacks
away at once, as SIGKILL does: no `finally` is run, nothing is told.
"""

# ruff: noqa: SLF001 - an event loop is what asyncio calls its private parts

from __future__ import annotations

import asyncio
import contextvars
import heapq
import os
import random
import time
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

EPOCH = 1.8e9
START = 1000.0


class Mortal(Protocol):
    """Whatever callbacks can belong to; `booted` is when its host was, in the loop's seconds."""

    dead: bool
    booted: float

    def after_callback(self) -> None:
        """One of its callbacks has been run."""


LIFE: contextvars.ContextVar[Mortal | None] = contextvars.ContextVar("life", default=None)


class Clock:
    """`mono` is what everything else is made of."""

    mono = START


CLOCK = Clock()


class Loop(asyncio.BaseEventLoop):
    """Virtual time. Without a ready callback the clock leaps to the next timer."""

    def __init__(self) -> None:
        super().__init__()
        self.callbacks = 0
        # What a killed life left is kept: collected, its coroutines would be closed, and do their last will.
        self._graves: list[object] = []

    def time(self) -> float:
        return CLOCK.mono

    def _run_once(self) -> None:
        ready, scheduled = self._ready, self._scheduled
        self._bury_cancelled(scheduled)
        if not ready and scheduled and scheduled[0]._when > CLOCK.mono:
            CLOCK.mono = scheduled[0]._when
        while scheduled and scheduled[0]._when <= CLOCK.mono:
            timer = heapq.heappop(scheduled)
            timer._scheduled = False
            ready.append(timer)
        if not ready:
            raise RuntimeError("nobody waits for anything")
        handle = ready.popleft()
        if handle._cancelled:
            return
        life = handle._context.get(LIFE)
        if life is not None and life.dead:
            self._graves.append(handle)
            return
        self.callbacks += 1
        handle._run()
        if life is not None:
            life.after_callback()

    def _bury_cancelled(self, scheduled: list[Any]) -> None:
        while scheduled and scheduled[0]._cancelled:
            timer = heapq.heappop(scheduled)
            timer._scheduled = False
            self._timer_cancelled_count -= 1

    def _process_events(self, _events: object) -> None:
        """There are none: nothing here waits for a file."""

    def _write_to_self(self) -> None:
        """No other thread has to be woken for."""

    # -- the world's own, which outlives every agent

    def later(self, seconds: float, do: Callable[..., object], *args: object) -> asyncio.TimerHandle:
        """Call it as nobody's: what goes on whoever is killed."""
        return self.call_later(seconds, do, *args, context=contextvars.Context())

    def work(self, coroutine: Any) -> asyncio.Task[Any]:
        """A task as nobody's."""
        return self.create_task(coroutine, context=contextvars.Context())


def boottime() -> float:
    """CLOCK_BOOTTIME of the host whose agent asks."""
    life = LIFE.get()
    return CLOCK.mono - (life.booted if life is not None else 0.0)


def install() -> None:
    """Put this process, for good, on virtual time. Before anything of the runner is imported, which keeps some of these
    as defaults; and never in a process that does anything else."""
    time.monotonic = lambda: CLOCK.mono
    time.time = lambda: EPOCH + CLOCK.mono
    time.time_ns = lambda: int((EPOCH + CLOCK.mono) * 1e9)
    time.clock_gettime = lambda clock: boottime() if clock == time.CLOCK_BOOTTIME else CLOCK.mono
    os.urandom = random.randbytes


def begin(seed: int) -> None:
    """A new world's time, and the seed of all that the agents themselves draw."""
    CLOCK.mono = START
    random.seed(seed)
