"""The pipes of runs that have ended and left something behind that may stay: a closed pipe would kill it."""

from __future__ import annotations

import contextlib
import os

from runner.supervisor.loop import READ

TYPE_CHECKING = False  # not imported from typing, which costs a megabyte
if TYPE_CHECKING:
    from runner.supervisor.loop import Loop


class Remnants:
    """Reads and drops what is still written, until nobody has the other end any more."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._pipes: set[int] = set()

    def add(self, pipe: int) -> None:
        self._pipes.add(pipe)
        self._loop.watch(pipe, READ, lambda _events: self._drop(pipe))

    def pipes(self) -> list[int]:
        return sorted(self._pipes)

    def _drop(self, pipe: int) -> None:
        with contextlib.suppress(BlockingIOError):
            if not os.read(pipe, 65536):
                self._loop.unwatch(pipe)
                self._pipes.discard(pipe)
                os.close(pipe)
