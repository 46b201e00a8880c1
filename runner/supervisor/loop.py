"""The loop: descriptors and moments, each with the function to call. One thread; nothing in it may block.

Moments are read from CLOCK_BOOTTIME, which no change of the wall clock moves and which counts a suspended host's
time: a deadline is a promise about time passed. epoll itself sleeps on the monotonic clock, so no sleep is longer
than `MAX_SLEEP`: a deadline that fell into a suspension is at most that late.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import select
import sys
import time

from runner.supervisor.failing import say

TYPE_CHECKING = False  # not imported from typing, which costs a megabyte
if TYPE_CHECKING:
    from collections.abc import Callable

READ = select.EPOLLIN
WRITE = select.EPOLLOUT
MAX_SLEEP = 5.0
FAULTS = 10  # in a row, of one descriptor: from then on it rests between them, so that it does not take all the time
REST = 1.0
_AGAIN = 0.05  # until what the kernel has refused is tried again


def now() -> float:
    """Seconds since boot, suspension included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Timer:
    """A moment at which something is called, once, unless cancelled."""

    __slots__ = ("callback",)

    def __init__(self, callback: Callable[[], None] | None) -> None:
        self.callback = callback


class Loop:
    """An epoll set and a heap of timers."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._handlers: dict[int, Callable[[int], None]] = {}
        self._timers: list[tuple[float, int, Timer]] = []
        self._next: list[Callable[[], None]] = []
        self._events: dict[int, int] = {}
        self._armed: set[int] = set()
        self._refused: set[int] = set()
        self._faults: dict[int, int] = {}
        self._order = itertools.count()
        self._cancelled = 0

    def watch(self, fd: int, events: int, handler: Callable[[int], None]) -> None:
        """Call ``handler(events)`` whenever ``fd`` is ready, until `unwatch`. Where the kernel refuses, later too."""
        self._handlers[fd] = handler
        self._events[fd] = events
        self._arm(fd, handler)

    def change(self, fd: int, events: int) -> None:
        self._events[fd] = events
        if fd in self._armed:
            self._arm(fd, self._handlers[fd])

    def unwatch(self, fd: int) -> None:
        """Before the descriptor is closed: its number is soon another's."""
        self._faults.pop(fd, None)
        self._events.pop(fd, None)
        if self._handlers.pop(fd, None) is not None:
            self._disarm(fd)

    def _arm(self, fd: int, handler: Callable[[int], None]) -> None:
        if self._handlers.get(fd) is not handler:  # closed meanwhile, and perhaps another's number
            return
        try:
            if fd in self._armed:
                self._epoll.modify(fd, self._events[fd])
            else:
                self._epoll.register(fd, self._events[fd])
                self._armed.add(fd)
        except FileExistsError:  # it could not be taken out before
            self._armed.add(fd)
            self.at(now() + _AGAIN, lambda: self._arm(fd, handler))
        except OSError as error:
            if fd not in self._refused:
                self._refused.add(fd)
                say(f"cannot listen to descriptor {fd}: {error}; trying again")
            self.at(now() + _AGAIN, lambda: self._arm(fd, handler))
        else:
            self._refused.discard(fd)

    def _disarm(self, fd: int) -> None:
        self._refused.discard(fd)
        if fd in self._armed:
            self._armed.discard(fd)
            # Where this fails, the end of the last descriptor of the open file takes it out of the set (epoll(7)).
            with contextlib.suppress(OSError):
                self._epoll.unregister(fd)

    def at(self, moment: float, callback: Callable[[], None]) -> Timer:
        timer = Timer(callback)
        heapq.heappush(self._timers, (moment, next(self._order), timer))
        return timer

    def cancel(self, timer: Timer | None) -> None:
        """A cancelled timer stays in the heap; when they are the most of it, the heap is rebuilt."""
        if timer is None or timer.callback is None:
            return
        timer.callback = None
        self._cancelled += 1
        if self._cancelled > 64 and self._cancelled * 2 > len(self._timers):
            self._timers = [entry for entry in self._timers if entry[2].callback is not None]
            heapq.heapify(self._timers)
            self._cancelled = 0

    def soon(self, callback: Callable[[], None]) -> None:
        """Call it in the next turn, after what has happened by then."""
        self._next.append(callback)

    def turn(self) -> None:
        """Wait for something to happen and call what it concerns. Raises nothing: whatever fails is reported."""
        put_off, self._next = self._next, []
        for fd, events in self._poll(0 if put_off else self._sleep()):
            handler = self._handlers.get(fd)  # gone if an earlier handler of this turn closed it
            if handler is not None:
                self._call(fd, handler, events)
        self._ring(now())
        for callback in put_off:
            guarded(callback)

    def _poll(self, timeout: float) -> list[tuple[int, int]]:
        try:
            return self._epoll.poll(timeout, 256)
        except OSError:
            sys.excepthook(*sys.exc_info())
            time.sleep(_AGAIN)
            return []

    def _call(self, fd: int, handler: Callable[[int], None], events: int) -> None:
        """One fault must not take the loop along, and with it every job: it is reported, and goes on elsewhere.

        Nor may it take the descriptor along, which may be the one of all signals: it rests, and is listened to again.
        """
        try:
            handler(events)
        except Exception:  # noqa: BLE001 - whatever it is, the other jobs have no part in it
            sys.excepthook(*sys.exc_info())
            self._faults[fd] = self._faults.get(fd, 0) + 1
            if self._faults[fd] > FAULTS and self._handlers.get(fd) is handler:
                self._disarm(fd)
                self.at(now() + REST, lambda: self._arm(fd, handler))
        else:
            if self._faults:
                self._faults.pop(fd, None)

    def _sleep(self) -> float:
        timers = self._timers
        while timers and timers[0][2].callback is None:
            heapq.heappop(timers)
            self._cancelled -= 1
        if not timers:
            return -1
        return min(max(timers[0][0] - now(), 0.0), MAX_SLEEP)

    def _ring(self, moment: float) -> None:
        timers = self._timers
        while timers and timers[0][0] <= moment:
            timer = heapq.heappop(timers)[2]
            if timer.callback is None:
                self._cancelled -= 1
                continue
            callback, timer.callback = timer.callback, None
            guarded(callback)


def guarded(callback: Callable[[], None]) -> None:
    """Call it; what it raises is reported and goes no further."""
    try:
        callback()
    except Exception:  # noqa: BLE001 - as for handlers
        sys.excepthook(*sys.exc_info())
