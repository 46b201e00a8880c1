"""A run once more, under a new run id, of what the table has of it.

The message is what its host told with its start (`runner.agent.reporting.message.told`). Where that was never told, or
is masked, the job as it is applied serves where it is the same message, and where nothing was told at all.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NoReturn

from runner.control import store
from runner.control.definition import run_id_at
from runner.control.trigger import triggered
from runner.errors import CronRunnerError
from runner.protocol import signed
from runner.protocol.invalid import InvalidMessage
from runner.protocol.resending import LARGEST_KEPT, resent, with_run
from runner.protocol.run_id import by_hand
from runner.protocol.units import format_time, parse_time

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from runner.aws.table import Table
    from runner.control.definition import JobDefinition

From = Literal["table", "definition"]


class CannotRerun(CronRunnerError):
    """Nothing that could be sent is known; the text says why, and what to do."""


@dataclass(frozen=True, slots=True)
class Again:
    """What is to be sent; ``source`` says what it was made of."""

    group: str
    job: str
    run_id: str
    body: str
    source: From


async def look(table: Table, run_id: str, group: str | None, *, now: float, by: str) -> Again:
    """The same of what the table has of a run. Raises CannotRerun, and NotFound where it has none of it."""
    run = await store.run(table, run_id, group)
    attempts = await store.attempts(table, run["group"], run_id)
    try:
        job = await store.job(table, run["job"], run["group"]) if run["job"] else None
    except store.NotFound:
        job = None
    return again(run, attempts, job, now=now, by=by)


def again(
    run: Mapping[str, Any], attempts: Sequence[Mapping[str, Any]], job: JobDefinition | None, *, now: float, by: str
) -> Again:
    """The message of a run's item once more. Raises CannotRerun."""
    old = str(run["run_id"])
    told = [
        one["started"] for one in attempts if {"message", "message_bytes", "masked"} & one.get("started", {}).keys()
    ]
    started = told[-1] if told else {}
    if not run.get("job"):
        raise CannotRerun(f"cannot run {old} again: its message named no job; it is in the dead-letter queue")
    labels = {**(run.get("labels") or {}), "rerun_of": old, "triggered-by": by}
    if started.get("message") is None or started.get("masked"):
        if job is None or (started and not _is_its_message(run, job)):
            _refuse(run, started, job)
        return _of_definition(run, job, now=now, by=by, old=old)
    message = json.loads(started["message"])
    if signed.is_envelope(message):
        _check_signed(old, message, now)
    run_id = by_hand(str(run["job"]), now)
    due = parse_time(run["scheduled_at"]) if run.get("scheduled_at") else None
    body = json.dumps(with_run(resent(message, labels, due), run_id=run_id))
    return Again(str(run["group"]), str(run["job"]), run_id, body, "table")


def _is_its_message(run: Mapping[str, Any], job: JobDefinition) -> bool:
    """Whether the job as it is applied is what was sent: fired by its schedule, and not changed since it was due."""
    if not run.get("scheduled_at"):
        return False
    due = parse_time(run["scheduled_at"])
    return run["run_id"] == run_id_at(job.name, due) and job.changed_at <= due


def _of_definition(run: Mapping[str, Any], job: JobDefinition, *, now: float, by: str, old: str) -> Again:
    try:
        run_id, body = triggered(job, now=now, by=by, labels={"rerun_of": old})
    except InvalidMessage as error:
        raise CannotRerun(
            f"cannot run {old} again: its message is not in the table, and job {job.name} needs to be told more: "
            f"{error.detail}; cron-runner jobs trigger {job.name} --param NAME=VALUE"
        ) from error
    if not run.get("scheduled_at"):
        return Again(job.group, job.name, run_id, body, "definition")
    due = format_time(parse_time(run["scheduled_at"]))
    body = json.dumps(with_run(json.loads(body), scheduled_at=due))
    return Again(job.group, job.name, run_id, body, "definition")


def _check_signed(old: str, message: Mapping[str, Any], now: float) -> None:
    """Refuse what no host would take; whether one takes a signature a second time at all is the host's."""
    said = signed.payload_of(signed.read(message).payload)
    anew = "sign it anew: cron-runner send --key FILE, or cron-runner jobs trigger --key FILE"
    if "run_id" in said:
        raise CannotRerun(f"cannot run {old} again: it was signed for that one run id; {anew}")
    for name in ("not_after", "valid_until"):
        if isinstance(ends := said.get(name), str) and parse_time(ends) <= now:
            raise CannotRerun(f"cannot run {old} again: its signature was good until {ends}; {anew}")


def _refuse(run: Mapping[str, Any], started: Mapping[str, Any], job: JobDefinition | None) -> NoReturn:
    there = f"on {run.get('host') or 'its host'}: cron-runner rerun {run['run_id']}"
    todo = f"do it {there}" + (f"; or run the job as it is now: cron-runner jobs trigger {job.name}" if job else "")
    if hidden := started.get("masked"):
        why = f"the table has its message with {', '.join(map(str, hidden[:5]))} masked"
    elif size := started.get("message_bytes"):
        why = f"its message has {size} bytes, and the table keeps {LARGEST_KEPT} at most"
    else:
        why = "the table does not have its message, and its job was never applied"
    raise CannotRerun(f"cannot run {run['run_id']} again: {why}; {todo}")
