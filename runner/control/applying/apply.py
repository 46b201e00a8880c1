"""Carries out what `jobs apply`, `enable` and `disable` have decided: the table first, then the schedules in step."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

import structlog

from runner.aws import directives
from runner.aws.schedules import Schedules
from runner.aws.sqs import Queue
from runner.aws.table import ABSENT, PRESENT, Refused, When
from runner.control import definitions
from runner.control.applying.eventbridge import NoSchedule, digest, refuse_what_it_cannot, request_for, schedule_name
from runner.control.chains.links import deletes, writes
from runner.control.definition import GroupDefinition, JobDefinition, Unreadable, changed, job_of
from runner.errors import CronRunnerError, JobFilesInvalid

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterable, Mapping

    from runner.aws.session import Session
    from runner.aws.table import Table
    from runner.control.applying.plan import Change, Plan
    from runner.protocol import table as keys

T = TypeVar("T")

log: structlog.stdlib.BoundLogger = structlog.get_logger()

_AT_ONCE: Final = 8
_TRIES: Final = 5


class Changed(CronRunnerError):
    """Somebody else changed a job between the look at it and the change of it."""


@dataclass(frozen=True, slots=True)
class Who:
    """Who changes something, why, and when (unix seconds)."""

    by: str
    now: float
    why: str = ""


async def apply(
    session: Session,
    table: Table,
    plan: Plan,
    jobs: Iterable[JobDefinition],
    groups: Mapping[str, GroupDefinition],
    who: Who,
) -> list[str]:
    """Carry out a plan that was made from ``jobs`` and ``groups``; the names of the schedules that were changed.

    Whatever fails half way is mended by applying again: the table says what is meant, and every schedule is
    compared with it each time.
    """
    now_jobs = {job.key: job for job in jobs}
    now_groups = dict(groups)
    for group in _refuse_what_cannot_be_fired(plan, now_jobs, now_groups, who.now):
        await _target(session, group)
    about = {_group_of(change) for change in plan.changes}
    # Before, so that one who is cut off leaves no change that is seen late; and behind, whatever failed.
    await definitions.told(table, about)
    try:
        return await _apply(session, table, plan, now_jobs, now_groups, who)
    finally:
        await definitions.told(table, about)


def _group_of(change: Change) -> str:
    one = change.new or change.old
    assert one is not None
    return one.group if isinstance(one, JobDefinition) else one.name


async def _apply(
    session: Session,
    table: Table,
    plan: Plan,
    now_jobs: dict[keys.Key, JobDefinition],
    now_groups: dict[str, GroupDefinition],
    who: Who,
) -> list[str]:
    for change in plan.changes:
        if isinstance(change.new, GroupDefinition):
            await table.put(change.new.item())
            await _record(table, change.new.name, f"GROUP#{change.new.name} {change.does}", who)
            now_groups[change.new.name] = change.new
    saved = await _together(
        [_save(table, change, who) for change in plan.changes if isinstance(change.new, JobDefinition)]
    )
    now_jobs.update({job.key: job for job in saved})
    gone = [change.old for change in plan.changes if change.does == "delete" and isinstance(change.old, JobDefinition)]
    for job in gone:
        await _delete(session, table, job)
        await _record(table, job.group, f"JOB#{job.name} delete", who)
        del now_jobs[job.key]
    return await in_step(session, table, now_jobs.values(), now_groups, now=who.now)


async def _delete(session: Session, table: Table, job: JobDefinition) -> None:
    """Delete a job. Its schedule goes first: what fails in between is deleted by the next apply, while it is still
    known here; and one that was put since the job was read is known by its mark."""
    for _ in range(_TRIES):
        await _unschedule(Schedules(session), job)
        seen = When("#scheduled = :seen OR attribute_not_exists(#scheduled)", {"seen": job.scheduled})
        if await table.transact(deletes(job, seen)):
            return
        there = await table.get(job.key)
        if there is None:
            return
        job = job_of(there)
    raise Changed(f"cannot delete job {job.name} of group {job.group}: its schedule is changed all the time; try again")


async def save(table: Table, old: JobDefinition | None, new: JobDefinition, who: Who) -> JobDefinition:
    """Write one job as the successor of what was read, and tell the scheduler; raises Changed where that is not there
    any more."""
    await definitions.told(table, [new.group])  # as in `apply`
    try:
        return await _write(table, old, new, who)
    finally:
        await definitions.told(table, [new.group])


async def _write(table: Table, old: JobDefinition | None, new: JobDefinition, who: Who) -> JobDefinition:
    job = changed(old, new, by=who.by, now=who.now)
    when = ABSENT if old is None else _unchanged(old)
    # In one transaction with who is after whom, where that is said of it.
    chained = bool(job.after or (old is not None and old.after))
    if not (await table.transact(writes(old, job, when)) if chained else await table.put(job.item(), when) is None):
        raise Changed(
            f"cannot change job {new.name} of group {new.group}: somebody else has changed it meanwhile; try again"
        )
    await _record(table, job.group, f"JOB#{job.name} {'create' if old is None else 'change'}", who)
    return job


def _unchanged(old: JobDefinition) -> When:
    """That the table has what was read: nobody's change, and no mark of a schedule that would be overwritten."""
    if old.fault:  # of another version: nothing but its revision, as far as it has one that can be read
        return When("#revision = :old", {"old": old.revision}) if old.revision else PRESENT
    return When("#revision = :old AND #scheduled = :scheduled", {"old": old.revision, "scheduled": old.scheduled})


