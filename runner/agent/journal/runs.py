"""The journal: the agent's durable record of runs and of events that are not yet delivered.

Every method returns a future that resolves when the fact is on disk; nobody is told anything before that. What need
not survive a power cut says so where it is written (`runner.agent.journal.database.When`).
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from runner.agent.journal.outgoing import SentAndUnsent, Unsent
from runner.agent.journal.pruning import shorten
from runner.agent.journal.statements import insert, update
from runner.agent.runs.run import Execution, MessageState, described

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from runner.agent.journal.database import Database, When
    from runner.agent.journal.statements import Statement
    from runner.agent.runs.lease import Lease
    from runner.protocol.event import Event

# Senders decide how fast the journal grows: after so many bytes it is looked at what can go.
CROWDED_BYTES = 32 * 1024 * 1024
# A job in JSON that is no longer than this is put together once: the supervisor is given it too.
SPEC_BYTES = 8 * 1024

# What an event is kept for after it was sent, its `terminal`; 0: for nothing.
LAST = 1
EARLIER = 2

_COLUMNS_OF_RUNS = (
    "execution run_id job owner state attempt sequence spec message_id receipt delivery sent_at message lease_taken "
    "lease_until boot_id supervisor pid accepted_at started_at ended_at outcome reason exit_code message_group"
)
_ACCEPTED = insert(
    "runs",
    _COLUMNS_OF_RUNS,
    key="execution",
    conflict="ON CONFLICT (execution) DO NOTHING",
)
_STANDS = update(
    "runs",
    "execution",
    "state attempt sequence message supervisor pid started_at ended_at outcome reason exit_code",
)
_SPEC = _COLUMNS_OF_RUNS.split().index("spec")
_RENEWED = update("runs", "execution", "receipt delivery lease_taken lease_until")
_MESSAGE = update("runs", "execution", "message")
# By execution: the events of one keep their order.
_EVENT = insert(
    "events",
    "id execution subject owner terminal created_at body",
    key="execution",
    conflict="ON CONFLICT (id) DO NOTHING",
)
# The end of which only this is known: that it was told.
_TOLD = insert(
    "events",
    "id execution subject owner terminal created_at sent_at body",
    key="execution",
    conflict="ON CONFLICT (id) DO NOTHING",
)


# A default that changes one day has to be written into the rows that left it out: by a migration.
@dataclass(frozen=True, slots=True)
class RunRow:
    """One row of `runs`; attributes are named as its columns (schema.py)."""

    execution: str
    run_id: str
    job: str
    owner: str
    state: str
    attempt: int
    sequence: int
    spec: str
    message_id: str | None
    receipt: str | None
    delivery: int
    sent_at: float | None
    message: str
    lease_taken: float
    lease_until: float
    boot_id: str
    supervisor: str | None
    pid: int | None
    accepted_at: float
    started_at: float | None
    ended_at: float | None
    outcome: str | None
    reason: str | None
    exit_code: int | None
    message_group: str | None


_COLUMNS = ", ".join(RunRow.__dataclass_fields__)


def _row(execution: Execution) -> tuple[Any, ...]:
    """All of its row."""
    lease, verdict = execution.lease, execution.verdict
    spec = execution.spec or described(execution.job)
    if len(spec) <= SPEC_BYTES:
        execution.spec = spec
    return (
        execution.id,
        execution.run_id,
        execution.job.job,
        execution.owner,
        execution.state,
        execution.attempt,
        execution.sequence,
        spec,
        execution.message_id,
        lease.receipt if lease else None,
        execution.delivery,
        execution.sent_at,
        execution.message,
        lease.taken if lease else 0.0,
        lease.until if lease else 0.0,
        execution.boot_id,
        execution.supervisor,
        execution.pid,
        execution.accepted_at,
        execution.started_at,
        execution.ended_at,
        execution.outcome,
        execution.reason,
        verdict.exit_code if verdict else None,
        execution.group,
    )


class Journal(SentAndUnsent):
    """Domain statements over the database. `owner` tells the agent's rows from those of a run-once beside it."""

    def __init__(self, database: Database, owner: str) -> None:
        super().__init__(database, owner)
        self.crowded = asyncio.Event()  # it is time to prune
        self._grown = 0

    # -- facts of runs

    def accept(self, execution: Execution, *events: Event, terminal: bool = False) -> asyncio.Future[None]:
        """Write a new execution, with the events of what happened to it at once (skipped, rejected)."""
        row = _row(execution)
        self._grow(len(row[_SPEC]))
        # Without an event nothing is told yet: what a power cut takes, process and row, the queue still has.
        when: When = "durable" if events else "now"
        return self.database.write((_ACCEPTED, row), *self._events(execution, events, terminal=terminal), when=when)

    def whole(
        self, executions: Iterable[Execution], events: Iterable[Unsent], told: Iterable[Execution] = ()
    ) -> list[Statement]:
        """All that is to be known of these, for a journal that begins anew; ``events`` are those not delivered yet, and
        ``told`` those whose end was delivered: the lost journal alone had its text."""
        return [
            *((_ACCEPTED, _row(execution)) for execution in executions),
            *((_TOLD, self._told(execution)) for execution in told),
            *(
                # Which of them are terminal is in the lost journal: a kept one more does no harm.
                (_EVENT, (event.id, event.execution, event.subject, self.owner, 1, time.time(), event.body))
                for event in events
            ),
        ]

    def _told(self, execution: Execution) -> tuple[object, ...]:
        event_id = f"{execution.id}/{execution.attempt}/cron-runner.run.finished"
        ended = execution.ended_at or execution.accepted_at
        return (event_id, execution.id, execution.run_id, self.owner, LAST, ended, time.time(), "")

    def save(
        self, execution: Execution, *events: Event, terminal: bool = False, kept: bool = False
    ) -> asyncio.Future[None]:
        """Write how an execution stands now, together with the events that tell it. `kept`: the end of an attempt that
        is not the last one; people ask for it after it was sent."""
        verdict = execution.verdict
        values = (
            execution.id,
            execution.state,
            execution.attempt,
            execution.sequence,
            execution.message,
            execution.supervisor,
            execution.pid,
            execution.started_at,
            execution.ended_at,
            execution.outcome,
            execution.reason,
            verdict.exit_code if verdict else None,
        )
        told = self._events(execution, events, terminal=terminal, of_attempt=EARLIER if kept else 0)
        return self.database.write((_STANDS, values), *told)

    def event(self, event: Event, created_at: float) -> asyncio.Future[None]:
        """Write an event that belongs to no run."""
        values = (event.id, None, event.subject or "", self.owner, 0, created_at, event.body)
        return self.database.write((_EVENT, values))

    def _grow(self, size: int) -> None:
        self._grown += size
        if self._grown > CROWDED_BYTES:
            self.crowded.set()

    def _events(
        self, execution: Execution, events: Sequence[Event], *, terminal: bool, of_attempt: int = 0
    ) -> list[Statement]:
        self._grow(sum(len(event.body) for event in events))
        return [
            (
                _EVENT,
                (
                    event.id,
                    execution.id,
                    event.subject or execution.run_id,
                    self.owner,
                    LAST if terminal else of_attempt,
                    execution.ended_at or execution.started_at or execution.accepted_at,
                    event.body,
                ),
            )
            for event in events
        ]

    def renewed(self, leases: Iterable[Lease]) -> asyncio.Future[None]:
        """Write what SQS granted, so that the next agent knows until when each message is held."""
        return self.database.write(
            *(
                (_RENEWED, (lease.execution, lease.receipt, lease.delivery, lease.taken, lease.until))
                for lease in leases
                if lease.execution
            )
        )

    def message_gone(self, execution_id: str) -> asyncio.Future[None]:
        """The message is deleted or handed back: the queue is owed nothing more."""
        return self.database.write((_MESSAGE, (execution_id, MessageState.GONE)), when="lazy")

    # -- what was before

    def unfinished(self, owner: str | None = None) -> asyncio.Future[list[RunRow]]:
        """Executions of an owner (this one) that have not ended, or whose message is still ours, oldest first."""
        sql = (
            f"SELECT {_COLUMNS} FROM runs WHERE (state != 'ended' OR message = 'leased') AND owner = ? "  # noqa: S608
            "ORDER BY accepted_at"
        )
        return self._rows(sql, (owner or self.owner,))

    def latest(self, run_ids: Sequence[str]) -> asyncio.Future[list[RunRow]]:
        """The last accepted execution of each of these runs, of any owner; rejected messages are no runs."""
        marks = ", ".join("?" * len(run_ids))
        # After an end that stands there is no further execution, so it is the last one whatever the clock said then.
        stands = "coalesce(outcome, '') NOT IN ('', 'lost', 'interrupted')"
        sql = (
            f"SELECT {_COLUMNS}, max(accepted_at + 1e12 * ({stands})) "  # noqa: S608
            f"FROM every_run WHERE run_id IN ({marks}) AND (outcome IS NULL OR outcome != 'rejected') GROUP BY run_id"
        )
        return self._rows(sql, run_ids, when="now")

    def of(self, executions: Sequence[str]) -> asyncio.Future[list[RunRow]]:
        """The rows of these executions, of any owner."""
        marks = ", ".join("?" * len(executions))
        sql = f"SELECT {_COLUMNS} FROM every_run WHERE execution IN ({marks})"  # noqa: S608 - question marks
        return self._rows(sql, executions, when="now")

    def recent(self, limit: int) -> asyncio.Future[list[RunRow]]:
        """The executions of any owner that ended last, the newest first."""
        # The state is spelled out, as it is in the indexes; each table gives its newest, in the order of its index.
        newest = "SELECT * FROM (SELECT {} FROM {} WHERE state = 'ended' ORDER BY ended_at DESC LIMIT ?)"
        parts = [newest.format(_COLUMNS, table) for table in ("runs", "runs_before")]
        return self._rows(f"{' UNION ALL '.join(parts)} ORDER BY ended_at DESC LIMIT ?", (limit,) * 3)

    def rejected(self, message_ids: Sequence[str]) -> asyncio.Future[list[RunRow]]:
        """The earlier rejections of these very messages, of those that had one."""
        marks = ", ".join("?" * len(message_ids))
        sql = f"SELECT {_COLUMNS} FROM every_run WHERE message_id IN ({marks}) AND outcome = 'rejected'"  # noqa: S608
        return self._rows(sql, message_ids, when="now")

    def _rows(self, sql: str, values: Sequence[Any], *, when: When = "durable") -> asyncio.Future[list[RunRow]]:
        width = len(RunRow.__dataclass_fields__)
        return self.database.call(
            lambda connection: [RunRow(*row[:width]) for row in connection.execute(sql, values).fetchall()], when=when
        )

    # -- of others

    def take_over_from(self, owner: str) -> asyncio.Future[None]:
        """Answer from now on for what a process that is gone has left."""
        return self.database.write(
            ("UPDATE runs SET owner = ? WHERE owner = ?", (self.owner, owner)),
            ("UPDATE events SET owner = ? WHERE owner = ?", (self.owner, owner)),
        )

    def owners(self) -> asyncio.Future[list[str]]:
        """Whoever has unfinished runs or undelivered events."""
        sql = (
            "SELECT owner FROM runs WHERE state != 'ended' OR message = 'leased' "
            "UNION SELECT owner FROM events WHERE sent_at IS NULL"
        )
        return self.database.call(lambda connection: [row[0] for row in connection.execute(sql).fetchall()])

    # -- retention

    def prune(self, now: float) -> asyncio.Future[int]:
        """Forget what is older than any message can be, and what is over the quotas.

        Works in bounded steps; returns how many rows went or shrank, so that the caller comes again while it is busy.
        """
        self._grown = 0
        self.crowded.clear()
        return self.database.call(lambda connection: shorten(connection, now))
