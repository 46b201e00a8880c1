"""Statements that change many rows in one step.

SQLite's step is where the interpreter's lock is given away and taken back. Beside a busy event loop that costs more
than the row does: ten steps for each run took 0.1 ms of CPU of its 1.1 ms, and the loop's own pace. So the rows of all
runs that change together go into as few steps as their order allows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable

Values = Sequence[Any]

_COUNTS = (16, 8, 4, 2, 1)
"""Rows in a step: few different statements, which SQLite keeps prepared, and few enough values for any build of it."""


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """A statement of one row, as `insert`, `update` and `delete` make them: `table`'s row that `key`, the place of a
    value, names. What is done to one key keeps its order. `once`: a step may hold a key only once."""

    table: str
    key: int
    once: bool
    one: str
    head: str
    row: str
    tail: str

    def sql(self, count: int) -> str:
        return _joined(self, count)


Statement = tuple[Rows | str, Values]
"""A row, or SQL that stands by itself: what is handed in before it is done before it, what comes later after it."""


@cache
def _joined(rows: Rows, count: int) -> str:
    return rows.one if count == 1 else rows.head + ", ".join([rows.row] * count) + rows.tail


def insert(table: str, columns: str, *, key: str, conflict: str = "") -> Rows:
    """Values in the order of `columns`; `conflict` is the clause for rows that are there already."""
    names = columns.split()
    head = f"INSERT INTO {table} ({', '.join(names)}) VALUES "  # noqa: S608 - names of columns
    row = f"({', '.join('?' * len(names))})"
    return Rows(table, names.index(key), False, f"{head}{row} {conflict}", head, row, f" {conflict}")


def update(table: str, key: str, columns: str) -> Rows:
    """Values: the key, then `columns`."""
    names = columns.split()
    one = ", ".join(f"{name} = ?" for name in names)
    many = ", ".join(f"{name} = new.column{place}" for place, name in enumerate(names, 2))
    return Rows(
        table,
        0,
        True,
        f"UPDATE {table} SET {one} WHERE {key} = ?",  # noqa: S608 - names of columns
        f"UPDATE {table} SET {many} FROM (VALUES ",  # noqa: S608 - as above
        f"({', '.join('?' * (len(names) + 1))})",
        f") AS new WHERE {table}.{key} = new.column1",
    )


def delete(table: str, key: str) -> Rows:
    """Value: the key."""
    head = f"DELETE FROM {table} WHERE {key} IN ("  # noqa: S608 - names
    return Rows(table, 0, False, f"{head}?)", head, "?", ")")


def execute(connection: sqlite3.Connection, statements: Iterable[Statement]) -> None:
    """Do all of them. Raises sqlite3.Error."""
    for rows, entries in in_steps(statements):
        if isinstance(rows, str):
            connection.execute(rows, entries[0])
            continue
        done = 0
        for count in _COUNTS:
            while len(entries) - done >= count:
                part = entries[done : done + count]
                if count == 1 and rows.once:
                    # An update of one row names its key last. Not by "?1": Python 3.12.0 to 3.12.3 take that for a
                    # name, and warn that it stands beside a sequence (gh-117995).
                    part = [(*part[0][1:], part[0][0])]
                connection.execute(rows.sql(count), [value for values in part for value in values])
                done += count


def in_steps(statements: Iterable[Statement]) -> list[tuple[Rows | str, list[Values]]]:
    """The rows of a kind together, as far as each key's own order allows."""
    steps: list[tuple[Rows | str, list[Values]]] = []
    open_steps: dict[Rows, int] = {}
    last: dict[tuple[str, Any], int] = {}  # the last step that changes a key
    for rows, values in statements:
        if isinstance(rows, str):
            steps.append((rows, [values]))
            open_steps.clear()
            continue
        thing = rows.table, values[rows.key]
        at, before = open_steps.get(rows, -1), last.get(thing, -1)
        if at < 0 or at < before or (at == before and rows.once):
            at = open_steps[rows] = len(steps)
            steps.append((rows, []))
        steps[at][1].append(values)
        last[thing] = at
    return steps
