"""Room on the disk that the journal owns, so that what runs can end, and be told, while the disk is full.

In the database these are free pages: a deleted row leaves its pages to the file. In its log they are blocks behind its
end, which SQLite writes over without knowing; a log that has been long once has them, but each start begins a new one.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
from typing import TYPE_CHECKING, Protocol

import structlog

from runner.protocol.units import format_size

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from runner.agent.journal.database import Database

log = structlog.get_logger()

PAGE = 4096
DEFAULT_PAGES = 1000  # https://www.sqlite.org/pragma.html#pragma_wal_autocheckpoint
WITHIN_S = 5.0
_MISSING = "on a full disk it may be that no end can be told before there is room; make room, it is then made by itself"


class Disk(Protocol):
    """The file system that the journal is on, in bytes."""

    unreserved: int

    def reserve(self) -> int: ...

    def has_room_for(self, size: int) -> bool: ...


class Reserve:
    """`hold` takes so many first bytes of a file from the disk, and says whether it could. `missing` says in words that
    the reserve could not be made; "" where it is there."""

    def __init__(self, database: Database, disk: Disk, hold: Callable[[int, int], bool]) -> None:
        self._database = database
        self._disk = disk
        self._hold = hold
        self.missing = ""

    async def make(self) -> None:
        """Own as much as the disk should give, or say that there is no room for it."""
        wanted = self._disk.reserve()
        lacking = await self._database.call(lambda connection: max(0, wanted - _free(connection)))
        if lacking > wanted // 2:
            # Through the log into the database: it is there twice.
            if not self._disk.has_room_for(2 * lacking):
                self._lacks(2 * lacking)
                return
            # Two transactions: a page that is made and freed in one is never written, so the disk would not hold it.
            await self._database.write(
                ("DROP TABLE IF EXISTS reserve", ()),
                ("CREATE TABLE reserve (bytes BLOB)", ()),
                ("INSERT INTO reserve VALUES (zeroblob(?))", (lacking,)),
            )
        await self._database.write(("DROP TABLE IF EXISTS reserve", ()))
        if lacking > wanted // 2:
            await asyncio.to_thread(_bring_in, self._database.path)
        held = await self._database.call(lambda connection: self._hold_log(connection, wanted))
        self._lacks(0 if held else wanted)

    def _hold_log(self, connection: sqlite3.Connection, wanted: int) -> bool:
        # The log begins anew before it has grown out of what is held.
        pages = min(DEFAULT_PAGES, wanted // 2 // PAGE)
        connection.execute(f"PRAGMA wal_autocheckpoint = {pages}")
        try:
            # SQLite has no locks on its log, which closing a descriptor of it would take away (flush.py).
            descriptor = os.open(f"{self._database.path}-wal", os.O_WRONLY | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            has = os.fstat(descriptor)
            if has.st_blocks * 512 >= wanted:
                return True
            return self._disk.has_room_for(wanted - has.st_blocks * 512) and self._hold(descriptor, wanted)
        finally:
            os.close(descriptor)

    def _lacks(self, size: int) -> None:
        was, self._disk.unreserved = self._disk.unreserved, size
        self.missing = f"the journal's reserve of {format_size(size)} is not made: no room on the disk" if size else ""
        if size and not was:
            log.warning("journal_reserve_missing", path=str(self._database.path), size=size, detail=_MISSING)
        elif was and not size:
            log.info("journal_reserve_made", path=str(self._database.path))


def _bring_in(path: Path) -> None:
    """The pages are the database's only when they are in it. What fails here is done by a later checkpoint."""
    with contextlib.suppress(sqlite3.Error), contextlib.closing(sqlite3.connect(path, timeout=WITHIN_S)) as connection:
        connection.execute("PRAGMA wal_checkpoint(RESTART)").fetchall()


def _free(connection: sqlite3.Connection) -> int:
    page_size = connection.execute("PRAGMA page_size").fetchone()[0]
    return int(connection.execute("PRAGMA freelist_count").fetchone()[0]) * int(page_size)
