"""AWS calls off the event loop: a few daemon threads per purpose, a bound on every call, and counts.

concurrent.futures is not used for it: its threads are joined when the interpreter ends, so a process that has
nothing left to do would sit out a long poll of 20 seconds.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from runner.errors import AwsUnavailable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

T = TypeVar("T")

Purpose = Literal[
    "receive",
    "results",
    "lease",
    "logs",
    "table",
    "enqueue",
    "schedules",
    "topics",
    "parameters",
    "scaling",
    "identity",
    "ssm",
    "secretsmanager",
]
"""What a call is for. Each purpose has its own client, connections and threads, so that what is slow or
stuck in one (a poll, a large upload) never delays another (a lease that must be renewed)."""

_ABANDONED_AT_MOST = 4
"""Threads of a purpose that may be stuck in a call which was given up; beyond it no more are started."""


@dataclass(slots=True)
class CallStats:
    """Counts for metrics and times for health; times are `time.monotonic` seconds. Written in the event loop.

    ``requests`` counts calls by API action, ``errors`` by action and code. ``last_success`` and
    ``failing_since`` are by purpose; a purpose is in ``failing_since`` from its first failure after a success
    until its next success, and ``last_error`` holds the latest failure of that time. ``clock_ahead`` is how
    many seconds this host's clock is ahead of AWS's, by the ``Date`` of an answer (whole seconds), None
    until known.
    """

    requests: Counter[str] = field(default_factory=Counter)
    errors: Counter[tuple[str, str]] = field(default_factory=Counter)
    last_success: dict[str, float] = field(default_factory=dict)
    failing_since: dict[str, float] = field(default_factory=dict)
    last_error: dict[str, AwsUnavailable] = field(default_factory=dict)
    clock_ahead: float | None = None

    def succeeded(self, purpose: str) -> None:
        self.last_success[purpose] = time.monotonic()
        self.failing_since.pop(purpose, None)
        self.last_error.pop(purpose, None)

    def failed(self, purpose: str, error: AwsUnavailable) -> None:
        self.errors[error.call, error.code] += 1
        self.failing_since.setdefault(purpose, time.monotonic())
        self.last_error[purpose] = error


@dataclass(slots=True, eq=False)
class _Work:
    """One call on its way through the threads. ``started`` and ``abandoned`` are guarded by the threads'
    lock."""

    function: Callable[[], Any]
    done: Callable[[Any, BaseException | None], None]
    started: float | None = None
    abandoned: bool = False
    finished: bool = False

    def given_up(self) -> bool:
        return self.abandoned


class _Threads:
    """Up to ``size`` daemon threads, started when there is work for them and kept."""

    def __init__(self, name: str, size: int) -> None:
        self._name = name
        self._size = size
        self._lock = threading.Lock()
        self._work: queue.SimpleQueue[_Work | None] = queue.SimpleQueue()
        self._open = 0  # work that is queued or runs, without what was abandoned
        self._live = 0  # threads that serve, without those stuck in abandoned work
        self._stuck = 0
        self._started = 0

    def put(self, work: _Work) -> None:
        with self._lock:
            self._open += 1
            self._grow()
        self._work.put(work)

    def abandon(self, work: _Work, *, after: float) -> float | None:
        """Give ``work`` up if it has run for ``after`` seconds; else the seconds until that may be so.

        Its thread is written off (nothing can interrupt a name lookup or a credential process) and another
        may take its place. Work that has not begun is given up only where no thread is left to begin it.
        """
        with self._lock:
            if work.finished:
                return after
            if work.started is None and self._live:
                return after
            if work.started is not None:
                if (left := work.started + after - time.monotonic()) > 0:
                    return left
                self._live -= 1
                self._stuck += 1
            work.abandoned = True
            self._open -= 1
            self._grow()
            return None

    def close(self) -> None:
        """Let the threads end once they are idle; nobody waits for them."""
        with self._lock:
            for _ in range(self._live):
                self._work.put(None)
            self._live = 0
            self._size = 0

    def _grow(self) -> None:
        """Start a thread where all are busy. Holds the lock."""
        if self._open > self._live and self._live < self._size and self._stuck < _ABANDONED_AT_MOST:
            self._live += 1
            self._started += 1
            name = f"aws-{self._name}-{self._started}"
            threading.Thread(target=self._serve, name=name, daemon=True).start()

    def _serve(self) -> None:
        while (work := self._work.get()) is not None:
            with self._lock:
                if work.given_up():
                    continue
                work.started = time.monotonic()
            result, error = None, None
            try:
                result = work.function()
            except BaseException as exception:  # noqa: BLE001 - handed on to the coroutine that waits
                error = exception
            # Timer and closures form a cycle that waits for the collector; the batch in the function must not.
            work.function = _nothing
            with self._lock:
                work.finished = True
                if work.given_up():
                    self._stuck -= 1
                    self._grow()
                    return
                self._open -= 1
            work.done(result, error)
            del work, result, error  # an idle thread keeps no batch alive


def _nothing() -> None:
    """What is left of a function that was called."""


def overdue_after(action: str, within: float) -> AwsUnavailable:
    detail = f"no end after {within:.0f} s; the call was given up and will be made again"
    return AwsUnavailable(action, "Deadline", detail, "timeout")


class Caller:
    """The calls of one purpose: in threads, bounded, counted."""

    def __init__(self, purpose: Purpose, *, threads: int, stats: CallStats) -> None:
        self._purpose = purpose
        self._threads = _Threads(purpose, threads)
        self._stats = stats

    async def __call__(self, action: str, function: Callable[[], T], *, within: float) -> T:
        """Run ``function`` in a thread and return what it returns; `AwsUnavailable` after ``within`` seconds.

        Cancelling the awaiting task abandons the answer, not the call: AWS may have carried it out.
        """
        return await self.counted(action, self.aside(action, function, within=within))

    async def counted(self, action: str, answer: Awaitable[T]) -> T:
        """Await the answer of a call, however it is made."""
        self._stats.requests[action] += 1
        try:
            result = await answer
        except AwsUnavailable as error:
            self._stats.failed(self._purpose, error)
            raise
        self._stats.succeeded(self._purpose)
        return result

    def aside(self, action: str, function: Callable[[], T], *, within: float) -> asyncio.Future[T]:
        """As a call, but not counted as one: what must be done for ``action`` in a thread."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()

        def settle(result: T, error: BaseException | None) -> None:
            timer.cancel()
            if future.done():  # cancelled, or given up in the moment the answer came
                return
            if error is None:
                future.set_result(result)
            else:
                future.set_exception(error)

        def done(result: Any, error: BaseException | None) -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended, nobody waits any more
                loop.call_soon_threadsafe(settle, result, error)

        timer = loop.call_later(within, lambda: overdue())

        def overdue() -> None:
            nonlocal timer
            if (left := self._threads.abandon(work, after=within)) is not None:
                timer = loop.call_later(max(left, 0.05), overdue)
                return
            settle(None, overdue_after(action, within))  # type: ignore[arg-type]

        work = _Work(function, done)
        self._threads.put(work)
        return future

    def close(self) -> None:
        self._threads.close()
