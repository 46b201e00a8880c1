"""A job's output: one pipe, moved into the spool file by splice, at offsets that are those of the output.

A regular file as the job's stdout would be truncated by a job that opens ``/dev/stderr``, would be refused to
another user, and could be tampered with; a pipe is none of that, and its reader outlives the agent.
"""

from __future__ import annotations

import errno
import os

from runner.supervisor import libc

_DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})
_PIECE = 1 << 20  # moved per call, so that one loud job does not keep the others waiting
_COPY = 64 << 10
_FLAGS = os.SPLICE_F_NONBLOCK | os.SPLICE_F_MOVE


class Capture:
    """One run's pipe (our end, non-blocking) and file. ``offset`` is the logical size of the file.

    Up to ``max_bytes`` are kept: a head of half of it and the latest half; the middle is punched out as the run goes
    on, so that the disk never holds much more. What a full disk refuses is read and dropped, counted in
    ``refused``, and does not move ``offset``; the job is never blocked.
    """

    __slots__ = ("_can_splice", "_head", "_holed_to", "_stopped", "_tail", "file", "offset", "pipe", "refused")

    def __init__(self, pipe: int, file: int, max_bytes: int) -> None:
        self.pipe = pipe
        self.file = file
        self.offset = 0
        self.refused = 0
        self._head = max_bytes // 2
        self._tail = max_bytes - self._head
        self._holed_to = self._head
        self._can_splice = True
        # Where the file system cannot make holes: the offset from which on nothing is written any more.
        self._stopped: int | None = None

    def state(self) -> list[int | None]:
        """For `restored`, in another life of this process."""
        return [self.pipe, self.file, self._head + self._tail, self.offset, self.refused, self._holed_to, self._stopped]

    @classmethod
    def restored(cls, state: list[int]) -> Capture:
        capture = cls(*state[:3])
        capture.offset, capture.refused, capture._holed_to, capture._stopped = state[3:]
        return capture

    def take(self, limit: int = _PIECE) -> bool:
        """Move what is in the pipe, at most about ``limit`` bytes. False when the pipe has ended."""
        taken = 0
        while taken < limit:
            try:
                moved = self._move(limit - taken)
            except BlockingIOError:
                return True
            if moved == 0:
                return False
            taken += moved
        return True

    def finish(self) -> tuple[int, int] | None:
        """Close both ends; the [start, end) of the file that was given up for ``max_bytes``, None if nothing was."""
        gap = None
        if self._stopped is not None:
            os.ftruncate(self.file, self.offset)
            gap = (self._stopped, self.offset)
        elif self.offset > self._head + self._tail:
            self._punch()
            gap = (self._head, self.offset - self._tail)
        self.close_pipe()
        os.close(self.file)
        self.file = -1
        return gap

    def close_pipe(self) -> None:
        if self.pipe >= 0:
            os.close(self.pipe)
            self.pipe = -1

    def give_pipe(self) -> int:
        """The pipe's end, which is no longer ours."""
        pipe, self.pipe = self.pipe, -1
        return pipe

    def _move(self, limit: int) -> int:
        if self._stopped is not None:
            moved = len(os.read(self.pipe, min(limit, _COPY)))
            self.offset += moved
            return moved
        if not self._can_splice:
            return self._copy(limit)
        try:
            moved = os.splice(self.pipe, self.file, limit, offset_dst=self.offset, flags=_FLAGS)
        except BlockingIOError:
            raise
        except OSError as error:
            if error.errno == errno.EINVAL:  # a file system without splice
                self._can_splice = False
            elif error.errno not in _DISK_FULL:
                raise
            return self._copy(limit)
        self._advance(moved)
        return moved

    def _copy(self, limit: int) -> int:
        """The same by read and write, dropping what the disk refuses. Raises BlockingIOError."""
        data = os.read(self.pipe, min(limit, _COPY))
        written = 0
        try:
            while written < len(data):
                written += os.pwrite(self.file, data[written:], self.offset + written)
        except OSError as error:
            if error.errno not in _DISK_FULL:
                raise
            self.refused += len(data) - written
        self._advance(written)
        return len(data)

    def _advance(self, written: int) -> None:
        self.offset += written
        if self.offset - self._tail - self._holed_to >= max(16384, min(_PIECE * 4, self._tail // 4)):
            self._punch()

    def _punch(self) -> None:
        end = self.offset - self._tail
        if end <= self._holed_to:
            return
        try:
            libc.punch_hole(self.file, self._holed_to, end)
        except OSError:
            self._stopped = self.offset
        else:
            self._holed_to = end
