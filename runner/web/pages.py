"""The pages: what is asked of the source for each, and the template that shows it."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode

from runner.control.timetable.days import summary
from runner.protocol.units import format_time
from runner.web import asked, pictures, words
from runner.web.answers import Misread, named, see_other
from runner.web.asked import body_of, form_change, runs_filter
from runner.web.log import last
from runner.web.openapi import OPERATIONS
from runner.web.parts import job_url, query, run_url
from runner.web.run_page import values_of_run
from runner.web.sources.past import key_of
from runner.web.sources.source import Filter
from runner.web.words import BAD

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.requests import Request
    from starlette.responses import Response

    from runner.web.answers import Answers
    from runner.web.changes import Changes
    from runner.web.sources.source import Source

DAY_S: Final = 86_400.0
ALL_OPS: Final = ("cancel", "rerun", "run", "enable", "disable", "maintenance", "pause", "resume", "drain")
_DONE: Final = {
    "cancel": "Cancelled: its stop signal was sent",
    "rerun": "Sent once more",
    "run": "Sent",
    "pause": "Paused",
    "resume": "Resumed",
    "drain": "Draining",
    "enable": "Enabled",
    "disable": "Disabled",
    "maintenance": "Maintenance was switched",
}
_LAST_RUNS: Final = 15
_DEFINITION: Final = (
    *(("command", "command"), ("user", "user"), ("timeout_s", "timeout"), ("retries", "retries")),
    *(("overlap", "overlap"), ("resources", "asks for"), ("owner", "owner"), ("queue", "queue")),
    *(("params", "parameters"), ("labels", "labels"), ("calendars", "calendars")),
)


class Pages:
    """Handlers by name; each raises what `Answers.failed` turns into a page."""

    def __init__(self, source: Source, answers: Answers, changes: Changes) -> None:
        self._source = source
        self._answers = answers
        self._changes = changes

    async def _shown(self, request: Request, template: str, nav: str, values: dict[str, Any]) -> Response:
        """With what heads every page: how much is wrong, and what may be done here."""
        source = self._source
        overview = values.get("o") or await source.overview()
        given = {
            "nav": nav,
            "wrong": len(overview["wrong"]),
            "source_title": f"host {overview['title']}" if source.kind == "host" else "fleet",
            "ops": {op for op in ALL_OPS if await source.can(op)},
            "done": _DONE.get(request.query_params.get("done", ""), ""),
            "kind": source.kind,
            **values,
        }
        return self._answers.page(request, template, given)

    async def overview(self, request: Request) -> Response:
        overview = await self._source.overview()
        past = await self._source.history()
        values = {
            "title": overview["title"] if self._source.kind == "host" else "Overview",
            "o": overview,
            "standing": await self._source.standing(),
            "hours": pictures.hours(past, time.time()),
        }
        return await self._shown(request, "overview.html", "/", values)

    async def jobs(self, request: Request) -> Response:
        standing = await self._source.standing()
        jobs = []
        for one in await self._source.jobs():
            last = one.get("last")
            states = standing.states((one["group"], one["job"]), one.get("running") or 0)
            jobs.append({**one, "states": states, "wrong": bool(last and last.get("outcome") in BAD)})
        return await self._shown(request, "jobs.html", "/jobs", {"title": "Jobs", "jobs": jobs})

    async def job(self, request: Request) -> Response:
        group, name = named(request, "group"), named(request, "job")
        job = await self._source.job(group, name)
        standing = await self._source.standing()
        runs = standing.by_job.get((group, name), [])
        href = f"/runs?{query(job=f'{group}/{name}')}"
        calendar, calendar_words = pictures.calendar(runs, time.time(), href)
        durations, durations_words = pictures.durations(runs)
        values = {
            "title": f"{group}/{name}",
            "j": job,
            "states": standing.states((group, name), job.get("running") or 0),
            "runs": await self._last_runs(group, name, [] if job.get("running") else runs),
            "bad": [run for run in runs if run.get("outcome") in BAD][:8],
            "calendar": calendar,
            "calendar_words": calendar_words,
            "durations": durations,
            "durations_words": durations_words,
            "definition": [(said, _defined(job[name])) for name, said in _DEFINITION if job.get(name)],
        }
        return await self._shown(request, "job.html", "/jobs", values)

    async def _last_runs(self, group: str, name: str, kept: Sequence[dict[str, Any]]) -> Sequence[dict[str, Any]]:
        """A job's last runs; where enough of them are kept, without asking for them."""
        if len(kept) >= _LAST_RUNS:
            return kept[:_LAST_RUNS]
        found = await self._source.runs(Filter(job=f"{group}/{name}", limit=_LAST_RUNS))
        return list(found["runs"])

    async def runs(self, request: Request) -> Response:
        params = request.query_params
        form = {name: params.get(name, "")[:200] for name in ("job", "group", "host", "state", "since", "until", "q")}
        outcomes = [one for value in params.getlist("outcome") for one in value.split(",") if one]
        bad = bool(params.get("bad"))
        values: dict[str, Any] = {"title": "Runs", "f": {**form, "outcomes": outcomes, "bad": bad}, "fault": ""}
        found: dict[str, Any] = {"runs": [], "cursor": None}
        try:
            wanted = runs_filter(params)
            if bad:
                wanted = Filter(outcomes=tuple(sorted(BAD)), since=time.time() - 3 * DAY_S, cursor=wanted.cursor)
            found = await self._source.runs(wanted)
        except Misread as error:
            values["fault"] = str(error)
        given = [(name, value) for name, value in form.items() if value] + [("outcome", one) for one in outcomes]
        pairs = [(name, value) for name, value in params.multi_items() if name != "cursor" and value]
        again = [("cursor", found["cursor"])] if found["cursor"] else []
        values |= {
            "runs": found["runs"],
            "given": given,
            "without": [
                (name, f"/runs?{_pairs([pair for pair in pairs if pair[0] != name])}")
                for name in dict.fromkeys(name for name, _ in given)
            ],
            "older": f"/runs?{_pairs(pairs + again)}" if again else "",
            "api_query": _pairs([pair for pair in pairs if pair[0] != "bad"]),
        }
        return await self._shown(request, "runs.html", "/runs", values)

    async def run(self, request: Request) -> Response:
        run_id = named(request, "run_id")
        run = await self._source.run(run_id)
        begin = asked.whole(request.query_params, "from", -1, 1 << 60, 0)
        log = await last(self._source, run_id, None if begin < 0 else begin)
        standing = await self._source.standing()
        values = {"title": run_id, "log": log, **values_of_run(run, standing, time.time())}
        return await self._shown(request, "run.html", "/runs", values)

    async def timeline(self, request: Request) -> Response:
        now = time.time()
        day = request.query_params.get("day", "") or format_time(now)[:10]
        by = "host" if request.query_params.get("by") == "host" else "job"
        begin = asked.moment(day, "day") if len(day) == 10 else None
        if begin is None:
            raise Misread(f"cannot show day {day[:20]}: write it as 2026-11-26")
        overview = await self._source.overview()
        runs = [*overview["running"], *await self._source.history()]
        shown = [run for run in runs if _is_on(run, begin)]
        due = [one for one in overview["due"] if begin <= (words.unix(one["at"]) or 0) < begin + DAY_S]
        date = datetime.fromtimestamp(begin, UTC)
        values = {
            "title": f"{date:%-d %B}",
            "o": overview,
            "day": day,
            "by": by,
            "day_words": f"{date:%A %-d %B %Y}",
            "before": f"{date - timedelta(days=1):%Y-%m-%d}",
            "after": f"{date + timedelta(days=1):%Y-%m-%d}" if begin + DAY_S < now else "",
            "count": len(shown),
            "bad": sum(1 for run in shown if run.get("outcome") in BAD),
            "due": len(due),
            "scale": pictures.day_scale(),
            "rows": _rows(shown, due, by, begin, now),
            "bad_runs": [run for run in shown if run.get("outcome") in BAD][:50],
        }
        return await self._shown(request, "timeline.html", "/timeline", values)

    async def hosts(self, request: Request) -> Response:
        by_host: dict[str, list[str]] = {}
        for run in await self._source.history():
            if run.get("host"):
                by_host.setdefault(run["host"], []).append(str(run.get("outcome")))
        hosts = [
            {**one, "states": by_host.get(one["host"], [])[: pictures.STRIP][::-1]}
            for one in await self._source.hosts()
        ]
        hosts.sort(key=lambda one: (one["group"], one["state"] != "silent", one["host"]))
        return await self._shown(request, "hosts.html", "/hosts", {"title": "Hosts", "hosts": hosts})

    async def queues(self, request: Request) -> Response:
        values = {"title": "Queues", "queues": list(await self._source.queues())}
        return await self._shown(request, "queues.html", "/queues", values)

    async def audit(self, request: Request) -> Response:
        params = request.query_params
        wanted = {name: params.get(name, "")[:200] for name in ("who", "what", "op")}
        found = await self._source.audit(asked.cursor(params), 200)
        changes = [
            one
            for one in found["changes"]
            if wanted["who"] in one["who"] and wanted["what"] in one["subject"] and wanted["op"] in one["op"]
        ]
        older = f"/audit?{query(**wanted, cursor=found['cursor'])}" if found["cursor"] else ""
        values = {"title": "Audit", "changes": changes, "f": wanted, "older": older}
        return await self._shown(request, "audit.html", "/audit", values)

    async def api(self, request: Request) -> Response:
        origin = f"{request.url.scheme}://{request.headers['host']}"
        values = {"title": "API", "operations": OPERATIONS, "origin": origin}
        return await self._shown(request, "api.html", "/api", values)

    # -- forms

    async def change_run(self, request: Request) -> Response:
        run_id, op = named(request, "run_id"), str(request.path_params["op"])
        change, key = form_change(op, await body_of(request), run_id=run_id)
        await self._changes.make(change, request.scope["person"], key)
        return see_other(f"{run_url(run_id)}?done={op}")  # where a new one runs is not known yet

    async def change_job(self, request: Request) -> Response:
        group, job, op = named(request, "group"), named(request, "job"), str(request.path_params["op"])
        form = await body_of(request)
        if "on" in request.query_params:
            form["on"] = request.query_params["on"] == "true"
        change, key = form_change(op, form, group=group, job=job)
        await self._changes.make(change, request.scope["person"], key)
        return see_other(f"{job_url(group, job)}?done={op}")

    async def change_group(self, request: Request) -> Response:
        group, op = named(request, "group"), str(request.path_params["op"])
        change, key = form_change(op, await body_of(request), group=group)
        await self._changes.make(change, request.scope["person"], key)
        return see_other(f"/?done={op}")

    async def change_host(self, request: Request) -> Response:
        op = str(request.path_params["op"])
        change, key = form_change(op, await body_of(request))
        await self._changes.make(change, request.scope["person"], key)
        return see_other(f"/?done={op}")


