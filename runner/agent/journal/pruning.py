"""What the journal forgets, and what it keeps of what has ended, in bounded bytes whatever senders write.

Kept the longest is what a guarantee needs: for 15 days that a run was here, and its finished event, which answers a
message that comes again. Its message (its `spec`), which only a rerun needs, goes first where there is too much.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import sqlite3

DAY_S = 86_400.0
# SQS keeps a message for 14 days at most; a run is remembered for longer than its message can come back.
RETENTION_S = 16 * DAY_S
# Of ended runs, by the size that the index runs_large has: those of ordinary ones are a few hundred bytes.
LARGE_SPEC_BYTES = 8192
KEPT_LARGE_BYTES = 64 * 1024 * 1024
# Of all that is in use of the file.
KEPT_BYTES = 512 * 1024 * 1024
PRUNE_ROWS = 5_000
_LARGE_ROWS = 100  # of a step: each is up to a MiB of pages that become free


def shorten(connection: sqlite3.Connection, now: float) -> int:
    """One bounded step of it; how many rows went or shrank, 0 when there is nothing left to do."""
    return _forget(connection, now - RETENTION_S) or _without_large(connection) or _shrink(connection)


def _forget(connection: sqlite3.Connection, before: float) -> int:
    forgotten = 0
    for table in ("runs", "runs_before"):
        old = connection.execute(
            f"SELECT execution FROM {table} "  # noqa: S608
            "WHERE state = 'ended' AND ended_at < ? AND message != 'leased' AND execution NOT IN "
            "(SELECT execution FROM events WHERE sent_at IS NULL AND execution IS NOT NULL) LIMIT ?",
            (before, PRUNE_ROWS - forgotten),
        ).fetchall()
        connection.executemany(
            "DELETE FROM events WHERE id > ? || '/' AND id < ? || '0' AND sent_at IS NOT NULL",
            [(execution, execution) for (execution,) in old],
        )
        connection.executemany(f"DELETE FROM {table} WHERE execution = ?", old)  # noqa: S608
        forgotten += len(old)
    return forgotten


def _without_large(connection: sqlite3.Connection) -> int:
    """The large messages of ended runs beyond their quota, the oldest first."""
    large = "state = 'ended' AND length(spec) > 8192"  # as in the index, which answers the first alone
    size = connection.execute(f"SELECT coalesce(sum(length(spec)), 0) FROM runs WHERE {large}").fetchone()[0]  # noqa: S608
    if size <= KEPT_LARGE_BYTES:
        return 0
    oldest = connection.execute(
        f"SELECT length(spec), execution, run_id, job FROM runs WHERE {large} AND message != 'leased' "  # noqa: S608
        "ORDER BY ended_at LIMIT ?",
        (_LARGE_ROWS,),
    ).fetchall()
    going = []
    for length, *row in oldest:
        if size <= KEPT_LARGE_BYTES:
            break
        going.append(row)
        size -= length
    return _empty(connection, "runs", going)


def _shrink(connection: sqlite3.Connection) -> int:
    """Where all together is too much: first every message of ended runs, then the text of delivered final events."""
    page_size = connection.execute("PRAGMA page_size").fetchone()[0]
    pages = connection.execute("PRAGMA page_count").fetchone()[0]
    free = connection.execute("PRAGMA freelist_count").fetchone()[0]
    if (pages - free) * page_size <= KEPT_BYTES:
        return 0
    for table in ("runs_before", "runs"):
        rows = connection.execute(
            f"SELECT execution, run_id, job FROM {table} WHERE state = 'ended' AND message != 'leased' "  # noqa: S608
            "AND length(spec) > 2 * length(run_id) + 2 * length(job) + 60 ORDER BY ended_at LIMIT ?",
            (PRUNE_ROWS,),
        ).fetchall()
        if rows:
            return _empty(connection, table, rows)
    return connection.execute(
        "UPDATE events SET body = '' WHERE position IN (SELECT position FROM events "
        "WHERE sent_at IS NOT NULL AND body != '' ORDER BY position LIMIT ?)",
        (PRUNE_ROWS,),
    ).rowcount


def _empty(connection: sqlite3.Connection, table: str, rows: list[list[str]]) -> int:
    """A job without a command is left of each message: it can be read, and not be run."""
    connection.executemany(
        f"UPDATE {table} SET spec = ? WHERE execution = ?",  # noqa: S608 - one of two names
        [
            (json.dumps({"job": job, "run_id": run_id, "argv": [], "command": ""}, separators=(",", ":")), execution)
            for execution, run_id, job in rows
        ],
    )
    return len(rows)
