"""What the recorder tells CloudWatch of runs: outcomes, durations and lateness by group and job.

One line in the embedded metric format for each group, job and minute of a batch, of what the table did not have before:
an event that comes again is counted once. A job that the table defines has numbers of its own, as many as `MOST`, since
each is billed; those of all others are together.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from runner.protocol.emf import MOST_VALUES, OTHERS, document
from runner.protocol.units import parse_time

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    Item = dict[str, Any]

MOST: Final = 200
# CloudWatch takes what is up to two weeks old, and two hours ahead; what is older is counted where it is heard.
_OLDEST_S: Final = 13 * 86400.0
_AHEAD_S: Final = 3600.0
_MINUTE_S: Final = 60.0


class _Part:
    """Of one group, job and minute."""

    def __init__(self) -> None:
        self.outcomes: Counter[str] = Counter()
        self.values: dict[str, list[float]] = {}

    def value(self, name: str, seconds: float) -> None:
        self.values.setdefault(name, []).append(round(seconds, 3))


class Measured:
    """One for the life of a recorder; `write` takes a line."""

    def __init__(self, write: Callable[[str], None], most: int = MOST) -> None:
        self._write = write
        self._most = most
        self._apart: set[tuple[str, str]] = set()
        self._parts: dict[tuple[str, str, float], _Part] = {}

    def wrote(self, old: Item | None, new: Item, *, defined: bool, now: float) -> None:
        """An attempt's item is in the table, where ``old`` was."""
        old = old or {}
        ended, due, began = new.get("ended"), new.get("scheduled_at"), _began(new)
        if began and due and not _began(old) and new["attempt"] == 1:
            late = max(0.0, parse_time(began) - parse_time(due))
            self._part(new, began, defined=defined, now=now).value("job_lateness_seconds", late)
        if ended is not None and "ended" not in old:
            part = self._part(new, ended["at"], defined=defined, now=now)
            if (duration := ended.get("duration_s")) is not None:
                part.value("job_duration_seconds", max(0.0, float(duration)))
            if not ended.get("will_retry"):
                part.outcomes[str(ended.get("outcome") or ended["kind"])] += 1
        if "lost" in new and "lost" not in old and ended is None:
            self._part(new, new["lost"]["at"], defined=defined, now=now).outcomes["lost"] += 1

    def flush(self) -> None:
        """Write what a batch added up to."""
        parts, self._parts = self._parts, {}
        for (group, job, minute), part in parts.items():
            for line in _lines({"group": group, "job": job}, minute, part):
                self._write(line)

    def _part(self, item: Item, at: str, *, defined: bool, now: float) -> _Part:
        when = parse_time(at)
        if not now - _OLDEST_S < when < now + _AHEAD_S:
            when = now
        return self._parts.setdefault((*self._series(item, defined=defined), when // _MINUTE_S * _MINUTE_S), _Part())

    def _series(self, item: Item, *, defined: bool) -> tuple[str, str]:
        """The group and job that its numbers go to."""
        group, job = item["group"], item.get("job") if defined else None
        for key in ((group, job or OTHERS), (group, OTHERS)):
            if key in self._apart or len(self._apart) < self._most:
                self._apart.add(key)
                return key
        return OTHERS, OTHERS


def _began(item: Item) -> str | None:
    """When its process began, as whichever of its events came first says."""
    began: str | None = item.get("started", {}).get("started_at") or item.get("ended", {}).get("started_at")
    return began


def _lines(of: Mapping[str, str], minute: float, part: _Part) -> Iterator[str]:
    both = (("group", "job"), ("group",))
    values = dict(part.values)
    while values:
        now = {name: some[:MOST_VALUES] for name, some in values.items()}
        yield document(minute, of, now, sets=both)
        values = {name: some[MOST_VALUES:] for name, some in values.items() if len(some) > MOST_VALUES}
    for outcome, count in part.outcomes.items():
        yield document(minute, {**of, "outcome": outcome}, {"job_runs": count}, sets=[("group", "job", "outcome")])