async def in_step(
    session: Session,
    table: Table,
    jobs: Iterable[JobDefinition],
    groups: Mapping[str, GroupDefinition],
    *,
    now: float,
) -> list[str]:
    """Make the schedules in EventBridge Scheduler those of the jobs; the names of those that were changed."""
    of_group: dict[str, list[JobDefinition]] = {}
    for job in jobs:
        of_group.setdefault(job.group, []).append(job)
    changes = [
        await _group_in_step(session, table, groups[name], of_group[name], now) for name in of_group if name in groups
    ]
    return sorted(name for names in changes for name in names)


async def _group_in_step(
    session: Session, table: Table, group: GroupDefinition, jobs: list[JobDefinition], now: float
) -> list[str]:
    schedules = Schedules(session)
    wanted = [job for job in jobs if group.fire == "eventbridge" and job.schedule]
    unwanted = [job for job in jobs if job.scheduled and job not in wanted]
    arn, there = "", set[str]()
    if wanted:
        arn = await _target(session, group)
        there = await schedules.names(group.schedules, f"{group.name}.")
    requests = _requests(wanted, group, arn, now)

    async def put(job: JobDefinition, request: dict[str, object]) -> str:
        if job.scheduled and not job.scheduled.startswith(f"{group.schedules} "):
            await _unschedule(schedules, job)  # it was in another schedule group
        # The table says that there may be one before there is: who is cut off in between leaves none that the next
        # one does not know. And a job that somebody deletes meanwhile leaves none either.
        if not job.scheduled.startswith(f"{group.schedules} ") and not await _mark(table, job, f"{group.schedules} "):
            return ""
        await schedules.put(request)
        if not await _mark(table, job, f"{group.schedules} {digest(request)}"):
            await schedules.delete(str(request["Name"]), group.schedules)
        return str(request["Name"])

    async def drop(job: JobDefinition) -> str:
        await _unschedule(schedules, job)
        await _mark(table, job, "")
        return schedule_name(job.group, job.name)

    outdated = [
        put(job, request)
        for job, request in requests
        if job.scheduled != f"{group.schedules} {digest(request)}" or request["Name"] not in there
    ]
    return [name for name in await _together([*outdated, *(drop(job) for job in unwanted)]) if name]


