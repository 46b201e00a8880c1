"""An event of the results queue, read from its JSON. Pure."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from runner.protocol.units import parse_time

if TYPE_CHECKING:
    from collections.abc import Mapping

_RUN: Final = "cron-runner.run."
KINDS: Final = frozenset(("started", "heartbeat", "finished", "skipped", "rejected"))


class NotAnEvent(ValueError):
    """A body on the results queue that no agent sent."""


@dataclass(frozen=True, slots=True)
class Told:
    """One event of a run. ``at`` is unix seconds; ``data`` is the event's own."""

    id: str
    kind: str
    at: float
    group: str
    run_id: str
    execution: str
    attempt: int
    sequence: int
    data: Mapping[str, Any]

    @property
    def job(self) -> str | None:
        return self.data.get("job")


def parse_event(body: str) -> Told | None:
    """The event of a body; None for one that is about no run; raises NotAnEvent."""
    try:
        event = json.loads(body)
        kind = str(event["type"])
        if not kind.startswith(_RUN) or kind.removeprefix(_RUN) not in KINDS:
            told = None
        else:
            told = _told(event, kind.removeprefix(_RUN))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise NotAnEvent(f"{type(error).__name__}: {error}") from error
    if told is None and not kind.startswith("cron-runner."):
        raise NotAnEvent(f"its type is {kind}")
    return told  # None: of an agent's own life, or of a later version


def _told(event: Mapping[str, Any], kind: str) -> Told:
    data = event["data"]
    return Told(
        id=str(event["id"]),
        kind=kind,
        at=parse_time(event["time"]),
        group=str(data["group"]),
        run_id=str(data["run_id"]),
        execution=str(data["execution"]),
        attempt=int(data["attempt"]),
        sequence=int(data["sequence"]),
        data=data,
    )
