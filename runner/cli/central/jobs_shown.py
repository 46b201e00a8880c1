"""``cron-runner jobs list / show / next``: what the table's jobs are, and when they are due."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from runner.cli import fleet, printing
from runner.cli.central.jobs_plan import shown
from runner.cli.signing import known_to
from runner.errors import AwsUnavailable, CronRunnerError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Mapping, Sequence

    from runner.aws.directives import Directive, Directives
    from runner.aws.session import Session
    from runner.aws.table import Table
    from runner.control.definition import GroupDefinition, JobDefinition
    from runner.control.timetable.firing import Time


def listed(args: argparse.Namespace) -> int:
    """All jobs."""
    from runner.control import store  # noqa: PLC0415
    from runner.protocol import table as keys  # noqa: PLC0415

    async def work(_: Session, table: Table) -> int:
        jobs = [job for job in await store.jobs(table) if args.group in (None, job.group)]
        status = await store.statuses(table, jobs)
        groups = await store.groups(table)
        said = await _said(table, {job.group for job in jobs})
        now = time.time()
        rows = [
            _row(job, groups.get(job.group), status.get(keys.status(job.group, job.name)), now)
            | _switches(said.get(job.group), job.name, now)
            for job in jobs
        ]
        signs = signature_words(jobs, groups, known_to(args.config), now)
        if any(signs):
            rows = [{**row, "signature": word} for row, word in zip(rows, signs, strict=True)]
        if args.json:
            printing.document(rows)
            return 0
        titles = ["JOB", "GROUP", "SCHEDULE", "NEXT", "LAST", "OWNER"]
        cells = [
            [
                row["job"],
                row["group"],
                row["schedule"] or job.after_words() or "-",
                _next_words(job, row, now),
                _last_words(row["last"], now),
                row["owner"] or "-",
            ]
            for job, row in zip(jobs, rows, strict=True)
        ]
        if any(row["paused"] or row["maintenance"] for row in rows):
            titles.insert(4, "RUNS ARE")
            cells = [[*cell[:4], _held_up(row), *cell[4:]] for cell, row in zip(cells, rows, strict=True)]
        if any(signs):
            titles.append("SIGNED BY")
            cells = [[*cell, word or "-"] for cell, word in zip(cells, signs, strict=True)]
        printing.lines(
            *(fleet.aligned(titles, cells, "JOB") if cells else ["no jobs; `cron-runner jobs apply FILE` makes some"])
        )
        return 0

    return int(fleet.run(args, work))


async def _said(table: Table, groups: Iterable[str]) -> dict[str, Directives]:
    """What the hosts of each group are told; nothing where this user may not read that."""
    from runner.aws import directives  # noqa: PLC0415 - `--help` needs none of it

    found = {}
    for group in sorted(groups):
        try:
            found[group] = await directives.read(table, group)
        except AwsUnavailable as error:
            printing.say(f"cannot tell what of group {group} is paused or under maintenance: {error}")
            break
    return found


def _switches(said: Directives | None, job: str, now: float) -> dict[str, Any]:
    paused, upkeep = (said.paused, said.under_maintenance(job, now)) if said is not None else (None, None)
    return {
        "paused": _switch(paused) if paused is not None and paused.holds(now) else None,
        "maintenance": _switch(upkeep) if upkeep is not None else None,
    }


def _switch(said: Directive) -> dict[str, Any]:
    from runner.protocol.units import format_time  # noqa: PLC0415

    until = None if said.until is None else format_time(said.until)
    return {"by": said.by, "since": format_time(said.at), "until": until, "note": said.why}


def _held_up(row: dict[str, Any]) -> str:
    switches = (("paused", row["paused"]), ("skipped: maintenance", row["maintenance"]))
    words = [
        word if said["until"] is None else f"{word} until {fleet.second(said['until'])}"
        for word, said in switches
        if said
    ]
    return ", ".join(words) or "-"


def _last_words(last: dict[str, Any] | None, now: float) -> str:
    from runner.protocol.units import parse_time  # noqa: PLC0415

    if last is None:
        return "-"
    return f"{last['state']} {fleet.span(max(0.0, now - parse_time(last['ended_at'])))} ago"


def signature_words(
    jobs: Sequence[JobDefinition],
    groups: Mapping[str, GroupDefinition],
    host: tuple[str, frozenset[str]] | None,
    now: float,
) -> list[str]:
    """By whom each job is signed, and what is wrong with that; "" where nobody asks for a signature. ``host`` is the
    group of this host and the keys that it knows."""
    from runner.control.signatures import signature_in  # noqa: PLC0415 - `--help` needs none of it

    words = []
    for job in jobs:
        group = groups.get(job.group)
        known = frozenset(group.keys if group is not None else ())
        if host is not None and host[0] == job.group:
            known |= host[1]
        asked = bool(known) or (host is not None and host[0] == job.group)
        signature = signature_in(job.signed)
        if signature is None:
            words.append("nobody: not signed" if asked else "")
        elif asked and signature.keyid not in known:
            words.append(f"{signature.keyid}: unknown key")
        elif signature.until <= now:
            words.append(f"{signature.keyid}: over")
        else:
            words.append(signature.keyid)
    return words


def _next_words(job: JobDefinition, row: dict[str, Any], now: float) -> str:
    if row["fault"]:
        return "never: it cannot be read (`jobs show`)"
    if row["next_unix"] is not None:
        return fleet.when(row["next_unix"], job.timezone, now)
    return "-" if job.enabled else "disabled"


def _row(
    job: JobDefinition, group: GroupDefinition | None, status: dict[str, Any] | None, now: float
) -> dict[str, Any]:
    from runner.protocol.units import format_time  # noqa: PLC0415

    times: list[Time] = []
    fault = None
    try:
        times = coming(job, group, now, 1)
    except CronRunnerError as error:  # one that cannot be read must not hide all others
        fault = str(error)
    return {
        "job": job.name,
        "group": job.group,
        "schedule": job.schedule,
        "timezone": job.timezone if job.schedule else None,
        **({"after": list(job.after), "after_when": job.after_when} if job.after else {}),
        "enabled": job.enabled,
        "next": format_time(times[0].at) if times else None,
        "next_unix": times[0].at if times else None,
        "owner": job.owner,
        "last": last_of(status),
        "fault": fault,
    }


def last_of(status: dict[str, Any] | None) -> dict[str, Any] | None:
    """How a job's last run ended; None where none has, though something may be wrong."""
    if status is None or status["state"] is None:
        return None
    return {name: status[name] for name in ("state", "run_id", "ended_at", "failing_since")}


