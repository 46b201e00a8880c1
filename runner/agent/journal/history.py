"""What the journal remembers of runs that are over, read beside the agent that writes it.

By a connection of its own, which only reads: a long look back holds up no commit. Each step of it is bounded, by the
index of ends, however many runs there are and whatever is asked for.
"""

from __future__ import annotations

import json
import math
import sqlite3
import time
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from runner.agent.journal.runs import RunRow
from runner.agent.journal.spools import row_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from runner.agent.runs.output import SpoolRow

STEP_ROWS: Final = 20_000
WITHIN_S: Final = 1.0
_LAST: Final = "~"  # behind every execution's id
_COLUMNS: Final = ", ".join(RunRow.__dataclass_fields__)

Place = tuple[float, str]
"""Of a run that ended: when (unix seconds), and its execution."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which runs; None: any. `since` and `until` are unix seconds of their ends."""

    job: str | None = None
    outcomes: Sequence[str] | None = None
    since: float | None = None
    until: float | None = None

    @property
    def first(self) -> Place:
        """Where to begin: the newest."""
        return (math.inf if self.until is None else self.until, _LAST)


@dataclass(frozen=True, slots=True)
class Past:
    """An execution, and what its kept events say (their `data`), oldest first: the end of each attempt."""

    row: RunRow
    told: Sequence[dict[str, Any]]


@contextmanager
def reading(path: Path) -> Iterator[sqlite3.Connection]:
    """The journal, to be read only. Raises OSError, sqlite3.Error."""
    path.stat()
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=10.0)) as journal:
        yield journal


def page(
    journal: sqlite3.Connection, wanted: Wanted, after: Place, limit: int, *, within: float = WITHIN_S
) -> tuple[list[Past], Place | None]:
    """The runs that ended before `after`, the newest first, and where to go on; None: there are no more.

    Fewer than `limit`, or none, where the look back has taken so long that it is better gone on with by another call.
    """
    found: list[RunRow] = []
    began = time.monotonic()
    # What all are wanted of is read to its limit at once; only what may be rare is looked for step by step.
    any_run = wanted.job is None and wanted.outcomes is None
    while True:
        floor = (
            -math.inf
            if any_run
            else max((_floor(journal, table, after) for table in ("runs", "runs_before")), default=-math.inf)
        )
        found += _ended(journal, wanted, after, floor, limit - len(found))
        if len(found) >= limit:
            last = found[-1]
            return [_past(journal, row) for row in found], (last.ended_at or 0.0, last.execution)
        if floor == -math.inf or (wanted.since is not None and floor < wanted.since):
            return [_past(journal, row) for row in found], None
        after = (floor, "")
        if time.monotonic() > began + within:
            return [_past(journal, row) for row in found], after


def _floor(journal: sqlite3.Connection, table: str, after: Place) -> float:
    """The end that is a step further back, by the index alone."""
    sql = (
        f"SELECT ended_at FROM {table} WHERE state = 'ended' AND ended_at <= ? ORDER BY ended_at DESC LIMIT 1 OFFSET ?"  # noqa: S608 - one of two names
    )
    row = journal.execute(sql, (after[0], STEP_ROWS)).fetchone()
    return -math.inf if row is None else float(row[0])


def _ended(journal: sqlite3.Connection, wanted: Wanted, after: Place, floor: float, limit: int) -> list[RunRow]:
    """Of both tables, ended from `floor` on."""
    least = floor if wanted.since is None else max(floor, wanted.since)
    sql = "state = 'ended' AND ended_at <= ? AND (ended_at < ? OR execution < ?) AND ended_at >= ?"
    values: list[Any] = [after[0], after[0], after[1], least]
    if wanted.job is not None:
        sql += " AND job = ?"
        values.append(wanted.job)
    if wanted.outcomes is not None:
        sql += f" AND outcome IN ({', '.join('?' * len(wanted.outcomes))})"
        values += wanted.outcomes
    order = "ORDER BY ended_at DESC, execution DESC LIMIT ?"
    rows = [
        RunRow(*row)
        for table in ("runs", "runs_before")
        for row in journal.execute(f"SELECT {_COLUMNS} FROM {table} WHERE {sql} {order}", (*values, limit))  # noqa: S608
    ]
    return sorted(rows, key=lambda row: (row.ended_at or 0.0, row.execution), reverse=True)[:limit]


def last_ends(journal: sqlite3.Connection, *, most_rows: int = 200_000) -> list[tuple[str, str, float]]:
    """Job, outcome and when (unix seconds) a run of the job ended so last, among so many of the last ends."""
    newest = (
        "SELECT * FROM (SELECT job, outcome, ended_at FROM {} WHERE state = 'ended' ORDER BY ended_at DESC LIMIT ?)"
    )
    parts = " UNION ALL ".join(newest.format(table) for table in ("runs", "runs_before"))
    sql = f"SELECT job, outcome, max(ended_at) FROM ({parts}) GROUP BY job, outcome"  # noqa: S608 - one of two names
    return list(journal.execute(sql, (most_rows, most_rows)))


def open_rows(journal: sqlite3.Connection) -> list[RunRow]:
    """Executions that have not ended, of any owner, the newest first."""
    sql = f"SELECT {_COLUMNS} FROM runs WHERE state != 'ended' ORDER BY accepted_at DESC"  # noqa: S608
    return [RunRow(*row) for row in journal.execute(sql)]


def executions(journal: sqlite3.Connection, run_id: str) -> list[Past]:
    """All that is known of a run: its executions, the one that speaks for it first; rejected messages are no runs, and
    come last."""
    rows = [RunRow(*row) for row in journal.execute(f"SELECT {_COLUMNS} FROM every_run WHERE run_id = ?", (run_id,))]  # noqa: S608

    def order(row: RunRow) -> tuple[bool, bool, float]:
        # After an end that stands there is no further execution, whatever the clock said then.
        stands = row.outcome not in (None, "", "lost", "interrupted")
        return row.outcome != "rejected", stands, row.accepted_at

    return [_past(journal, row) for row in sorted(rows, key=order, reverse=True)]


def spools(journal: sqlite3.Connection, execution: str) -> list[SpoolRow]:
    """The spool files of an execution's attempts, in order."""
    rows = journal.execute("SELECT tag, record FROM spools WHERE key > ? AND key < ?", _within(execution)).fetchall()
    return sorted((row_of(described, record) for described, record in rows), key=lambda row: row.tag.attempt)


def _past(journal: sqlite3.Connection, row: RunRow) -> Past:
    sql = "SELECT body FROM events WHERE id > ? AND id < ? AND terminal != 0 AND body != '' ORDER BY position"
    told = journal.execute(sql, _within(row.execution)).fetchall()
    return Past(row, [json.loads(body)["data"] for (body,) in told])


def _within(execution: str) -> tuple[str, str]:
    """What begins with `EXECUTION/`: "0" comes next after "/"."""
    return f"{execution}/", f"{execution}0"
