"""What the supervisor is told of each run that it starts, so that an agent whose journal is lost answers for it still.

The supervisor keeps the note unread, with the run and with the record of its end, and gives it back when it is asked
what it has. It is as private as the run's environment: only root and the agent's own user may ask.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from runner.agent.runs.lease import Lease
from runner.agent.runs.output import Rules, SpoolRow
from runner.agent.runs.run import Execution, MessageState, described
from runner.protocol.job import Job, Retries

if TYPE_CHECKING:
    from runner.agent.runs.process import Known
    from runner.config import Config
    from runner.protocol.event import Source
    from runner.sinks import Tag

MOST_STDIN = 4096
"""A longer standard input is not noted a second time; the run is then not tried again by whoever adopts it."""
ASK_SQS_S = 1.0
_ENCODER = json.JSONEncoder(separators=(",", ":"))


def note_of(execution: Execution, tag: Tag) -> str:
    """All that is known of an attempt before its start."""
    lease, job = execution.lease, execution.job
    whole = job.stdin is None or len(job.stdin) <= MOST_STDIN
    note: dict[str, Any] = {
        "spec": execution.spec or described(job) if whole else described(replace(job, stdin=None, retries=Retries())),
        "message": execution.message,
        "message_id": execution.message_id,
        "delivery": execution.delivery,
        "sent_at": execution.sent_at,
        "accepted_at": execution.accepted_at,
        "sequence": execution.sequence,
        "max_bytes": tag.max_bytes,
    }
    if execution.group is not None:
        note["group"] = execution.group
    if lease is not None:
        note["receipt"], note["taken"] = lease.receipt, lease.taken
    return _ENCODER.encode(note)


def adopted(known: Known, config: Config, source: Source, supervisor: str | None, now: float) -> Execution:
    """The execution of which no journal knows, as it was accepted.

    `now` is CLOCK_BOOTTIME. Without a note (an older supervisor's run) it has its name only, and the message that comes
    again for it is its own.
    """
    note = _read(known.note)
    id_, _, attempt = known.key.rpartition("/")
    spec = note.get("spec")
    execution = Execution(
        job=Job.from_json(json.loads(spec)) if spec else Job(known.job, known.run_id, (), ""),
        message_id=note.get("message_id"),
        delivery=int(note.get("delivery", 1)),
        sent_at=note.get("sent_at"),
        accepted_at=float(note.get("accepted_at", known.started_at)),
        boot_id=source.host.boot_id,
        id=id_,
        attempt=int(attempt),
        sequence=int(note.get("sequence", 0)),
        message=MessageState(note.get("message", MessageState.NONE)),
        supervisor=supervisor,
        group=note.get("group"),
    )
    if execution.message is MessageState.LEASED and note.get("receipt") and execution.message_id:
        execution.lease = Lease(
            message_id=execution.message_id,
            run_id=execution.run_id,
            receipt=note["receipt"],
            delivery=execution.delivery,
            taken=float(note["taken"]),
            until=now + ASK_SQS_S,  # nobody knows whether it is still held, so SQS is asked at once
            visibility=config.queue.visibility,
            execution=id_,
        )
    return execution


def sequence_of(known: Known) -> int | None:
    """The number of the last event that was made before the attempt was started; None where that is not noted."""
    sequence = _read(known.note).get("sequence")
    return sequence if isinstance(sequence, int) else None


def spool_of(known: Known, execution: Execution, tag: Tag, secrets: tuple[str, ...]) -> SpoolRow:
    """Its output, as far as it goes: where it has been shipped already is found in the file."""
    most = _read(known.note).get("max_bytes", tag.max_bytes)
    success = execution.job.success
    return SpoolRow(replace(tag, max_bytes=most), secrets, Rules(success.fail_on, success.require), None)


def _read(note: str) -> dict[str, Any]:
    try:
        found = json.loads(note or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
