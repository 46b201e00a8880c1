"""The flushes of the journal: what the world is told of is on disk by then, also where a flush fails."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import sqlite3
import threading
import time
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from runner.agent.journal import flush
from runner.agent.journal.database import Database
from runner.agent.journal.runs import Journal
from runner.errors import JournalError
from runner.protocol.event import Event

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

NOW = 1_800_000_000.0


class Disk:
    """Before os.fdatasync: counts, holds and fails flushes. `seen`: the files as the last one found them."""

    def __init__(self, directory: Path, seen: Path) -> None:
        self.directory = directory
        self.seen = seen
        self.flushes = 0
        self.fails = False
        self.open = threading.Event()
        self.open.set()
        self._flush = os.fdatasync

    def flush(self, descriptor: int) -> None:
        shutil.rmtree(self.seen, ignore_errors=True)
        self.seen.mkdir()
        for name in ("journal.db", "journal.db-wal"):
            shutil.copy(self.directory / name, self.seen)
        self.flushes += 1
        assert self.open.wait(30)
        if self.fails:
            raise OSError(errno.EIO, "Input/output error")
        self._flush(descriptor)


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    directory = tmp_path / "state"
    directory.mkdir()
    disk = Disk(directory, tmp_path / "seen")
    monkeypatch.setattr(flush.os, "fdatasync", disk.flush)
    monkeypatch.setattr(flush, "RETRY_S", 0.02)
    monkeypatch.setattr(flush, "READERS_S", 0.1)
    yield disk
    disk.open.set()


async def eventually(condition: Callable[[], bool], what: str) -> None:
    """As waiting.wait_for, and the loop goes on meanwhile."""
    try:
        async with asyncio.timeout(30):
            while not condition():
                await asyncio.sleep(0.005)
    except TimeoutError:
        raise AssertionError(f"never: {what}") from None


def event(number: int) -> Event:
    return Event(id=f"e/{number}/finished", type="cron-runner.run.finished", body="{}", subject="r")


def events_in(path: Path) -> set[str]:
    with closing(sqlite3.connect(path)) as connection:
        return {id_ for (id_,) in connection.execute("SELECT id FROM events")}


async def test_what_is_told_was_flushed_after_its_commit(disk: Disk) -> None:
    """What is in the files when the flush of a fact begins has the fact."""
    database = Database(disk.directory / "journal.db")
    journal = Journal(database, "agent")
    for number in range(20):
        await journal.event(event(number), NOW)
        assert event(number).id in events_in(disk.seen / "journal.db")
        assert disk.flushes == number + 1
    await database.close()


async def test_only_what_needs_a_flush_waits_for_one(disk: Disk) -> None:
    database = Database(disk.directory / "journal.db")
    journal = Journal(database, "agent")
    disk.open.clear()
    durable = journal.event(event(1), NOW)
    await eventually(lambda: disk.flushes == 1, "the flush has begun")
    async with asyncio.timeout(10):
        await journal.sent(["e/0/finished"], NOW)
        assert await journal.latest(["r"]) == []
        written = database.call(lambda connection: connection.execute("SELECT id FROM events").fetchall(), when="now")
        assert await written == [("e/1/finished",)]
    # Committed, and in nobody's sight: it would be sent, and a power cut could take it.
    unsent = journal.unsent(0, 10)
    await asyncio.wait({unsent}, timeout=0.2)
    assert not durable.done()
    assert not unsent.done()
    disk.open.set()
    async with asyncio.timeout(10):
        await durable
        assert [found.id for found in await unsent] == ["e/1/finished"]
        flushes = disk.flushes
        await journal.unsent(0, 10)
    assert disk.flushes == flushes
    await database.close()


async def test_many_facts_share_a_flush(disk: Disk) -> None:
    database = Database(disk.directory / "journal.db")
    journal = Journal(database, "agent")
    disk.open.clear()
    first = journal.event(event(0), NOW)
    await eventually(lambda: disk.flushes == 1, "the flush has begun")
    commits = database.commits
    others = [journal.event(event(number), NOW) for number in range(1, 5)]
    await eventually(lambda: database.commits > commits, "the others are committed meanwhile")
    others += [journal.event(event(number), NOW) for number in range(5, 9)]
    await eventually(lambda: database.commits > commits + 1, "and more of them")
    assert not any(future.done() for future in (first, *others))
    disk.open.set()
    async with asyncio.timeout(10):
        await asyncio.gather(first, *others)
    assert disk.flushes == 2
    await database.close()


async def test_a_flush_that_failed_is_not_believed_the_next_time(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel may have dropped what it could not write: what was committed is brought into the database itself."""
    database = Database(disk.directory / "journal.db")
    journal = Journal(database, "agent")
    tries = 0
    checkpoint = flush._empty_log  # noqa: SLF001

    def failing(path: Path) -> None:
        nonlocal tries
        tries += 1
        if tries < 4:
            raise sqlite3.OperationalError("disk I/O error")
        checkpoint(path)

    monkeypatch.setattr(flush, "_empty_log", failing)
    disk.fails = True
    told = journal.event(event(1), NOW)
    await eventually(lambda: tries > 1, "it is tried again")
    assert not told.done()
    assert database.blocked_since is not None
    assert "Input/output error" in database.blocked_by or "disk I/O error" in database.blocked_by
    disk.fails = False
    async with asyncio.timeout(10):
        await told
    assert database.blocked_since is None
    assert (tries, disk.flushes) == (4, 1)
    shutil.copy(disk.directory / "journal.db", disk.seen / "alone.db")
    assert events_in(disk.seen / "alone.db") == {"e/1/finished"}
    await journal.event(event(2), NOW)
    assert disk.flushes == 2
    await database.close()


async def test_a_reader_of_the_old_state_is_waited_for_after_a_flush_that_failed(disk: Disk) -> None:
    database = Database(disk.directory / "journal.db")
    journal = Journal(database, "agent")
    await journal.event(event(0), NOW)
    with closing(sqlite3.connect(disk.directory / "journal.db", isolation_level=None)) as reader:
        reader.execute("BEGIN")
        assert reader.execute("SELECT count(*) FROM events").fetchone() == (1,)
        disk.fails = True
        told = journal.event(event(1), NOW)
        await eventually(lambda: "another process" in database.blocked_by, "it says why")
        assert not told.done()
    async with asyncio.timeout(30):
        await told
    await database.close()


async def test_a_stopping_agent_gives_up_on_a_disk_that_takes_nothing(
    disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(_: Path) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    monkeypatch.setattr(flush, "_empty_log", failing)
    database = Database(disk.directory / "journal.db")
    disk.fails = True
    told = Journal(database, "agent").event(event(1), NOW)
    await eventually(lambda: database.blocked_since is not None, "it is blocked")
    async with asyncio.timeout(10):
        await database.close()
        with pytest.raises(JournalError, match="cannot flush the journal: disk I/O error"):
            await told


async def test_a_flush_that_never_returns_is_no_progress(disk: Disk) -> None:
    database = Database(disk.directory / "journal.db")
    disk.open.clear()
    told = Journal(database, "agent").event(event(1), NOW)
    await eventually(lambda: disk.flushes == 1, "the flush has begun")
    now = time.monotonic()
    for _ in range(2):  # the first round is over when the second has begun
        database.touch()
        await database.call(lambda _: None, when="now")
    assert database.progress < now
    disk.open.set()
    await told
    database.touch()
    await eventually(lambda: database.progress > now, "both go round again")
    await database.close()
