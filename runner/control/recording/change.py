"""A change of a run, and all that goes with it in one transaction: its job's status, what people are to be told, and
what its end owes to the job's children."""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from runner.aws.table import ABSENT, Put, When
from runner.control import store
from runner.control.chains import upstream
from runner.control.chains.links import Links
from runner.control.notices.facts import notice_item
from runner.control.notices.news import news_of
from runner.control.recording.job_status import after_end, holds, last_good, moment, others_in_trouble
from runner.control.recording.run_state import expires, is_open, run_of
from runner.errors import CronRunnerError
from runner.protocol import table as keys

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from runner.aws.attributes import Item
    from runner.aws.table import Table
    from runner.control.definition import GroupDefinition, JobDefinition
    from runner.control.recording.measured import Measured
    from runner.control.recording.remembered import Remembered

_TRIES: Final = 10
_KEPT_S: Final = 60.0


class NotRecorded(CronRunnerError):
    """A run that others changed at every try."""


@dataclass(slots=True)
class Known:
    """Jobs and groups as they were read at most a minute ago; what they say changes seldom, and events are many.

    What was not there is looked for again: it may have been applied since, and its first failure is to be told.
    """

    jobs: dict[keys.Key, JobDefinition] = field(default_factory=dict)
    groups: dict[str, GroupDefinition] = field(default_factory=dict)
    read_at: float = float("-inf")
    links: Links = field(default_factory=Links)
    measured: Measured | None = None

    async def look(self, table: Table, groups: Collection[str]) -> None:
        """See what has changed of these groups since it was read: before the end of a run, whose job may have children
        since a moment ago."""
        if await self.links.look(table, groups):
            self.read_at = float("-inf")

    async def learn(self, table: Table, wanted: Collection[keys.Key]) -> None:
        stale = time.monotonic() - self.read_at > _KEPT_S
        if stale:
            self.jobs.clear()
        if stale or any(keys.group_of(key) not in self.groups for key in wanted):
            self.groups = await store.groups(table)
            self.read_at = time.monotonic()
        if missing := [key for key in wanted if key not in self.jobs]:
            self.jobs.update(await store.definitions(table, missing))

    async def children(self, table: Table, group: str, parent: str) -> list[JobDefinition]:
        """The jobs that are after it."""
        wanted = [keys.job(group, name) for name in self.links.children(group, parent)]
        await self.learn(table, wanted)
        return [job for key in wanted if (job := self.jobs.get(key)) is not None and parent in job.after]

    def measure(self, old: dict[str, Item], changed: Sequence[Item], job: JobDefinition | None, now: float) -> None:
        """Attempts of a run of the job have been written, where ``old`` (by sort key) were."""
        if self.measured is not None:
            for item in changed:
                self.measured.wrote(old.get(item["sk"]), item, defined=job is not None, now=now)

    def targets(self, group: str, job: JobDefinition | None, news: Any) -> list[str]:
        """Who is to be told: those of the job, else those of its group."""
        if job is not None and job.notify is not None:
            return job.notify.targets(news)
        return self.groups[group].notify.targets(news) if group in self.groups else []


def pause_s(turn: int) -> float:
    """Seconds before a transaction that was refused is tried again, for the n-th time (0, 1, …): by chance, so that
    those who refused each other do not come back together."""
    longest: float = min(1.0, 0.05 * 2**turn)
    return longest * random.uniform(0.3, 1.0)  # noqa: S311 - jitter


async def change_run(
    table: Table,
    known: Known,
    group: str,
    run_id: str,
    change: Callable[[dict[str, Item]], None],
    *,
    now: float,
    remembered: Remembered | None = None,
    first: bool = False,
) -> Item | None:
    """Change a run's attempts (by sort key), and with them, in one transaction, the run, its job's status and the
    notices of what that means. The run as it is then; None where nothing is known of it.

    Two that change one run at once are told apart by its version: the second one looks again. At first nothing is read
    of what is ``remembered``, nor where nothing is likely to be there (``first``): the write's conditions say whether
    that is so.
    """
    key = keys.run(group, run_id)
    for turn in range(_TRIES):
        before: Item | None = None
        old: dict[str, Item] = {}
        if turn == 0 and remembered is not None and (seen := remembered.run(key)) is not None:
            before, old = seen
        elif turn or not first:
            before, old = await _read_run(table, key)
        attempts = dict(old)
        change(attempts)
        if not attempts:
            return None
        if attempts == old and before is not None:
            return before
        name = next((item["job"] for item in attempts.values() if item["job"]), None)
        job = known.jobs.get(keys.job(group, name)) if name else None
        run = run_of(attempts.values(), before, job)
        run["version"] = (before or {}).get("version", 0) + 1
        when = ABSENT if before is None else When("#version = :v", {"v": before["version"]})
        changed = [item for sk, item in attempts.items() if item != old.get(sk)]
        puts = [Put({**item, keys.EXPIRES: expires(item["seen_at"], job)}) for item in changed] + [Put(run, when)]
        puts += await _consequences(
            table, known, before, run, attempts, job, now=now, remembered=remembered if turn == 0 else None
        )
        if remembered is not None:
            remembered.forget(key, *([keys.status(group, name)] if name else []))
        if await table.transact(puts):
            known.measure(old, changed, job, now)
            if remembered is not None:
                _remember(remembered, key, run, attempts, puts)
            return run
        await asyncio.sleep(pause_s(turn))
    raise NotRecorded(f"cannot record run {run_id}: others changed it at each of {_TRIES} tries; it is tried again")


