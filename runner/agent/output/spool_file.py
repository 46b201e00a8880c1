"""Spool files: names, making, reading, punching holes, and what is kept of them afterwards."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Container
    from pathlib import Path

    from runner.sinks import Tag

BLOCK = 4096
KEEP_BYTES = 256 << 10
"""The end of a file that is never punched out: the tail of the finished event is read from it."""
PUNCH_STEP = 1 << 20
"""Holes are punched in steps: a call per megabyte, and the output of small runs stays whole for `logs`."""
SMALL_STEP = 64 << 10
"""The same while the disk lacks room."""

_FALLOC_FL_KEEP_SIZE = 0x01
_FALLOC_FL_PUNCH_HOLE = 0x02
_libc = ctypes.CDLL(None, use_errno=True)
_libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]


def make(directory: Path, run_id: str, execution: str, attempt: int) -> tuple[Path, int]:
    """Create the file of an attempt, empty, readable by its owner alone; returns its path and a descriptor.

    It is RUN_ID.out; a later attempt, or another execution of the run while that name is taken, says which it is
    (`~` is in no run id). Raises OSError.
    """
    try:
        return _make(directory, run_id, execution, attempt)
    except FileNotFoundError:
        directory.mkdir(mode=0o750, parents=True, exist_ok=True)
        return _make(directory, run_id, execution, attempt)


def _make(directory: Path, run_id: str, execution: str, attempt: int) -> tuple[Path, int]:
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
    if attempt == 1:
        plain = directory / _plain(run_id)
        try:
            return plain, os.open(plain, flags | os.O_EXCL, 0o600)
        except FileExistsError:
            pass
    full = directory / _full(run_id, execution, attempt)
    return full, os.open(full, flags, 0o600)


def _plain(run_id: str) -> str:
    return f"{run_id}.out"


def _full(run_id: str, execution: str, attempt: int) -> str:
    return f"{run_id}~{execution}~{attempt}.out"


def find(directory: Path, run_id: str, execution: str, attempt: int) -> Path:
    """The file that `make` created for this attempt, after a restart."""
    full = directory / _full(run_id, execution, attempt)
    return full if attempt > 1 or full.exists() else directory / _plain(run_id)


def path_of(directory: Path, tag: Tag) -> Path:
    """The same for a tag."""
    return find(directory, tag.run_id, tag.execution, tag.attempt)


def name_of(tag: Tag, there: Container[str]) -> str:
    """The file's name, where these are the names in the directory."""
    full = _full(tag.run_id, tag.execution, tag.attempt)
    return full if tag.attempt > 1 or full in there else _plain(tag.run_id)


def read(path: Path, offset: int, size: int) -> bytes:
    """Up to `size` bytes; fewer at the end of the file. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.pread(descriptor, size, offset)
    finally:
        os.close(descriptor)


def size_of(path: Path) -> int:
    """Logical size in bytes; 0 where the file is gone."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def first_data(path: Path, offset: int) -> int:
    """Where there is data from this offset on; `offset` itself at the end of the file. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.lseek(descriptor, offset, os.SEEK_DATA)
    except OSError as error:
        if error.errno == errno.ENXIO:
            return offset
        raise
    finally:
        os.close(descriptor)


def written_at(path: Path) -> float:
    """When it was written last (unix seconds), or punched; now where the file is gone."""
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return time.time()


def punch(path: Path, start: int, end: int) -> int:
    """Give the disk back the whole blocks in [start, end); returns up to where. Raises OSError.

    A file system that cannot punch holes keeps the bytes: `end` is returned all the same.
    """
    end -= end % BLOCK
    if end <= start:
        return start
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        mode = _FALLOC_FL_PUNCH_HOLE | _FALLOC_FL_KEEP_SIZE
        if _libc.fallocate(descriptor, mode, start, end - start) != 0:
            number = ctypes.get_errno()
            if number not in {errno.EOPNOTSUPP, errno.ENOSYS}:
                raise OSError(number, os.strerror(number), str(path))
    finally:
        os.close(descriptor)
    return end


def hold(descriptor: int, size: int) -> bool:
    """Take the first `size` bytes of a file from the disk, whatever its own size is; False where there is no room.

    A file system that cannot do that is none that can be asked: true.
    """
    if _libc.fallocate(descriptor, _FALLOC_FL_KEEP_SIZE, 0, size) == 0:
        return True
    return ctypes.get_errno() in {errno.EOPNOTSUPP, errno.ENOSYS}


def listing(directory: Path) -> dict[str, tuple[float, int]]:
    """The spool files there: by name, when each was written last (unix seconds) and what it takes of the disk in
    bytes. Raises OSError."""
    found: dict[str, tuple[float, int]] = {}
    try:
        with os.scandir(directory) as entries:
            for entry in entries:
                with contextlib.suppress(FileNotFoundError):
                    if entry.name.endswith(".out"):
                        status = entry.stat(follow_symlinks=False)
                        found[entry.name] = (status.st_mtime, status.st_blocks * 512)
    except FileNotFoundError:
        pass
    return found


def disk_bytes(path: Path) -> int:
    """What a file takes of the disk; 0 where it is gone."""
    try:
        return path.stat().st_blocks * 512
    except FileNotFoundError:
        return 0
