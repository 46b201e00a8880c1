"""Reads jobs, groups and runs from the table, as values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from runner.control import readable
from runner.control.recording.run_state import FAILURES
from runner.errors import CronRunnerError, NotThere
from runner.protocol import table as keys
from runner.protocol.suggest import nearest
from runner.protocol.units import format_time

if TYPE_CHECKING:
    from collections.abc import Iterable

    from runner.aws.attributes import Item
    from runner.aws.table import Table
    from runner.control.definition import GroupDefinition, JobDefinition


LONGEST_S: Final = 7 * keys.DAY_S
"""How long before a moment a run that is known of since then may have begun."""
_OTHER_VERSION: Final = "another version wrote it: apply it again with this one, or upgrade what says this"


class NotFound(NotThere):
    """There is no such job, group or run in the table, or more than one job of the name."""


def _job_of(item: Item) -> JobDefinition:
    from runner.control.definition import job_of  # noqa: PLC0415 - the history of runs needs no schedules

    return job_of(item)


def _group_of(item: Item) -> GroupDefinition:
    from runner.control.definition import group_of  # noqa: PLC0415 - as above

    return group_of(item)


async def groups(table: Table) -> dict[str, GroupDefinition]:
    """All groups; one that another version wrote so that this cannot read it is left out, and logged."""
    found: dict[str, GroupDefinition] = {}
    for item in await table.query("#pk = :pk", {"pk": keys.GROUPS}, consistent=True):
        try:
            found[item["sk"]] = _group_of(item)
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            import structlog  # noqa: PLC0415 - only for what cannot be read

            structlog.get_logger().error(
                "group_not_read", group=item["sk"], error=f"{type(error).__name__}: {error}", detail=_OTHER_VERSION
            )
    return found


async def group(table: Table, name: str) -> GroupDefinition:
    item = await table.get(keys.group(name))
    if item is None:
        known = await groups(table)
        near = nearest(name, known)
        question = f'; did you mean "{near}"?' if near else ""
        raise NotFound(
            f'cannot find group "{name}" in table {table.name}{question or "; apply a job file with [groups.NAME]"}'
        )
    try:
        return _group_of(item)
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        said = f"{type(error).__name__}: {error}"
        raise CronRunnerError(f'cannot read group "{name}" of table {table.name}: {said}; {_OTHER_VERSION}') from error


async def jobs(table: Table) -> list[JobDefinition]:
    """All jobs, by name. The index may be a moment behind a job that was just changed."""
    items = await table.query("#state_key = :jobs", {"jobs": keys.JOBS}, index=keys.BY_STATE)
    return [_job_of(item) for item in items]


async def named(table: Table, name: str, in_group: str | None = None) -> list[JobDefinition]:
    """The jobs of the name, at most one in a group."""
    if in_group is not None:
        item = await table.get(keys.job(in_group, name))
        return [_job_of(item)] if item is not None else []
    text = "#state_key = :jobs AND begins_with(#state_at, :name)"
    items = await table.query(text, {"jobs": keys.JOBS, "name": f"{name}#"}, index=keys.BY_STATE)
    # The item itself: the index may be behind.
    fresh = await table.get_many(keys.Key(item["pk"], item["sk"]) for item in items)
    return [_job_of(item) for item in fresh.values()]


async def job(table: Table, name: str, in_group: str | None = None) -> JobDefinition:
    """The job of the name; `NotFound` where there is none, or one in several groups and none of them was named."""
    found = await named(table, name, in_group)
    if len(found) == 1:
        return found[0]
    if found:
        where = ", ".join(sorted(one.group for one in found))
        raise NotFound(f'cannot tell which job "{name}" is meant: groups {where} have one; name its --group')
    near = nearest(name, {one.name for one in await jobs(table)})
    hint = f'did you mean "{near}"?' if near else "`cron-runner jobs list` shows all"
    raise NotFound(f'cannot find job "{name}"{f" in group {in_group}" if in_group else ""}; {hint}')


async def definitions(table: Table, of: Iterable[keys.Key]) -> dict[keys.Key, JobDefinition]:
    """The jobs at these keys, as far as they are in the table: runs may be of jobs that nobody applied. As they are by
    now: they are kept for a while."""
    return {key: _job_of(item) for key, item in (await table.get_many(of, consistent=True)).items()}


async def history(
    table: Table,
    name: str,
    *,
    limit: int,
    in_group: str | None = None,
    failed: bool = False,
    outcomes: Iterable[str] | None = None,
    since: float | None = None,
) -> list[Item]:
    """A job's runs, the newest first: the first ``limit`` of those that are asked for, however many others there are.

    ``since`` is when something was last known of a run: one that has been going on since before it is among them, as
    far as it began within `LONGEST_S` of it.
    """
    text, values = "#job_key = :job", {"job": keys.job_key(name)}
    if since is not None:
        text, values["begun"] = f"{text} AND #at >= :begun", format_time(max(0.0, since - LONGEST_S))
    edge = "" if since is None else format_time(since)
    among = FAILURES if failed else None if outcomes is None else frozenset(outcomes)

    def wanted(run: Item) -> bool:
        return (
            readable.is_run(run)
            and in_group in (None, run["group"])
            and (among is None or run["state"] in among)
            and str(run["ended_at"] or run["seen_at"]) >= edge
        )

    return await table.query(text, values, index=keys.BY_JOB, newest_first=True, limit=limit, keep=wanted)


async def ended_since(table: Table, since: float, now: float, *, failed: bool) -> list[Item]:
    """The runs that ended, well or badly, from a moment on, the newest first."""
    found: list[Item] = []
    day = now
    while True:
        text = "#state_key = :day AND #state_at >= :since"
        values = {"day": keys.ended_key(format_time(day)[:10], failed=failed), "since": format_time(since)}
        found += await table.query(text, values, index=keys.BY_STATE, newest_first=True)
        if format_time(day)[:10] <= format_time(since)[:10]:
            return readable.runs(found)
        day -= keys.DAY_S


async def open_runs(table: Table) -> list[Item]:
    """The runs of all groups that are not over."""
    return readable.runs(await table.query("#state_key = :open", {"open": keys.OPEN}, index=keys.BY_STATE))


async def statuses(table: Table, of: Iterable[JobDefinition]) -> dict[keys.Key, Item]:
    """How the last runs of these jobs ended, by the keys of that; of those that have run."""
    return readable.statuses(await table.get_many(keys.status(job.group, job.name) for job in of))


async def run(table: Table, run_id: str, in_group: str | None = None) -> Item:
    """A run's item by its id alone; the newest where groups have one of the id each."""
    names = [in_group] if in_group is not None else list(await groups(table))
    found = await table.get_many(keys.run(name, run_id) for name in names)
    whole = readable.runs(found.values())
    if not whole:
        raise NotFound(f"cannot find run {run_id} in table {table.name}; check the id, or name its --group")
    return max(whole, key=lambda item: str(item["at"]))


async def attempts(table: Table, in_group: str, run_id: str) -> list[Item]:
    """A run's attempts, in their order."""
    key = keys.run(in_group, run_id)
    text = "#pk = :pk AND begins_with(#sk, :attempt)"
    items = await table.query(text, {"pk": key.pk, "attempt": keys.ATTEMPT}, consistent=True)
    return sorted(items, key=lambda item: (str(item["began"]), int(item["attempt"])))
