"""Exit records, kept until the agent says that it has them.

Those of a connected agent stay in memory: they live for a moment. Beyond `MOST_IN_MEMORY`, and while nobody is
connected who could take them, they go to a file beside the socket, one JSON line each; what stays in memory is where
they are in it. A supervisor that starts finds those of the one before it; after a crash of that one also some that
were acknowledged, which the agent knows and acknowledges again.
"""

from __future__ import annotations

import contextlib
import json
import os
import time

from runner.supervisor.failing import persistently, say
from runner.supervisor.wire import close_all

TYPE_CHECKING = False  # not imported from typing, which costs a megabyte
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

MOST_IN_MEMORY = 2000
MOST_AT_ALL = 20_000  # in memory where the disk refuses them; then nothing is started any more
KEEP = 15 * 86400.0  # seconds: nobody asks for an older run, SQS keeps no message that long
_COMPACT_FROM = 4 << 20


class Records:
    """By key. ``path`` is the file, made when it is first needed."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._fd = -1
        self._size = 0
        self._wanted = 0  # bytes of the file that are not yet acknowledged
        self._memory: dict[str, tuple[str, dict[str, Any]]] = {}
        self._spilled: dict[str, tuple[str, int, int]] = {}  # owner, offset, length

    def __len__(self) -> int:
        return len(self._memory) + len(self._spilled)

    @property
    def full(self) -> bool:
        return len(self._memory) >= MOST_AT_ALL

    def keep(self, owner: str, entry: dict[str, Any], *, attended: bool) -> None:
        """Keep a run's facts. ``attended``: its owner is connected and will soon acknowledge it."""
        if (attended and len(self._memory) < MOST_IN_MEMORY) or not self._spill(owner, entry):
            self._memory[entry["key"]] = (owner, entry)

    def find(self, owner: str, key: str) -> dict[str, Any] | None:
        if key in self._memory:
            whose, entry = self._memory[key]
            return entry if whose == owner else None
        if key in self._spilled:
            whose, offset, length = self._spilled[key]
            return self._read(offset, length) if whose == owner else None
        return None

    def forget(self, owner: str, key: str) -> None:
        if key in self._memory and self._memory[key][0] == owner:
            del self._memory[key]
        elif key in self._spilled and self._spilled[key][0] == owner:
            self._wanted -= self._spilled.pop(key)[2]
            self._shrink()

    def keys(self, owner: str) -> Iterator[str]:
        for key, (whose, _entry) in self._memory.items():
            if whose == owner:
                yield key
        for key, (whose, _offset, _length) in self._spilled.items():
            if whose == owner:
                yield key

    def spill_all(self) -> None:
        """Before the supervisor ends: what the disk takes is found by the next one."""
        if self._fd >= 0 and self._spilled:
            self._rewrite()
        for key, (owner, entry) in list(self._memory.items()):
            if self._spill(owner, entry):
                del self._memory[key]

    def write_again(self) -> None:
        """The file was taken away under us: what we have of it goes into a new one."""
        if self._fd >= 0:
            self._rewrite()

    def in_memory(self) -> list[tuple[str, dict[str, Any]]]:
        return list(self._memory.values())

    def load(self) -> None:
        """Take over what the file has. A line that cannot be read, as after a full disk, is passed over."""
        try:
            self._open(os.O_RDWR)
        except OSError:
            return
        try:
            self._load(time.time() - KEEP)
        except OSError as error:  # the jobs that go on under us have no part in it
            say(f"cannot read all of {self._path}: {error}; some runs that have ended will count as lost")
            return
        self._shrink()

    def _load(self, oldest: float) -> None:
        with open(self._path, "rb") as file:  # noqa: PTH123 - pathlib would cost most of a megabyte
            offset = 0
            for line in file:
                try:
                    said = json.loads(line)
                    if said["entry"]["exit"]["finished_at"] > oldest:
                        self._spilled[said["entry"]["key"]] = (said["owner"], offset, len(line))
                        self._wanted += len(line)
                except (ValueError, KeyError, TypeError):
                    pass
                offset += len(line)

    def _open(self, flags: int) -> None:
        fd = os.open(self._path, flags | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            self._size = os.fstat(fd).st_size
        except OSError:
            close_all([fd])
            raise
        self._fd = fd

    def _spill(self, owner: str, entry: dict[str, Any]) -> bool:
        line = json.dumps({"owner": owner, "entry": entry}).encode() + b"\n"
        try:
            if self._fd < 0:
                self._open(os.O_RDWR | os.O_CREAT)
            written = os.pwrite(self._fd, line, self._size)
            if written < len(line):
                os.ftruncate(self._fd, self._size)
                return False
        except OSError:
            return False
        self._spilled[entry["key"]] = (owner, self._size, len(line))
        self._size += len(line)
        self._wanted += len(line)
        return True

    def _read(self, offset: int, length: int) -> dict[str, Any] | None:
        """None for what is no record any more. Raises OSError where it cannot be read at this moment."""
        data = persistently(lambda: os.pread(self._fd, length, offset))
        try:
            entry: dict[str, Any] = json.loads(data)["entry"]
        except (ValueError, KeyError):
            return None
        return entry

    def _shrink(self) -> None:
        """Take the file away when nothing in it is wanted, and rewrite it when little is."""
        if not self._spilled:
            self._drop(self._fd)
            self._fd = -1
        elif self._size > max(_COMPACT_FROM, self._wanted * 4):
            self._rewrite()

    def _drop(self, fd: int) -> None:
        """The file is wanted no more. One that cannot be taken away is emptied, and is at worst acknowledged again."""
        try:
            os.unlink(self._path)  # noqa: PTH108 - pathlib would cost most of a megabyte
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(fd, 0)
        close_all([fd])

    def _rewrite(self) -> None:
        try:
            entries = [(owner, self._read(offset, length)) for owner, offset, length in self._spilled.values()]
        except OSError:  # then it stays as it is
            return
        self._drop(self._fd)
        self._fd, self._spilled, self._wanted = -1, {}, 0
        for owner, entry in entries:
            if entry is not None:
                self.keep(owner, entry, attended=False)
