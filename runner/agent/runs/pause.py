"""Maintenance, as a value: who wants this host to take nothing, since when and for how long."""

from __future__ import annotations

from dataclasses import dataclass

from runner.protocol.units import format_time


@dataclass(frozen=True, slots=True)
class Pause:
    """Who paused this host, when and why. Times are unix seconds; `until` None: until somebody resumes it.

    `drain`: the host is to become empty.
    """

    by: str
    since: float
    note: str = ""
    until: float | None = None
    drain: bool = False

    def __str__(self) -> str:
        words = f"{'drained' if self.drain else 'paused'} by {self.by} since {format_time(self.since)}"
        if self.until is not None:
            words += f" until {format_time(self.until)}"
        return f"{words}: {self.note}" if self.note else words
