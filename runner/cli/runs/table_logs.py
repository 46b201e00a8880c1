"""Where the fleet's table says that a run's output is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from runner.aws.table import Table


@dataclass(frozen=True, slots=True)
class Told:
    """A run's log group, and its streams in the order of its attempts; ``open``: it has not ended yet.

    ``never_ran``: it has ended before any attempt, skipped or rejected. ``state`` and ``reason``: the run's, in words.
    """

    group: str
    streams: tuple[str, ...]
    open: bool
    never_ran: bool
    state: str
    reason: str

    def template(self, run_id: str) -> str:
        """A name of streams from which follows whether each is the run's own, or shared by many."""
        return "{job}/{run_id}" if all(run_id in stream for stream in self.streams) else "{job}"


async def told(table: Table, run_id: str, in_group: str | None) -> Told | None:
    """What the table says; None where it knows no such run."""
    from runner.control import store  # noqa: PLC0415 - for those who ask the table
    from runner.control.recording.run_state import is_open  # noqa: PLC0415

    try:
        run = await store.run(table, run_id, in_group)
    except store.NotFound:
        return None
    streams: dict[str, None] = {}
    group = ""
    for attempt in await store.attempts(table, run["group"], run_id):
        log = (attempt.get("ended") or {}).get("log") or (attempt.get("started") or {}).get("log")
        if log and log.get("stream"):
            group = log["group"]
            streams[log["stream"]] = None
    still = is_open(run["state"])
    never_ran = not still and not streams and run.get("started_at") is None
    return Told(group, tuple(streams), still, never_ran, run["state"], str(run.get("reason") or "no reason is known"))
