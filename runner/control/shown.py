"""A run of the table for programs: the shape that `history --json`, the page and the API have in common. Pure."""

from __future__ import annotations

from typing import Any, Final

from runner.control.chains.shown import after_of
from runner.control.recording.run_state import is_open

FIELDS: Final = (
    *("run_id", "job", "group", "state", "scheduled_at", "started_at", "ended_at", "duration_s", "exit_code", "signal"),
    *("reason", "host", "attempt", "attempts", "seen_at", "log", "labels", "usage"),
)
RARE: Final = ("signed_by", "traceparent", "children")
"""Of those that have one."""


def as_json(run: dict[str, Any]) -> dict[str, Any]:
    """Of a run's item."""
    outcome = None if is_open(run["state"]) else run["state"]
    rare = {name: run[name] for name in RARE if run.get(name)}
    after = {"after": parents} if (parents := after_of(run)) else {}
    return {**{name: run.get(name) for name in FIELDS}, "outcome": outcome, **rare, **after}
