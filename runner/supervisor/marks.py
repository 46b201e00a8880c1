"""When a run's file grew: so that a line can be given the time at which it was written, whenever it is shipped."""

from __future__ import annotations

from array import array

TYPE_CHECKING = False  # not imported from typing, which costs a megabyte
if TYPE_CHECKING:
    from collections.abc import Sequence

SPACING_MS = 500
MOST = 512


class Marks:
    """By ``_times[n]`` (unix milliseconds) ``_sizes[n]`` bytes had been written, in rising order.

    A mark each half second while output comes, at most 512: of the older half every other one is given up for new
    ones, so that the last minutes are known to the half second, and a day ago to some minutes.
    """

    __slots__ = ("_sizes", "_times")

    def __init__(self, flat: Sequence[int] = ()) -> None:
        self._times, self._sizes = array("q"), array("q")
        at = size = 0
        for n in range(0, len(flat) - 1, 2):
            at, size = at + flat[n], size + flat[n + 1]
            self._times.append(at)
            self._sizes.append(size)

    def add(self, at: float, size: int) -> None:
        """The file has this size now; unix seconds. A clock that was set back stands still here meanwhile."""
        times, sizes = self._times, self._sizes
        if sizes and size <= sizes[-1]:
            return
        ms = int(at * 1000)
        if times and ms < times[-1] + SPACING_MS:
            sizes[-1] = size
            return
        if len(times) >= MOST:
            for column in (times, sizes):
                column[: MOST // 2] = column[1 : MOST // 2 : 2]
        times.append(ms)
        sizes.append(size)

    def flat(self) -> list[int]:
        """For `__init__` and for the agent: milliseconds and bytes in turn, each as the difference to the last one."""
        told: list[int] = []
        at = size = 0
        for ms, upto in zip(self._times, self._sizes, strict=True):
            told += (ms - at, upto - size)
            at, size = ms, upto
        return told
