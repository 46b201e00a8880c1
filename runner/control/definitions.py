"""Groups and jobs for who looks each minute: read again only when they have changed.

Who changes a job or a group gives its group another number before and behind the change (`told`); a minute in which
every number is what it was costs one read for each group. The index that lists the jobs may be a moment behind, so what
was read counts for certain only when the number was there a minute before; and a change by a command of an older
version, or by one that was at it for longer than that and died, is found when everything is read again.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Final

from runner.control import store
from runner.protocol import table as keys

if TYPE_CHECKING:
    from collections.abc import Iterable

    from runner.aws.table import Table
    from runner.control.definition import GroupDefinition, JobDefinition

READ_ALL_EVERY_S: Final = 900.0
_SETTLED_S: Final = 30.0


class Definitions:
    """What was read last; one for the life of a process. Times are unix seconds."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._jobs: list[JobDefinition] = []
        self._numbers: dict[str, object] = {}
        self._groups: dict[str, GroupDefinition] = {}
        self._changed = self._read = float("-inf")

    async def at(self, now: float) -> tuple[dict[str, GroupDefinition], list[JobDefinition]]:
        """All groups, and all jobs by name; raises AwsUnavailable."""
        groups = await store.groups(self._table)
        numbers = await self._numbers_of(groups)
        if numbers != self._numbers or groups != self._groups:
            self._numbers, self._groups, self._changed = numbers, groups, now
            self._read = float("-inf")
        settled = self._read - self._changed >= _SETTLED_S and 0 <= now - self._read < READ_ALL_EVERY_S
        if not settled or None in numbers.values():
            # Nothing is kept of a read that fails: the next minute is to try it again.
            self._read = float("-inf")
            self._jobs = await store.jobs(self._table)
            self._read = now
        return groups, self._jobs

    async def _numbers_of(self, groups: Iterable[str]) -> dict[str, object]:
        found = await self._table.get_many(keys.defined(group) for group in groups)
        return {group: found.get(keys.defined(group), {}).get("number") for group in groups}


async def told(table: Table, groups: Iterable[str]) -> None:
    """Give groups another number, for a change of them or of their jobs."""
    await table.put_many([{**keys.defined(group).attributes(), "number": uuid.uuid4().hex} for group in sorted(groups)])
