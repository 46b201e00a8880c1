"""The journal's audit trail: who changed what by hand on this host, and why. Called in the journal's thread."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import sqlite3

KEPT = 10_000
MOST_TEXT = 512


@dataclass(frozen=True, slots=True)
class Change:
    """A line of it. `at` is unix seconds; `way` says how it came: a command, the page, the API."""

    at: float
    who: str
    role: str
    op: str
    subject: str
    note: str
    result: str
    way: str


def note(connection: sqlite3.Connection, change: Change) -> None:
    """Add a line to the trail, which keeps so many."""
    texts = (change.who, change.role, change.op, change.subject, change.note, change.result, change.way)
    connection.execute(
        "INSERT INTO audit (at, who, role, op, subject, note, result, way) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (change.at, *(text[:MOST_TEXT] for text in texts)),
    )
    connection.execute("DELETE FROM audit WHERE position <= (SELECT max(position) FROM audit) - ?", (KEPT,))


def changes(connection: sqlite3.Connection, *, before: int | None, limit: int) -> list[tuple[int, Change]]:
    """The newest lines, each with its position."""
    rows: list[tuple[Any, ...]] = connection.execute(
        "SELECT position, at, who, role, op, subject, note, result, way FROM audit WHERE position < ? "
        "ORDER BY position DESC LIMIT ?",
        (before if before is not None else 1 << 62, limit),
    ).fetchall()
    return [(row[0], Change(*row[1:])) for row in rows]
