"""Asking a host's agent how it is: /healthz and /metrics, and what it tells systemd."""

from __future__ import annotations

import json
import socket
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Self
from urllib.error import HTTPError
from urllib.request import ProxyHandler, build_opener

if TYPE_CHECKING:
    from pathlib import Path

    from fleet import Host


def listen(host: Host) -> str:
    """Let the host's agent, not started yet, answer on an address of its own; returns that."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    host.config.write_text(host.config.read_text().replace('agent.listen = ""', f'agent.listen = "{address}"'))
    return address


def page(address: str, path: str) -> tuple[int, str]:
    """Status and text of a page; (0, "") while nobody answers."""
    try:
        with build_opener(ProxyHandler({})).open(f"http://{address}{path}", timeout=10) as answer:
            return answer.status, answer.read().decode()
    except HTTPError as error:
        with error:
            return error.code, error.read().decode()
    except OSError:
        return 0, ""


def health(address: str) -> tuple[int, dict[str, Any]]:
    """Status and page of /healthz; (0, {}) while nobody answers."""
    status, text = page(address, "/healthz")
    return status, json.loads(text) if status else {}


class Systemd:
    """The other end of NOTIFY_SOCKET: what was told, and when (monotonic seconds)."""

    def __init__(self, directory: Path) -> None:
        self.address = str(directory / "notify")
        self.told: list[tuple[float, dict[str, str]]] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.address)
        self._thread = threading.Thread(target=self._listen, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as last:
            last.sendto(b"", self.address)
        self._thread.join(10)
        self._socket.close()

    def _listen(self) -> None:
        while text := self._socket.recv(65536).decode():
            self.told.append((time.monotonic(), dict(line.split("=", 1) for line in text.splitlines())))

    def environment(self, watchdog_s: float | None = None) -> dict[str, str]:
        """What systemd would give the service."""
        watched = {} if watchdog_s is None else {"WATCHDOG_USEC": str(int(watchdog_s * 1e6))}
        return {"NOTIFY_SOCKET": self.address, **watched}

    def said(self, field: str) -> list[str]:
        """All values of one field, in order."""
        return [fields[field] for _, fields in list(self.told) if field in fields]

    def fed(self, since: float = 0.0) -> int:
        """How often the watchdog was fed since this moment."""
        return sum("WATCHDOG" in fields for at, fields in list(self.told) if at > since)
