"""What a recorder has written last: read again only where a condition says that somebody else has changed it since.

Each entry is what the table held after a write of ours that had succeeded. Whoever writes on top of it does so under
the condition that it is there still, by its version: so an entry that is out of date costs a refused write and a read,
and never a fact. It is kept for minutes only: a version says nothing of an item that was removed and made anew.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from runner.protocol.table import Key

Item = dict[str, Any]

_KEPT_S: Final = 600.0
_MOST: Final = 2000  # of each: some megabytes


@dataclass(slots=True)
class Remembered:
    """Runs with their attempts (by sort key), and statuses of jobs; the ones that were written last."""

    _runs: dict[Key, tuple[float, Item, dict[str, Item]]] = field(default_factory=dict)
    _statuses: dict[Key, tuple[float, Item]] = field(default_factory=dict)

    def run(self, key: Key) -> tuple[Item, dict[str, Item]] | None:
        """The run and its attempts; None where they are to be read."""
        found = self._runs.get(key)
        return None if found is None or _old(found[0]) else (found[1], found[2])

    def status(self, key: Key) -> Item | None:
        """The job's status; None where it is to be read."""
        found = self._statuses.get(key)
        return None if found is None or _old(found[0]) else found[1]

    def forget(self, *keys: Key) -> None:
        """They are about to be written: until that has succeeded nobody knows what is there."""
        for key in keys:
            self._runs.pop(key, None)
            self._statuses.pop(key, None)

    def keep_run(self, key: Key, run: Item, attempts: dict[str, Item]) -> None:
        _keep(self._runs, key, (time.monotonic(), run, attempts))

    def keep_status(self, key: Key, status: Item) -> None:
        _keep(self._statuses, key, (time.monotonic(), status))


def _old(at: float) -> bool:
    return time.monotonic() - at > _KEPT_S


def _keep(kept: dict[Key, Any], key: Key, entry: Any) -> None:
    kept.pop(key, None)
    kept[key] = entry  # behind all others
    if len(kept) > _MOST:
        del kept[next(iter(kept))]
