"""One SQLite file, one thread, group commit.

Writers on the event loop hand in statements and await the commit that holds them. The thread takes everything that
is waiting into one transaction, so a hundred runs that change state together cost one flush to disk. A full disk is
waited out: nothing that was handed in is dropped, and `blocked_since` says since when.

Not every fact needs a flush, nor at once; `When` says what one needs. Each class is committed in its own order.
"""

from __future__ import annotations

import asyncio
import os
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import structlog

from runner.agent.schema import JournalTooNew, migrate
from runner.errors import JournalError

if TYPE_CHECKING:
    from pathlib import Path

log = structlog.get_logger()
T = TypeVar("T")

Statement = tuple[str, Sequence[Any]]
Work = Callable[[sqlite3.Connection], Any]

When = Literal["durable", "now", "lazy"]
"""When a future resolves, and what its commit then survives:

- ``durable``: on disk, so that the world may be told; survives a power cut. A few milliseconds are waited for others.
- ``now``: at once, and survives the agent's end by any signal. A power cut may take it, with the processes that it is
  about: the start of a run, whose message is still on the queue.
- ``lazy``: within a moment, as ``now``; for what is repeated without harm where it is lost.
"""
_Item = tuple[Work, asyncio.Future[Any]]
GATHER_S = 0.02
LAZY_S = 0.25

RETRY_S = 1.0
# A full or failing disk is waited out; every other error is a fault of the one piece of work that met it.
_BLOCKED = "nothing new is received until it can be written; make room, or mend the disk"
_PUT_ASIDE = "it is damaged; a new one was begun, which knows nothing of the runs and unsent events in the old one"
_WAITED_OUT = (
    "SQLITE_FULL",
    "SQLITE_IOERR",
    "SQLITE_BUSY",
    "SQLITE_CANTOPEN",
    "SQLITE_READONLY",
    "SQLITE_LOCKED",
)


