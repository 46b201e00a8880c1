"""Syslog: RFC 5424 with structured data, over UDP (RFC 5426) and TCP with octet counting (RFC 6587).

A unix socket gets what syslog(3) writes: journald and rsyslog's imuxsock read nothing else there. Of RFC 5424 they
take the version for the program's name, and the rest for text.
"""

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
from runner.sinks.pacing import Pace

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
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")  # in any locale
_BRACKETS = str.maketrans("[]:", "___")
_GONE = select.POLLRDHUP | select.POLLHUP | select.POLLERR


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
        self._pace: Pace | None = None
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
        try:
            sock = self._connected()
            if sock.family == socket.AF_UNIX:
                messages = (message for piece in batch.pieces for message in _local_messages(piece))
            else:
                messages = (message for piece in batch.pieces for message in _messages(piece, self._group))
            if sock.type == socket.SOCK_DGRAM:
                self._send_each(sock, messages)
            elif sock.family == socket.AF_UNIX:
                # As syslog(3) does on a stream: each message ends with a NUL.
                _send_stream(sock, b"".join(message.replace(b"\0", b"#000") + b"\0" for message in messages))
            else:
                _send_stream(sock, b"".join(b"%d %s" % (len(message), message) for message in messages))
        except OSError:
            self._hang_up()
            raise

    def _send_each(self, sock: socket.socket, messages: Iterator[bytes]) -> None:
        for message in messages:
            if self._pace is not None:  # a unix socket blocks when it is full
                self._pace.before(len(message))
            sock.send(message)
        # Where nobody listens, the kernel learns of it after the send, and tells it with the next one.
        if number := sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            raise OSError(number, "nobody listens there" if number == errno.ECONNREFUSED else "refused")

    def _connected(self) -> socket.socket:
        if self._socket is not None and self._socket.type == socket.SOCK_STREAM and _hung_up(self._socket):
            self._hang_up()
        if self._socket is None:
            self._socket = self._connect()
            self._socket.settimeout(STUCK_S)
            udp = self._socket.type == socket.SOCK_DGRAM and self._socket.family != socket.AF_UNIX
            self._pace = Pace(self._socket) if udp else None
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
    return bool(_wait_for(sock, 0, 0) & _GONE)


def _wait_for(sock: socket.socket, events: int, seconds: float) -> int:
    """What of the events and of a hang-up there is, within so long."""
    poll = select.poll()
    poll.register(sock, events | _GONE)
    found = poll.poll(seconds * 1000)
    return found[0][1] if found else 0


def _send_stream(sock: socket.socket, data: bytes) -> None:
    """Send all, and wait until the other host's kernel has it: there are no answers, so that is the most there is to
    know. Beside either wait the other side may hang up; what it has not taken then is never acknowledged."""
    deadline = time.monotonic() + STUCK_S
    view = memoryview(data)
    while view or struct.unpack("i", fcntl.ioctl(sock, termios.TIOCOUTQ, bytes(4)))[0] > 0:
        found = _wait_for(sock, select.POLLOUT, 1.0) if view else _wait_for(sock, 0, 0.002)
        if found & _GONE:
            break
        if view and found:
            view = view[sock.send(view, socket.MSG_DONTWAIT) :]
            deadline = time.monotonic() + STUCK_S
        elif time.monotonic() > deadline:
            raise TimeoutError(errno.ETIMEDOUT, "it does not read" if view else "what was sent is not acknowledged")
    if view or _hung_up(sock):
        raise ConnectionResetError(errno.ECONNRESET, "the connection was closed")


def _local_messages(piece: Piece) -> Iterator[bytes]:
    """What syslog(3) writes, "<PRIORITY>TIME NAME[ID]: TEXT" in local time (glibc, misc/syslog.c); the run's id
    stands where it has the process's."""
    moment = time.localtime(piece.ms / 1000)
    when = f"{_MONTHS[moment.tm_mon - 1]} {moment.tm_mday:2} {time.strftime('%H:%M:%S', moment)}"
    name, run_id = (_name(value, 255).translate(_BRACKETS) for value in (piece.tag.job, piece.tag.run_id))
    head = f"<{PRIORITY}>{when} {name}[{run_id}]: ".encode()
    return (head + line.encode() for line in piece.lines)


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
