"""What the table says, in the shapes of the pages. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from runner.control.hosts import host_of
from runner.control.shown import as_json
from runner.errors import CronRunnerError
from runner.protocol.units import format_time, time_of
from runner.web.sources.fleet_queues import total
from runner.web.sources.overview import by_harm, ended_within, failing, running_entry, too_long

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from runner.aws.directives import Directive
    from runner.control.definition import GroupDefinition, JobDefinition
    from runner.web.sources.due_times import DueTimes
    from runner.web.sources.past import Standing

_SHOWN_RUNNING: Final = 50
_SUBJECT: Final = re.compile(r"(?P<op>[A-Za-z]+)[# ]?(?P<subject>\S*)(?: (?P<how>.*))?", re.DOTALL)


def _words(job: JobDefinition, group: GroupDefinition | None) -> str:
    try:
        return job.words(group)
    except CronRunnerError as error:
        return str(error)


def job_row(
    job: JobDefinition, known: Mapping[str, Any], standing: Standing, due: DueTimes, now: float
) -> dict[str, Any]:
    """A job, as its page and the API show it."""
    switched = known["directives"].get(job.group)
    maintenance = switched.under_maintenance(job.name, now) if switched is not None else None
    return {
        "job": job.name,
        "declared": True,
        **job.says(),
        "enabled": job.enabled,
        "schedule": job.schedule,
        "timezone": job.timezone if job.schedule else None,
        "words": _words(job, known["groups"].get(job.group)),
        "next": [format_time(at) for at in due.coming(job, known["groups"].get(job.group), now, 5)],
        "last": next(iter(standing.by_job.get((job.group, job.name), [])), None),
        "running": sum(1 for run in known["open"] if (run["group"], run["job"]) == (job.group, job.name)),
        "maintenance": None if maintenance is None else _switch(maintenance),
    }


def _switch(said: Directive) -> dict[str, Any]:
    return {"by": said.by, "note": said.why, "since": format_time(said.at), "until": time_of(said.until)}


def line_of(group: str, item: Mapping[str, Any]) -> dict[str, Any]:
    """A line of the audit trail."""
    what = str(item["what"])
    found = _SUBJECT.fullmatch(what)
    op, subject, how = (found["op"].lower(), found["subject"], found["how"]) if found else (what, "", "")
    refused = op == "refused"
    if refused and how:
        op, subject, how = subject, how, ""
    if how in ("off",) and op == "pause":
        op = "resume"
    if op == "pause" and subject in ("on", "off"):
        op, subject = ("pause" if subject == "on" else "resume"), group
    by, _, way = str(item["by"]).partition(" (")
    return {
        "at": item["changed_at"],
        "who": by,
        "role": None,
        "op": op,
        "subject": subject or group,
        "note": item.get("why") or "",
        "result": "refused" if refused else "done" + (f": {how}" if how and how != "on" else ""),
        "way": way.rstrip(")") or "command",
    }


def _waiting_of(known: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        {
            "state": "backoff",
            "group": run["group"],
            "job": run["job"],
            "run_id": run["run_id"],
            "host": run.get("host"),
            "for_s": None,
            "reason": "between two attempts",
            "more": str(run.get("reason") or ""),
        }
        for run in known["open"]
        if run["state"] == "retrying"
    ]


def _off(known: Mapping[str, Any], now: float) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for group, on in known["directives"].items():
        if (paused := on.pause_at(now)) is not None:
            found.append({"state": "paused", "group": group, **_switch(paused)})
        found += [
            {"state": "maintenance", "group": group, "job": job, **_switch(one)}
            for job, one in on.maintenance.items()
            if one.holds(now)
        ]
    found += [
        {
            "state": "disabled",
            "group": job.group,
            "job": job.name,
            "by": job.changed_by,
            "note": "",
            "since": format_time(job.changed_at),
        }
        for job in known["jobs"]
        if not job.enabled
    ]
    return found


def _due(known: Mapping[str, Any], due: DueTimes, now: float) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for job in known["jobs"]:
        on = known["directives"].get(job.group)
        why = ""
        if on is not None and on.pause_at(now) is not None:
            why = f"stays on the queue: {job.group} is paused"
        for at in due.within_an_hour(job, known["groups"].get(job.group), now):
            kept = on is not None and not why and on.under_maintenance(job.name, at) is not None
            said = "will be skipped: maintenance" if kept else why
            found.append({"group": job.group, "job": job.name, "at": format_time(at), "why": said})
    return sorted(found, key=lambda one: one["at"])[:500]


def _groups(
    known: Mapping[str, Any],
    hosts: Sequence[Mapping[str, Any]],
    queues: Mapping[str, Mapping[str, Any]],
    now: float,
) -> list[dict[str, Any]]:
    rows = []
    for name in known["names"]:
        paused = known["directives"][name].pause_at(now)
        own = [one for one in hosts if one["group"] == name]
        silent = [one["host"] for one in own if one["state"] == "silent"]
        rows.append(
            {
                "group": name,
                "state": "paused" if paused else "polling" if len(own) > len(silent) else "unknown",
                "why": f"by {paused.by}: “{paused.why}”"
                if paused
                else f"silent: {', '.join(silent)}"
                if silent
                else "",
                "hosts": f"{len(own) - len(silent)} of {len(own)}",
                "running": sum(1 for run in known["open"] if run["group"] == name),
                "queued": total({name: queues[name]} if name in queues else {}, "waiting", "delayed"),
                "dead": total({name: queues[name]} if name in queues else {}, "dead"),
            }
        )
    return rows


def overview_of(
    known: Mapping[str, Any],
    past: Sequence[dict[str, Any]],
    standing: Standing,
    due: DueTimes,
    queues: Mapping[str, Mapping[str, Any]],
    now: float,
) -> dict[str, Any]:
    """In the shape of `runner.web.sources.overview.of_host`."""
    running = [
        running_entry({**as_json(run), "since": run.get("started_at")}, standing, now)
        for run in known["open"]
        if run["state"] == "running"
    ]
    hosts = [host_of(item, now) for item in known["hosts"]]
    silent = [
        {
            "state": "silent",
            "group": one["group"],
            "host": one["host"],
            "why": "nothing was heard of it",
            "since": one["seen_at"],
        }
        for one in hosts
        if one["state"] == "silent"
    ]
    return {
        "kind": "fleet",
        "title": "fleet",
        "now": now,
        "wrong": [*silent, *failing(standing, now), *too_long(running)],
        "running": by_harm(running)[:_SHOWN_RUNNING],
        "running_count": len(running),
        "waiting": _waiting_of(known),
        "queued": total(queues, "waiting", "delayed"),
        "dead": total(queues, "dead"),
        "due": _due(known, due, now),
        "off": _off(known, now),
        "ended": list(past[:10]),
        "ended_24h": ended_within(past, now),
        "hosts": (len(hosts) - len(silent), len(hosts)),
        "groups": _groups(known, hosts, queues, now),
    }
