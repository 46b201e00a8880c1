"""The journal's file: opened, found to be damaged, put aside for a new one.

Damage is wherever SQLite says so: a page is looked at when it is needed, and no look at all of them, which takes
seconds at each start, would see what comes to be damaged later.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
import time
from typing import TYPE_CHECKING

import structlog

from runner.agent.journal.schema import JournalTooNew, migrate
from runner.errors import JournalError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

log = structlog.get_logger()

_PUT_ASIDE = (
    "a new one was begun: what this process and the supervisor know goes on, what only the old one knew is not known; "
    "see that the disk is well, and remove the old one when nobody wants to look at it"
)
_DAMAGE = ("SQLITE_CORRUPT", "SQLITE_NOTADB", "SQLITE_READONLY_DBMOVED")
_TABLES = frozenset({"runs", "runs_before", "events", "spools", "offsets"})
# Each may be as large as the journal, and a failing disk may make many.
MOST_ASIDE = 3


class JournalLost(sqlite3.DatabaseError):
    """The file is gone, or another is in its place."""


def is_damage(error: BaseException, connection: sqlite3.Connection | None = None) -> bool:
    """Whether an error says that the file is no whole journal. `connection`: the one that it came from."""
    if isinstance(error, JournalLost):
        return True
    name = str(getattr(error, "sqlite_errorname", ""))
    if name.startswith(_DAMAGE):
        return True
    # A page of the schema may be another database's, whole in itself.
    return name == "SQLITE_ERROR" and connection is not None and "no such" in str(error) and not _has_tables(connection)


def _has_tables(connection: sqlite3.Connection) -> bool:
    try:
        return {name for (name,) in connection.execute("SELECT name FROM sqlite_schema")} >= _TABLES
    except sqlite3.DatabaseError as error:
        return not is_damage(error)


def _check_tables(connection: sqlite3.Connection) -> None:
    if not _has_tables(connection):
        raise JournalLost("it has not the tables of a journal")


def open_connection(path: Path) -> sqlite3.Connection:
    """Open and migrate a journal file. Raises sqlite3.DatabaseError or JournalTooNew."""
    # The journal holds environments of jobs. SQLite gives the files beside it the mode of this one.
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=10.0)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        # A commit survives a crash; what makes it survive a power cut is in flush.py.
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA cache_size = -2048")
        # Some builds write zeros over every page that is freed, a write each, in a file that its owner alone can read.
        connection.execute("PRAGMA secure_delete = FAST")
        migrate(connection)
        _check_tables(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def open_or_put_aside(path: Path, now: float) -> sqlite3.Connection:
    """Open the journal; a file that is no journal is renamed beside it, and a new one is begun.

    Raises JournalError when the directory cannot be written or the journal is from a later version.
    """
    try:
        try:
            return open_connection(path)
        except sqlite3.DatabaseError as error:
            if not _broken(error):
                raise
            with _alone(path):
                return _again(path, now)
    except JournalTooNew as error:
        raise JournalError(
            f"cannot open the journal {path}: it was written by a later cron-runner ({error}); "
            "install that version again, or move the file away"
        ) from error
    except (sqlite3.Error, OSError) as error:
        raise JournalError(
            f"cannot open the journal {path}: {error}; check that {path.parent} exists and can be written"
        ) from error


def begin_anew(path: Path, was: os.stat_result, error: BaseException, now: float = 0.0) -> sqlite3.Connection:
    """Put aside the journal that was open as the file `was`, and open the one that is in its place then.

    Another process may have done that already. Raises sqlite3.Error, OSError or JournalTooNew.
    """
    with _alone(path):
        if same(path, was):
            put_aside(path, error, now or time.time())
        else:
            log.error("journal_lost", path=str(path), error=str(error), detail=_PUT_ASIDE)
        return _again(path, now or time.time())


def same(path: Path, was: os.stat_result) -> bool:
    """Whether the journal is the file that it was when it was opened."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return False
    return (status.st_dev, status.st_ino) == (was.st_dev, was.st_ino)


def put_aside(path: Path, error: BaseException, now: float) -> Path:
    """Rename the journal, with the files beside it, and say so. Raises OSError."""
    number = int(now)
    while (aside := path.with_name(f"{path.name}.corrupt-{number}")).exists():
        number += 1
    # Its own log first: a new journal must never meet it.
    for suffix in ("-wal", "-shm", ""):
        with contextlib.suppress(FileNotFoundError):
            path.with_name(path.name + suffix).rename(aside.with_name(aside.name + suffix))
    log.error("journal_put_aside", path=str(path), aside=str(aside), error=str(error), detail=_PUT_ASIDE)
    older = sorted(path.parent.glob(f"{path.name}.corrupt-*"), key=lambda part: part.stat().st_mtime_ns)
    names = [part for part in older if not part.name.endswith(("-wal", "-shm")) and part != aside]
    for part in names[: len(names) + 1 - MOST_ASIDE]:
        for suffix in ("-wal", "-shm", ""):
            part.with_name(part.name + suffix).unlink(missing_ok=True)
    return aside


def _again(path: Path, now: float) -> sqlite3.Connection:
    """Open it, with nobody else about to put it aside; once more after that, where it is damaged."""
    try:
        return open_connection(path)
    except sqlite3.DatabaseError as error:
        if not _broken(error):
            raise
        put_aside(path, error, now)
        return open_connection(path)


def _broken(error: sqlite3.DatabaseError) -> bool:
    """Whether an error at opening says that it is no whole journal: there, no statement of ours is wrong in itself."""
    name = str(getattr(error, "sqlite_errorname", ""))
    return is_damage(error) or name == "SQLITE_ERROR" or not isinstance(error, sqlite3.OperationalError)


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Of all processes that put this journal aside, the one that does it now."""
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX)
        yield
    finally:
        os.close(directory)
