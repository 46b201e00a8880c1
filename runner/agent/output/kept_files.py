"""Which spool files of finished runs are kept for `cron-runner logs`, and which go."""

from __future__ import annotations

import contextlib
import os
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from runner.agent.output import spool_file
from runner.agent.runs.output import Lack

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Set as AbstractSet
    from pathlib import Path

    from runner.agent.output.offsets import OffsetStore
    from runner.sinks import Tag

log = structlog.get_logger()

_NOT_TRIMMED = "output of ended runs keeps its room on the disk; see that the agent may write there"

RETAINED_BYTES = 256 << 20
RETAINED_FILES = 10_000
"""What is kept of finished and shipped runs, the newest first."""
SPARE_FILES = 100
"""So many more may be there until the oldest go, together."""
LOOK_EVERY_S = 600.0


@dataclass(frozen=True, slots=True)
class File:
    """`key` is that of its row; "" where it has none. `size` is what it takes of the disk, in bytes."""

    name: str
    key: str
    size: int


class Kept:
    """The files that may go, oldest first; `lack` says what the disk lacks meanwhile. Those of this process's runs are
    added one by one; `look` goes through the directory, since a run-once shares it and an agent before us has left
    some."""

    def __init__(
        self,
        directory: Path,
        offsets: OffsetStore,
        *,
        lack: Callable[[], Lack] = lambda: Lack(0, 0),
        most_bytes: int = RETAINED_BYTES,
        most_files: int = RETAINED_FILES,
        spare_files: int = SPARE_FILES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._directory = directory
        self._offsets = offsets
        self.lack = lack
        self._most_bytes, self._most_files, self._spare = most_bytes, most_files, spare_files
        self._clock = clock
        self._files: deque[File] = deque()
        self._bytes = 0
        self._look_at = float("-inf")
        self._gone: list[str] = []  # keys of files that were removed, and whose rows are still there

    def add(self, tag: Tag, path: Path, size: int) -> None:
        """The run is settled and told: its file of `size` logical bytes may go when its turn comes."""
        taken = spool_file.BLOCK if size <= spool_file.BLOCK else spool_file.disk_bytes(path)
        self._files.append(File(path.name, tag.key, taken))
        self._bytes += taken

    async def keep(self, active: Callable[[], AbstractSet[str]]) -> None:
        """Remove what is over the quotas, and look around from time to time. `active` are names that may not go."""
        if self._clock() >= self._look_at:
            self._look_at = self._clock() + LOOK_EVERY_S
            await self._look(active)
        lack = self.lack() if self._files else Lack(0, 0)
        if lack or len(self._files) > self._most_files + self._spare or self._bytes > self._most_bytes:
            self._trim(lack)
        if self._gone:
            gone, self._gone = self._gone, []
            await self._offsets.removed(gone)

    def make_way(self) -> bool:
        """Remove at once what the work lacks; whether anything was. Their rows are forgotten with the next `keep`."""
        lack = self.lack() if self._files else Lack(0, 0)
        return bool(lack) and self._trim(lack) > 0

    async def _look(self, active: Callable[[], AbstractSet[str]]) -> None:
        """Find out which files there are, and forget the rows of those that are gone.

        What is not settled is nobody's to remove, whoever ships it: after a start not every file is active yet.
        """
        known = await self._offsets.known()
        try:
            there = spool_file.listing(self._directory)
        except OSError as error:
            log.warning("spool_not_read", error=str(error), retry_in=LOOK_EVERY_S, detail=_NOT_TRIMMED)
            return
        keys: dict[str, str] = {}
        gone = []
        unsettled = set()
        for tag, settled in known:
            name = spool_file.name_of(tag, there)
            if not settled:
                unsettled.add(name)
            elif name in there:
                keys[name] = tag.key
            else:
                gone.append(tag.key)
        # Asked for now: what began while the rows were read has a file, and is none of those rows.
        busy = unsettled | active()
        idle = sorted((at, name, size) for name, (at, size) in there.items() if name not in busy)
        self._files = deque(File(name, keys.get(name, ""), size) for _, name, size in idle)
        self._bytes = sum(file.size for file in self._files)
        # Last: whatever is added while it is waited for stands behind what was found.
        if gone:
            await self._offsets.removed(gone)

    def _trim(self, lack: Lack) -> int:
        """Down to the quotas, and on until the work has its room: copies are nobody's but a reader's. How many went."""
        removed = 0
        while self._files and (lack or len(self._files) > self._most_files or self._bytes > self._most_bytes):
            file = self._files[0]
            try:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(self._directory / file.name)  # noqa: PTH108 - many at a time
            except OSError as error:
                log.warning("spool_not_trimmed", directory=str(self._directory), error=str(error), detail=_NOT_TRIMMED)
                break
            self._files.popleft()
            self._bytes -= file.size
            lack.bytes -= file.size
            lack.files -= 1
            removed += 1
            if file.key:
                self._gone.append(file.key)
        log.debug("spool_trimmed", files=removed)
        return removed
