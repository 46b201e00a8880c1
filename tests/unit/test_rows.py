"""Statements for many rows at once do what they would do one after the other."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from runner.agent.journal.statements import Statement, delete, execute, in_steps, insert, update

THING = insert("things", "name size note", key="name", conflict="ON CONFLICT (name) DO NOTHING")
EVENT = insert("events", "thing text", key="thing")
RESIZED = update("things", "name", "size note")
NOTED = update("things", "name", "note")
GONE = delete("things", "name")

_NAMES = st.sampled_from("abcdefgh")
_ROWS = st.one_of(
    st.tuples(st.just(THING), st.tuples(_NAMES, st.integers(0, 9), st.none())),
    st.tuples(st.just(RESIZED), st.tuples(_NAMES, st.integers(0, 9), st.text(max_size=2))),
    st.tuples(st.just(NOTED), st.tuples(_NAMES, st.text(max_size=2))),
    st.tuples(st.just(EVENT), st.tuples(_NAMES, st.integers(0, 99))),
    st.tuples(st.just(GONE), st.tuples(_NAMES)),
    st.tuples(st.just("UPDATE things SET size = size + ?"), st.tuples(st.integers(1, 3))),
)


def database() -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.execute("CREATE TABLE things (name TEXT NOT NULL UNIQUE, size, note)")
    connection.execute("CREATE TABLE events (position INTEGER PRIMARY KEY AUTOINCREMENT, thing, text)")
    return connection


def content(connection: sqlite3.Connection) -> tuple[list[Any], dict[str, list[Any]]]:
    """All things, and the events of each in their order."""
    events: dict[str, list[Any]] = {}
    for thing, text in connection.execute("SELECT thing, text FROM events ORDER BY position"):
        events.setdefault(thing, []).append(text)
    return connection.execute("SELECT * FROM things ORDER BY name").fetchall(), events


@given(st.lists(_ROWS, max_size=60))
def test_many_rows_come_to_what_each_alone_comes_to(statements: list[Statement]) -> None:
    with closing(database()) as together, closing(database()) as alone:
        execute(together, statements)
        for statement in statements:
            execute(alone, [statement])
        assert content(together) == content(alone)


def test_the_rows_of_many_runs_share_their_steps() -> None:
    statements: list[Statement] = []
    for number in range(40):
        statements += [(NOTED, (f"t{number}", "x")), (EVENT, (f"t{number}", "began")), (EVENT, (f"t{number}", "ended"))]
    assert [(rows, len(entries)) for rows, entries in in_steps(statements)] == [(NOTED, 40), (EVENT, 80)]


def test_a_step_changes_a_thing_once() -> None:
    twice: list[Statement] = [(NOTED, ("a", "x")), (NOTED, ("b", "x")), (NOTED, ("a", "y")), (NOTED, ("b", "y"))]
    assert [len(entries) for _, entries in in_steps(twice)] == [2, 2]
