"""Looks for what did not happen: runs that did not start or finish in time, take too long, or whose host is silent."""

from __future__ import annotations

import asyncio
import hashlib
import time
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Final

import structlog

from runner.aws.table import ABSENT, Put, When
from runner.control import readable, store
from runner.control.applying.eventbridge import timetable_of
from runner.control.chains.links import Links
from runner.control.chains.upstream import never_started
from runner.control.definition import Unreadable, run_id_at
from runner.control.due import latest
from runner.control.notices.facts import Fact, notice_item
from runner.control.notices.news import fact, not_done
from runner.control.recording.change import Known, NotRecorded, change_run, pause_s, put_status
from runner.control.recording.job_status import in_trouble, moment
from runner.control.recording.run_state import LOST, attempt_lost, expires, is_open, lost_at, run_of, too_long_at
from runner.errors import AwsUnavailable, CronRunnerError
from runner.protocol import table as keys
from runner.protocol.units import format_duration, format_time, parse_time

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from runner.aws.attributes import Item
    from runner.aws.table import Table
    from runner.control.definition import GroupDefinition, JobDefinition
    from runner.control.notices.notify import News
    from runner.control.recording.measured import Measured

log: structlog.stdlib.BoundLogger = structlog.get_logger()

LOOKS: Final = 10
"""Runs of one job that are looked at, at least, after a gap; more where few jobs are watched."""
TOLD: Final = 10
"""Runs of one job that people are told of after a gap, the last ones: they shall read it, too."""
OPEN_S: Final = 20.0
"""No open run is looked at later in one call."""
_LOOKS_IN_ALL: Final = 5000
_PIECE: Final = 50  # jobs between two moments at which others may go on
_AT_ONCE: Final = 8
_AWAY_AFTER: Final = 3
_TRIES: Final = 8
_NOT_DONE: Final = "see `cron-runner history JOB`, and on a host of the group `cron-runner status`: does it receive?"
_LEFT_OUT: Final = "it is not fired until this version can read it; the other jobs are"
_LOST: Final = "nothing is heard of its host: see whether it lives; the message comes again to another one"


@dataclass(slots=True)
class Watched:
    """How many notices were written, and why some could not be."""

    told: int = 0
    failed: list[str] = field(default_factory=list)


async def due_runs(
    table: Table,
    group: GroupDefinition,
    jobs: Iterable[JobDefinition],
    after: float,
    until: float,
    *,
    now: float,
) -> Watched:
    """Write a notice for each run whose time to start or to finish ran out in (``after``, ``until``], and that did not.

    After a gap of the scheduler these may be many: the last ones of each job are looked at, at least `LOOKS`, and
    of those that did not happen people are told of the last `TOLD`. Raises AwsUnavailable; a single job's failure is
    in the answer.
    """
    found = Watched()
    looked = await _looked(jobs, group, after, until, found)
    if not looked:
        return found
    runs = await table.get_many(keys.run(group.name, look.run_id) for look in looked)
    missing: dict[tuple[str, News], list[_Look]] = {}
    for look in looked:
        if not _happened(look.news, runs.get(keys.run(group.name, look.run_id))):
            missing.setdefault((look.job.name, look.news), []).append(look)
    await _owe(
        table, [look for (_, news), looks in missing.items() if news == "not-started" for look in looks], now=now
    )
    for look in (look for looks in missing.values() for look in looks[-TOLD:]):
        try:
            run = runs.get(keys.run(group.name, look.run_id))
            fact_of_it = not_done(look.news, look.job, look.run_id, look.due_at, look.limit, run)
            if await _tell(table, fact_of_it, look.job, _to(look.job, group, look.news), now=now):
                found.told += 1
                name = look.news.replace("-", "_")
                log.warning(name, group=group.name, job=look.job.name, run_id=look.run_id, detail=_NOT_DONE)
        except NotRecorded as error:
            found.failed.append(str(error))
    return found


async def _owe(table: Table, looks: Sequence[_Look], *, now: float) -> None:
    """What runs after a job hears that a run of it has not started, as it hears of an end."""
    links = Links()
    await links.look(table, {look.job.group for look in looks})
    for look in looks:
        if links.children(look.job.group, look.job.name):
            # Where something is owed already, it was told before, or the run has ended meanwhile.
            await table.put(never_started(look.job, look.run_id, look.due_at, now=now), ABSENT)


