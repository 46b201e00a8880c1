"""One SQLite file, one thread that writes it, group commit.

Writers on the event loop hand in statements and await the commit that holds them. The thread takes everything that
is waiting into one transaction, so a hundred runs that change state together cost one commit, and one flush to disk,
which is a second thread's (flush.py). A full disk is waited out: nothing that was handed in is dropped, and
`blocked_since` says since when. A journal that is damaged, or not there any more, is put aside (journal_file.py): a new
one is begun with what `remembered` gives, and then with all that was handed in and is not settled yet.

Not every fact needs a flush, nor at once; `When` says what one needs. Each class is committed in its own order.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import structlog

from runner.agent.journal.flush import Flusher
from runner.agent.journal.journal_file import JournalLost, begin_anew, is_damage, open_or_put_aside, same
from runner.agent.journal.schema import JournalTooNew
from runner.agent.journal.statements import Statement, execute
from runner.errors import JournalError

if TYPE_CHECKING:
    from pathlib import Path

log = structlog.get_logger()
T = TypeVar("T")

Work = Callable[[sqlite3.Connection], Any]

When = Literal["durable", "now", "lazy", "told"]
"""When a future resolves, and what its commit then survives:

- ``durable``: on disk, so that the world may be told; survives a power cut. A few milliseconds are waited for others.
- ``now``: at once, and survives the agent's end by any signal. A power cut may take it, with the processes that it is
  about: the start of a run, whose message is still on the queue.
