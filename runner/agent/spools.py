"""The journal's part for the shipper: which spool files there are, and how far each reader has come."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from runner.agent.output import Committed, OutputEnd, Rules
from runner.sinks import Tag

if TYPE_CHECKING:
    import asyncio
    import sqlite3
    from collections.abc import Sequence

    from runner.agent.database import Database


@dataclass(frozen=True, slots=True)
class SpoolRow:
    """A spool that was not settled when the agent went away; `end` is None where the run may still write."""

    tag: Tag
    secrets: tuple[str, ...]
    rules: Rules
    end: OutputEnd | None


class Spools:
    """Implements the shipper's OffsetStore. `sizes` is the newest known size of each growing spool, in bytes."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.sizes: dict[str, int] = {}

    def opened(self, tag: Tag, secrets: Sequence[str], rules: Rules) -> asyncio.Future[None]:
        """A new spool file: one that no row knows would never be shipped."""
        sql = "INSERT INTO spools (key, tag, record) VALUES (?, ?, NULL) ON CONFLICT (key) DO NOTHING"
        return self._database.write((sql, (tag.key, _described(tag, secrets, rules))))

    def learned(self, tag: Tag, secrets: Sequence[str], rules: Rules) -> asyncio.Future[None]:
        """There are more values to mask: those of env files, which only the supervisor has read."""
        return self._database.write(
            ("UPDATE spools SET tag = ? WHERE key = ?", (_described(tag, secrets, rules), tag.key))
        )

    def ended(self, key: str, end: OutputEnd) -> asyncio.Future[None]:
        """The output grows no more."""
        self.sizes.pop(key, None)
        return self._database.write(("UPDATE spools SET record = ? WHERE key = ?", (json.dumps(end.to_json()), key)))

    def settled(self, key: str) -> asyncio.Future[None]:
        """Every sink has everything: nothing is left to go on with."""
        return self._database.write(
            ("DELETE FROM offsets WHERE key = ?", (key,)), ("DELETE FROM spools WHERE key = ?", (key,))
        )

    def unsettled(self) -> asyncio.Future[list[SpoolRow]]:
        def work(connection: sqlite3.Connection) -> list[SpoolRow]:
            rows = connection.execute("SELECT tag, record FROM spools").fetchall()
            return [_row(json.loads(described), record) for described, record in rows]

        return self._database.call(work)

    def load(self, key: str) -> asyncio.Future[list[Committed]]:
        def work(connection: sqlite3.Connection) -> list[Committed]:
            rows = connection.execute("SELECT sink, offset, state FROM offsets WHERE key = ?", (key,)).fetchall()
            return [Committed(key, sink, offset, json.loads(state)) for sink, offset, state in rows]

        return self._database.call(work)

    def commit(self, entries: Sequence[Committed]) -> asyncio.Future[None]:
        sql = (
            "INSERT INTO offsets (key, sink, offset, state) VALUES (?, ?, ?, ?) "
            "ON CONFLICT (key, sink) DO UPDATE SET offset = excluded.offset, state = excluded.state"
        )
        return self._database.write(
            *((sql, (entry.key, entry.sink, entry.offset, json.dumps(dict(entry.state)))) for entry in entries)
        )


def _described(tag: Tag, secrets: Sequence[str], rules: Rules) -> str:
    # The secrets are in the run's spec as well: the journal is readable to the agent's user alone.
    return json.dumps(
        {
            "tag": tag.to_json(),
            "secrets": list(secrets),
            "fail_on": list(rules.fail_on),
            "require": list(rules.require),
        }
    )


def _row(described: dict[str, Any], record: str | None) -> SpoolRow:
    return SpoolRow(
        tag=Tag.from_json(described["tag"]),
        secrets=tuple(described["secrets"]),
        rules=Rules(tuple(described["fail_on"]), tuple(described["require"])),
        end=OutputEnd.from_json(json.loads(record)) if record else None,
    )
