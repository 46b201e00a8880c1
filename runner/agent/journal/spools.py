"""The journal's part for the shipper: which spool files there are, and how far each reader has come."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Protocol

from runner.agent.journal.statements import delete, insert, update
from runner.agent.runs.output import Committed, OutputEnd, Rules, SpoolRow
from runner.sinks import Tag

if TYPE_CHECKING:
    import asyncio
    import sqlite3
    from collections.abc import Iterable, Sequence

    from runner.agent.journal.database import Database
    from runner.agent.journal.statements import Statement

    class Output(Protocol):
        """The output of one attempt that goes to its sinks."""

        tag: Tag
        secrets: set[str]
        rules: Rules
        ended: OutputEnd | None

        @property
        def key(self) -> str: ...

        def places(self) -> Iterable[Committed]: ...


_OPENED = insert("spools", "key tag", key="key", conflict="ON CONFLICT (key) DO NOTHING")
_LEARNED = update("spools", "key", "tag")
_ENDED = update("spools", "key", "record")
_REMOVED = delete("spools", "key")
_OFFSET = insert(
    "offsets",
    "key sink offset state",
    key="key",
    conflict="ON CONFLICT (key, sink) DO UPDATE SET offset = excluded.offset, state = excluded.state",
)
_NO_OFFSETS = delete("offsets", "key")


class Spools:
    """Implements the shipper's OffsetStore. `sizes` is the newest known size of each growing spool, in bytes."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.sizes: dict[str, int] = {}

    def opened(self, tag: Tag, secrets: Sequence[str], rules: Rules) -> asyncio.Future[None]:
        """A new spool file: one that no row knows would never be shipped."""
        return self._database.write((_OPENED, (tag.key, _described(tag, secrets, rules))))

    def learned(self, tag: Tag, secrets: Sequence[str], rules: Rules) -> asyncio.Future[None]:
        """There are more values to mask: those of env files, which only the supervisor has read."""
        return self._database.write((_LEARNED, (tag.key, _described(tag, secrets, rules))))

    def ended(self, key: str, end: OutputEnd, *, settled: bool = False) -> asyncio.Future[None]:
        """The output grows no more; `settled`: every sink has it already."""
        self.sizes.pop(key, None)
        record = json.dumps({**end.to_json(), "settled": True} if settled else end.to_json())
        statements: list[Statement] = [(_ENDED, (key, record))]
        if settled:
            statements.append((_NO_OFFSETS, (key,)))
        return self._database.write(*statements)

    def settled(self, key: str) -> asyncio.Future[None]:
        """Every sink has everything: nothing is left to go on with. The row stays as long as the file, which cannot
        be shown without the values to mask."""

        def work(connection: sqlite3.Connection) -> None:
            connection.execute("DELETE FROM offsets WHERE key = ?", (key,))
            found = connection.execute("SELECT record FROM spools WHERE key = ?", (key,)).fetchone()
            if found is not None:
                record = json.dumps({**json.loads(found[0] or "{}"), "settled": True})
                connection.execute("UPDATE spools SET record = ? WHERE key = ?", (record, key))

        return self._database.call(work, when="lazy")

    def known(self) -> asyncio.Future[list[tuple[Tag, bool]]]:
        def work(connection: sqlite3.Connection) -> list[tuple[Tag, bool]]:
            rows = connection.execute("SELECT tag, record FROM spools").fetchall()
            return [(Tag.from_json(json.loads(described)["tag"]), _settled(record)) for described, record in rows]

        return self._database.call(work)

    def removed(self, keys: Sequence[str]) -> asyncio.Future[None]:
        return self._database.write(*((_REMOVED, (key,)) for key in keys))

    def whole(self, outputs: Iterable[Output]) -> list[Statement]:
        """All that is to be known of these, for a journal that begins anew."""
        statements: list[Statement] = []
        for output in outputs:
            statements.append((_OPENED, (output.key, _described(output.tag, sorted(output.secrets), output.rules))))
            if output.ended is not None:
                statements.append((_ENDED, (output.key, json.dumps(output.ended.to_json()))))
            statements += [_place(entry) for entry in output.places()]
        return statements

    def unsettled(self, owner: str) -> asyncio.Future[list[SpoolRow]]:
        """Those to go on with, but for the runs of others: a run-once beside us ships its own."""
        sql = (
            "SELECT tag, record FROM spools WHERE NOT EXISTS (SELECT 1 FROM runs "
            "WHERE runs.execution = substr(spools.key, 1, instr(spools.key, '/') - 1) AND runs.owner != ?)"
        )

        def work(connection: sqlite3.Connection) -> list[SpoolRow]:
            rows = connection.execute(sql, (owner,)).fetchall()
            return [row_of(described, record) for described, record in rows if not _settled(record)]

        return self._database.call(work)

    def owners(self) -> asyncio.Future[list[str]]:
        """Whose runs have output that not every sink has."""
        # Spelled as json.dumps does; to parse each record takes far longer.
        sql = (
            "SELECT DISTINCT owner FROM spools CROSS JOIN runs "
            "ON execution = substr(spools.key, 1, instr(spools.key, '/') - 1) "
            """WHERE record IS NULL OR instr(record, '"settled": true') = 0"""
        )
        return self._database.call(lambda connection: [row[0] for row in connection.execute(sql).fetchall()])

    def load(self, key: str) -> asyncio.Future[list[Committed]]:
        def work(connection: sqlite3.Connection) -> list[Committed]:
            rows = connection.execute("SELECT sink, offset, state FROM offsets WHERE key = ?", (key,)).fetchall()
            return [Committed(key, sink, offset, json.loads(state)) for sink, offset, state in rows]

        return self._database.call(work)

    def commit(self, entries: Sequence[Committed]) -> asyncio.Future[None]:
        return self._database.write(*(_place(entry) for entry in entries))


def _place(entry: Committed) -> Statement:
    return _OFFSET, (entry.key, entry.sink, entry.offset, json.dumps(dict(entry.state)))


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


def _settled(record: str | None) -> bool:
    return record is not None and bool(json.loads(record).get("settled"))


def row_of(text: str, record: str | None) -> SpoolRow:
    """A row of `spools`, its columns `tag` and `record`."""
    described: dict[str, Any] = json.loads(text)
    end: dict[str, Any] = json.loads(record) if record else {}
    return SpoolRow(
        tag=Tag.from_json(described["tag"]),
        secrets=tuple(described["secrets"]),
        rules=Rules(tuple(described["fail_on"]), tuple(described["require"])),
        end=OutputEnd.from_json(end) if "bytes_total" in end else None,
        settled=bool(end.get("settled")),
    )
