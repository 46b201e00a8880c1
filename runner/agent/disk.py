"""Is there room on the disk? Asked before anything is received: what is running must still be able to end."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import structlog

from runner.protocol.units import format_size

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

log = structlog.get_logger()

LOW_BYTES = 64 * 1024 * 1024
# On a small file system a part of it, so that a host with a tiny disk can work at all.
LOW_SHARE = 0.05
# Receiving begins again when there is so much more room than too little.
ENOUGH = 1.25
GLANCE_S = 0.1


class Disk:
    """The file system of the state directory, where journal and spool are. `free` gives its bytes: free, in all."""

    def __init__(self, state: Path, free: Callable[[Path], tuple[int, int]] | None = None) -> None:
        self._state = state
        self._free = free or _free
        self._low = False

    def blocked(self) -> str | None:
        """Why nothing may be received; None while there is room."""
        try:
            free, total = self._free(self._state)
        except OSError as error:
            return f"disk: {error}"
        needed = int(min(LOW_BYTES, total * LOW_SHARE) * (ENOUGH if self._low else 1.0))
        if (free < needed) is not self._low:
            self._low = free < needed
            (log.error if self._low else log.warning)(
                "disk_full" if self._low else "disk_has_room_again", path=str(self._state), free=free, needed=needed
            )
        if not self._low:
            return None
        return f"disk: {format_size(free)} free in {self._state}, {format_size(needed)} needed"

    def has_room_for(self, size: int) -> bool:
        """Whether `size` bytes can be taken without coming near the end."""
        try:
            free, total = self._free(self._state)
        except OSError:
            return False
        return free - size > 2 * min(LOW_BYTES, total * LOW_SHARE)


class Glance:
    """What `look` says, asked at most ten times a second: between two receives little can change, and a look asks
    the file system and adds up the output of all runs."""

    def __init__(self, look: Callable[[], str | None], clock: Callable[[], float] = time.monotonic) -> None:
        self._look = look
        self._clock = clock
        self._due = float("-inf")
        self._seen: str | None = None

    def __call__(self) -> str | None:
        now = self._clock()
        if now >= self._due:
            self._seen, self._due = self._look(), now + GLANCE_S
        return self._seen


def _free(path: Path) -> tuple[int, int]:
    found = os.statvfs(path)
    if found.f_files and not found.f_favail:
        return 0, found.f_blocks * found.f_frsize  # room, but for no further file
    return found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize
