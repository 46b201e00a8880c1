"""What a job says of its fire times beside its schedule: splay, and the days of calendars. Pure.

A fire time keeps its name whatever is said here: the run's id and its `scheduled_at` are the schedule's own time. A
splay is how much later it is sent; the day that counts is that of the fire time, in the job's own time zone.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from runner.control.timetable.days import NONE, Allowed, both, parse_days
from runner.protocol.units import format_time, parse_time

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import date

LONGEST_SPLAY_S: Final = 86_400.0
"""A day, as with EventBridge Scheduler."""


@dataclass(frozen=True, slots=True)
class Timing:
    """``splay`` in seconds; ``but`` (the field `except`) and ``only`` are names in ``calendars``, each of which has its
    days as text. ``moved``: fire times up to this moment (unix seconds) have this delay, as the splay was another one
    then; so none is left out, or sent twice, when it is changed."""

    splay: float | None = None
    but: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    calendars: Mapping[str, str] = field(default_factory=dict)
    moved: tuple[float, float] | None = None

    def delay(self, job: str) -> float:
        """The seconds by which a job of this name is late, always."""
        return delay_of(job, self.splay)

    @property
    def allowed(self) -> Allowed:
        """The days on which it is fired."""
        only = None
        for name in self.only:
            only = both(only or NONE, parse_days(self.calendars[name]))
        but = NONE
        for name in self.but:
            but = both(but, parse_days(self.calendars[name]))
        return Allowed(only, but)

    def why(self, day: date) -> str:
        """Why a day is left out."""
        names = [name for name in self.but if day in parse_days(self.calendars[name])]
        return f"{day} is in {', '.join(names)}" if names else f"{day} is not in {', '.join(self.only)}"

    def says(self) -> dict[str, Any]:
        """Its fields, as a job says them; None for what it does not."""
        return {
            "splay": self.splay,
            "except": list(self.but) or None,
            "only": list(self.only) or None,
            "calendars": {name: self.calendars[name].split(",") for name in sorted(self.calendars)} or None,
        }

    def item(self) -> dict[str, Any]:
        said = {name: value for name, value in self.says().items() if value is not None}
        if self.calendars:
            said["calendars"] = dict(self.calendars)
        if self.moved is not None:
            said["moved"] = [format_time(self.moved[0]), self.moved[1]]
        return said

    def successor(self, new: Timing, job: str, now: float) -> Timing:
        """What follows this one: fire times up to now keep the delay that they have."""
        was, kept = self.delay(job), self.moved
        if was != new.delay(job):
            return replace(new, moved=(now, was))
        return replace(new, moved=kept if kept is not None and now - kept[0] <= max(kept[1], was) else None)

    def settled(self) -> Timing:
        """Without what was before it."""
        return replace(self, moved=None)


def delay_of(job: str, splay: float | None) -> float:
    """A whole number of seconds from 0 up to the splay, by the SHA-256 of the job's name: the same everywhere, and the
    same part of whatever the splay is."""
    if not splay:
        return 0.0
    part = int.from_bytes(hashlib.sha256(job.encode()).digest()[:8], "big") / 2**64
    return float(int(part * splay))


def timing_of(item: Mapping[str, Any]) -> Timing:
    """What `Timing.item` wrote; ValueError, LookupError or TypeError for what another version wrote."""
    splay, calendars = item.get("splay"), item.get("calendars") or {}
    if isinstance(splay, bool) or not isinstance(splay, int | float | None) or not isinstance(calendars, dict):
        raise TypeError(f"splay is {splay!r}, calendars a {type(calendars).__name__}")
    moved = item.get("moved")
    timing = Timing(
        splay=None if splay is None else float(splay),
        but=tuple(map(str, item.get("except") or ())),
        only=tuple(map(str, item.get("only") or ())),
        calendars={str(name): str(days) for name, days in calendars.items()},
        moved=None if moved is None else (parse_time(moved[0]), float(moved[1])),
    )
    _ = timing.allowed  # a day that cannot be read, or a calendar that is not there
    return timing
