"""Syslog: RFC 5424 with structured data, over UDP (RFC 5426), TCP with octet counting (RFC 6587) or a unix socket."""

from __future__ import annotations

import errno
import fcntl
import select
import socket
import struct
import termios
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from runner.sinks import Batch, Limits, Piece, SinkUnavailable, Tag
from runner.sinks.blocking import Blocking

if TYPE_CHECKING:
    from collections.abc import Iterator

PRIORITY = 9 * 8 + 6  # facility cron, severity informational
MESSAGE_BYTES = 8192
"""What rsyslog takes as one message unless it is told otherwise; a longer one it cuts or splits."""
HEAD_BYTES = 1024
"""Enough for the longest names of host, job, run and group."""
SD_ID = "cron-runner@32473"
"""Names without a private number are reserved; 32473 is the one of RFC 5612 for those who have none."""
CONNECT_S = 10.0
STUCK_S = 30.0
PACE_BYTES = 64 << 10
PACE_S = 0.005
"""Datagrams over UDP pause so long after so many bytes (12 MB/s): a receiver's buffer is some 200 KiB, and nobody
tells what did not fit."""


class Syslog:
    """The sink "syslog". `address` is udp://HOST:PORT, tcp://HOST:PORT or unix:///PATH."""

    name = "syslog"
    raw = False
    parallel = 1
    shared = True
    limits = Limits(
        batch_bytes=256 << 10, batch_events=2_000, event_bytes=MESSAGE_BYTES - HEAD_BYTES, event_overhead=300
    )

    def __init__(self, address: str, group: str, *, flush: float = 0.2) -> None:
        self._address = address
        self._group = group
        self.flush = flush
        self._socket: socket.socket | None = None
        self._datagrams = True
        self._blocking = Blocking("syslog")

    def stream(self, tag: Tag) -> str:
        """There is one log."""
        del tag
        return "syslog"

    def prefix(self, tag: Tag) -> str:
        """Structured data names the run."""
        del tag
        return ""

    async def send(self, batch: Batch) -> int:
        try:
            await self._blocking(lambda: self._send(batch))
        except OSError as error:
            reason = error.strerror or str(error) or "it does not read"
            raise SinkUnavailable(
                f"cannot send to syslog at {self._address}: {reason}; check [output.syslog] address"
            ) from error
        return 0

    async def close(self) -> None:
        self._blocking.close()
        self._hang_up()

    def _send(self, batch: Batch) -> None:
        messages = (message for piece in batch.pieces for message in _messages(piece, self._group))
        try:
            sock = self._connected()
            if self._datagrams:
                self._send_each(sock, messages)
            else:
                sock.sendall(b"".join(b"%d %s" % (len(message), message) for message in messages))
                _wait_acknowledged(sock)
        except OSError:
            self._hang_up()
            raise

    def _send_each(self, sock: socket.socket, messages: Iterator[bytes]) -> None:
        pace = PACE_BYTES if sock.family != socket.AF_UNIX else float("inf")  # a unix socket blocks when it is full
        size = 0
        for message in messages:
            sock.send(message)
            size += len(message)
            if size > pace:
                time.sleep(PACE_S)
                size = 0
        # Where nobody listens, the kernel learns of it after the send, and tells it with the next one.
        if number := sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            raise OSError(number, "nobody listens there" if number == errno.ECONNREFUSED else "refused")

    def _connected(self) -> socket.socket:
        if self._socket is not None and not self._datagrams and _hung_up(self._socket):
            self._hang_up()
        if self._socket is None:
            self._socket = self._connect()
            self._socket.settimeout(STUCK_S)
            self._datagrams = self._socket.type == socket.SOCK_DGRAM
        return self._socket

    def _connect(self) -> socket.socket:
        parts = urlsplit(self._address)
        if parts.scheme == "unix":
            return _connect_unix(parts.path)
        host, port = parts.hostname or "", parts.port or 514
        if parts.scheme == "tcp":
            return socket.create_connection((host, port), timeout=CONNECT_S)
        family, kind, protocol, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
        sock = socket.socket(family, kind, protocol)
        sock.connect(where)
        return sock

    def _hang_up(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def _connect_unix(path: str) -> socket.socket:
    """A datagram socket (/dev/log is one), else a stream."""
    for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
        sock = socket.socket(socket.AF_UNIX, kind)
        sock.settimeout(CONNECT_S)
        try:
            sock.connect(path)
        except OSError as error:
            sock.close()
            if kind == socket.SOCK_STREAM or error.errno != errno.EPROTOTYPE:
                raise
        else:
            return sock
    raise AssertionError


def _hung_up(sock: socket.socket) -> bool:
    """Whether the other side has closed: what is sent then is taken by the kernel and lost."""
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    if not poll.poll(0):
        return False
    try:
        return sock.recv(1, socket.MSG_PEEK) == b""
    except OSError:
        return True


def _wait_acknowledged(sock: socket.socket) -> None:
    """Syslog has no answers; that the other host's kernel has everything is the most there is to know."""
    deadline = time.monotonic() + STUCK_S
    while struct.unpack("i", fcntl.ioctl(sock, termios.TIOCOUTQ, bytes(4)))[0] > 0:
        if time.monotonic() > deadline:
            raise TimeoutError(errno.ETIMEDOUT, "what was sent is not acknowledged")
        time.sleep(0.002)
    if _hung_up(sock):
        raise ConnectionResetError(errno.ECONNRESET, "the connection was closed")


def _messages(piece: Piece, group: str) -> Iterator[bytes]:
    tag = piece.tag
    moment = datetime.fromtimestamp(piece.ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    pairs = {"job": tag.job, "run_id": tag.run_id, "attempt": tag.attempt, "execution": tag.execution, "group": group}
    data = " ".join(f'{name}="{_escaped(str(value))}"' for name, value in pairs.items())
    head = f"<{PRIORITY}>1 {moment} {_name(tag.host, 255)} {_name(tag.job, 48)} - - [{SD_ID} {data}] ".encode()
    return (head + line.encode() for line in piece.lines)


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("]", "\\]")


def _name(value: str, most: int) -> str:
    """A header's field: printable ASCII without spaces, `-` for none."""
    return "".join(c if "!" <= c <= "~" else "_" for c in value)[:most] or "-"