async def _read_run(table: Table, key: keys.Key) -> tuple[Item | None, dict[str, Item]]:
    items = await table.query("#pk = :pk", {"pk": key.pk}, consistent=True)
    before = next((item for item in items if item["sk"] == keys.RUN), None)
    return before, {item["sk"]: item for item in items if item["sk"].startswith(keys.ATTEMPT)}


def _remember(remembered: Remembered, key: keys.Key, run: Item, attempts: dict[str, Item], puts: Sequence[Put]) -> None:
    """What is in the table now."""
    written = {put.item["sk"]: put.item for put in puts}
    remembered.keep_run(key, run, {sk: written.get(sk, item) for sk, item in attempts.items()})
    if (status := written.get(keys.STATUS)) is not None:
        remembered.keep_status(keys.Key(status["pk"], status["sk"]), status)


def _moved(before: Item | None, run: Item) -> bool:
    return before is None or any(before[name] != run[name] for name in ("state", "execution", "attempt", "ended_at"))


async def _consequences(
    table: Table,
    known: Known,
    before: Item | None,
    run: Item,
    attempts: dict[str, Item],
    job: JobDefinition | None,
    *,
    now: float,
    remembered: Remembered | None,
) -> list[Put]:
    """The job's status, the notices and what is owed to children that go with a run's step."""
    if not run["job"] or not _moved(before, run):
        return []
    owed = upstream.owes(run) and known.links.children(run["group"], run["job"])
    status = new = None
    if not is_open(run["state"]):
        status, new = await _status_step(table, run, now=now, remembered=remembered)
    puts = [put_status(status, new)] if new is not None else []
    speaks = attempts[keys.attempt(run["group"], run["run_id"], run["execution"], run["attempt"]).sk]
    facts = news_of(before, run, speaks, (status, new), job.owner if job is not None else None)
    for_whom = [(fact, known.targets(run["group"], job, fact.news)) for fact in facts]
    return [
        *puts,
        *([Put(upstream.owed_item(run, now=now))] if owed else []),
        *(
            Put(notice_item(fact, targets, now=now, made_at=moment(new, now, place)))
            for place, (fact, targets) in enumerate(for_whom)
            if targets
        ),
    ]


async def _status_step(
    table: Table, run: Item, *, now: float, remembered: Remembered | None
) -> tuple[Item | None, Item | None]:
    """The job's status before a run's end and, where that changes it, behind it."""
    key = keys.status(run["group"], run["job"])
    if remembered is not None and (status := remembered.status(key)) is not None:
        new = after_end(status, run, await _holding(table, status, run), now)
        if new is not None:
            return status, new
        # Nothing would be written under the condition that this is how the job stands: it has to be looked at.
    status = await table.get(key)
    return status, after_end(status, run, await _holding(table, status, run), now)


async def _holding(table: Table, status: Item | None, run: Item) -> set[str]:
    """The other runs of the job of which people were told what its last success does not mend."""
    good, troubles = last_good(status, run), others_in_trouble(status, run)
    if good is None or not troubles:
        return set()
    runs = await table.get_many(keys.run(run["group"], one["run_id"]) for one in troubles)
    return {one["run_id"] for one in troubles if holds(one, runs.get(keys.run(run["group"], one["run_id"])), good)}


def put_status(before: Item | None, new: Item) -> Put:
    """Write a job's status, unless somebody else has written it meanwhile."""
    if before is None:
        return Put(new, ABSENT)
    # The time beside it: one that was removed meanwhile, and made anew, has the same versions again.
    text, values = "#version = :v AND #changed_at = :at", {"v": before["version"], "at": before.get("changed_at")}
    return Put(new, When(text, values) if before.get("changed_at") else When("#version = :v", {"v": before["version"]}))
