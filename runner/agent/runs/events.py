"""What the agent tells the results queue: the facts of an execution, as events of the protocol."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from runner.agent.runs.secrets import shown
from runner.protocol.event import Event, Source, run_event

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from runner.agent.runs.output import LogPlace, OutputReport
    from runner.agent.runs.process import ExitRecord, Started
    from runner.agent.runs.run import Execution


def started_event(
    source: Source,
    execution: Execution,
    started: Started,
    *,
    secrets: Iterable[str],
    log: LogPlace | None,
    heartbeat_s: float = 0.0,
    message: Mapping[str, Any] | None = None,
) -> Event:
    """The process exists. ``heartbeat_s``: how often it will be heard of, 0 for not at all. ``message``: what
    `runner.agent.reporting.message.told` says of what was sent, with the first attempt."""
    sent = execution.sent_at
    data: dict[str, Any] = {
        "pid": started.pid,
        "command": shown(execution.job.command, secrets),
        "user": started.user,
        "started_at": started.started_at,
        "queue_latency_s": None if sent is None else max(0.0, round(started.started_at - sent, 3)),
        "timeout_s": execution.job.timeout,
        "log": log.as_data() if log else None,
    }
    if execution.job.signed_by:
        data["signed_by"] = execution.job.signed_by
    if message is not None:
        data |= message
    if started.warnings:
        data["warnings"] = list(started.warnings)
    if heartbeat_s:
        # Without it nobody could tell a run whose host is silent from one that is never heard of before its end.
        data["heartbeat_s"] = heartbeat_s
    return run_event(
        source,
        execution.facts(),
        kind="started",
        attempt=execution.attempt,
        sequence=execution.next_sequence(),
        time=started.started_at,
        data=data,
    )


def heartbeat_event(
    source: Source,
    execution: Execution,
    now: float,
    running_s: float,
    usage: Mapping[str, Any],
    output: int,
) -> Event:
    """It still runs."""
    return run_event(
        source,
        execution.facts(),
        kind="heartbeat",
        attempt=execution.attempt,
        sequence=execution.next_sequence(),
        time=now,
        data={"running_s": round(running_s, 3), "output_bytes": output, "usage": dict(usage)},
    )


def finished_event(
    source: Source,
    execution: Execution,
    record: ExitRecord | None,
    report: OutputReport,
    *,
    now: float,
    will_retry: bool,
    log: LogPlace | None,
) -> Event:
    """One attempt has ended, or could not start, or was lost (no record: its times are what is known)."""
    verdict = execution.verdict
    assert verdict is not None
    data: dict[str, Any] = {
        "outcome": verdict.outcome,
        "reason": execution.reason,
        "exit_code": verdict.exit_code,
        "signal": verdict.signal,
        "started_at": record.started_at if record else execution.started_at,
        "finished_at": record.finished_at if record else now,
        "duration_s": round(record.duration_s, 3) if record else None,
        "usage": None
        if record is None
        else {
            "cpu_user_s": round(record.cpu_user_s, 3),
            "cpu_system_s": round(record.cpu_system_s, 3),
            "max_rss_bytes": record.max_rss_bytes,
        },
        "output": report.as_data(),
        "will_retry": will_retry,
        "log": log.as_data() if log else None,
    }
    if record is not None and record.leftovers:
        data["leftovers"] = record.leftovers
    if execution.lease_lost:
        data["lease_lost"] = True
    return run_event(
        source,
        execution.facts(),
        kind="finished",
        attempt=execution.attempt,
        sequence=execution.next_sequence(),
        time=record.finished_at if record else now,
        data=data,
    )


def skipped_event(source: Source, execution: Execution, reason: str, detail: str, now: float) -> Event:
    """Admission decided that this run does not happen."""
    return run_event(
        source,
        execution.facts(),
        kind="skipped",
        attempt=execution.attempt,
        sequence=execution.next_sequence(),
        time=now,
        data={"reason": reason, "detail": detail},
    )


def rejected_event(
    source: Source, execution: Execution, *, reason: str, detail: str, body: str, body_sha256: str, now: float
) -> Event:
    """The message cannot be a run."""
    return run_event(
        source,
        execution.facts(),
        kind="rejected",
        attempt=execution.attempt,
        sequence=execution.next_sequence(),
        time=now,
        data={
            "reason": reason,
            "detail": detail,
            "message_id": execution.message_id,
            "body": body,
            "body_sha256": body_sha256,
        },
    )