- ``lazy``: within a moment, as ``now``; for what is repeated without harm where it is lost.
- ``told``: reads at once, and resolves when all that it can have read is on disk: the world is told what it finds.
"""
_Item = tuple[Work | tuple[Statement, ...], asyncio.Future[Any]]
_Settle = Callable[[list[_Item], list[Any]], None]
GATHER_S = 0.02
LAZY_S = 0.25

RETRY_S = 1.0
REMEMBER_S = 30.0
# A full or failing disk is waited out; every other error is a fault of the one piece of work that met it.
_BLOCKED = "nothing new is received until it can be written; make room, or mend the disk"
_WAITED_OUT = (
    "SQLITE_FULL",
    "SQLITE_IOERR",
    "SQLITE_BUSY",
    "SQLITE_CANTOPEN",
    "SQLITE_READONLY",
    "SQLITE_LOCKED",
)


class Database:
    """The journal's connection and its thread. Made and used on one event loop.

    `remembered` is called on it when a new journal is begun: statements that write all that this process answers for.
    `begun` counts the journals that were begun in the place of one that was damaged.
    """

    def __init__(self, path: Path, *, now: Callable[[], float] = time.time) -> None:
        self.path = path
        self._blocked_since: float | None = None
        self._blocked_by = ""
        self.commits = 0
        self._progress = time.monotonic()
        self._connection = open_or_put_aside(path, now())
        self._file = path.stat()
        self.remembered: Callable[[], list[Statement]] = list
        self.begun = 0
        self.aside = ""  # that and why, in words
        self._begun_in_a_row = 0
        self._ending = False  # a flush that is done now is one of a journal that is put aside
        self._unflushed: list[list[_Item]] = []  # to be written to the journal that is begun next
        self._waiting: deque[tuple[list[_Item], _Settle]] = deque()  # of the journal's thread
        self._loop = asyncio.get_running_loop()
        # Gathered on the event loop, and handed to the thread as one: waking it is what costs.
        self._gathered: dict[When, list[_Item]] = {"durable": [], "now": [], "lazy": [], "told": []}
        self._queue: queue.SimpleQueue[tuple[list[_Item], When] | None] = queue.SimpleQueue()
        self._closing = threading.Event()
        self._flusher = Flusher(path, self._closing)
        # A daemon thread: a disk that never answers must not keep a stopped agent from exiting.
        self._thread = threading.Thread(target=self._serve, name="journal", daemon=True)
        self._thread.start()

    @property
    def blocked_since(self) -> float | None:
        """Since when (time.monotonic) nothing can be written, or flushed; None while it can."""
        since = self._blocked_since
        return self._flusher.failing_since if since is None else since

    @property
    def blocked_by(self) -> str:
        return self._flusher.failing_by if self._blocked_since is None else self._blocked_by

    @property
    def progress(self) -> float:
        """The last time (time.monotonic) both threads went round; waiting for a full disk is that too."""
        busy = self._flusher.busy_since
        return self._progress if busy is None else min(busy, self._progress)

    def call(self, work: Callable[[sqlite3.Connection], T], *, when: When = "durable") -> asyncio.Future[T]:
        """Run `work(connection)` inside the next transaction of its class; the future resolves as `When` says."""
        return self._gather(work, when)

    def _gather(self, work: Work | tuple[Statement, ...], when: When) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = self._loop.create_future()
        gathered = self._gathered[when]
        gathered.append((work, future))
        if len(gathered) == 1:
            if when in {"now", "told"}:
                self._loop.call_soon(self._hand_over, when)
            else:
                self._loop.call_later(GATHER_S if when == "durable" else LAZY_S, self._hand_over, when)
        return future

    def write(self, *statements: Statement, when: When = "durable") -> asyncio.Future[None]:
        """Queue statements as one unit; the future resolves when they are committed."""
        return self._gather(statements, when)

    def _hand_over(self, when: When) -> None:
        items, self._gathered[when] = self._gathered[when], []
        if items:
            self._queue.put((items, when))

    def touch(self) -> None:
        """Make the thread go round, so that `progress` says whether it can."""
        self._queue.put(([(self._look, self._loop.create_future())], "now"))

    def _look(self, _: sqlite3.Connection) -> None:
        if not same(self.path, self._file):
            raise JournalLost("the file was removed or replaced")

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
            read: list[_Item] = []
            flushed: list[_Item] = []
            while True:
                if handed is None:
                    last = True
                else:
                    {"durable": flushed, "told": read}.get(handed[1], written).extend(handed[0])
                try:
                    handed = self._queue.get_nowait()
                except queue.Empty:
                    break
            if self._flusher.damaged is not None:
                self._begin_anew(self._flusher.damaged)
            self._waiting.append((written, self._settle))
            self._waiting.append((read, self._settle_when_all_is_flushed))
            self._waiting.append((flushed, self._settle_when_flushed))
            while self._waiting:
                self._commit_or_wait(*self._waiting.popleft())
            self._progress = time.monotonic()
        self._flusher.end()
        with contextlib.suppress(sqlite3.DatabaseError):  # a last checkpoint meets damage: the next start sees to it
            self._connection.close()

    def _begin_anew(self, error: BaseException) -> None:
        """Put the journal aside; the new one gets what is known, before what is still to be written."""
        self._ending = True
        self._flusher.end()
        self._ending = False
        with contextlib.suppress(sqlite3.DatabaseError):
            self._connection.close()
        while True:
            self._begun_in_a_row += 1
            if self._begun_in_a_row > 1 and self._closing.wait(RETRY_S):
                return  # what waits is told that nothing can be written
            try:
                self._connection = begin_anew(self.path, self._file, error)
                self._file = self.path.stat()
                self._flusher = Flusher(self.path, self._closing)
            except (sqlite3.Error, OSError, JournalTooNew) as why:
                self._blocked(why)
            else:
                break
        self.begun += 1
        self.aside = f"the journal was lost or damaged, and a new one begun: {error}"
        batches, self._unflushed = self._unflushed, []
        known = self._ask_memory()
        batches.insert(0, [(tuple(known), self._loop.create_future())])
        self._waiting.extendleft((batch, self._settle_when_flushed) for batch in reversed(batches))

    def _ask_memory(self) -> list[Statement]:
        answer: queue.SimpleQueue[list[Statement]] = queue.SimpleQueue()

        def tell() -> None:
            known: list[Statement] = []
            try:
                known = self.remembered()
            finally:
                answer.put(known)

        try:
            self._loop.call_soon_threadsafe(tell)
            return answer.get(timeout=REMEMBER_S)
        except (RuntimeError, queue.Empty):  # the loop has ended, or stands still
            return []

    def _commit_or_wait(self, batch: list[_Item], settle: _Settle) -> None:
        while batch:
            try:
                results = self._commit(batch)
            except sqlite3.Error as error:
                if is_damage(error, self._connection):
                    self._waiting.appendleft((batch, settle))
                    self._begin_anew(error)
                    return
                if not str(getattr(error, "sqlite_errorname", "")).startswith(_WAITED_OUT):
                    self._isolate(batch, error, settle)
                    return
                self._blocked(error)
                with contextlib.suppress(sqlite3.Error):
                    # A log that is all in the database begins anew, and needs no further room.
                    self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
                if self._closing.wait(RETRY_S):
                    self._settle(batch, [JournalError(f"cannot write the journal: {error}")] * len(batch))
                    return
            except Exception as error:  # noqa: BLE001 - a fault in one piece of work is its caller's, not the thread's
                self._isolate(batch, error, settle)
                return
            else:
                self._begun_in_a_row = 0
                if self._blocked_since is not None:
                    log.warning("journal_writable_again", seconds=round(time.monotonic() - self._blocked_since, 1))
                    self._blocked_since = None
                settle(batch, results)
                return

    def _commit(self, batch: list[_Item]) -> list[Any]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            results = self._results(batch)
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise
        self.commits += 1
        return results

    def _results(self, batch: list[_Item]) -> list[Any]:
        """What each piece of work returns; the statements between two of them are done together."""
        results: list[Any] = []
        statements: list[Statement] = []
        for work, _ in batch:
            if isinstance(work, tuple):
                statements += work
                results.append(None)
                continue
            execute(self._connection, statements)
            statements = []
            results.append(work(self._connection))
        execute(self._connection, statements)
        return results

    def _isolate(self, batch: list[_Item], error: BaseException, settle: _Settle) -> None:
        """One piece of work failed: run each alone, so that only the faulty one is told so."""
        if len(batch) == 1:
            self._settle(batch, [error])
            return
        self._waiting.extendleft(([item], settle) for item in reversed(batch))

    def _blocked(self, error: Exception) -> None:
        self._progress = time.monotonic()
        if self._blocked_since is None:
            self._blocked_since = time.monotonic()
            log.error("journal_blocked", path=str(self.path), error=str(error), detail=_BLOCKED)
        self._blocked_by = str(error)

    def _settle_when_all_is_flushed(self, batch: list[_Item], results: list[Any]) -> None:
        (self._settle if self._flusher.idle else self._settle_when_flushed)(batch, results)

    def _settle_when_flushed(self, batch: list[_Item], results: list[Any]) -> None:
        def flushed(error: JournalError | None) -> None:
            if self._ending or self._flusher.damaged is not None:
                self._unflushed.append(batch)
                self._queue.put(([], "now"))  # the journal's thread looks why
                return
            self._settle(batch, results if error is None else [error] * len(batch))

        self._flusher.flush(flushed)

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
