"""sd_notify(3): what the agent tells systemd, over the datagram socket that systemd names. Silent elsewhere."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from collections.abc import Mapping

log = structlog.get_logger()


class Notifier:
    """`environ` is the agent's own. No failure to notify ever stops the agent."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._address = environ.get("NOTIFY_SOCKET", "")
        usec = environ.get("WATCHDOG_USEC", "")
        pid = environ.get("WATCHDOG_PID", "")
        meant = usec.isdigit() and (not pid or pid == str(os.getpid()))
        # Half of the limit, as sd_watchdog_enabled(3) advises; None where systemd does not watch.
        self.watchdog_every: float | None = int(usec) / 2e6 if meant else None

    def send(self, **fields: str | int) -> None:
        """One notification: READY=1, STATUS="…", STOPPING=1, RELOADING=1, WATCHDOG=1."""
        if not self._address:
            return
        # A leading @ stands for the NUL byte of the abstract namespace.
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        message = "\n".join(f"{name}={value}" for name, value in fields.items())
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
                sock.sendto(message.encode(), address)
        except OSError as error:
            log.warning("systemd_not_notified", error=str(error))