def open_connection(path: Path) -> sqlite3.Connection:
    """Open and migrate a journal file. Raises sqlite3.DatabaseError or JournalTooNew."""
    # The journal holds environments of jobs. SQLite gives the files beside it the mode of this one.
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=10.0)
    try:
        # FULL: a commit is on disk before the world is told, so it survives a power cut, not only a crash.
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")  # and NORMAL for commits that need no flush: see When
        connection.execute("PRAGMA cache_size = -2048")
        migrate(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def open_or_put_aside(path: Path, now: float) -> sqlite3.Connection:
    """Open the journal; a file that is no journal is renamed beside it, and a new one is begun.

    Raises JournalError when the directory cannot be written or the journal is from a later version.
    """
    try:
        return open_connection(path)
    except JournalTooNew as error:
        raise JournalError(
            f"cannot open the journal {path}: it was written by a later cron-runner ({error}); "
            "install that version again, or move the file away"
        ) from error
    except (sqlite3.OperationalError, OSError) as error:
        raise JournalError(
            f"cannot open the journal {path}: {error}; check that {path.parent} exists and can be written"
        ) from error
    except sqlite3.DatabaseError as error:
        aside = path.with_name(f"{path.name}.corrupt-{int(now)}")
        for suffix in ("", "-wal", "-shm"):
            part = path.with_name(path.name + suffix)
            if part.exists():
                part.rename(aside.with_name(aside.name + suffix))
        log.error("journal_put_aside", path=str(path), aside=str(aside), error=str(error), detail=_PUT_ASIDE)
        return open_connection(path)


class Database:
    """The journal's connection and its thread. Made and used on one event loop."""

    def __init__(self, path: Path, *, now: Callable[[], float] = time.time) -> None:
        self.path = path
        self.blocked_since: float | None = None
        self.blocked_by = ""
        self.commits = 0
        self.progress = time.monotonic()  # the last time the thread went round; waiting for a full disk is that too
        self._connection = open_or_put_aside(path, now())
        self._loop = asyncio.get_running_loop()
        # Gathered on the event loop, and handed to the thread as one: waking it is what costs.
        self._gathered: dict[When, list[_Item]] = {"durable": [], "now": [], "lazy": []}
        self._queue: queue.SimpleQueue[tuple[list[_Item], bool] | None] = queue.SimpleQueue()
        self._full = True  # what PRAGMA synchronous is set to
        self._closing = threading.Event()
        # A daemon thread: a disk that never answers must not keep a stopped agent from exiting.
        self._thread = threading.Thread(target=self._serve, name="journal", daemon=True)
        self._thread.start()

    def call(self, work: Callable[[sqlite3.Connection], T], *, when: When = "durable") -> asyncio.Future[T]:
        """Run `work(connection)` inside the next transaction of its class; the future resolves as `When` says."""
        future: asyncio.Future[T] = self._loop.create_future()
        gathered = self._gathered[when]
        gathered.append((work, future))
        if len(gathered) == 1:
            if when == "now":
                self._loop.call_soon(self._hand_over, when)
            else:
                self._loop.call_later(GATHER_S if when == "durable" else LAZY_S, self._hand_over, when)
        return future

    def write(self, *statements: Statement, when: When = "durable") -> asyncio.Future[None]:
        """Queue statements as one unit; the future resolves when they are committed."""

        def work(connection: sqlite3.Connection) -> None:
            for sql, values in statements:
                connection.execute(sql, values)

        return self.call(work, when=when)

    def _hand_over(self, when: When) -> None:
        items, self._gathered[when] = self._gathered[when], []
        if items:
            self._queue.put((items, when == "durable"))

    def touch(self) -> None:
        """Make the thread go round, so that `progress` says whether it can."""
        self._queue.put(([(lambda _: None, self._loop.create_future())], False))

    async def close(self, within: float = 5.0) -> None:
        """Commit what is queued, then close the file. Gives up after `within` seconds of a blocked disk."""
        self._closing.set()
        for when in self._gathered:
            self._hand_over(when)
        self._queue.put(None)
        await asyncio.to_thread(self._thread.join, within)
        if self._thread.is_alive():
            log.error(
                "journal_not_closed",
                path=str(self.path),
                blocked_by=self.blocked_by,
                detail="make room there; what was not written is asked of queue and supervisor after the next start",
            )

    def _serve(self) -> None:
        last = False
        while not last:
            handed = self._queue.get()
            written: list[_Item] = []
            flushed: list[_Item] = []
            while True:
                if handed is None:
                    last = True
                else:
                    (flushed if handed[1] else written).extend(handed[0])
                try:
                    handed = self._queue.get_nowait()
                except queue.Empty:
                    break
            # What only has to be written does not wait for the flush of what came with it.
            for batch in (written, flushed):
                if batch:
                    self._commit_or_wait(batch, durable=batch is flushed)
            self.progress = time.monotonic()
        self._connection.close()

    def _commit_or_wait(self, batch: list[_Item], *, durable: bool) -> None:
        while True:
            try:
                results = self._commit(batch, durable=durable)
            except sqlite3.Error as error:
                if not str(getattr(error, "sqlite_errorname", "")).startswith(_WAITED_OUT):
                    self._isolate(batch, error, durable=durable)
                    return
                self._blocked(error)
                if self._closing.wait(RETRY_S):
                    self._settle(batch, [JournalError(f"cannot write the journal: {error}")] * len(batch))
                    return
            except Exception as error:  # noqa: BLE001 - a fault in one piece of work is its caller's, not the thread's
                self._isolate(batch, error, durable=durable)
                return
            else:
                if self.blocked_since is not None:
                    log.warning("journal_writable_again", seconds=round(time.monotonic() - self.blocked_since, 1))
                    self.blocked_since = None
                self._settle(batch, results)
                return

    def _commit(self, batch: list[_Item], *, durable: bool) -> list[Any]:
        if durable != self._full:
            # A flush takes along whatever was committed without one before it: it is of the same file.
            self._connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
            self._full = durable
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            results = [work(self._connection) for work, _ in batch]
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise
        self.commits += 1
        return results

    def _isolate(self, batch: list[_Item], error: BaseException, *, durable: bool) -> None:
        """One piece of work failed: run each alone, so that only the faulty one is told so."""
        if len(batch) == 1:
            self._settle(batch, [error])
            return
        for item in batch:
            self._commit_or_wait([item], durable=durable)

    def _blocked(self, error: sqlite3.Error) -> None:
        self.progress = time.monotonic()
        if self.blocked_since is None:
            self.blocked_since = time.monotonic()
            log.error("journal_blocked", path=str(self.path), error=str(error), detail=_BLOCKED)
        self.blocked_by = str(error)

    def _settle(self, batch: list[_Item], results: list[Any]) -> None:
        def resolve() -> None:
            for (_, future), result in zip(batch, results, strict=True):
                if future.done():  # its waiter was cancelled; the commit stands all the same
                    continue
                if isinstance(result, BaseException):
                    future.set_exception(result)
                else:
                    future.set_result(result)

        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(resolve)
