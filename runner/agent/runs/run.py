"""One execution: this host's acceptance of a run, with all that changes while it goes on.

Only engine/run.py, by the table of step.py, and the lease keeper change it; the journal stores it, status shows it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from runner.agent.execution_ids import new_execution_id
from runner.protocol.event import RunFacts
from runner.protocol.job import Job

if TYPE_CHECKING:
    from runner.agent.runs.lease import Lease
    from runner.protocol.outcome import Verdict


_NEEDED = frozenset({"job", "run_id", "argv", "command"})
_ENCODER = json.JSONEncoder(separators=(",", ":"))
_USUAL = {name: value for name, value in Job("", "", (), ()).to_json().items() if name not in _NEEDED}


def described(job: Job) -> str:
    """The job without what it would be anyway: most of a row that is written again at each change of its state."""
    told = {name: value for name, value in job.to_json().items() if name not in _USUAL or _USUAL[name] != value}
    return _ENCODER.encode(told)


class State(StrEnum):
    """Where an execution stands; the journal's `state`.

    accepted → running → (backoff → running)* → ended
    """

    ACCEPTED = "accepted"
    RUNNING = "running"
    BACKOFF = "backoff"
    ENDED = "ended"


class MessageState(StrEnum):
    """What became of the message; the journal's `message`."""

    NONE = "none"  # the run came from a file
    LEASED = "leased"
    TAKEN_OVER = "taken_over"  # deleted before the end (12 hours, ack on-start): this host answers for the run alone
    GONE = "gone"  # deleted or handed back: nothing is owed to the queue


@dataclass(slots=True)
class Execution:
    """Times are unix seconds; `lease` is None once nothing is owed to the queue."""

    job: Job
    message_id: str | None
    delivery: int
    sent_at: float | None
    accepted_at: float
    boot_id: str
    owner: str = "agent"
    id: str = field(default_factory=new_execution_id)
    state: State = State.ACCEPTED
    attempt: int = 1
    sequence: int = 0
    message: MessageState = MessageState.NONE
    lease: Lease | None = None
    lease_lost: bool = False
    supervisor: str | None = None
    pid: int | None = None
    started_at: float | None = None
    ended_at: float | None = None
    verdict: Verdict | None = None
    outcome: str | None = None  # of the last attempt, or "skipped", "rejected"
    reason: str | None = None
    log_stream: str | None = None
    collecting: bool = False  # its process is gone, and its end is not told yet
    weight: int = 0  # bytes of memory of the message that it came from
    group: str | None = None  # of a FIFO queue: its next message waits for this run's end
    spec: str = ""  # a job that is not large, as the journal has it, once it has

    @property
    def key(self) -> str:
        """The name of the present attempt between agent, supervisor and spool: EXECUTION/ATTEMPT."""
        return f"{self.id}/{self.attempt}"

    @property
    def run_id(self) -> str:
        return self.job.run_id

    def facts(self) -> RunFacts:
        """What every event of this execution carries."""
        return RunFacts(
            execution=self.id,
            job=self.job.job or None,
            run_id=self.job.run_id,
            delivery=self.delivery,
            scheduled_at=self.job.scheduled_at,
            sent_at=self.sent_at,
            labels=self.job.labels,
            traceparent=self.job.traceparent,
        )

    def next_sequence(self) -> int:
        self.sequence += 1
        return self.sequence
