"""The fleet, as its table, its queues and CloudWatch know it."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Final

from runner.aws.logs import Logs
from runner.aws.session import Session
from runner.aws.table import Table
from runner.control import store
from runner.control.chains.shown import children_of
from runner.control.hosts import host_of
from runner.control.recording.run_state import is_open
from runner.control.shown import as_json
from runner.protocol.units import format_time
from runner.reading.cloudwatch import CloudOutput, NoSuchGroup
from runner.web.sources import fleet_runs
from runner.web.sources.cloud_log import CloudLog
from runner.web.sources.due_times import DueTimes
from runner.web.sources.fleet_changes import OPERATIONS, carried_out, note_refusal
from runner.web.sources.fleet_look import look
from runner.web.sources.fleet_queues import Queues
from runner.web.sources.fleet_shape import job_row, line_of, overview_of
from runner.web.sources.past import Past, Standing
from runner.web.sources.source import Asker, Change, Filter, Piece, Unknown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from runner.config import Config

_FRESH_S: Final = 2.0
_LOGS: Final = 8
_END: Final = 1 << 52


class FleetSource:
    """What was asked is kept for two seconds: many readers cost the table what one does."""

    kind = "fleet"

    def __init__(self, config: Config, table: str) -> None:
        self.session = Session(queue_url=config.queue.url)
        self.table = Table(self.session, table)
        self._past = Past(lambda cursor, since: fleet_runs.page(self.table, cursor, since), every=_FRESH_S)
        self._known: dict[str, Any] = {}
        self._asked = float("-inf")
        self._asking = asyncio.Lock()
        self._due = DueTimes()
        self._queues = Queues(self.session)
        self._made: tuple[Any, Any, Any, dict[str, Any]] | None = None
        """An overview, and what it was made of."""
        self._logs: OrderedDict[str, CloudLog] = OrderedDict()

    async def title(self) -> str:
        return "fleet"

    async def group(self) -> str:
        """None: what is of no group is not one host's either."""
        return ""

    async def _look(self) -> dict[str, Any]:
        """Groups, jobs, how they stand, what is switched, what runs, which hosts were heard of."""
        async with self._asking:
            if time.monotonic() - self._asked > _FRESH_S:
                self._known = await look(self.table)
                self._asked = time.monotonic()
            return self._known

    async def history(self) -> Sequence[dict[str, Any]]:
        async with self._asking:
            return await self._past.look(time.monotonic())

    async def overview(self) -> dict[str, Any]:
        known, past = await self._look(), await self.history()
        queues = self._queues.known(known["groups"])
        made = self._made
        if made is None or made[0] is not known or made[1] is not past or made[2] is not queues:
            overview = overview_of(known, past, self._past.standing, self._due, queues, time.time())
            self._made = made = known, past, queues, overview
        return made[3]

    async def standing(self) -> Standing:
        await self.history()
        return self._past.standing

    async def status(self) -> dict[str, Any]:
        overview = await self.overview()
        names = ("wrong", "running", "waiting", "due", "off", "groups", "running_count")
        return {
            "schema": 1,
            "time": format_time(time.time()),
            "source": "fleet",
            "table": self.table.name,
            **{name: overview[name] for name in names},
        }

    async def runs(self, wanted: Filter) -> dict[str, Any]:
        return await fleet_runs.runs(self.table, wanted)

    async def _found(self, run_id: str) -> dict[str, Any]:
        try:
            return await store.run(self.table, run_id)
        except store.NotFound as error:
            raise Unknown(str(error)) from error

    async def run(self, run_id: str) -> dict[str, Any]:
        run = await self._found(run_id)
        attempts = await store.attempts(self.table, run["group"], run_id)
        children = await children_of(self.table, [run])
        run["children"] = children.get((run["group"], run["run_id"]))
        started: dict[str, Any] = next((one["started"] for one in reversed(attempts) if one.get("started")), {})
        told = {name: started.get(name) for name in ("command", "user", "pid", "timeout_s", "signed_by", "traceparent")}
        return {
            **as_json(run),
            **told,
            "execution": attempts[-1]["execution"] if attempts else None,
            "attempts": [_attempt(one) for one in attempts],
            "message": {"sent_at": None, "received_at": None, "delivery": run.get("delivery")},
        }

    async def output(self, run_id: str, start: int, limit: int) -> Piece:
        run = await self._found(run_id)
        attempts = await store.attempts(self.table, run["group"], run_id)
        group = ""
        streams: dict[str, None] = {}
        for one in attempts:
            log = (one.get("ended") or {}).get("log") or (one.get("started") or {}).get("log")
            if log and log.get("stream"):
                group = str(log["group"])
                streams[str(log["stream"])] = None
        over = not is_open(run["state"])
        outcome = run["state"] if over else None
        if not group:
            return Piece(0, 0, 0, b"", over, outcome)
        log = self._log(run_id, group, list(streams), start)
        try:
            await log.read_on(list(streams), _END if limit == 0 else start + limit)
        except NoSuchGroup:
            return Piece(0, 0, 0, b"", over, outcome, here=False)  # retention has taken it, or it is not there yet
        data = log.piece(start, limit) if limit else b""
        place = min(start, log.end) if data == b"" else start
        return Piece(place, place + len(data), log.end, data, over and place + len(data) >= log.end, outcome)

    def _log(self, run_id: str, group: str, streams: list[str], start: int) -> CloudLog:
        """What was read of it before, where that is of use for what is asked now."""
        known = self._logs.get(run_id)
        if known is None or known.start > start:
            template = "{job}/{run_id}" if all(run_id in name for name in streams) else "{job}"
            known = self._logs[run_id] = CloudLog(CloudOutput(Logs(self.session), group, template), run_id)
        self._logs.move_to_end(run_id)
        while len(self._logs) > _LOGS:
            self._logs.popitem(last=False)
        return known

    async def jobs(self) -> Sequence[dict[str, Any]]:
        known, standing, now = await self._look(), await self.standing(), time.time()
        rows = [job_row(job, known, standing, self._due, now) for job in known["jobs"]]
        applied = {(row["group"], row["job"]) for row in rows}
        rows += [
            {"job": name, "group": group, "declared": False, "schedule": None, "enabled": True, "next": []}
            | {"last": runs[0], "running": 0, "maintenance": None}
            for (group, name), runs in standing.by_job.items()
            if (group, name) not in applied
        ]
        return sorted(rows, key=lambda row: (row["group"], row["job"]))

    async def job(self, group: str, name: str) -> dict[str, Any]:
        known, standing = await self._look(), await self.standing()
        for job in known["jobs"]:
            if (job.group, job.name) == (group, name):
                return job_row(job, known, standing, self._due, time.time())
        for row in await self.jobs():  # one that was never applied, and ran
            if (row["group"], row["job"]) == (group, name):
                return dict(row)
        raise Unknown(f"cannot find job {group}/{name} in table {self.table.name}; `cron-runner jobs list` shows all")

    async def next(self, group: str, name: str, count: int) -> Sequence[str]:
        known = await self._look()
        for job in known["jobs"]:
            if (job.group, job.name) == (group, name):
                return [format_time(at) for at in self._due.coming(job, known["groups"].get(group), time.time(), count)]
        raise Unknown(f"cannot find job {group}/{name} in table {self.table.name}; `cron-runner jobs list` shows all")

    async def hosts(self) -> Sequence[dict[str, Any]]:
        known, now = await self._look(), time.time()
        return [host_of(item, now) for item in known["hosts"]]

    async def queues(self) -> Sequence[dict[str, Any]]:
        known = await self._look()
        rows = []
        for row in await self._queues.asked(known["groups"]):
            paused, counts = known["directives"][row["group"]].pause_at(time.time()), row["counts"]
            state = "unknown" if counts is None else "paused" if paused else "dead" if counts["dead"] else "polling"
            by_whom = f"the group is paused by {paused.by}: “{paused.why}”" if paused else None
            rows.append({**row, "state": state, "why": row["why"] or by_whom})
        return rows

    async def audit(self, cursor: str, limit: int) -> dict[str, Any]:
        lines: list[dict[str, Any]] = []
        for group in (await self._look())["groups"]:
            edge = cursor or "~"
            items = await self.table.query(
                "#pk = :pk AND #sk < :edge",
                {"pk": f"{group}#AUDIT", "edge": edge},
                newest_first=True,
                limit=limit,
                keep=lambda item: "what" in item,
            )
            lines += [line_of(group, item) for item in items]
        lines.sort(key=lambda one: str(one["at"]), reverse=True)
        return {"changes": lines[:limit], "cursor": lines[limit - 1]["at"] if len(lines) > limit else None}

    async def can(self, op: str) -> bool:
        return op in OPERATIONS

    async def change(self, change: Change, asker: Asker) -> dict[str, Any]:
        done = await carried_out(self.session, self.table, change, asker)
        self._asked = float("-inf")
        return done

    async def refused(self, change: Change, asker: Asker) -> None:
        await note_refusal(self.table, change, asker)

    def close(self) -> None:
        self._queues.close()
        self.session.close()


def _attempt(item: dict[str, Any]) -> dict[str, Any]:
    """As `show --json` has attempts."""
    started, ended = item.get("started") or {}, item.get("ended") or {}
    return {
        "execution": item["execution"],
        "attempt": int(item["attempt"]),
        "host": item.get("host"),
        "started_at": ended.get("started_at") or started.get("started_at"),
        "ended_at": ended.get("finished_at"),
        **{name: ended.get(name) for name in ("outcome", "reason", "exit_code", "signal", "duration_s", "usage")},
        **{name: ended.get(name) for name in ("output", "will_retry")},
        "log": ended.get("log") or started.get("log"),
    }