async def _looked(
    jobs: Iterable[JobDefinition], group: GroupDefinition, after: float, until: float, found: Watched
) -> list[_Look]:
    """What is to be looked at; others go on between the pieces of many jobs."""
    looking = [job for job in jobs if job.enabled and (job.start_within is not None or job.finish_within is not None)]
    most = max(LOOKS, _LOOKS_IN_ALL // max(1, len(looking)))
    looked: list[_Look] = []
    for place, job in enumerate(looking):
        if place % _PIECE == 0:
            await asyncio.sleep(0)
        try:
            looked += _looks(job, group, after, until, most)
        except Unreadable:
            continue  # it is told of as such
        except Exception as error:  # noqa: BLE001 - whatever is wrong with one job, the others are looked at
            found.failed.append(f"job {job.name}: {error}")
    return looked


async def left_out(
    table: Table, group: GroupDefinition, faults: Iterable[tuple[JobDefinition, str]], *, now: float
) -> Watched:
    """Write a notice, once, for each job that is not fired because it cannot be read."""
    found = Watched()
    for job, why in faults:
        log.error("job_left_out", group=group.name, job=job.name, error=why, detail=_LEFT_OUT)
        # Told again where it is applied again and still cannot be read, or for another reason.
        mark = hashlib.sha256(f"{job.revision} {why}".encode()).hexdigest()[:12]
        fact_of_it = Fact(
            id=f"not-started/{job.group}/{job.name}/unreadable-{mark}",
            news="not-started",
            group=job.group,
            job=job.name,
            at=now,
            reason=f"it is left out: {why}",
            owner=job.owner,
        )
        try:
            found.told += await _tell(table, fact_of_it, job, _to(job, group, "not-started"), now=now)
        except CronRunnerError as error:
            found.failed.append(str(error))
    return found


async def open_runs(table: Table, *, now: float, measured: Measured | None = None) -> tuple[int, int]:
    """Look at the open runs whose time to be looked at has come; how many were lost, and how many notices written.

    One that cannot be changed holds up no other: it is logged, and looked at again in the next minute. Raises
    AwsUnavailable where the table does not answer.
    """
    text = "#state_key = :open AND #state_at <= :now"
    due = readable.runs(await table.query(text, {"open": keys.OPEN, "now": format_time(now)}, index=keys.BY_STATE))
    if not due:
        return 0, 0
    known = Known(measured=measured)
    await known.look(table, {run["group"] for run in due})
    await known.learn(table, {keys.job(run["group"], run["job"]) for run in due if run["job"]})
    looking = _Looking(table, known, now)
    of_job: dict[tuple[str, str], list[Item]] = {}
    for listed in due:
        of_job.setdefault((listed["group"], listed["job"] or listed["run_id"]), []).append(listed)
    turns = asyncio.Semaphore(_AT_ONCE)

    async def one(runs: list[Item]) -> None:
        # Those of one job after another: they change its status, and would refuse each other.
        async with turns:
            for listed in runs:
                await looking.at(listed)

    await asyncio.gather(*(one(runs) for runs in of_job.values()))
    if measured is not None:
        measured.flush()
    if looking.away is not None:
        raise looking.away
    return looking.lost, looking.told


@dataclass(slots=True)
class _Looking:
    """One look at the open runs: what it has found, and whether the table has gone away meanwhile."""

    table: Table
    known: Known
    now: float
    lost: int = 0
    told: int = 0
    away: AwsUnavailable | None = None
    _failed: int = 0
    _deadline: float = field(default_factory=lambda: time.monotonic() + OPEN_S)

    async def at(self, listed: Item) -> None:
        if self.away is not None or time.monotonic() > self._deadline:
            return
        try:
            await self._at(listed)
            self._failed = 0
        except Exception as error:  # noqa: BLE001 - whatever is wrong with one run, the others are looked at
            log.error("run_not_watched", group=listed["group"], run_id=listed["run_id"], error=str(error))
            self._failed += isinstance(error, AwsUnavailable)
            # The table refuses one item; or it answers nobody, and to ask for each of many takes the whole minute.
            if isinstance(error, AwsUnavailable) and self._failed >= _AWAY_AFTER:
                self.away = error

    async def _at(self, listed: Item) -> None:
        job = self.known.jobs.get(keys.job(listed["group"], listed["job"])) if listed["job"] else None
        give_up = partial(_give_up, job=job, now=self.now)
        run = await change_run(self.table, self.known, listed["group"], listed["run_id"], give_up, now=self.now)
        if run is None:
            return
        if is_open(run["state"]):
            self.told += await _too_long(self.table, self.known, run, job, now=self.now)
        elif run["state"] == LOST:
            self.lost += 1
            log.warning(
                "run_lost", group=run["group"], job=run["job"], run_id=run["run_id"], host=run["host"], detail=_LOST
            )


@dataclass(frozen=True, slots=True)
class _Look:
    """What is to be looked at: whether a run has started, or finished, by now."""

    news: News
    job: JobDefinition
    run_id: str
    due_at: float
    limit: float


def _looks(job: JobDefinition, group: GroupDefinition, after: float, until: float, most: int) -> list[_Look]:
    timetable = timetable_of(job, group)
    if timetable is None:
        return []
    found: list[_Look] = []
    limits: tuple[tuple[News, float | None], ...] = (
        ("not-started", job.start_within),
        ("not-finished", job.finish_within),
    )
    for news, limit in limits:
        if limit is not None:
            times = latest(timetable, max(after - limit, job.since), until - limit, most)
            found += [_Look(news, job, run_id_at(job.name, one.scheduled), one.at, limit) for one in times]
    return found


def _to(job: JobDefinition, group: GroupDefinition, news: News) -> list[str]:
    return (job.notify or group.notify).targets(news)


def _happened(news: News, run: Item | None) -> bool:
    if run is None:
        return False
    if news == "not-started":
        return True
    # An interrupted run has been handed back, and is to run again.
    return not is_open(run["state"]) and run["state"] != "interrupted"


def _give_up(attempts: dict[str, Item], job: JobDefinition | None, now: float) -> None:
    """Mark the attempt that speaks for a run as lost, where it is time."""
    if not attempts:
        return
    run = run_of(attempts.values(), None, job)
    sk = keys.attempt(run["group"], run["run_id"], run["execution"], run["attempt"]).sk
    if is_open(run["state"]) and lost_at(run, attempts[sk].get("started", {})) <= now:
        attempts[sk] = attempt_lost(attempts[sk], now=now)


async def _too_long(table: Table, known: Known, run: Item, job: JobDefinition | None, *, now: float) -> int:
    """Write the notice of a run that takes too long, once; and when the run is to be looked at next."""
    moment = too_long_at(run, job)
    late = moment is not None and moment <= now
    attempts = await store.attempts(table, run["group"], run["run_id"])
    told = run_of(attempts, {**run, "too_long_told": run["too_long_told"] or late}, job)
    if not late and told["state_at"] == run["state_at"]:
        return 0
    told["version"] = run["version"] + 1
    puts = [Put(told, When("#version = :v", {"v": run["version"]}))]
    if late and (targets := known.targets(run["group"], job, "too-long")):
        speaks = next(
            one for one in attempts if (one["execution"], one["attempt"]) == (run["execution"], run["attempt"])
        )
        found = replace(fact("too-long", told, speaks, job.owner if job else None), at=now, reason=_words(run, now))
        puts += await _news(table, found, job, targets, now=now)
    # Where an event came in between it is looked at again in the next minute.
    return int(await table.transact(puts) and len(puts) > 1)


def _words(run: Item, now: float) -> str:
    return f"has been running for {format_duration(round(now - parse_time(run['started_at'])))}"


async def _tell(table: Table, found: Fact, job: JobDefinition, to: Sequence[str], *, now: float) -> bool:
    """Write the notice of what was not done, where it is none that was written already."""
    if not to or await table.get(keys.notice(found.id)) is not None:
        return False
    for turn in range(_TRIES):
        puts = await _news(table, found, job, to, now=now)
        # Behind the status, which the run's end writes: one that has ended since then is seen, or refuses these.
        if found.run_id is not None and _happened(found.news, await table.get(keys.run(found.group, found.run_id))):
            return False
        if await table.transact(puts):
            return True
        if await table.get(keys.notice(found.id)) is not None:
            return False  # another one has written it
        await asyncio.sleep(pause_s(turn))
    raise NotRecorded(
        f"cannot note that {found.id} has {found.news}: others changed its job's status at each of {_TRIES} tries;"
        " it is tried again"
    )


async def _news(table: Table, found: Fact, job: JobDefinition | None, to: Sequence[str], *, now: float) -> list[Put]:
    """A notice, and the status of its job, which is in trouble by it."""
    status = await table.get(keys.status(found.group, found.job))
    new = in_trouble(status, found, expires(format_time(now), job), now)
    # Twice the same notice would not be refused: who comes second would have it delivered again.
    return [put_status(status, new), Put(notice_item(found, to, now=now, made_at=moment(new, now)), ABSENT)]