def _defined(value: Any) -> Any:
    """A field of a definition for people; of parameters their names and types, of calendars how many days."""
    if isinstance(value, dict) and value and all(isinstance(one, list) for one in value.values()):
        return summary(value)
    if isinstance(value, dict) and all(isinstance(one, dict) and "type" in one for one in value.values()):
        return ", ".join(f"{name} ({one['type']}, to {one['to']})" for name, one in value.items())
    return value


def _pairs(pairs: list[tuple[str, Any]]) -> str:
    return urlencode(pairs)


def _is_on(run: dict[str, Any], begin: float) -> bool:
    started = words.unix(run.get("started_at") or run.get("since"))
    ended = words.unix(run.get("ended_at"))
    first = started if started is not None else ended
    return first is not None and first < begin + DAY_S and (ended is None or ended >= begin)


def _rows(
    shown: list[dict[str, Any]], due: list[dict[str, Any]], by: str, begin: float, now: float
) -> list[dict[str, Any]]:
    """The day's lines, bad ones first."""
    by_key: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for run in shown:
        key = key_of(run) if by == "job" else (str(run.get("group") or ""), str(run.get("host") or "?"))
        by_key.setdefault(key, []).append({**run, "started_at": run.get("started_at") or run.get("since")})
    coming: dict[tuple[str, str], list[float]] = {}
    if by == "job":
        for one in due:
            coming.setdefault((one["group"], one["job"]), []).append(words.unix(one["at"]) or 0.0)
    rows: list[dict[str, Any]] = []
    for key in by_key.keys() | coming.keys():
        runs = by_key.get(key, [])
        rows.append(
            {
                "group": key[0],
                "job": key[1],
                "host": key[1],
                "count": len(runs),
                "bad": sum(1 for run in runs if run.get("outcome") in BAD),
                "bars": pictures.day_bars(runs[:500], coming.get(key, ()), begin, now),
            }
        )
    return sorted(rows, key=lambda row: (-row["bad"], row["group"], row["job"]))[:200]
