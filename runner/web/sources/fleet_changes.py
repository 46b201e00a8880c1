"""Changes of the fleet: directives, switches of jobs, and runs that somebody asks for; each in the audit trail."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from runner.aws import directives
from runner.aws.sqs import Outgoing, Queue
from runner.control import store
from runner.control.applying.apply import Who, in_step, save
from runner.control.recording.run_state import is_open
from runner.control.rerun import Again, CannotRerun, look
from runner.control.trigger import triggered
from runner.protocol.invalid import InvalidMessage
from runner.protocol.units import parse_time, time_of
from runner.web.sources.source import Asker, Change, NotPossible, Unknown

if TYPE_CHECKING:
    from runner.aws.session import Session
    from runner.aws.table import Table
    from runner.control.definition import JobDefinition

LONGEST_SWITCH_S: Final = 3650 * 86_400.0
OPERATIONS: Final = frozenset({"cancel", "rerun", "run", "enable", "disable", "maintenance", "pause", "resume"})


async def carried_out(session: Session, table: Table, change: Change, asker: Asker) -> dict[str, Any]:
    """Do it. Raises NotPossible, Unknown, AwsUnavailable."""
    by, now = f"{asker.name} ({asker.way})", time.time()
    if change.host or change.op not in OPERATIONS:
        raise NotPossible(f"cannot {change.op} a single host from the fleet's page: ask the host's own", "host_only")
    if change.op == "cancel":
        return await _cancel(table, change, by, now)
    if change.op in ("pause", "resume"):
        await store.group(table, change.group)
        on = change.op == "pause"
        until = _end(change, on=on, now=now)
        await directives.pause(table, change.group, on=on, by=by, why=change.note, now=now, until=until)
        return {"group": change.group, "paused": on, "until": time_of(until)}
    if change.op == "maintenance":
        on = change.more.get("on", True) is not False
        until = _end(change, on=on, now=now)
        await directives.maintenance(
            table, change.group, change.job, on=on, by=by, why=change.note, now=now, until=until
        )
        return {"group": change.group, "job": change.job, "maintenance": on, "until": time_of(until)}
    if change.op in ("enable", "disable"):
        return await _switch(session, table, change, by, now)
    return await _send(session, table, change, by, now)


def _end(change: Change, *, on: bool, now: float) -> float | None:
    """When a switch goes off by itself, `for_s` from now or at `until`; None: when somebody does it."""
    given = [name for name in ("for_s", "until") if name in change.more]
    if not given:
        return None
    what = f"cannot set {change.op} with {' and '.join(given)}"
    if len(given) > 1 or not on:
        raise NotPossible(f"{what}: give one of them, and only where it is switched on", "invalid")
    try:
        until = now + change.more["for_s"] if given == ["for_s"] else parse_time(change.more["until"])
    except ValueError as error:
        raise NotPossible(f"{what}: {error}", "invalid") from None
    if not now < until <= now + LONGEST_SWITCH_S:
        raise NotPossible(f"{what}: give a time to come, at most ten years ahead", "invalid")
    return float(until)


async def note_refusal(table: Table, change: Change, asker: Asker) -> None:
    """What was refused to whom is in the trail of the group that it was about."""
    if not change.group:
        return
    what = f"REFUSED {change.op} {change.subject}"
    by = f"{asker.name} ({asker.way})"
    await directives.record(table, change.group, what, by=by, why=change.note, now=time.time())


async def _cancel(table: Table, change: Change, by: str, now: float) -> dict[str, Any]:
    run = await store.run(table, change.run_id)
    if not is_open(run["state"]):
        raise NotPossible(f"cannot cancel run {change.run_id}: it has ended {run['state']}", "ended")
    await directives.cancel(table, run["group"], change.run_id, by=by, why=change.note, now=now)
    return {"run_id": change.run_id, "group": run["group"]}


async def _switch(session: Session, table: Table, change: Change, by: str, now: float) -> dict[str, Any]:
    job = await store.job(table, change.job, change.group)
    enabled = change.op == "enable"
    saved = job
    if job.enabled != enabled:
        saved = await save(table, job, replace(job, enabled=enabled), Who(by, now, change.note))
    await in_step(session, table, [saved], await store.groups(table), now=now)
    return {"group": job.group, "job": job.name, "enabled": enabled}


async def _send(session: Session, table: Table, change: Change, by: str, now: float) -> dict[str, Any]:
    if change.op == "rerun":
        try:
            made = await look(table, change.run_id, change.group or None, now=now, by=by)
        except CannotRerun as error:
            raise NotPossible(str(error), "not_kept") from error
    else:
        made = await _started(table, change, by, now)
    group = await store.group(table, made.group)
    queue = Queue(session, url=group.queue)
    failed = await queue.send([Outgoing.of_run(made.body, made.job, made.run_id, fifo=queue.fifo)])
    if failed:
        raise NotPossible(f"cannot send to {queue.label}: {failed[0].code}: {failed[0].detail}", "refused_by_sqs")
    what = f"{change.op.upper()} {change.subject} {made.run_id}"
    await directives.record(table, group.name, what, by=by, why=change.note, now=now)
    sent = {"run_id": made.run_id, "job": made.job, "group": group.name, "queue": queue.label}
    return {**sent, **({"rerun_of": change.run_id, "from": made.source} if change.op == "rerun" else {})}


async def _started(table: Table, change: Change, by: str, now: float) -> Again:
    try:
        job = await store.job(table, change.job, change.group)
    except store.NotFound as error:
        raise Unknown(str(error)) from error
    try:
        run_id, body = triggered(job, now=now, by=by, params=change.more.get("params"))
    except InvalidMessage as error:
        raise NotPossible(f"cannot run {job.name}: {error.detail}", "invalid") from error
    return Again(job.group, job.name, run_id, _with_given(job, body, change), "definition")


def _with_given(job: JobDefinition, body: str, change: Change) -> str:
    """The message with arguments and environment of somebody's own."""
    args, env = change.more.get("args"), change.more.get("env")
    if not args and not env:
        return body
    if job.signed:
        raise NotPossible(
            f"cannot give {job.name} arguments or environment: it is signed, and its hosts would refuse what is not; "
            f"sign a run of its own: cron-runner send --key FILE, or cron-runner jobs trigger {job.name} --key FILE",
            "signed",
        )
    message = json.loads(body)
    if args:
        message["args"] = args
    if env:
        message["env"] = {**message.get("env", {}), **env}
    return json.dumps(message)
