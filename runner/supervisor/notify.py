"""sd_notify(3): what the supervisor tells systemd. Silent where there is none, and no failure of it matters."""

from __future__ import annotations

import contextlib
import os
import socket


def tell(*lines: str) -> None:
    """One notification of ``NAME=value`` lines."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address.startswith("@"):  # the abstract namespace
        address = "\0" + address[1:]
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        sock.sendto("\n".join(lines).encode(), address)
