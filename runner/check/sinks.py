"""Where output goes besides CloudWatch: is somebody there? Nothing is written."""

from __future__ import annotations

import socket
from contextlib import closing
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from runner.check.finding import Finding, failed, ok
from runner.sinks.journald import SOCKET

if TYPE_CHECKING:
    from pathlib import Path

    from runner.config import Config

_CONNECT_S = 5.0


def sinks(config: Config, journal: Path = SOCKET) -> list[Finding]:
    """One line for each sink of this host."""
    found = []
    for name in config.output.sinks:
        if name == "journald":
            found.append(_journald(journal))
        elif name == "syslog":
            found.append(_syslog(config.output.syslog.address))
        elif name == "stdout":
            found.append(ok("sink", "stdout: output goes to the agent's own standard output"))
    return found


def _journald(path: Path) -> Finding:
    try:
        with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as sock:
            sock.connect(str(path))
    except OSError as error:
        detail = f"journald: cannot reach {path}: {error.strerror}"
        return failed("sink", detail, 'start systemd-journald, mount its socket, or take "journald" out of the sinks')
    return ok("sink", f"journald listens on {path}")


def _syslog(address: str) -> Finding:
    remedy = 'start it, correct [output.syslog] address, or take "syslog" out of the sinks'
    parts = urlsplit(address)
    try:
        if parts.scheme == "unix":
            _connect_unix(parts.path)
            return ok("sink", f"syslog listens on {parts.path}")
        if parts.scheme == "tcp":
            with closing(socket.create_connection((parts.hostname or "", parts.port or 514), timeout=_CONNECT_S)):
                return ok("sink", f"syslog answers at {address}")
        socket.getaddrinfo(parts.hostname, parts.port, type=socket.SOCK_DGRAM)
    except OSError as error:
        return failed("sink", f"syslog: cannot reach {address}: {error.strerror or error}", remedy)
    return ok("sink", f"syslog: {address} has an address; UDP does not tell whether anybody listens")


def _connect_unix(path: str) -> None:
    for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
        with closing(socket.socket(socket.AF_UNIX, kind)) as sock:
            try:
                sock.connect(path)
            except OSError:
                if kind == socket.SOCK_STREAM:
                    raise
            else:
                return
