"""Frames on the unix socket: a 4-byte big-endian length, then one JSON object of at most 16 MiB.

A frame that says ``"fds": n`` owns the next n descriptors that came by SCM_RIGHTS, in order; the sender attaches
them to the bytes that carry the frame, so they are never later than it.
"""

from __future__ import annotations

import array
import contextlib
import errno
import json
import os
import socket
import struct
from collections import deque

TYPE_CHECKING = False  # not imported from typing, which costs a megabyte
if TYPE_CHECKING:
    from typing import Any

PROTOCOL = 1
MAX_FRAME = 16 << 20
MAX_FDS = 253  # SCM_MAX_FD: what one message may carry
MAX_OUTBOX = 32 << 20

_READ = 256 << 10
_ANCILLARY = socket.CMSG_SPACE(MAX_FDS * 4)
_encode = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode


_HANGUPS = frozenset({errno.ECONNRESET, errno.EPIPE, errno.ENOTCONN, errno.ECONNABORTED, errno.ETIMEDOUT, errno.EBADF})


class ProtocolError(Exception):
    """The peer sent what is no frame of this protocol; the connection cannot be used any more."""


class Hangup(Exception):
    """The peer has gone."""


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a number")


_decode = json.JSONDecoder(parse_constant=_refuse_constant).decode


def encode(message: dict[str, Any]) -> bytes:
    """One frame. ASCII only, so that no surrogate of a file name can spoil it."""
    body = _encode(message).encode("ascii")
    return struct.pack(">I", len(body)) + body


def decode(body: bytes) -> dict[str, Any]:
    """The object of one frame's body. Raises ProtocolError."""
    try:
        message = _decode(body.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"cannot read the frame: {error}") from error
    if not isinstance(message, dict):
        raise ProtocolError("cannot read the frame: it is no JSON object")
    return message


def in_memory(name: str, data: bytes) -> int:
    """A file of memory alone with this in it, at its beginning; nobody inherits it. Raises OSError."""
    fd = os.memfd_create(name, os.MFD_CLOEXEC)
    try:
        while data:
            data = data[os.write(fd, data) :]
        os.lseek(fd, 0, os.SEEK_SET)
    except OSError:
        close_all([fd])
        raise
    return fd


def close_all(fds: list[int]) -> None:
    for fd in fds:
        with contextlib.suppress(OSError):
            os.close(fd)


class Connection:
    """One client: its buffers and the descriptors it sent. Never blocks."""

    __slots__ = ("_fds", "_inbox", "_outbox", "owner", "peer_uid", "requests", "sock", "wanted")

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.sock = sock
        self.owner = ""
        self.wanted = 1  # the epoll events it is watched for
        _pid, self.peer_uid, _gid = struct.unpack(
            "iII", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("iII"))
        )
        self.requests: deque[tuple[dict[str, Any], list[int]]] = deque()  # received, and not answered yet
        self._inbox = bytearray()
        self._outbox = bytearray()
        self._fds: list[int] = []

    def receive(self) -> None:
        """Put the complete frames that have arrived, each with its descriptors, into ``requests``.

        Raises Hangup and ProtocolError, InterruptedError where nothing has arrived, and OSError where it can be tried
        again.
        """
        data = self._read()
        if not data:
            raise Hangup
        inbox = self._inbox
        inbox += data
        start = 0
        while len(inbox) - start >= 4:
            length = int.from_bytes(inbox[start : start + 4], "big")
            if length > MAX_FRAME:
                raise ProtocolError(f"cannot take a frame of {length} bytes: {MAX_FRAME} is the most")
            if len(inbox) - start - 4 < length:
                break
            message = decode(bytes(inbox[start + 4 : start + 4 + length]))
            self.requests.append((message, self._claim(message)))
            start += 4 + length
        del inbox[:start]

    def _read(self) -> bytes:
        try:
            data, ancillary, flags, _address = self.sock.recvmsg(_READ, _ANCILLARY, socket.MSG_CMSG_CLOEXEC)
        except BlockingIOError as error:  # a wakeup without data
            raise InterruptedError from error
        except OSError as error:
            if error.errno in _HANGUPS:
                raise Hangup from error
            raise  # a lack that passes is no reason to stop the client's tied runs
        for level, kind, payload in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                fds = array.array("i")
                fds.frombytes(payload[: len(payload) - len(payload) % fds.itemsize])
                self._fds += fds
        if flags & socket.MSG_CTRUNC or len(self._fds) > MAX_FDS:
            raise ProtocolError("cannot take so many descriptors at once")
        return data

    def _claim(self, message: dict[str, Any]) -> list[int]:
        count = message.get("fds", 0)
        if not isinstance(count, int) or not 0 <= count <= len(self._fds):
            raise ProtocolError("cannot read the frame: its descriptors did not come with it")
        fds, self._fds = self._fds[:count], self._fds[count:]
        return fds

    def send(self, message: dict[str, Any]) -> None:
        """Queue a frame; `flush` moves it."""
        self._outbox += encode(message)

    @property
    def pending(self) -> int:
        """Bytes queued and not yet taken by the kernel."""
        return len(self._outbox)

    def flush(self) -> None:
        """Send what the socket takes now. Raises Hangup, also for a peer that does not read for too long, and OSError
        where it can be tried again."""
        while self._outbox:
            try:
                sent = self.sock.send(self._outbox, socket.MSG_NOSIGNAL)
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno in _HANGUPS:
                    raise Hangup from error
                raise
            del self._outbox[:sent]
        if len(self._outbox) > MAX_OUTBOX:
            raise Hangup

    def close(self) -> None:
        close_all([*self._fds, *(fd for _message, fds in self.requests for fd in fds)])
        self._fds = []
        self.requests.clear()
        with contextlib.suppress(OSError):  # the number is free all the same
            self.sock.close()
