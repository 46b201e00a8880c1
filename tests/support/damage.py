"""Damage to a journal's file, as a failing disk does it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

PAGE = 4096


def overwrite(path: Path, *pages: int) -> None:
    """Put what is no page of a database in the place of these, counted from one."""
    with path.open("r+b") as file:
        for page in pages:
            file.seek((page - 1) * PAGE)
            file.write(b"\xa5" * PAGE)


def roots(path: Path, *names: str) -> list[int]:
    """The root pages of tables and indexes, with all that is in the log brought to where they are."""
    with closing(sqlite3.connect(path, timeout=10)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        marks = ", ".join("?" * len(names))
        sql = f"SELECT rootpage FROM sqlite_schema WHERE name IN ({marks})"  # noqa: S608 - question marks
        return [page for (page,) in connection.execute(sql, names).fetchall()]


def overwrite_under(path: Path, *names: str) -> None:
    """Overwrite the roots of these, or the first page, in a journal that is open, and make all who have it open look.

    Whoever has it open keeps pages in memory until somebody else writes.
    """
    pages = roots(path, *names) if names else [1]
    if not names:
        roots(path)
    with closing(sqlite3.connect(path, timeout=10, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("INSERT INTO offsets VALUES ('nobody', 'nothing', 0, '{}')")
        connection.execute("COMMIT")
        overwrite(path, *pages)