def coming(job: JobDefinition, group: GroupDefinition | None, now: float, count: int) -> list[Time]:
    """The job's next fire times, as whoever fires its group has them; none while it is disabled."""
    from runner.control.applying.eventbridge import timetable_of  # noqa: PLC0415

    timetable = timetable_of(job, group) if job.enabled else None
    try:
        return timetable.coming(now, count) if timetable is not None else []
    except (ArithmeticError, ValueError, LookupError) as error:
        raise CronRunnerError(
            f"cannot tell when job {job.name} is due next: {error}; apply another schedule"
        ) from error


def show(args: argparse.Namespace) -> int:
    """One job, field by field."""
    from runner.protocol.units import format_time  # noqa: PLC0415

    job, group, switches = _job(args)
    says: dict[str, Any] = {"job": job.name, **job.says()}
    says |= {"revision": job.revision, "changed_at": format_time(job.changed_at), "changed_by": job.changed_by}
    says |= {name: said for name, said in switches.items() if said or args.json}
    if args.json:
        printing.document(says)
        return 0
    try:
        if job.schedule:
            says["schedule"] = f"{job.schedule}: {job.words(group)}"
    except CronRunnerError as error:
        says["fault"] = str(error)
    if job.after:
        says["after"] = job.after_words().removeprefix("after ")
        del says["after_when"]
    says |= {name: _switch_words(said) for name, said in switches.items() if said}
    width = max(map(len, says))
    printing.lines(*(f"{name.ljust(width)}  {shown(name, value)}" for name, value in says.items()))
    return 0


def upcoming(args: argparse.Namespace) -> int:
    """The next fire times of one job, in words."""
    from runner.control.definition import run_id_at  # noqa: PLC0415
    from runner.control.timetable.zones import database  # noqa: PLC0415
    from runner.protocol.units import format_time  # noqa: PLC0415

    job, group, _ = _job(args)
    now = time.time()
    words = job.words(group)
    times = coming(job, group, now, args.count)
    if args.json:
        said = [
            {
                "at": format_time(one.at),
                "scheduled_at": format_time(one.scheduled),
                "run_id": run_id_at(job.name, one.scheduled),
            }
            for one in times
        ]
        found = {"job": job.name, "group": job.group, "enabled": job.enabled, "words": words, "next": said}
        if job.after:
            found |= {"after": list(job.after), "after_when": job.after_when}
        printing.document({**found, "tz_database": database().version})
        return 0
    if not words:
        printing.lines(f"{job.name} has no schedule; `cron-runner jobs trigger {job.name}` runs it")
        return 0
    printing.lines(f"{job.name}: {words}")
    if not job.enabled:
        printing.lines(f"disabled; `cron-runner jobs enable {job.name}` lets it fire again")
    elif not times and job.schedule:
        printing.lines("never again")
    printing.lines(*(f"  {_time_words(one, job, now)}" for one in times))
    if times:
        printing.lines(f"by the {database()}")
    return 0


def _time_words(time: Time, job: JobDefinition, now: float) -> str:
    """When it is sent and, where that is another time, which of its fire times that is."""
    said = fleet.when(time.at, job.timezone, now)
    if time.at == time.scheduled:
        return said
    return f"{said} (of {fleet.when(time.scheduled, job.timezone, now).partition(',')[0]})"


def _switch_words(said: dict[str, Any]) -> str:
    """Since when and until when, by whom, and why."""
    until = f" until {fleet.second(said['until'])}" if said["until"] else ""
    return f"since {fleet.second(said['since'])}{until}, by {said['by']}{': ' if said['note'] else ''}{said['note']}"


def _job(args: argparse.Namespace) -> tuple[JobDefinition, GroupDefinition | None, dict[str, Any]]:
    """The job that is meant, its group, and what of it is paused or under maintenance."""
    from runner.control import store  # noqa: PLC0415

    async def work(_: Session, table: Table) -> tuple[JobDefinition, GroupDefinition | None, dict[str, Any]]:
        job = await store.job(table, args.job, args.group)
        group = (await store.groups(table)).get(job.group)
        switches = {}
        if args.does is show:
            said = (await _said(table, [job.group])).get(job.group)
            switches = _switches(said, job.name, time.time())
        return job, group, switches

    found: tuple[JobDefinition, GroupDefinition | None, dict[str, Any]] = fleet.run(args, work)
    return found
