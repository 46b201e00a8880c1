"""The journal's tables, and the steps that bring an older journal to today's shape.

A migration is only ever appended: an old journal that is checked in under tests/contract must always load.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import sqlite3

MIGRATIONS: tuple[str, ...] = (
    """
    CREATE TABLE runs (
        execution TEXT PRIMARY KEY,
        run_id TEXT NOT NULL,
        job TEXT NOT NULL,
        owner TEXT NOT NULL,            -- 'agent', or the process of a run-once
        state TEXT NOT NULL,            -- accepted, running, backoff, ended
        attempt INTEGER NOT NULL,
        sequence INTEGER NOT NULL,      -- of the last event made
        spec TEXT NOT NULL,             -- the resolved job, JSON
        message_id TEXT,                -- null: a run that came from a file
        receipt TEXT,
        delivery INTEGER NOT NULL,
        sent_at REAL,
        message TEXT NOT NULL,          -- leased, gone (deleted or handed back), taken_over, none
        lease_taken REAL NOT NULL,      -- CLOCK_BOOTTIME of the receive that began the hold
        lease_until REAL NOT NULL,      -- CLOCK_BOOTTIME at which the last granted lease ends
        boot_id TEXT NOT NULL,
        supervisor TEXT,                -- instance of the supervisor that was told to start it
        pid INTEGER,
        accepted_at REAL NOT NULL,
        started_at REAL,
        ended_at REAL,
        outcome TEXT,                   -- of the last attempt, or skipped, or rejected
        reason TEXT,
        exit_code INTEGER
    ) WITHOUT ROWID;
    CREATE INDEX runs_by_run_id ON runs (run_id, accepted_at);
    CREATE INDEX runs_open ON runs (state) WHERE state != 'ended';
    CREATE INDEX runs_leased ON runs (message) WHERE message = 'leased';
    CREATE INDEX runs_by_end ON runs (ended_at) WHERE state = 'ended';
    CREATE INDEX runs_rejected ON runs (message_id) WHERE outcome = 'rejected';

    CREATE TABLE events (
        position INTEGER PRIMARY KEY AUTOINCREMENT,
        id TEXT NOT NULL UNIQUE,
        execution TEXT,
        subject TEXT NOT NULL,
        owner TEXT NOT NULL,
        terminal INTEGER NOT NULL,      -- kept after it was sent: 1 to answer a late redelivery, 2 an earlier attempt's
        created_at REAL NOT NULL,
        sent_at REAL,
        body TEXT NOT NULL
    );
    CREATE INDEX events_unsent ON events (position) WHERE sent_at IS NULL;
    CREATE INDEX events_by_execution ON events (execution, position);

    CREATE TABLE spools (
        key TEXT PRIMARY KEY,           -- EXECUTION/ATTEMPT
        tag TEXT NOT NULL,              -- what the shipper needs to go on after a restart, JSON
        record TEXT                     -- how the output ended, JSON; null while it may still grow
    ) WITHOUT ROWID;

    CREATE TABLE offsets (
        key TEXT NOT NULL,
        sink TEXT NOT NULL,
        offset INTEGER NOT NULL,
        state TEXT NOT NULL,
        PRIMARY KEY (key, sink)
    ) WITHOUT ROWID;
    """,
    # Rows as wide as these cost half as much in tables with a rowid: the others keep whole rows in inner pages too,
    # five to a page, so that a million runs were ten levels deep, and appending to them moves neighbours about.
    # What has ended stays where it is until it is forgotten, however much that is; `every_run` shows both.
    """
    ALTER TABLE runs RENAME TO runs_before;
    CREATE TABLE runs (
        execution TEXT NOT NULL UNIQUE,
        run_id TEXT NOT NULL,
        job TEXT NOT NULL,
        owner TEXT NOT NULL,
        state TEXT NOT NULL,
        attempt INTEGER NOT NULL,
        sequence INTEGER NOT NULL,
        spec TEXT NOT NULL,             -- what is not a default in it may be left out
        message_id TEXT,
        receipt TEXT,
        delivery INTEGER NOT NULL,
        sent_at REAL,
        message TEXT NOT NULL,
        lease_taken REAL NOT NULL,
        lease_until REAL NOT NULL,
        boot_id TEXT NOT NULL,
        supervisor TEXT,
        pid INTEGER,
        accepted_at REAL NOT NULL,
        started_at REAL,
        ended_at REAL,
        outcome TEXT,
        reason TEXT,
        exit_code INTEGER
    );
    CREATE INDEX runs_named ON runs (run_id);
    CREATE INDEX runs_owed ON runs (owner) WHERE state != 'ended' OR message = 'leased';
    CREATE INDEX runs_ended ON runs (ended_at) WHERE state = 'ended';
    CREATE INDEX runs_refused ON runs (message_id) WHERE outcome = 'rejected';
    INSERT INTO runs SELECT * FROM runs_before WHERE state != 'ended' OR message = 'leased'
        OR execution IN (SELECT substr(key, 1, instr(key, '/') - 1) FROM spools);
    DELETE FROM runs_before WHERE execution IN (SELECT execution FROM runs);
    DROP INDEX runs_open;
    DROP INDEX runs_leased;
    CREATE VIEW every_run AS SELECT * FROM runs UNION ALL SELECT * FROM runs_before;

    DROP INDEX events_by_execution;     -- an event's id begins with its execution

    ALTER TABLE spools RENAME TO spools_before;
    CREATE TABLE spools (key TEXT NOT NULL UNIQUE, tag TEXT NOT NULL, record TEXT);
    INSERT INTO spools SELECT * FROM spools_before;
    DROP TABLE spools_before;
    """,
    # How much the messages of ended runs are that are no small ones: answered by the index alone.
    """
    CREATE INDEX runs_large ON runs (ended_at, length(spec)) WHERE state = 'ended' AND length(spec) > 8192;
    """,
    # Who changed what by hand on this host, and why.
    """
    CREATE TABLE audit (
        position INTEGER PRIMARY KEY AUTOINCREMENT,
        at REAL NOT NULL,
        who TEXT NOT NULL,
        role TEXT NOT NULL,
        op TEXT NOT NULL,
        subject TEXT NOT NULL,
        note TEXT NOT NULL,
        result TEXT NOT NULL,
        way TEXT NOT NULL               -- a command, the page, the API; and from where
    );
    """,
    # The group of a FIFO queue whose next message waits for the run's end, also where its own message is gone.
    """
    ALTER TABLE runs ADD COLUMN message_group TEXT;
    ALTER TABLE runs_before ADD COLUMN message_group TEXT;
    """,
)


class JournalTooNew(Exception):
    """The journal was written by a later cron-runner than this one."""


def migrate(connection: sqlite3.Connection) -> None:
    """Bring the journal to the newest schema, one transaction a step.

    Raises JournalTooNew for a journal from the future, sqlite3.DatabaseError for one that is no database.
    """
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version > len(MIGRATIONS):
        raise JournalTooNew(f"schema {version}, this version knows up to {len(MIGRATIONS)}")
    for step in range(version, len(MIGRATIONS)):
        connection.executescript(f"BEGIN IMMEDIATE;{MIGRATIONS[step]};PRAGMA user_version = {step + 1};COMMIT;")
