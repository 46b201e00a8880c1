"""An execution and an event, as a test of the journal needs them."""

from __future__ import annotations

from dataclasses import replace

from runner.agent.runs.lease import Lease
from runner.agent.runs.run import Execution, MessageState
from runner.protocol.event import Event
from runner.protocol.job import Job

NOW = 1_800_000_000.0
JOB = Job(job="backup", run_id="b-1", argv=("true",), command="true", labels={"team": "ops"})


def execution(run_id: str = "b-1", **changes: object) -> Execution:
    lease = Lease("m-1", run_id, "receipt", 1, 100.0, 220.0, 120.0)
    made = Execution(
        job=replace(JOB, run_id=run_id),
        message_id="m-1",
        delivery=1,
        sent_at=NOW - 5,
        accepted_at=NOW,
        boot_id="boot",
        message=MessageState.LEASED,
        lease=lease,
    )
    for name, value in changes.items():
        setattr(made, name, value)
    return made


def event(id_: str = "e/1/finished", body: str = '{"a":1}') -> Event:
    return Event(id=id_, type="cron-runner.run.finished", body=body, subject="b-1")
