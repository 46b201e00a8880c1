"""State directory, free disk, holes, journal."""

from __future__ import annotations

import errno
import os
import pwd
import sqlite3
import stat
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from runner.agent.host.disk import Disk
from runner.agent.journal.schema import MIGRATIONS
from runner.agent.output import spool_file
from runner.check.accounts import AGENT
from runner.check.finding import Finding, failed, ok, warning
from runner.check.unit import AGENT_UNIT, MADE_BY_UNIT
from runner.protocol.units import format_size

if TYPE_CHECKING:
    from runner.check.accounts import Account
    from runner.config import Config

_CHECK_WITHIN_S = 5.0
_STEPS = 10_000


def directories(config: Config, who: Account, *, unit: bool) -> list[Finding]:
    """State and runtime directory as the agent's user. ``unit``: the packaged unit, which makes its own, is there."""
    return [
        *directory("state", config.paths.state, who, unit=unit),
        *directory("runtime", config.paths.runtime, who, unit=unit),
    ]


def directory(name: str, path: Path, who: Account, *, unit: bool) -> list[Finding]:
    """A directory of the agent's; one that is not there yet is made by its first start, where it may."""
    there, write, read, enter = who.may(("d", str(path)), ("w", str(path)), ("r", str(path)), ("x", str(path)))
    if there:
        if not (write and read and enter):
            owner = _owner_of_others(path, who)
            if owner is not None:
                detail = f"{path} belongs to {owner}: what is in it is not for this user"
                return [warning(name, detail, f"check again as root, or as {owner} if the agent runs as that user")]
            remedy = f"`chown -R {who.name} {path}`, or set another [paths] {name}"
            return [failed(name, f"{path} cannot be written by {who.name}, whom the agent runs as", remedy)]
        return [ok(name, f"{path} can be written by {who.name}"), *_open_to_others(name, path)]
    if unit and path in MADE_BY_UNIT:
        return [ok(name, f"{path} is not there yet; {AGENT_UNIT} makes it")]
    above = existing(path)
    (may,) = who.may(("w", str(above)))
    if above.is_dir() and may:
        return [ok(name, f"{path} is not there yet; the agent makes it")]
    detail = f"{path} is not there, and {who.name} cannot make it"
    return [failed(name, detail, f"`install -d -m 0700 -o {who.name} {path}`, or set another [paths] {name}")]


def _owner_of_others(path: Path, who: Account) -> str | None:
    """The owner, where the agent may well run as that user and we are an ordinary user who cannot tell."""
    owner = path.stat().st_uid
    if os.geteuid() in (0, owner) or who.name == AGENT:
        return None
    try:
        return pwd.getpwuid(owner).pw_name
    except KeyError:
        return str(owner)


def _open_to_others(name: str, path: Path) -> list[Finding]:
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & stat.S_IWOTH:
        return [failed(name, f"{path} can be written by everybody (mode {mode:o})", f"`chmod 0700 {path}`")]
    return []


def existing(path: Path) -> Path:
    """The path, or what of it exists."""
    return next((part for part in (path, *path.parents) if part.exists()), Path("/"))


def free(config: Config) -> Finding:
    """Free disk against what the spool may hold."""
    path = existing(config.paths.state)
    found = os.statvfs(path)
    left = found.f_bavail * found.f_frsize
    return judge_free(left, config.output.spool_max_bytes, Disk(path).blocked(), path)


def judge_free(left: int, spool_bytes: int, blocked: str | None, path: Path) -> Finding:
    """``blocked`` is why the agent would receive nothing now."""
    if blocked is not None:
        return failed("disk", f"{blocked}: nothing is received", f"make room on the file system of {path}")
    if left < spool_bytes:
        return warning(
            "disk",
            f"{format_size(left)} free in {path}, [output] spool_max_bytes is {format_size(spool_bytes)}: the disk is "
            "full before the spool is",
            "make room, or lower spool_max_bytes",
        )
    return ok("disk", f"{format_size(left)} free in {path}, the spool may take {format_size(spool_bytes)}")


def holes(config: Config) -> Finding | None:
    """Does the file system give back the middle of a file? Tried on a file without a name; None: not to be tried."""
    path = existing(config.paths.state)
    try:
        descriptor = os.open(path, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError as error:
        return _not_tried(path, error)
    try:
        os.write(descriptor, b"x" * 4 * spool_file.BLOCK)
        os.fsync(descriptor)
        before = os.fstat(descriptor).st_blocks
        spool_file.punch(Path(f"/proc/self/fd/{descriptor}"), 0, 2 * spool_file.BLOCK)
        punched = os.fstat(descriptor).st_blocks < before
    except OSError as error:
        return _not_tried(path, error)
    finally:
        os.close(descriptor)
    if punched:
        return ok("holes", f"{path} gives back what is shipped of a running job's output")
    detail = f"the file system of {path} cannot punch holes: a job's output takes disk until the job has ended"
    return warning("holes", detail, "put [paths] state on ext4, XFS, Btrfs or tmpfs")


def _not_tried(path: Path, error: OSError) -> Finding | None:
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return None  # the state directory's own line says who may write it
    detail = f"not tried whether {path} can punch holes: {error.strerror}"
    return warning("holes", detail, "put [paths] state on ext4, XFS, Btrfs or tmpfs")


def journal(config: Config) -> Finding:
    """Read-only beside a running agent, for five seconds at most: readers stop no writer in SQLite's WAL mode."""
    path = config.paths.state / "journal.db"
    try:
        size = path.stat().st_size
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=5.0)) as connection:
            return _judge_journal(path, size, connection)
    except FileNotFoundError:
        return ok("journal", f"{path} is not there yet; the agent makes it")
    except PermissionError:
        return warning("journal", f"{path} cannot be read by this user", "check again as root")
    except sqlite3.OperationalError as error:
        if not os.access(path, os.R_OK):
            return warning("journal", f"{path} cannot be read by this user", "check again as root")
        return failed("journal", f"cannot read {path}: {error}", f"check disk and owner of {path.parent}")
    except sqlite3.DatabaseError as error:
        return _broken(path, str(error))


def _judge_journal(path: Path, size: int, connection: sqlite3.Connection) -> Finding:
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version > len(MIGRATIONS):
        detail = f"{path} was written by a later cron-runner (schema {version}, this one knows {len(MIGRATIONS)})"
        return failed("journal", detail, "install that version again, or move the file away")
    until = time.monotonic() + _CHECK_WITHIN_S
    connection.set_progress_handler(lambda: time.monotonic() > until, _STEPS)
    try:
        (said,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.OperationalError as error:
        if time.monotonic() <= until:
            raise
        return ok("journal", f"{path}, {format_size(size)}: sound as far as looked at in 5 s ({error})")
    return ok("journal", f"{path}, {format_size(size)}, is sound") if said == "ok" else _broken(path, str(said))


def _broken(path: Path, why: str) -> Finding:
    remedy = "the agent puts the file aside as soon as it reads there, and begins a new one: restart it for that"
    return failed("journal", f"{path} is damaged: {why}", remedy)
