"""Runs the page until it is told to stop: source, tokens, address, server."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Final

import uvicorn

from runner.errors import CronRunnerError
from runner.web.app import Application, quiet_logs
from runner.web.sources.host import HostSource
from runner.web.tokens import Token, Tokens, hash_of, new_token

if TYPE_CHECKING:
    from collections.abc import Callable

    from runner.config import Config
    from runner.config.web import Web
    from runner.web.sources.source import Source

_LOCAL: Final = frozenset({"127.0.0.1", "localhost", "::1"})
_GRACE_S: Final = 2
_BACKLOG: Final = 128
_UNREAD: Final = 96 << 10
"""Of what a reader does not take the kernel keeps twice this, and the server 64 KiB: 256 KiB in all. Those that are
accepted have it from the listener (socket(7))."""


def serve(config: Config, socket_path: Path, say: Callable[[str], None], *, table: str = "") -> None:
    """Serve until SIGINT or SIGTERM. Raises CronRunnerError where it cannot. `say` tells the person who started it."""
    web = config.web
    own = None
    if web.auth == "token" and not web.tokens_file:
        own = new_token()
    tokens = _tokens(web, own)
    source = source_of(config, socket_path, table)
    listener, shown = _listener(web.listen)
    application = Application(source, web, tokens, _names(web))
    quiet_logs()
    server = uvicorn.Server(
        uvicorn.Config(
            application.app,
            loop="asyncio",
            http="h11",
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=_GRACE_S,
            timeout_keep_alive=15,
            h11_max_incomplete_event_size=32 << 10,
            limit_concurrency=200,
        )
    )
    say(f"{shown}/?token={own}" if own is not None else f"{shown}/")
    try:
        with contextlib.suppress(KeyboardInterrupt):
            server.run(sockets=[listener])
    finally:
        source.close()
        listener.close()


def source_of(config: Config, socket_path: Path, table: str = "") -> Source:
    """The host, or the fleet where a table is set."""
    table = table or config.fleet.table
    if config.web.source == "host" or (config.web.source == "auto" and not table):
        return HostSource(socket_path)
    if not table:
        raise CronRunnerError('cannot show the fleet: no table is set; set [fleet] table, or [web] source = "host"')
    from runner.web.sources.fleet import FleetSource  # noqa: PLC0415 - a host's page needs nothing of AWS

    return FleetSource(config, table)


def _tokens(web: Web, own: str | None) -> Tokens:
    if own is not None:
        return Tokens(None, Token("operator", "operate", hash_of(own)))
    return Tokens(Path(web.tokens_file) if web.auth == "token" else None)


def _names(web: Web) -> frozenset[str]:
    names = {one.lower().strip("[]") for one in web.names} | _LOCAL
    if not web.listen.startswith("unix:"):
        host = web.listen.rpartition(":")[0].strip("[]").lower()
        if host not in ("", "0.0.0.0", "::"):  # noqa: S104 - not listened on here
            names.add(host)
    return frozenset(names)


def _listener(listen: str) -> tuple[socket.socket, str]:
    """The socket, and the address that people are told."""
    try:
        if listen.startswith("unix:"):
            path = Path(listen.removeprefix("unix:"))
            return _unix(path), f"unix:{path}: http://localhost"
        host, _, port = listen.rpartition(":")
        host = host.strip("[]")
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        made = socket.socket(family, socket.SOCK_STREAM)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _UNREAD)
        made.bind((host, int(port)))
        made.listen(_BACKLOG)
        name = f"[{host}]" if ":" in host else host
        return made, f"http://{name}:{made.getsockname()[1]}"
    except OSError as error:
        why = error.strerror or str(error)
        raise CronRunnerError(
            f"cannot listen on {listen}: {why}; stop what has it, or set another [web] listen"
        ) from error


def _unix(path: Path) -> socket.socket:
    with contextlib.suppress(FileNotFoundError):
        if stat.S_ISSOCK(path.stat().st_mode):
            path.unlink()
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    old = os.umask(0o117)
    try:
        made.bind(str(path))
    finally:
        os.umask(old)
    made.listen(_BACKLOG)
    return made
