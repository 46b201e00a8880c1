"""The last runs of a source that have ended, kept for strips, calendars and usual durations: read once, then only what
is new. The next process reads them again."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final

from runner.web.pictures import STRIP
from runner.web.words import BAD, percentile, unix

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

MOST: Final = 3_000
"""Runs: a few megabytes."""
_LOOK_AGAIN_S: Final = 5.0
_LATE_S: Final = 10.0  # an end may be written a while after it was
_KEPT: Final = ("run_id", "job", "group", "host", "outcome", "reason", "exit_code", "attempt", "attempts", "signal")
_MOMENTS: Final = ("started_at", "ended_at", "scheduled_at", "duration_s")
_SHARED: Final = frozenset({"job", "group", "host", "outcome", "reason"})
_USUAL_OF: Final = 60
_ENOUGH: Final = 5  # durations, for what is usual to mean something

Page = dict[str, Any]


class Past:
    """`page(cursor, since)` gives those that ended since then (unix seconds), the newest first, and how to go on."""

    def __init__(self, page: Callable[[str, float | None], Awaitable[Page]], every: float = 1.0) -> None:
        self._page = page
        self._every = every
        self._looked = float("-inf")
        self.runs: list[dict[str, Any]] = []  # newest first
        self._standing: tuple[Sequence[dict[str, Any]], Standing] | None = None

    def has(self, run_id: str, ended_at: str, clock: float) -> bool:
        """Whether the run that ended last is known, so that there is nothing new; for what is told late it is looked
        again after a while."""
        if not self.runs or clock - self._looked > _LOOK_AGAIN_S:
            return False
        return (self.runs[0]["run_id"], self.runs[0]["ended_at"]) == (run_id, ended_at)

    async def look(self, clock: float) -> Sequence[dict[str, Any]]:
        """All that is kept, after a look at what is new; at most one look a second."""
        if clock - self._looked < self._every:
            return self.runs
        self._looked = clock
        seen = {_identity(run) for run in self.runs[:500]}
        new: list[dict[str, Any]] = []
        cursor = ""
        newest = unix(self.runs[0].get("ended_at")) if self.runs else None
        since = None if newest is None else newest - _LATE_S
        while len(new) < MOST:
            found = await self._page(cursor, since)
            new += [_compact(run) for run in found["runs"] if _identity(run) not in seen]
            cursor = found.get("cursor") or ""
            if not cursor:
                break
        if new:
            self.runs = (new + self.runs)[:MOST]
        return self.runs

    @property
    def standing(self) -> Standing:
        """How jobs stand by them, made once for what is kept."""
        if self._standing is None or self._standing[0] is not self.runs:
            self._standing = self.runs, Standing(self.runs)
        return self._standing[1]


def _identity(run: dict[str, Any]) -> tuple[Any, ...]:
    return (run.get("ended_at"), run.get("run_id"), run.get("outcome"))


def _compact(run: dict[str, Any]) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    for name in (*_KEPT, *_MOMENTS):
        value = run.get(name)
        kept[name] = sys.intern(value) if name in _SHARED and isinstance(value, str) else value
    return kept


def key_of(run: dict[str, Any]) -> tuple[str, str]:
    """(group, job)."""
    return str(run.get("group") or ""), str(run.get("job") or "")


class Standing:
    """How jobs stand, by their last runs."""

    def __init__(self, runs: Sequence[dict[str, Any]]) -> None:
        self.by_job: dict[tuple[str, str], list[dict[str, Any]]] = {}
        self._usual: dict[tuple[str, str], tuple[float | None, float | None]] = {}
        for run in runs:
            if run.get("job"):
                self.by_job.setdefault(key_of(run), []).append(run)

    def states(self, key: tuple[str, str], running: int = 0) -> list[str]:
        """Of a job's last runs, oldest first; those that run come last."""
        ended = [str(run.get("outcome")) for run in self.by_job.get(key, [])[:STRIP]][::-1]
        return (ended + ["running"] * running)[-STRIP:]

    def usual(self, key: tuple[str, str]) -> tuple[float | None, float | None]:
        """Half and 95 of 100 of its good runs took no longer, in seconds; None where there are too few."""
        if key not in self._usual:
            self._usual[key] = self._usual_of(key)
        return self._usual[key]

    def _usual_of(self, key: tuple[str, str]) -> tuple[float | None, float | None]:
        took = sorted(
            float(run["duration_s"])
            for run in self.by_job.get(key, [])[:_USUAL_OF]
            if run.get("outcome") == "succeeded" and run.get("duration_s") is not None
        )
        return (percentile(took, 0.5), percentile(took, 0.95)) if len(took) >= _ENOUGH else (None, None)

    def failing(self) -> list[tuple[dict[str, Any], int, dict[str, Any] | None]]:
        """Of each job whose last run that says anything ended badly: that run, how many in a row, the last good one."""
        found = []
        for runs in self.by_job.values():
            telling = [run for run in runs if run.get("outcome") in BAD or run.get("outcome") == "succeeded"]
            bad = 0
            while bad < len(telling) and telling[bad].get("outcome") in BAD:
                bad += 1
            if bad:
                found.append((telling[0], bad, telling[bad] if bad < len(telling) else None))
        return found
