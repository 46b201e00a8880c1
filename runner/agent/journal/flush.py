"""The journal's flushes to disk, in a thread of their own: nothing that needs none waits for one.

SQLite commits with `synchronous = NORMAL`: it appends to its log (journal.db-wal) and does not flush it. A commit that
the world is to be told of is flushed here, with all others that came meanwhile. That it is on disk then rests on this
(sqlite.org/wal.html, sqlite.org/pragma.html#pragma_synchronous, and wal.c of SQLite):

- A flush that begins after COMMIT has returned takes everything that was appended, through whatever descriptor. After
  a power cut SQLite goes through its log up to the last commit that is whole.
- Only a checkpoint takes commits out of the log. Under NORMAL it flushes the log, copies, and flushes the database
  before the log may begin anew: what a flush does not find in the log any more is on disk in the database.
- The header of a log that begins anew, and the directory that a new log is in, SQLite flushes itself under NORMAL.
- The log stays one file while a connection is open. SQLite holds no locks on it (they are on the database and on
  journal.db-shm), so closing a further descriptor of it takes none away.

After a flush that failed the kernel may count the log's pages as written, and a second flush would succeed and mean
nothing. So what the log holds is brought into the database, by a whole checkpoint with SQLite's own flushes, before
anything of it is told.
"""

from __future__ import annotations

import os
import queue
import sqlite3
import threading
import time
from contextlib import closing
from typing import TYPE_CHECKING

import structlog

from runner.agent.journal.journal_file import is_damage
from runner.errors import JournalError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

log = structlog.get_logger()

RETRY_S = 1.0
READERS_S = 5.0
"""How long a checkpoint of the whole log waits for other processes that read what was before."""
_BLOCKED = "nothing new is received until what is written can be flushed; mend the disk"


class Flusher:
    """`closing`, once set: a flush that fails is given up. The log has to be there already.

    `damaged`: a flush met damage. Who asked for it, and for later ones, is told as if it were done, and has to look.
    """

    def __init__(self, path: Path, closing: threading.Event) -> None:
        self._path = path
        self._closing = closing
        self._log = os.open(f"{path}-wal", os.O_RDONLY | os.O_CLOEXEC)
        self._waiting: queue.SimpleQueue[Callable[[JournalError | None], None] | None] = queue.SimpleQueue()
        self._asked = self._answered = 0
        self.busy_since: float | None = None  # time.monotonic(); waiting for a failing disk begins anew at each try
        self.failing_since: float | None = None  # time.monotonic()
        self.failing_by = ""
        self.damaged: sqlite3.Error | None = None  # then nothing of this journal is flushed any more
        # A daemon thread, as the journal's.
        self._thread = threading.Thread(target=self._serve, name="journal-flush", daemon=True)
        self._thread.start()

    def flush(self, told: Callable[[JournalError | None], None]) -> None:
        """Call `told`, in the flusher's thread, when all that is committed now is on disk; with an error if never."""
        self._asked += 1
        self._waiting.put(told)

    @property
    def idle(self) -> bool:
        """Whether all that was asked for is done; to be asked by the thread that asks for flushes."""
        return self._answered == self._asked

    def end(self) -> None:
        """Flush what is asked for, and return when the thread has ended."""
        self._waiting.put(None)
        self._thread.join()

    def _serve(self) -> None:
        last = False
        while not last:
            waiting = [self._waiting.get()]
            self.busy_since = time.monotonic()
            while True:
                try:
                    waiting.append(self._waiting.get_nowait())
                except queue.Empty:
                    break
            last = None in waiting
            asked = [told for told in waiting if told is not None]
            if asked:
                error = self._flush()
                self._answered += len(asked)
                for told in asked:
                    told(error)
            self.busy_since = None
        os.close(self._log)

    def _flush(self) -> JournalError | None:
        """None when it is done; an error where it was given up."""
        if self.damaged is not None:
            return None
        try:
            os.fdatasync(self._log)
        except OSError as error:
            self._failed(error)
        else:
            return None
        while True:
            try:
                _empty_log(self._path)
            except sqlite3.Error as error:
                if is_damage(error):
                    self.damaged = error
                    return None
                self._failed(error)
                if self._closing.wait(RETRY_S):
                    return JournalError(f"cannot flush the journal: {error}")
                self.busy_since = time.monotonic()
            else:
                since, self.failing_since = self.failing_since, None
                log.warning("journal_writable_again", seconds=round(time.monotonic() - (since or 0.0), 1))
                return None

    def _failed(self, error: Exception) -> None:
        if self.failing_since is None:
            self.failing_since = time.monotonic()
            log.error("journal_not_flushed", path=str(self._path), error=str(error), detail=_BLOCKED)
        self.failing_by = str(error)


def _empty_log(path: Path) -> None:
    """Bring all that is committed into the database, flushed. Raises sqlite3.Error."""
    with closing(sqlite3.connect(path, timeout=READERS_S)) as connection:
        # FULL keeps writers away meanwhile, so there is an end to it.
        busy, in_log, copied = connection.execute("PRAGMA wal_checkpoint(FULL)").fetchone()
    if busy or in_log != copied:
        raise sqlite3.OperationalError("another process reads the journal")
