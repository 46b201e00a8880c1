"""What the agent and the supervisor will need of this host, asked as those who will need it: root may everything."""

from __future__ import annotations

import grp
import os
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from runner.check.finding import Finding, failed, ok
from runner.config.declared import FOLDER
from runner.supervisor.policy import untrusted

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from runner.check.accounts import Account
    from runner.config import Config

# Files that the AWS settings name.
_AWS_FILES = ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE", "AWS_CA_BUNDLE", "AWS_WEB_IDENTITY_TOKEN_FILE")
_OWN = ("agent.lock", "journal.db", "journal.db-wal", "journal.db-shm", "spool")
_FIRST_FREE_PORT = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")


def looks(config: Config, who: Account, environ: Mapping[str, str], *, root: bool) -> list[Finding]:
    """One line that all is well, or one for each thing that stops the next start.

    ``who`` is the agent's user; ``root``: the supervisor is, or will be, root, and decides by the file whom jobs run
    as.
    """
    found = [*_readable(config, who, environ), *_writable(config, who), *_port(config, who)]
    if root and config.source is not None:
        found += _trusted(config.source)
    if found or config.source is None:
        return found
    whose = f"{who.name}, whom the agent runs as," if who.entry is not None else "this user"
    return [ok("access", f"{whose} can read the configuration{', and the supervisor trusts it' if root else ''}")]


def _readable(config: Config, who: Account, environ: Mapping[str, str]) -> Iterator[Finding]:
    files = [] if config.source is None else [config.source, *_declared(config.source.parent / FOLDER)]
    files += [key.file for key in config.signing.keys if key.file.exists()]
    named = [Path(environ[name]) for name in _AWS_FILES if environ.get(name)]
    for path in (*files, *(path for path in named if path.exists())):
        closed = _closed(path, who)
        if closed is None:
            continue
        group, letter = _group_of(who), "x" if closed != path else "rx" if path.is_dir() else "r"
        way = f" ({closed} is closed to it)" if closed != path else ""
        yield failed(
            "access",
            f"{who.name}, whom the agent runs as, cannot read {path}{way}: its next start fails",
            f"`chgrp {group} {closed} && chmod g+{letter} {closed}`",
        )


def _declared(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return [folder, *sorted(path for path in folder.glob("*.toml") if not path.name.startswith("."))]


def _closed(path: Path, who: Account) -> Path | None:
    """What is in the way of reading: a folder above, or the path itself; None where nothing is."""
    above = [*reversed(path.absolute().parents)]
    *enter, read = who.may(*(("x", str(folder)) for folder in above), ("r", str(path)))
    return next((folder for folder, may in zip(above, enter, strict=True) if not may), None if read else path)


def _writable(config: Config, who: Account) -> Iterator[Finding]:
    """What root left behind, who has started an agent by hand; the directory itself has a line of its own."""
    if who.entry is None:
        return
    there = [path for name in _OWN if (path := config.paths.state / name).exists()]
    answers = who.may(*(("w", str(path)) for path in there)) if there else []
    if foreign := [path.name for path, may in zip(there, answers, strict=True) if not may]:
        detail = f"{who.name}, whom the agent runs as, cannot write {', '.join(foreign)} in {config.paths.state}"
        yield failed("access", detail, f"`chown -R {who.name}: {config.paths.state}`")


def _port(config: Config, who: Account) -> Iterator[Finding]:
    port = urlsplit(f"//{config.agent.listen}").port if config.agent.listen else None
    if who.entry is None or port is None:
        return
    try:
        first = int(_FIRST_FREE_PORT.read_text())
    except (OSError, ValueError):
        first = 1024
    if 0 < port < first:
        detail = f"{who.name}, whom the agent runs as, may not listen on port {port}: those below {first} are root's"
        yield failed("access", detail, "set [agent] listen to a higher port")


def _trusted(path: Path) -> Iterator[Finding]:
    try:
        facts = path.stat()
    except OSError as error:
        yield failed("access", f"cannot look at {path}: {error.strerror}", "check again as root")
        return
    if why := untrusted(str(path), facts):
        detail, _, remedy = why.partition("; ")
        yield failed("access", f"the supervisor refuses it: {detail}", remedy)


def _group_of(who: Account) -> str:
    gid = who.entry.pw_gid if who.entry is not None else os.getegid()
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)
