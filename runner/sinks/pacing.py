"""How fast datagrams may follow each other, where nobody tells what did not fit into the receiver's buffer.

The kernel charges that buffer not the text but what a datagram takes of memory (skb->truesize): for its data with
headers and skb_shared_info the next power of two, and 256 bytes beside it; measured on loopback: 768 or 832 for a few
bytes, 1,280 for a short line with its header, 16,640 for 8 KB. net.core.rmem_default is 212,992 bytes nearly
everywhere: 166 short lines.
"""

from __future__ import annotations

import errno
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import socket

BURST_BYTES = 64 << 10
"""So much of a receiver's buffer is filled at once: less than a third of the usual one."""
PAUSE_S = 0.002
STUCK_S = 30.0
_BESIDE = 256
_LEAST = 576
# Where the data came over a wire: drivers mostly take half a page for any of them.
_LEAST_OVER_A_WIRE = 2048
_HEADERS = 448  # skb_shared_info, and the headers of UDP, IP and link with their alignment
_SOCKETS = (Path("/proc/net/udp"), Path("/proc/net/udp6"))


def charge(payload: int, least: int = _LEAST) -> int:
    """What a datagram takes of its receiver's buffer; sizes in bytes."""
    return max(least, 1 << (payload + _HEADERS - 1).bit_length()) + _BESIDE


class Pace:
    """For one connected UDP socket. A receiver on this host is waited for until it has read; another one is given
    time: 13,000 short lines a second."""

    def __init__(self, sock: socket.socket) -> None:
        peer = sock.getpeername()
        self._port: int = peer[1]
        self._here = peer[0] in {sock.getsockname()[0], "::1"} or peer[0].startswith("127.")
        self._least = _LEAST if self._here else _LEAST_OVER_A_WIRE
        self._sent = BURST_BYTES  # who sent before us is not known

    def before(self, payload: int) -> None:
        """Wait until a datagram of so many bytes may be sent. Raises TimeoutError where nobody reads."""
        if self._sent >= BURST_BYTES:
            self._wait()
            self._sent = 0
        self._sent += charge(payload, self._least)

    def _wait(self) -> None:
        waiting = _waiting(self._port) if self._here else None
        if waiting is None:
            time.sleep(PAUSE_S)
            return
        deadline = time.monotonic() + STUCK_S
        while waiting is not None and waiting > BURST_BYTES:
            if time.monotonic() > deadline:
                raise TimeoutError(errno.ETIMEDOUT, "it does not read")
            time.sleep(PAUSE_S)
            waiting = _waiting(self._port)


def _waiting(port: int) -> int | None:
    """What the fullest receiver at a port of this host has still to read, as the kernel charges it; None where there
    is none to be seen: it may be in another network namespace. proc_pid_net(5) has the columns."""
    found: int | None = None
    end = b":%04X" % port
    for path in _SOCKETS:
        try:
            rows = path.read_bytes().splitlines()[1:]
        except OSError:  # without IPv6 there is no udp6
            continue
        for row in rows:
            columns = row.split(None, 5)
            if columns[1].endswith(end):
                found = max(found or 0, int(columns[4].partition(b":")[2], 16))
    return found
