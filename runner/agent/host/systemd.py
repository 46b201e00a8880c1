"""sd_notify(3): what the agent tells systemd, over the datagram socket that systemd names. Silent elsewhere."""

from __future__ import annotations

import os
import socket
import time
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
        self._ready = self._stopping = False

    def ready(self, status: str, *, started: bool = False) -> None:
        """`started`: the start is over. Else a reload is: unless one came before the start or after the stop, which
        are not to be taken for over."""
        self._ready |= started
        if self._ready and not self._stopping:
            self.send(READY=1, STATUS=status)

    def reloading(self) -> None:
        """A reload begins. The time is what Type=notify-reload knows it by; both in one message, sd_notify(3)."""
        if self._ready and not self._stopping:
            self.send(RELOADING=1, MONOTONIC_USEC=time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000)

    def stopping(self, status: str, extend: float) -> None:
        """The stop begins; it may go on for `extend` seconds before more is asked for."""
        self._stopping = True
        self.send(STOPPING=1, STATUS=status, EXTEND_TIMEOUT_USEC=int(extend * 1e6))

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
