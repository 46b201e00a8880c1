"""Damage that SQLite meets at any time: in a commit, a read, a flush, or at the end."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from damage import overwrite_under, roots
from executions import event, execution

from runner.agent.journal import database as database_module
from runner.agent.journal import flush as flush_module
from runner.agent.journal.database import Database
from runner.agent.journal.runs import Journal

if TYPE_CHECKING:
    from pathlib import Path


def names(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as connection:
        return [name for (name,) in connection.execute("SELECT run_id FROM runs ORDER BY run_id")]


@pytest.mark.parametrize("damaged", [(), ("runs",), ("events",), ("runs_owed",)])
async def test_what_is_known_and_what_is_handed_in_is_in_the_new_one(tmp_path: Path, damaged: tuple[str, ...]) -> None:
    path = tmp_path / "journal.db"
    database = Database(path)
    journal = Journal(database, "agent")
    before = execution("before")
    await journal.accept(before, event("before/1/finished"))
    database.remembered = lambda: journal.whole([before], [])
    overwrite_under(path, *damaged)
    await asyncio.gather(*(journal.accept(execution(f"r{index}"), event(f"{index}/1/finished")) for index in range(3)))
    assert database.begun == 1
    assert database.blocked_since is None
    assert len(await journal.unfinished()) == 4
    assert len(list(tmp_path.glob("journal.db.corrupt-*[0-9]"))) == 1
    await database.close()
    assert names(path) == ["before", "r0", "r1", "r2"]


async def test_an_end_that_was_told_is_no_run_without_an_end_in_the_new_one(tmp_path: Path) -> None:
    """A copy of its message would run again. Its event was delivered, so the new journal says that there was one."""
    path = tmp_path / "journal.db"
    database = Database(path)
    journal = Journal(database, "agent")
    over = execution("over")
    await journal.accept(over)
    database.remembered = lambda: journal.whole([over], [], [over])
    overwrite_under(path)
    await journal.accept(execution("next"))
    assert database.begun == 1
    end = await journal.final_event(over.id)
    assert end is not None
    assert end[1] == ""  # nothing to be sent again
    assert await journal.was_sent(end[0])
    await database.close()


async def test_a_read_meets_it(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    database = Database(path)
    journal = Journal(database, "agent")
    await journal.accept(execution("before"))
    overwrite_under(path, "runs", "runs_named")
    assert await journal.latest(["before"]) == []
    assert await journal.unfinished() == []
    assert database.begun == 1
    await database.close()


async def test_a_flush_meets_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing that was handed to the flush counts as told before the new journal has it."""
    path = tmp_path / "journal.db"
    database = Database(path)
    journal = Journal(database, "agent")
    await journal.accept(execution("before"), event("before/1/finished"))
    failed = False

    def fdatasync(descriptor: int) -> None:
        nonlocal failed
        if not failed:
            failed = True
            raise OSError(5, "Input/output error")
        os.fsync(descriptor)

    def empty_log(_: Path) -> None:
        error = sqlite3.DatabaseError("database disk image is malformed")
        error.sqlite_errorname = "SQLITE_CORRUPT"
        raise error

    monkeypatch.setattr(flush_module.os, "fdatasync", fdatasync)
    monkeypatch.setattr(flush_module, "_empty_log", empty_log)
    await asyncio.gather(*(journal.accept(execution(f"r{index}"), event(f"{index}/1/finished")) for index in range(3)))
    await asyncio.gather(*(journal.accept(execution(f"s{index}"), event(f"s{index}/1/finished")) for index in range(3)))
    assert database.begun == 1
    await database.close()
    assert names(path) == ["r0", "r1", "r2", "s0", "s1", "s2"]


async def test_the_end_meets_it(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    database = Database(path)
    await Journal(database, "agent").accept(execution("before"))
    overwrite_under(path)
    await database.close()
    await Database(path).close()
    assert len(list(tmp_path.glob("journal.db.corrupt-*[0-9]"))) == 1


async def test_it_is_not_there_any_more(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    database = Database(path)
    journal = Journal(database, "agent")
    run = execution("before")
    await journal.accept(run)
    database.remembered = lambda: journal.whole([run], [])
    for part in tmp_path.iterdir():
        part.unlink()
    database.touch()
    await journal.accept(execution("after"))
    await database.close()
    assert names(path) == ["after", "before"]
    assert not list(tmp_path.glob("journal.db.corrupt-*"))


async def test_what_another_process_has_begun_is_not_put_aside(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    first, second = Database(path), Database(path)
    await Journal(first, "agent").accept(execution("before"))
    overwrite_under(path)
    await Journal(first, "agent").accept(execution("first"))
    await Journal(second, "run-once/1/2").accept(execution("second"))
    assert (first.begun, second.begun) == (1, 1)
    await first.close()
    await second.close()
    assert names(path) == ["first", "second"]
    assert len(list(tmp_path.glob("journal.db.corrupt-*[0-9]"))) == 1


async def test_a_disk_that_damages_each_new_one_is_waited_for_and_not_filled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_module, "RETRY_S", 0.02)
    path = tmp_path / "journal.db"
    database = Database(path)
    journal = Journal(database, "agent")
    bad = 6

    def commit(batch: object) -> list[object]:
        nonlocal bad
        bad -= 1
        if bad > 0:
            error = sqlite3.DatabaseError("database disk image is malformed")
            error.sqlite_errorname = "SQLITE_CORRUPT"
            raise error
        return Database._commit(database, batch)  # type: ignore[arg-type]  # noqa: SLF001

    monkeypatch.setattr(database, "_commit", commit)
    await asyncio.gather(*(journal.accept(execution(f"r{index}")) for index in range(3)))
    assert database.begun == 5
    assert len(list(tmp_path.glob("journal.db.corrupt-*[0-9]"))) == 3
    await database.close()
    assert names(path) == ["r0", "r1", "r2"]


@pytest.mark.parametrize("name", ["runs", "runs_before", "events", "spools", "offsets"])
async def test_a_journal_without_one_of_its_tables_is_none(tmp_path: Path, name: str) -> None:
    path = tmp_path / "journal.db"
    await Database(path).close()
    roots(path)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("DROP VIEW every_run")
        connection.execute(f"DROP TABLE {name}")
    database = Database(path)
    await Journal(database, "agent").accept(execution("after"))
    await database.close()
    assert len(list(tmp_path.glob("journal.db.corrupt-*[0-9]"))) == 1
