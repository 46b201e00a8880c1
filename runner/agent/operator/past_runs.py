"""A run that this host remembers, as `history --json` and `show --json` print it; docs/status.md describes both."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from runner.agent.runs.run import State
from runner.agent.runs.secrets import secrets_in, shown
from runner.protocol.job import Job, what_is_said
from runner.protocol.units import time_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from runner.agent.journal.history import Past
    from runner.agent.journal.runs import RunRow
    from runner.config import Config

# Between the first words of a run and its end the fleet's table knows "running" and "retrying" alone.
WORDS = {State.ACCEPTED: "starting", State.RUNNING: "running", State.BACKOFF: "backoff", State.ENDED: "ended"}
_OF_AN_END = ("outcome", "reason", "exit_code", "signal", "duration_s", "usage", "output", "will_retry", "log")
OF_AN_ATTEMPT = ("execution", "attempt", "started_at", "ended_at", *_OF_AN_END)
_RARE = ("signed_by", "traceparent")
FIELDS = (
    *("run_id", "job", "group", "state", "scheduled_at", "started_at", "ended_at", "duration_s", "exit_code", "signal"),
    *("reason", "host", "attempt", "attempts", "seen_at", "log", "labels", "outcome", "usage"),
)
"""Of a line of the history, those of the fleet's too."""


@dataclass(frozen=True, slots=True)
class Here:
    """Whose journal it is. `default_user`: as whom jobs run that name nobody; None: that is not known."""

    host: str
    config: Config
    default_user: str | None = None

    def secrets(self, job: Job) -> tuple[str, ...]:
        return secrets_in(job.env, self.config.output.redact)


def job_of(row: RunRow) -> Job | None:
    """None of a message that was no job."""
    try:
        return Job.from_json(json.loads(row.spec))
    except (KeyError, TypeError, ValueError):
        return None


def _spec_of(row: RunRow) -> dict[str, Any]:
    """The fields of the job as they are written, for a line of many; none of a message that was no job."""
    try:
        said = json.loads(row.spec)
    except ValueError:
        return {}
    return said if isinstance(said, dict) and "argv" in said else {}


def entry(past: Past, here: Here) -> dict[str, Any]:
    """One line of the history, with the fields of a run in the fleet's table."""
    row, said = past.row, _spec_of(past.row)
    end = past.told[-1] if past.told else {}
    over = row.state == State.ENDED
    return {
        "run_id": row.run_id,
        "job": row.job or None,
        "group": here.config.group,
        "state": row.outcome if over else WORDS[State(row.state)],
        "scheduled_at": time_of(said.get("scheduled_at")),
        "started_at": time_of(row.started_at),
        "ended_at": time_of(row.ended_at) if over else None,
        "duration_s": duration(row) if over else None,
        "exit_code": row.exit_code,
        "signal": end.get("signal") if over else None,
        "reason": row.reason,
        "host": here.host,
        "attempt": row.attempt,
        "attempts": row.attempt,
        "seen_at": time_of(row.ended_at or row.started_at or row.accepted_at),
        "log": end.get("log"),
        "labels": said.get("labels") or {},
        "outcome": row.outcome if over else None,
        "usage": end.get("usage") if over else None,
        **what_is_said({name: said.get(name) for name in _RARE}),
    }


def rare(job: Job) -> dict[str, Any]:
    """What few runs have: the key that signed it, and its trace."""
    return what_is_said({"signed_by": job.signed_by, "traceparent": job.traceparent})


def attempts(pasts: Iterable[Past]) -> list[dict[str, Any]]:
    """What is known of each attempt that has ended, the first one first."""
    found: list[dict[str, Any]] = []
    for past in sorted(pasts, key=lambda one: one.row.accepted_at):
        row = past.row
        told = [
            {
                "execution": row.execution,
                "attempt": data["attempt"],
                "started_at": data.get("started_at"),
                "ended_at": data.get("finished_at"),
                **{name: data.get(name) for name in _OF_AN_END},
            }
            for data in past.told
            if "outcome" in data
        ]
        if (
            row.state == State.ENDED
            and row.started_at is not None
            and not any(one["attempt"] == row.attempt for one in told)
        ):
            told.append(_bare(row))
        found += told
    return found


def _bare(row: RunRow) -> dict[str, Any]:
    """Of one whose event was dropped to save room."""
    known = {
        "execution": row.execution,
        "attempt": row.attempt,
        "started_at": time_of(row.started_at),
        "ended_at": time_of(row.ended_at),
    }
    ended = {"outcome": row.outcome, "reason": row.reason, "exit_code": row.exit_code, "duration_s": duration(row)}
    return {**known, **dict.fromkeys(_OF_AN_END), **ended}


def what_it_is(job: Job, here: Here, *, user: str = "", secrets: Sequence[str] = ()) -> dict[str, Any]:
    """The job, as people may see it: the names of its variables and not their values."""
    retries = job.retries
    return {
        "command": shown(job.command, (*secrets, *here.secrets(job))),
        "declared": job.declared,
        "user": user or job.user or here.default_user,
        "unix_group": job.unix_group,
        "cwd": job.cwd,
        "umask": None if job.umask is None else f"{job.umask:04o}",
        "nice": job.nice,
        "env": sorted(job.env),
        "secrets": dict(job.secrets),
        "timeout_s": job.timeout,
        "grace_s": job.grace,
        "stop_signal": job.stop_signal,
        "resources": job.resources.said(),
        "limits": job.limits.said(),
        "retries": retries.max,
        "overlap": job.overlap,
        "ack": job.ack,
        "scheduled_at": time_of(job.scheduled_at),
        "not_after": time_of(job.not_after),
        "labels": dict(job.labels),
        "signed_by": job.signed_by,
        "traceparent": job.traceparent,
    }


def message_of(row: RunRow) -> dict[str, Any]:
    """Where it came from; `state` says what became of the message, as the journal names it."""
    return {
        "id": row.message_id,
        "delivery": row.delivery,
        "sent_at": time_of(row.sent_at),
        "received_at": time_of(row.accepted_at),
        "state": str(row.message),
    }


def account(pasts: Sequence[Past], here: Here) -> dict[str, Any]:
    """All that the journal knows of a run; `pasts` are its executions, the one that speaks for it first."""
    row, job = pasts[0].row, job_of(pasts[0].row)
    told = attempts(pasts)
    return {
        **entry(pasts[0], here),
        "execution": row.execution,
        **(what_it_is(job, here) if job is not None else {}),
        "attempts": told,
        "message": message_of(row),
    }


def duration(row: RunRow) -> float | None:
    """Of its last attempt, in seconds."""
    if row.started_at is None or row.ended_at is None:
        return None
    return round(max(0.0, row.ended_at - row.started_at), 3)
