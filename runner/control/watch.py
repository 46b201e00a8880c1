"""Looks for what did not happen: runs that did not start or finish in time, take too long, or whose host is silent."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Final

import structlog

from runner.aws.table import Put, When
from runner.control import store
from runner.control.definition import run_id_at
from runner.control.eventbridge import as_fired
from runner.control.facts import notice_item
from runner.control.job_status import in_trouble, moment
from runner.control.news import fact, not_done
from runner.control.recorder import Known, NotRecorded, change_run, put_status
from runner.control.run_state import attempt_lost, expires, is_open, lost_at, run_of, too_long_at
from runner.protocol import table as keys
from runner.protocol.units import format_duration, format_time, parse_time

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from runner.aws.attributes import Item
    from runner.aws.table import Table
    from runner.control.definition import GroupDefinition, JobDefinition
    from runner.control.facts import Fact
    from runner.control.notify import News

log: structlog.stdlib.BoundLogger = structlog.get_logger()

_TRIES: Final = 6
_NOT_DONE: Final = "see `cron-runner history JOB`, and on a host of the group `cron-runner status`: does it receive?"
_LOST: Final = "nothing is heard of its host: see whether it lives; the message comes again to another one"


async def due_runs(
    table: Table,
    group: GroupDefinition,
    jobs: Iterable[JobDefinition],
    after: float,
    until: float,
    *,
    now: float,
) -> int:
    """Write a notice for each run whose time to start or to finish ran out in (``after``, ``until``]; how many.

    Of a job whose times ran out several times in the stretch (after an outage) only the last one is told.
    """
    looked = [look for job in jobs if job.enabled for look in _looks(job, group, after, until)]
    if not looked:
        return 0
    runs = await table.get_many(keys.run(group.name, run_id) for _, _, run_id, _, _ in looked)
    told = 0
    for news, job, run_id, due_at, limit in looked:
        run = runs.get(keys.run(group.name, run_id))
        if _happened(news, run):
            continue
        found = not_done(news, job, run_id, due_at, limit, run)
        log.warning(news.replace("-", "_"), group=group.name, job=job.name, run_id=run_id, detail=_NOT_DONE)
        told += await _tell(table, found, job, (job.notify or group.notify).targets(news), now=now)
    return told


async def open_runs(table: Table, *, now: float) -> tuple[int, int]:
    """Look at the open runs whose time to be looked at has come; how many were lost, and how many notices written."""
    text = "#state_key = :open AND #state_at <= :now"
    due = await table.query(text, {"open": keys.OPEN, "now": format_time(now)}, index=keys.BY_STATE)
    if not due:
        return 0, 0
    known = Known()
    await known.learn(table, {keys.job(run["group"], run["job"]) for run in due if run["job"]})
    lost = told = 0
    for listed in due:
        job = known.jobs.get(keys.job(listed["group"], listed["job"])) if listed["job"] else None
        give_up = partial(_give_up, job=job, now=now)
        run = await change_run(table, known, listed["group"], listed["run_id"], give_up, now=now)
        if run is None:
            continue
        if not is_open(run["state"]):
            lost += 1
            log.warning(
                "run_lost", group=run["group"], job=run["job"], run_id=run["run_id"], host=run["host"], detail=_LOST
            )
        else:
            told += await _too_long(table, known, run, job, now=now)
    return lost, told


def _looks(
    job: JobDefinition, group: GroupDefinition, after: float, until: float
) -> list[tuple[News, JobDefinition, str, float, float]]:
    """What is to be looked at for one job: (news, job, run id, due time, limit)."""
    schedule = as_fired(job, group)
    if schedule is None:
        return []
    found: list[tuple[News, JobDefinition, str, float, float]] = []
    limits: tuple[tuple[News, float | None], ...] = (
        ("not-started", job.start_within),
        ("not-finished", job.finish_within),
    )
    for news, limit in limits:
        if limit is None:
            continue
        if times := schedule.due(max(after - limit, job.since), until - limit):
            found.append((news, job, run_id_at(job.name, times[-1]), times[-1], limit))
    return found


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


async def _tell(table: Table, found: Fact, job: JobDefinition, to: Sequence[str], *, now: float) -> int:
    """Write the notice of what was not done in time; a repeat of one that was written already is none."""
    if not to or found.run_id is None:
        return 0
    for _ in range(_TRIES):
        puts = await _news(table, found, job, to, now=now)
        # Behind the status, which the run's end writes: one that has ended since then is seen, or refuses these.
        if _happened(found.news, await table.get(keys.run(found.group, found.run_id))):
            return 0
        if await table.get(keys.notice(found.id)) is not None:
            return 0
        if await table.transact(puts):
            return 1
    raise NotRecorded(
        f"cannot note that {found.run_id} has {found.news}: others changed its job's status at each of {_TRIES} tries;"
        " it is tried again"
    )


async def _news(table: Table, found: Fact, job: JobDefinition | None, to: Sequence[str], *, now: float) -> list[Put]:
    """A notice, and the status of its job, which is in trouble by it."""
    status = await table.get(keys.status(found.group, found.job))
    new = in_trouble(status, found, expires(format_time(now), job), now)
    return [put_status(status, new), Put(notice_item(found, to, now=now, made_at=moment(new, now)))]
