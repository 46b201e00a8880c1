"""The journal's events on their way to the results queue, and those that were there: what is to be sent, what was."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    import sqlite3
    from collections.abc import Sequence

    from runner.agent.journal.database import Database
    from runner.agent.runs.run import Execution
    from runner.protocol.event import Event


@dataclass(frozen=True, slots=True)
class Unsent:
    """An event that the results queue has not accepted yet."""

    position: int
    id: str
    execution: str | None
    subject: str
    body: str


def unsent(execution: Execution, event: Event) -> Unsent:
    """An event of an execution as long as the journal has no place for it."""
    return Unsent(0, event.id, execution.id, event.subject or execution.run_id, event.body)


class SentAndUnsent:
    """The part of the journal that is about events; as in `Journal`, a future resolves when it is so on disk."""

    def __init__(self, database: Database, owner: str) -> None:
        self.database = database
        self.owner = owner

    def unsent(self, after: int, limit: int) -> asyncio.Future[list[Unsent]]:
        """The next undelivered events of this owner behind a position, oldest first."""
        sql = (
            "SELECT position, id, execution, subject, body FROM events "
            "WHERE sent_at IS NULL AND position > ? AND owner = ? ORDER BY position LIMIT ?"
        )
        return self.database.call(
            lambda connection: [Unsent(*row) for row in connection.execute(sql, (after, self.owner, limit)).fetchall()],
            when="told",
        )

    def sent(self, ids: Sequence[str], now: float) -> asyncio.Future[None]:
        """The results queue has these: the ends of attempts stay, the last for late redeliveries; the others go."""
        marks = ", ".join("?" * len(ids))
        return self.database.write(
            (f"DELETE FROM events WHERE id IN ({marks}) AND terminal = 0", ids),  # noqa: S608 - question marks
            (f"UPDATE events SET sent_at = ? WHERE id IN ({marks})", (now, *ids)),  # noqa: S608 - question marks
            when="lazy",
        )

    def final_event(self, execution_id: str) -> asyncio.Future[tuple[str, str] | None]:
        """Id and body of the recorded terminal event; the body is empty where it was dropped to save room."""
        # Its events' ids begin with it, and "0" comes next after "/".
        sql = "SELECT id, body FROM events WHERE id > ? AND id < ? AND terminal = 1 ORDER BY position DESC LIMIT 1"
        values = (f"{execution_id}/", f"{execution_id}0")
        return self.database.call(lambda connection: connection.execute(sql, values).fetchone())

    def was_sent(self, event_id: str) -> asyncio.Future[bool]:
        """Whether the results queue has accepted this event, as far as that is marked."""
        sql = "SELECT 1 FROM events WHERE id = ? AND sent_at IS NULL"
        return self.database.call(
            lambda connection: connection.execute(sql, (event_id,)).fetchone() is None, when="told"
        )

    def unsent_count(self) -> asyncio.Future[int]:
        sql = "SELECT count(*) FROM events WHERE sent_at IS NULL AND owner = ?"
        return self.database.call(lambda connection: int(connection.execute(sql, (self.owner,)).fetchone()[0]))

    def undelivered(self) -> asyncio.Future[tuple[int, float | None]]:
        """How many events of this host, of any owner, wait, and when the oldest happened (unix seconds)."""
        # Both are answered by the index alone, however many there are and whatever their size.
        count = "SELECT count(*) FROM events WHERE sent_at IS NULL"
        oldest = "SELECT created_at FROM events WHERE sent_at IS NULL ORDER BY position LIMIT 1"

        def work(connection: sqlite3.Connection) -> tuple[int, float | None]:
            first = connection.execute(oldest).fetchone()
            return int(connection.execute(count).fetchone()[0]), first[0] if first else None

        return self.database.call(work)
