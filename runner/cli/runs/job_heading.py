"""How a job stands, as the head of its history: whether and when it is to run, how it went last, what is wrong."""

from __future__ import annotations

import time
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from runner.cli import fleet
from runner.errors import CronRunnerError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from runner.aws.directives import Directive, Directives
    from runner.aws.table import Table
    from runner.control.definition import GroupDefinition, JobDefinition


@dataclass(frozen=True, slots=True)
class Standing:
    """A job of one group as the table has it: ``job`` is None where it is not in it, ``status`` until a run ended."""

    name: str
    group: str
    job: JobDefinition | None
    of_group: GroupDefinition | None
    status: Mapping[str, Any] | None
    said: Directives


async def standings(table: Table, name: str, in_group: str | None, of_runs: Iterable[str]) -> list[Standing]:
    """The job in each group that has it, or, of ``of_runs``, has run it."""
    from runner.aws import directives  # noqa: PLC0415 - `--help` needs none of it
    from runner.control import store  # noqa: PLC0415
    from runner.protocol import table as keys  # noqa: PLC0415

    jobs = {job.group: job for job in await store.named(table, name, in_group)}
    groups = await store.groups(table)
    return [
        Standing(
            name,
            group,
            jobs.get(group),
            groups.get(group),
            await table.get(keys.status(group, name)),
            await directives.read(table, group),
        )
        for group in sorted({*jobs, *of_runs})
    ]


def heading(at: Standing, now: float) -> list[str]:
    """A line for each thing to know."""
    lines = [("Job", f"{at.name}, of group {at.group}"), ("Status", "; ".join(_states(at)))]
    if at.job is not None:
        lines += _schedule(at.job, at.of_group, now)
    status = at.status or {"state": None, "failing_since": None}
    if status["state"] is not None:
        lines.append(("Last", f"{status['state']} at {fleet.clock(status['ended_at'])} ({status['run_id']})"))
    if status["failing_since"]:
        told = ", ".join(one["run_id"] for one in status.get("troubles", ()))
        lines.append(
            (
                "Failing",
                f"since {fleet.clock(status['failing_since'])}{f'; people were told of {told}' if told else ''}",
            )
        )
    width = max(len(name) for name, _ in lines)
    return [f"{name.ljust(width)}  {value}" for name, value in lines]


def _states(at: Standing) -> list[str]:
    if at.job is None:
        states = ["in no job file that was applied: deleted, or sent by hand"]
    elif not at.job.enabled:
        states = [f"disabled: cron-runner jobs enable {at.name}"]
    elif at.job.schedule is None and not at.job.after:
        states = [f"enabled, without a schedule: cron-runner jobs trigger {at.name}"]
    else:
        states = ["enabled"]
    if (paused := at.said.paused) is not None and paused.holds(time.time()):
        states.append(f"paused with its whole group {_by(paused)}: cron-runner resume {at.group}")
    if (upkeep := at.said.under_maintenance(at.name, time.time())) is not None:
        states.append(f"under maintenance {_by(upkeep)}: cron-runner maintenance {at.name} off")
    return states


def _by(said: Directive) -> str:
    from runner.protocol.units import format_time  # noqa: PLC0415

    until = "" if said.until is None else f" until {fleet.clock(format_time(said.until))}"
    return f"by {said.by} since {fleet.clock(format_time(said.at))}{until}{f' ({said.why})' if said.why else ''}"


def _schedule(job: JobDefinition, group: GroupDefinition | None, now: float) -> list[tuple[str, str]]:
    """Its schedule in words, and when it is due next."""
    if job.schedule is None:
        return [("Runs", job.after_words())] if job.after else []
    if find_spec("cronsim") is None:  # a host that only runs jobs
        return [("Schedule", f"{job.schedule} ({job.timezone})")]
    from runner.cli.central.jobs_shown import coming  # noqa: PLC0415

    try:
        words = job.words(group)
        times = coming(job, group, now, 1) if job.enabled else []
    except CronRunnerError as error:
        return [("Schedule", str(job.schedule)), ("Next", f"never: {error}")]
    lines = [("Schedule", f"{job.schedule}: {words}")]
    if job.enabled:
        lines.append(("Next", fleet.when(times[0].at, job.timezone, now) if times else "never again"))
    return lines
