"""Whom a run consists of, written down at its start, for the supervisor after a crash of this one.

A living supervisor finds what has wiped its environment (``env -i``, ``su -``) by session and descent; the next one
has only what is in this file beside the socket: one JSON line for each start and end, after one with the boot id.
"""

from __future__ import annotations

import contextlib
import json
import os

from runner.supervisor.failing import persistently
from runner.supervisor.placing import processes

TYPE_CHECKING = False  # not imported from typing, which costs a megabyte
if TYPE_CHECKING:
    from collections.abc import Iterable

_SPARE = 500  # lines of ends that are put up with before the file is written anew


class Note:
    """One run: ``session`` is its main process's pid, ``start`` that one's start in ticks since boot."""

    __slots__ = ("keep", "session", "start")

    def __init__(self, session: int, start: int, *, keep: bool) -> None:
        self.session, self.start, self.keep = session, start, keep

    def line(self) -> bytes:
        return json.dumps([self.session, self.start, self.keep]).encode() + b"\n"


class Notes:
    """The file at ``path``. What the disk refuses is not noted, and is no reason not to run a job."""

    def __init__(self, path: str, boot_id: str) -> None:
        self._path = path
        self._boot_id = boot_id
        self._fd = -1
        self._lines = 0
        self._notes: dict[int, Note] = {}

    def read(self) -> list[Note]:
        """The runs of a supervisor before us whose end it has not seen, in this boot of the host."""
        try:
            lines = processes.read(self._path).splitlines()
        except OSError:
            return []
        found: dict[int, Note] = {}
        if not lines or lines[0] != self._boot_id.encode():
            return []
        for line in lines[1:]:
            with contextlib.suppress(ValueError, TypeError):  # a line that a full disk has cut
                session, start, keep = json.loads(line)
                if start:
                    found[session] = Note(session, start, keep=keep)
                else:
                    found.pop(session, None)
        return list(found.values())

    def start_anew(self, notes: Iterable[Note] = ()) -> None:
        """What the file had is dealt with: it has ``notes`` from here on."""
        self._notes = {note.session: note for note in notes}
        self._rewrite()

    def write_again(self) -> None:
        """The file was taken away under us."""
        self._rewrite()

    def began(self, session: int, *, keep: bool) -> None:
        try:
            start = persistently(lambda: processes.start_ticks(session))
        except OSError:
            return
        note = self._notes[session] = Note(session, start, keep=keep)
        if self._fd < 0:
            self._rewrite()
        else:
            self._append(note.line())

    def ended(self, session: int) -> None:
        if self._notes.pop(session, None) is None:
            return
        if not self._notes or self._lines > _SPARE + 2 * len(self._notes):
            self._rewrite()
        else:
            self._append(Note(session, 0, keep=False).line())

    def _append(self, line: bytes) -> None:
        self._lines += 1
        with contextlib.suppress(OSError):
            os.write(self._fd, line)

    def _rewrite(self) -> None:
        self.close()
        self._lines = 0
        if not self._notes:
            with contextlib.suppress(OSError):
                os.unlink(self._path)  # noqa: PTH108 - pathlib would cost most of a megabyte
            return
        text = self._boot_id.encode() + b"\n" + b"".join(note.line() for note in self._notes.values())
        with contextlib.suppress(OSError):
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
            self._fd = os.open(self._path, flags, 0o600)
            os.write(self._fd, text)

    def close(self) -> None:
        if self._fd >= 0:
            with contextlib.suppress(OSError):
                os.close(self._fd)
        self._fd = -1
