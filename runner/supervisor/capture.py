"""A job's output: one pipe, moved into the spool file by splice, at offsets that are those of the output.

A regular file as the job's stdout would be truncated by a job that opens ``/dev/stderr``, would be refused to
another user, and could be tampered with; a pipe is none of that, and its reader outlives the agent.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os

from runner.supervisor import libc
from runner.supervisor.wire import close_all, in_memory

TYPE_CHECKING = False  # not imported from typing, which costs a megabyte
if TYPE_CHECKING:
    from collections.abc import Iterable

    from runner.supervisor.masking import Masking

_PIECE = 1 << 20  # moved per call, so that one loud job does not keep the others waiting
_COPY = 64 << 10
_LEAST_RING = 64 << 10
_TRIES = 5  # for the laying out of a ring: what fails may pass
_REST = 8 << 10  # the tail of an event, and before it as much as a secret may be long
_LOOK_EVERY = 4 << 20  # bytes written between two looks at the disk, and fewer where it is nearly full
_FLAGS = os.SPLICE_F_NONBLOCK | os.SPLICE_F_MOVE


class Capture:
    """One run's pipe (our end, non-blocking) and file. ``offset`` is the logical size of the file.

    Up to ``max_bytes`` are kept: a head of half of it and the latest half; the middle is punched out as the run goes
    on, so that the disk never holds much more. Where no holes can be made the latest half goes round in a ring in the
    file, from ``ring`` on, and `settle` lays it out at its offsets when the output has ended: until then the disk
    holds head and ring, then at most half of ``max_bytes`` more. What the disk refuses, for whatever reason, is read
    and dropped, counted in ``refused``, and does not move ``offset``; the job is never blocked, and its pipe never
    closed before its end. ``keep_free`` bytes of the disk are not ours to fill: who reads the file needs them to make
    room. ``rest`` is the end of what was refused since the last write.

    With ``masking`` the output goes through this process, and all that is said above is about what comes of it: the
    file never has a secret, and neither has anything that is made of it.
    """

    __slots__ = (
        "_can_splice", "_faults", "_head", "_holed_to", "_kept_from", "_settled_to", "_tail", "_unlooked", "file",
        "keep_free", "masking", "offset", "pipe", "refused", "rest", "ring", "secrets",
    )  # fmt: skip

    def __init__(self, pipe: int, file: int, max_bytes: int) -> None:
        self.pipe = pipe
        self.file = file
        self.offset = 0
        self.refused = 0
        self.ring: int | None = None
        self.rest = b""
        self.keep_free = 0
        self.masking: Masking | None = None
        self.secrets = -1  # while it is handed over: the descriptor of what only `masking` may know
        self._unlooked = 0  # bytes that may be written before the disk is looked at again
        self._head = max_bytes // 2
        self._tail = max_bytes - self._head
        self._holed_to = self._head
        self._can_splice = True
        self._faults = 0
        self._settled_to: int | None = None  # from there to `offset` the ring has been laid out
        self._kept_from: int | None = None  # where the tail begins that could be laid out

    def state(self) -> list[int | None]:
        """For `restored`, in another life of this process; `ring` goes beside it, as versions before it know none."""
        return [self.pipe, self.file, self._head + self._tail, self.offset, self.refused, self._holed_to, None]

    @classmethod
    def restored(cls, state: list[int | None], ring: int | None = None) -> Capture:
        pipe, file, most, offset, refused, holed_to, stopped = state
        assert pipe is not None and file is not None and most is not None  # noqa: PT018 - they are the class's own
        capture = cls(pipe, file, most)
        capture.offset, capture.refused, capture._holed_to = offset or 0, refused or 0, holed_to or 0
        # A version before the ring stopped writing where it could make no holes: there a ring begins now.
        capture.ring = capture.offset if ring is None and stopped is not None else ring
        return capture

    def mask(self, secrets: Iterable[str]) -> None:
        """Nothing of these is to be in the file; before the first byte."""
        from runner.supervisor.masking import Masking  # noqa: PLC0415 - for jobs with secrets

        libc.keep_from_dumps()
        self.masking = Masking(secrets)

    def give_secrets(self) -> None:
        """For `take_secrets`, in another life of this process: in memory of their own, beside its state. Raises
        OSError."""
        if self.masking is not None:
            self.secrets = in_memory("supervisor-secrets", json.dumps(self.masking.state()).encode())

    def take_secrets(self, fd: int) -> None:
        from runner.supervisor.masking import Masking  # noqa: PLC0415 - for jobs with secrets

        libc.keep_from_dumps()
        with os.fdopen(fd, "rb") as file:
            self.masking = Masking.restored(json.loads(file.read()))

    def keep_secrets(self) -> None:
        """There is no other life."""
        fd, self.secrets = self.secrets, -1
        if fd >= 0:
            close_all([fd])

    def flush(self) -> None:
        """Nothing more comes: what was held as a secret's possible beginning is output like any other."""
        if self.masking is not None:
            self._put(self.masking.rest())

    def take(self, limit: int = _PIECE) -> bool:
        """Move what is in the pipe, at most about ``limit`` bytes. False when the pipe has ended.

        Raises OSError where the pipe cannot be read at this moment.
        """
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

    def settle(self, limit: int = _PIECE) -> bool:
        """Lay out ``limit`` bytes of the ring where they belong, the latest first; true when there is no more to do.

        No offset of the window has the place of another in the ring, so nothing is overwritten that is still needed.
        """
        if self.ring is None or self._kept_from is not None:
            return True
        window = max(self.offset - self._tail, self.ring)
        begin = max(window, self.ring + self._size)  # before it, place and offset are the same
        end = self.offset if self._settled_to is None else self._settled_to
        start = max(begin, end - limit)
        try:
            while end > start:
                end -= self._lay_out(start, end)
        except OSError:
            self._faults += 1
            if self._faults >= _TRIES:  # no room for all of the tail: what has been laid out is kept
                self._kept_from = end
        self._settled_to = end
        if end <= begin:
            self._kept_from = window
        return self._kept_from is not None

    def _lay_out(self, start: int, end: int) -> int:
        """Copy the last of [start, end), as far as it is one piece in the ring; how much."""
        last = self._place(end - 1)
        size = min(end - start, last - (self.ring or 0) + 1, _COPY)
        data = os.pread(self.file, size, last - size + 1)
        if len(data) < size or os.pwrite(self.file, data, end - size) < size:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return size

    @property
    def gap(self) -> tuple[int, int] | None:
        """The [start, end) of the file that is given up for ``max_bytes``, None if nothing is."""
        if self.offset <= self._head + self._tail:
            return None
        if self.ring is None:
            return (self._head, self.offset - self._tail)
        return (self._head, self.offset if self._kept_from is None else self._kept_from)

    def finish(self) -> None:
        """Close both ends. Raises OSError, all the same closed, where the file says only now that it did not keep
        what it took: EIO, ENOSPC and EDQUOT, on NFS and FUSE."""
        self.close_pipe()
        file, self.file = self.file, -1
        if file < 0:
            return
        with contextlib.suppress(OSError):  # then the disk holds a little more than it must
            if self.ring is not None:
                os.ftruncate(file, self.offset)
            elif self.offset > self._head + self._tail:
                libc.punch_hole(file, self._holed_to, self.offset - self._tail)
        os.close(file)  # also where it raises: the kernel has let go of the number (close(2))

    def close_pipe(self) -> None:
        pipe, self.pipe = self.pipe, -1
        if pipe >= 0:
            close_all([pipe])

    def give_pipe(self) -> int:
        """The pipe's end, which is no longer ours."""
        pipe, self.pipe = self.pipe, -1
        return pipe

    @property
    def _size(self) -> int:
        """Of the ring: a smaller one would cost a call for every few bytes."""
        return max(self._tail, _LEAST_RING)

    def _place(self, offset: int) -> int:
        """Where in the file the output's byte at ``offset`` is."""
        if self.ring is None or offset < self.ring:
            return offset
        return self.ring + (offset - self.ring) % self._size

    def _move(self, limit: int) -> int:
        place = self._place(self.offset)
        if self.ring is not None:
            limit = min(limit, self.ring + self._size - place)
        if self.keep_free:
            if self._unlooked <= 0 and self._full():
                data = os.read(self.pipe, min(limit, _COPY))
                self._refuse(data if self.masking is None else self.masking.feed(data))
                return len(data)
            limit = min(limit, max(self._unlooked, _COPY))
        if not self._can_splice or self.masking is not None:
            return self._copy(limit)
        try:
            moved = os.splice(self.pipe, self.file, limit, offset_dst=place, flags=_FLAGS)
        except BlockingIOError:
            raise
        except OSError as error:
            if error.errno == errno.EINVAL:  # a file system without splice
                self._can_splice = False
            return self._copy(limit)
        self._advance(moved)
        return moved

    def _copy(self, limit: int) -> int:
        """The same by read and write, dropping what the disk refuses. Raises OSError where the pipe cannot be read."""
        data = os.read(self.pipe, min(limit, _COPY))
        self._put(data if self.masking is None else self.masking.feed(data))
        return len(data)

    def _put(self, data: bytes) -> None:
        """Into the file, as far as the disk takes it; round in the ring where there is one."""
        while data:
            place = self._place(self.offset)
            piece = data if self.ring is None else data[: self.ring + self._size - place]
            written = 0
            # Which errors a file system has for "no longer" is not for us to list (EROFS, ESTALE, ENODEV, EPERM,
            # ENOTCONN).
            with contextlib.suppress(OSError):
                while written < len(piece):
                    written += os.pwrite(self.file, piece[written:], place + written)
            self._advance(written)
            data = data[written:]
            if written < len(piece):
                self._refuse(data)
                return

    def _full(self) -> bool:
        """Whether the disk is as full as output may make it."""
        try:
            found = os.fstatvfs(self.file)
        except OSError:
            return False
        free = found.f_bavail * found.f_frsize - self.keep_free
        self._unlooked = min(_LOOK_EVERY, max(free // 16, _COPY)) if free > 0 else 0
        return free <= 0

    def _refuse(self, data: bytes) -> None:
        self.refused += len(data)
        self.rest = (self.rest + data)[-_REST:]
        self._unlooked = 0

    def _advance(self, written: int) -> None:
        if written:
            self.offset += written
            self._unlooked -= written
            self.rest = b""
        if self.ring is None and self.offset - self._tail - self._holed_to >= max(
            16384, min(_PIECE * 4, self._tail // 4)
        ):
            self._punch()

    def _punch(self) -> None:
        end = self.offset - self._tail
        try:
            libc.punch_hole(self.file, self._holed_to, end)
        except OSError:
            self.ring = end
        else:
            self._holed_to = end
