"""Maintenance, as a value: who wants this host to take nothing, since when and for how long."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from runner.protocol.units import format_time

if TYPE_CHECKING:
    from collections.abc import Callable


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


class Pausing(Protocol):
    """Whether this host is paused. `changed` is called after every change."""

    changed: Callable[[], None]

    @property
    def current(self) -> Pause | None:
        """The pause that holds now, whoever made it."""

    @property
    def own(self) -> Pause | None:
        """This host's, as against one of the whole group."""

    def pause(self, by: str, note: str = "", until: float | None = None, *, drain: bool = False) -> Pause:
        """Pause, or change the pause there is. Raises CronRunnerError where it cannot be kept."""

    def resume(self, by: str) -> bool:
        """End the host's own; False where there was none."""

    def tell(self, source: str, pause: Pause | None) -> None:
        """What holds here and is decided elsewhere; None: no more."""

    def told(self, source: str) -> Pause | None:
        """What this source says now."""
