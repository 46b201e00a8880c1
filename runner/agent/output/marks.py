"""When output was written: marks of how far a file had grown by when, and what they say of its lines. Pure."""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from itertools import accumulate
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

SPACING_MS = 250
"""Marks are no nearer to each other: what was written between two is as old as the first."""
WIDE_MS = 900
MANY = 2048
"""With so many marks that are not shipped, they are made this much wider: still to a second."""
MOST = 16_384
"""Four hours of output that comes all the time. Beyond, every other mark of the older half is given up: 256 KiB."""


class Marks:
    """By `_times[n]` (unix milliseconds) `_sizes[n]` bytes had been written, both rising."""

    __slots__ = ("_sizes", "_spacing", "_times", "known_from")

    def __init__(self) -> None:
        self._times, self._sizes = array("q"), array("q")
        self._spacing = SPACING_MS
        self.known_from = 0  # of what is before this offset it is forgotten

    @property
    def size(self) -> int:
        """Up to where it is known when the output was written."""
        return self._sizes[-1] if self._sizes else 0

    def add(self, ms: int, size: int) -> None:
        """The file has this size by now. A clock that was set back stands still here meanwhile."""
        times, sizes = self._times, self._sizes
        if size <= self.size:
            return
        if times and ms < times[-1] + self._spacing:
            sizes[-1] = size
            return
        if len(times) >= MANY and self._spacing == SPACING_MS:
            self._widen()
        if len(times) >= MOST:
            for column in (times, sizes):
                column[: MOST // 2] = column[1 : MOST // 2 : 2]
        times.append(ms)
        sizes.append(size)

    def fill(self, flat: Sequence[int]) -> None:
        """Take the supervisor's marks (runner.supervisor.marks.Marks.flat) of what is not known here."""
        for ms, size in zip(accumulate(flat[::2]), accumulate(flat[1::2]), strict=False):
            self.add(ms, size)

    def flat(self) -> list[int]:
        """What `fill` takes; what is forgotten was written at 0."""
        told, at, size = [], 0, 0
        times, sizes = self._times, self._sizes
        if self.known_from:
            told, size = [0, self.known_from], self.known_from
        for ms, upto in zip(times, sizes, strict=True):
            told += (ms - at, upto - size)
            at, size = ms, upto
        return told

    def forget(self, offset: int) -> None:
        """Nobody will ask for what is before this offset."""
        gone = bisect_right(self._sizes, offset)
        if gone > 64 and gone * 2 > len(self._sizes):
            self.known_from = self._sizes[gone - 1]
            del self._times[:gone], self._sizes[:gone]
        if not self._times:
            self._spacing = SPACING_MS

    def between(self, start: int, end: int) -> Iterator[tuple[int, int | None]]:
        """The parts of a stretch of output: where each ends, and when it had been written; None: that is not known."""
        sizes = self._sizes
        for n in range(bisect_right(sizes, start), len(sizes)):
            if sizes[n] >= end:
                yield end, self._times[n]
                return
            yield sizes[n], self._times[n]
        yield end, None

    def at(self, end: int) -> int | None:
        """When all before this offset had been written."""
        n = bisect_left(self._sizes, end)
        return self._times[n] if n < len(self._times) else None

    def _widen(self) -> None:
        self._spacing = WIDE_MS
        times, sizes = self._times, self._sizes
        self._times, self._sizes = array("q"), array("q")
        for ms, size in zip(times, sizes, strict=True):
            self.add(ms, size)
