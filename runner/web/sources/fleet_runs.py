"""The fleet's runs, looked for in the table a bounded way back at a time."""

from __future__ import annotations

import time
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Final

from runner.control import readable, store
from runner.control.recording.run_state import FAILURES
from runner.control.shown import as_json
from runner.protocol import table as keys
from runner.protocol.units import format_time
from runner.web.words import unix

if TYPE_CHECKING:
    from collections.abc import Callable

    from runner.aws.attributes import Item
    from runner.aws.table import Table
    from runner.web.sources.source import Filter

DAY_S: Final = keys.DAY_S
_DAYS: Final = 14
"""Days that one request looks back through; the cursor goes on."""
_LOOKED_AT: Final = 1_500
"""Runs that one request looks at for those that are asked for: each costs a twentieth of a millisecond."""
_KEPT_DAYS: Final = 100
_WILD: Final = frozenset("*?[")


def wanted_by(wanted: Filter) -> Callable[[Item], bool]:
    """Whether a run's item is asked for."""
    group, slash, name = wanted.job.rpartition("/")

    def keep(run: Item) -> bool:
        job = str(run.get("job") or "")
        return (
            (not name or fnmatchcase(job, name))
            and (not slash or fnmatchcase(str(run["group"]), group))
            and wanted.group in ("", run["group"])
            and (not wanted.host or fnmatchcase(str(run.get("host") or ""), wanted.host))
            and (not wanted.outcomes or run["state"] in wanted.outcomes)
            and (not wanted.text or wanted.text in str(run["run_id"]) or wanted.text in job)
        )

    return keep


async def runs(table: Table, wanted: Filter) -> dict[str, Any]:
    """The newest first, those that are not over before the others; `cursor` is null at the end."""
    keep = wanted_by(wanted)
    found: list[Item] = []
    if not wanted.cursor and wanted.state in ("", "all", "running") and not wanted.outcomes and wanted.until is None:
        found = [run for run in await store.open_runs(table) if keep(run)]
        found.sort(key=lambda run: str(run["at"]), reverse=True)
    if wanted.state in ("running", "waiting"):
        return {"runs": [as_json(run) for run in found[: wanted.limit]], "cursor": None}
    ended, cursor = await _ended(table, wanted, keep, max(1, wanted.limit - len(found)))
    return {"runs": [as_json(run) for run in (found + ended)[: wanted.limit]], "cursor": cursor}


async def _ended(
    table: Table, wanted: Filter, keep: Callable[[Item], bool], limit: int
) -> tuple[list[Item], str | None]:
    now = time.time()
    least = max(wanted.since or 0.0, now - _KEPT_DAYS * DAY_S)
    edge = unix(wanted.cursor) or wanted.until or now + DAY_S
    name = wanted.job.rpartition("/")[2]
    if name and not _WILD & set(name):
        return await _of_job(table, name, keep, format_time(edge), format_time(least), limit)
    found: list[Item] = []
    looked = 0
    for _ in range(_DAYS):
        if edge <= least:
            return found, None
        begin = edge - edge % DAY_S if edge % DAY_S else edge - DAY_S
        day = _Day(keep, edge, most=_LOOKED_AT - looked)
        found += await day.read(table, max(begin, least), wanted, limit - len(found))
        looked += day.looked
        if len(found) >= limit:
            return found[:limit], str(found[limit - 1]["ended_at"])
        edge = begin if day.came_to is None else day.came_to
        if looked >= _LOOKED_AT:
            break
    return found, format_time(edge)


class _Day:
    """The runs that ended on one day before `edge`. Of those that are looked for in vain so many are looked at;
    `came_to` is then where to go on."""

    def __init__(self, keep: Callable[[Item], bool], edge: float, most: int) -> None:
        self._keep = keep
        self._edge = format_time(edge)
        self._most = most
        self.looked = 0
        self.came_to: float | None = None

    async def read(self, table: Table, least: float, wanted: Filter, limit: int) -> list[Item]:
        both: list[Item] = []
        stopped = ""
        for failed in (True, False):
            if wanted.outcomes and not any((one in FAILURES) is failed for one in wanted.outcomes):
                continue
            look = _Look(lambda run: self._keep(run) and str(run["ended_at"]) < self._edge, self._most)
            both += await _ends(table, least, self._edge, failed=failed, limit=limit + 1, keep=look)
            self.looked += look.seen
            stopped = max(stopped, look.stopped)
        if stopped:
            # What both have come to; of that time itself there may be more.
            both = [run for run in both if str(run["ended_at"]) > stopped]
            self.came_to = (unix(stopped) or 0.0) + 1e-6
        return sorted(both, key=lambda run: str(run["ended_at"]), reverse=True)


class _Look:
    """Whether a run is kept. From so many on every one is, which ends the query: `stopped` is the time of the first."""

    def __init__(self, keep: Callable[[Item], bool], most: int) -> None:
        self._keep = keep
        self._most = most
        self.seen = 0
        self.stopped = ""

    def __call__(self, run: Item) -> bool:
        self.seen += 1
        if self.seen <= self._most:
            return self._keep(run)
        self.stopped = self.stopped or str(run["ended_at"])
        return True


async def _ends(
    table: Table, least: float, edge: str, *, failed: bool, limit: int, keep: Callable[[Item], bool] | None = None
) -> list[Item]:
    """Of the day of `edge`, or of the one that it ends, from `least` on: those that failed, or the others."""
    return await table.query(
        "#state_key = :day AND #state_at BETWEEN :least AND :edge",
        {"day": keys.ended_key(format_time(least)[:10], failed=failed), "least": format_time(least), "edge": edge},
        index=keys.BY_STATE,
        newest_first=True,
        limit=limit,
        keep=lambda run: readable.is_run(run) and (keep is None or keep(run)),
    )


async def _of_job(
    table: Table, name: str, keep: Callable[[Item], bool], edge: str, least: str, limit: int
) -> tuple[list[Item], str | None]:
    """By the job's own index, whose order is that of their beginnings."""
    found = await table.query(
        "#job_key = :job AND #at BETWEEN :least AND :edge",
        {"job": keys.job_key(name), "least": least, "edge": edge},
        index=keys.BY_JOB,
        newest_first=True,
        limit=limit + 1,
        keep=lambda run: readable.is_run(run) and keep(run) and bool(run["ended_at"]) and str(run["at"]) < edge,
    )
    return found[:limit], str(found[limit - 1]["at"]) if len(found) > limit else None


async def page(table: Table, cursor: str, since: float | None) -> dict[str, Any]:
    """A day of ended runs for `runner.web.sources.past.Past`, the newest day first."""
    now = time.time()
    edge = unix(cursor) or now + 60
    least = since if since is not None else now - _DAYS * DAY_S
    begin = edge - edge % DAY_S if edge % DAY_S else edge - DAY_S
    found: list[Item] = []
    for failed in (True, False):
        found += await _ends(table, max(begin, least), format_time(edge), failed=failed, limit=1_500)
    found.sort(key=lambda run: str(run["ended_at"]), reverse=True)
    return {"runs": [as_json(run) for run in found], "cursor": format_time(begin) if begin > least else None}
