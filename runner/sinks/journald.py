"""The systemd journal, by its native protocol: one entry a line, with fields for the run.

https://systemd.io/JOURNAL_NATIVE_PROTOCOL/: datagrams of fields; what is too large for a datagram goes in a sealed
memory file whose descriptor is sent instead.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import struct
from pathlib import Path
from typing import TYPE_CHECKING

from runner.sinks import Batch, Limits, Piece, SinkUnavailable, Tag
from runner.sinks.blocking import Blocking

if TYPE_CHECKING:
    from collections.abc import Iterator

SOCKET = Path("/run/systemd/journal/socket")
PRIORITY = 6  # LOG_INFO: what a job prints says nothing of its weight
DATAGRAM_BYTES = 64 << 10
"""Entries are joined up to here: far fewer system calls, and within the default send buffer of 208 KiB."""
STUCK_S = 30.0
"""A journal that does not read for so long is away."""

_TOO_LARGE = frozenset({errno.EMSGSIZE, errno.ENOBUFS})


class Journald:
    """The sink "journald". `group` becomes a field; `path` is the journal's socket."""

    name = "journald"
    raw = False
    parallel = 1
    shared = True
    limits = Limits(batch_bytes=512 << 10, batch_events=2_000, event_bytes=256 << 10, event_overhead=300)

    def __init__(self, group: str, path: Path = SOCKET, *, flush: float = 0.2) -> None:
        self._group = group
        self._path = path
        self.flush = flush
        self._socket: socket.socket | None = None
        self._blocking = Blocking("journald")

    def stream(self, tag: Tag) -> str:
        """There is one journal."""
        del tag
        return "journald"

    def prefix(self, tag: Tag) -> str:
        """Fields name the run."""
        del tag
        return ""

    async def send(self, batch: Batch) -> int:
        try:
            await self._blocking(lambda: self._send(batch))
        except OSError as error:
            reason = error.strerror or "it does not read"
            raise SinkUnavailable(
                f"cannot write to the journal at {self._path}: {reason}; is systemd-journald running?"
            ) from error
        return 0

    async def close(self) -> None:
        self._blocking.close()
        self._hang_up()

    def _send(self, batch: Batch) -> None:
        try:
            for data in _datagrams(batch, self._group):
                self._send_one(data)
        except OSError:
            self._hang_up()
            raise

    def _send_one(self, data: bytes) -> None:
        sock = self._connected()
        try:
            sock.send(data)
        except OSError as error:
            if error.errno not in _TOO_LARGE:
                raise
            _send_file(sock, data)

    def _connected(self) -> socket.socket:
        if self._socket is None:
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            sock.settimeout(STUCK_S)
            try:
                sock.connect(str(self._path))
            except OSError:
                sock.close()
                raise
            self._socket = sock
        return self._socket

    def _hang_up(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def _datagrams(batch: Batch, group: str) -> Iterator[bytes]:
    """The entries, separated by empty lines, several to a datagram."""
    held: list[bytes] = []
    size = 0
    for piece in batch.pieces:
        head = _fields(piece, group)
        for line in piece.lines:
            text = line.encode()
            entry = b"%sMESSAGE\n%s%s\n" % (head, struct.pack("<Q", len(text)), text)
            if held and size + len(entry) > DATAGRAM_BYTES:
                yield b"\n".join(held)
                held, size = [], 0
            held.append(entry)
            size += len(entry) + 1
    if held:
        yield b"\n".join(held)


def _fields(piece: Piece, group: str) -> bytes:
    tag = piece.tag
    values = {
        "PRIORITY": PRIORITY,
        "SYSLOG_IDENTIFIER": tag.job,
        "CRON_RUNNER_JOB": tag.job,
        "CRON_RUNNER_RUN_ID": tag.run_id,
        "CRON_RUNNER_ATTEMPT": tag.attempt,
        "CRON_RUNNER_EXECUTION": tag.execution,
        "CRON_RUNNER_GROUP": group,
    }
    # None of these can hold a line end: their alphabets have none.
    return "".join(f"{name}={value}\n" for name, value in values.items()).encode()


def _send_file(sock: socket.socket, data: bytes) -> None:
    """The journal takes only files that nobody can change any more."""
    descriptor = os.memfd_create("cron-runner-journal", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        with contextlib.closing(os.fdopen(os.dup(descriptor), "wb")) as file:
            file.write(data)
        os.lseek(descriptor, 0, os.SEEK_SET)  # the place in the file goes along with the descriptor
        seals = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, seals)
        socket.send_fds(sock, [b""], [descriptor])
    finally:
        os.close(descriptor)