async def _target(session: Session, group: GroupDefinition) -> str:
    """The ARN of a group's queue; raises CronRunnerError where EventBridge Scheduler could send nothing to it.

    It gives a message group and no deduplication id, so that of FIFO queues only those with content-based deduplication
    take what it sends, and it tells nobody of the others (EventBridge Scheduler's user guide, SqsParameters).
    """
    queue = Queue(session, url=group.queue)
    facts = await queue.facts()
    if facts.fifo and not facts.by_content:
        raise CronRunnerError(
            f"cannot let EventBridge Scheduler fire group {group.name}: {queue.label} is a FIFO queue without"
            " content-based deduplication, and takes nothing from it; switch that on (`aws sqs set-queue-attributes"
            f' --queue-url {group.queue} --attributes ContentBasedDeduplication=true`), or let fire = "scheduler"'
        )
    return facts.arn


def _requests(
    wanted: Iterable[JobDefinition], group: GroupDefinition, arn: str, now: float
) -> list[tuple[JobDefinition, dict[str, Any]]]:
    """What EventBridge Scheduler is to be asked for. A job that cannot be read keeps the schedule that it has there."""
    found = []
    for job in wanted:
        try:
            found.append((job, request_for(job, group, arn, now=now)))
        except Unreadable as error:
            log.warning("schedule_left", group=job.group, job=job.name, error=str(error))
    return found


def _refuse_what_cannot_be_fired(
    plan: Plan, jobs: Mapping[keys.Key, JobDefinition], groups: Mapping[str, GroupDefinition], now: float
) -> list[GroupDefinition]:
    """The groups whose jobs EventBridge Scheduler is to fire; raises JobFilesInvalid for schedules that it has no words
    for, before anything is written."""
    news = [change.new for change in plan.changes]
    by_aws = {**groups, **{new.name: new for new in news if isinstance(new, GroupDefinition)}}
    by_aws = {name: group for name, group in by_aws.items() if group.fire == "eventbridge"}
    meant = {**jobs, **{new.key: new for new in news if isinstance(new, JobDefinition)}}
    for change in plan.changes:
        if change.does == "delete" and isinstance(change.old, JobDefinition):
            del meant[change.old.key]
    faults = []
    fired = [job for job in meant.values() if job.group in by_aws and job.schedule]
    for job in fired:
        try:
            refuse_what_it_cannot(job, now)
        except NoSchedule as error:
            faults.append(str(error))
        except Unreadable:
            continue  # no file of this version wrote it, and it is left as it is
    if faults:
        raise JobFilesInvalid(faults)
    return [by_aws[name] for name in sorted({job.group for job in fired})]


async def _save(table: Table, change: Change, who: Who) -> JobDefinition:
    assert isinstance(change.new, JobDefinition)
    assert not isinstance(change.old, GroupDefinition)
    return await _write(table, change.old, change.new, who)


async def _mark(table: Table, job: JobDefinition, scheduled: str) -> bool:
    """Note what there is in EventBridge Scheduler; False where the job is gone: an update would make half a one."""
    change = "SET #scheduled = :s"
    return not isinstance(await table.update(job.key, change, {"s": scheduled}, PRESENT), Refused)


async def _unschedule(schedules: Schedules, job: JobDefinition) -> None:
    if job.scheduled:
        await schedules.delete(schedule_name(job.group, job.name), job.scheduled.partition(" ")[0])


async def _record(table: Table, group: str, what: str, who: Who) -> None:
    await directives.record(table, group, what, by=who.by, why=who.why, now=who.now)


async def _together(work: Iterable[Awaitable[T]]) -> list[T]:
    """Some at a time; the first failure is raised when those under way have ended."""
    turns = asyncio.Semaphore(_AT_ONCE)

    async def one(piece: Awaitable[T]) -> T:
        async with turns:
            return await piece

    answers = await asyncio.gather(*(one(piece) for piece in work), return_exceptions=True)
    for answer in answers:
        if isinstance(answer, BaseException):
            raise answer
    return [answer for answer in answers if not isinstance(answer, BaseException)]
