"""Is there room on the disk? Asked before anything is received: what is running must still be able to end.

From the last byte on, each has its place: the journal's reserve (reserve.py), then room that no spool file grows into
(`floor`), then what admission wants free (`blocked`), then what copies of shipped output leave to the work (`lack`).
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, NamedTuple

import structlog

from runner.agent.runs.output import Lack
from runner.protocol.units import format_size

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

log = structlog.get_logger()

LOW_BYTES = 64 * 1024 * 1024
# On a small file system a part of it, so that a host with a tiny disk can work at all.
LOW_SHARE = 0.05
LOW_FILES = 200
# Receiving begins again when there is so much more room than too little.
ENOUGH = 1.25
# For the ends of some hundred runs, with their events, while nothing new is accepted.
RESERVE_BYTES = 6 * 1024 * 1024
RESERVE_SHARE = 1 / 16
# Output that waits for its sink may have so much of the disk before copies of what is shipped do.
SPOOL_SHARE = 0.25
GLANCE_S = 0.1


class Space(NamedTuple):
    """Of a file system, as an ordinary user has it. Without a fixed number of files both are 0."""

    free: int
    total: int
    files_free: int = 0
    files: int = 0

    @property
    def low(self) -> int:
        """Bytes: with less free nothing may be received."""
        return int(min(LOW_BYTES, self.total * LOW_SHARE))

    @property
    def low_files(self) -> int:
        return int(min(LOW_FILES, self.files * LOW_SHARE)) + 1 if self.files else 0


class Disk:
    """The file system of the state directory, where journal and spool are. `space` looks at it; may raise OSError.

    `unreserved` are bytes that the journal wants and has not got: they are to stay free.
    """

    def __init__(self, state: Path, space: Callable[[Path], Space] | None = None) -> None:
        self._state = state
        self._space = space or _space
        self._low = False
        self.unreserved = 0
        self.make_way: Callable[[], bool] = lambda: False  # removes what may go, before anything is put off for it

    def blocked(self) -> str | None:
        """Why nothing may be received; None while there is room."""
        try:
            space = self._space(self._state)
            needed, files = self._needed(space)
            if (space.free < needed or space.files_free < files) and self.make_way():
                space = self._space(self._state)
        except OSError as error:
            return f"disk: {error}"
        low = space.free < needed or space.files_free < files
        if low is not self._low:
            self._low = low
            (log.error if low else log.warning)(
                "disk_full" if low else "disk_has_room_again",
                path=str(self._state),
                free=space.free,
                needed=needed,
                files_free=space.files_free,
            )
        if not low:
            return None
        if space.free < needed:
            return f"disk: {format_size(space.free)} free in {self._state}, {format_size(needed)} needed"
        return f"disk: room for {space.files_free} more files in {self._state}, {files} needed"

    def _needed(self, space: Space) -> tuple[int, int]:
        """Bytes and files; more of them once there were too few."""
        spare = ENOUGH if self._low else 1.0
        return int(space.low * spare) + self.unreserved, int(space.low_files * spare)

    def floor(self) -> int:
        """Bytes that output leaves free."""
        try:
            return self._space(self._state).low // 2 + self.unreserved
        except OSError:
            return 0

    def lack(self, spool: int) -> Lack:
        """What is missing until nothing waits for the disk, and output that may take `spool` bytes finds room on it.

        However much of it waits already: what runs goes on when admission has stopped.
        """
        try:
            space = self._space(self._state)
        except OSError:
            return Lack(0, 0)
        room = max(2 * space.low, min(spool, int(space.total * SPOOL_SHARE))) + self.unreserved
        return Lack(room - space.free, 2 * space.low_files - space.files_free)

    def reserve(self) -> int:
        """How much the journal should own of it, in bytes."""
        try:
            return int(min(RESERVE_BYTES, self._space(self._state).total * RESERVE_SHARE))
        except OSError:
            return RESERVE_BYTES

    def has_room_for(self, size: int) -> bool:
        """Whether `size` bytes can be taken without coming near the end."""
        try:
            space = self._space(self._state)
        except OSError:
            return False
        return space.free - size > space.low // 2


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


def _space(path: Path) -> Space:
    found = os.statvfs(path)
    return Space(found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize, found.f_favail, found.f_files)
