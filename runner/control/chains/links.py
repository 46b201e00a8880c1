"""Which jobs are after which: written with their definitions, and read again only when a group has changed.

A link is a hint: whoever fires a child looks at its definition, too. There is one for each parent that a definition
names, since both are written in one transaction; it goes in the one that takes the parent out.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from runner.aws.table import Delete, Put
from runner.protocol import table as keys

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from runner.aws.table import Table, When
    from runner.control.definition import JobDefinition

_KEPT_S: Final = 60.0


def writes(old: JobDefinition | None, new: JobDefinition, when: When) -> list[Put | Delete]:
    """A job's item and its links, for one transaction; just the item where it is, and was, after none."""
    gone = set(old.after if old is not None else ()) - set(new.after)
    return [
        Put(new.item(), when),
        *(Put(keys.chain(new.group, parent, new.name).attributes()) for parent in new.after),
        *(Delete(keys.chain(new.group, parent, new.name)) for parent in sorted(gone)),
    ]


def deletes(job: JobDefinition, when: When) -> list[Put | Delete]:
    """A job and its links, as `writes`."""
    return [Delete(job.key, when), *(Delete(keys.chain(job.group, parent, job.name)) for parent in job.after)]


@dataclass(slots=True)
class Links:
    """What was read last. A change by a command that is at it, or was cut off at it, is seen a minute later."""

    _of: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    _numbers: dict[str, object] = field(default_factory=dict)
    _read_at: dict[str, float] = field(default_factory=dict)

    async def look(self, table: Table, groups: Iterable[str]) -> bool:
        """Read what has changed; whether anything had, and definitions are to be read again, too.

        A group has another number before and behind each change of one of its jobs: what was read under a number
        that is there still is what there is.
        """
        asked = sorted(groups)
        found = await table.get_many((keys.defined(group) for group in asked), consistent=True)
        numbers = {group: found.get(keys.defined(group), {}).get("number") for group in asked}
        now = time.monotonic()
        stale = [group for group in asked if self._stale(group, numbers[group], now)]
        for group in stale:
            items = await table.query("#pk = :pk", {"pk": keys.chains(group)}, consistent=True)
            self._of[group] = _children(items)
            self._numbers[group], self._read_at[group] = numbers[group], now
        return bool(stale)

    def children(self, group: str, parent: str | None) -> list[str]:
        """The jobs that may be after it, by name."""
        return self._of.get(group, {}).get(parent or "", [])

    def _stale(self, group: str, number: object, now: float) -> bool:
        return group not in self._of or number != self._numbers[group] or not 0 <= now - self._read_at[group] < _KEPT_S


def _children(items: Iterable[Mapping[str, str]]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for item in items:
        parent, _, child = item["sk"].partition("#")
        found.setdefault(parent, []).append(child)
    return found
