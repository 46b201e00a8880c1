"""One host, as its agent knows it: everything is asked on the control socket."""

from __future__ import annotations

import asyncio
import time
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Final

from runner.web.sources.agent import Agent
from runner.web.sources.overview import counts_in, of_host
from runner.web.sources.past import Past, Standing
from runner.web.sources.source import Asker, Change, Filter, NotPossible, Piece, Unknown

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_PAGE: Final = 500
_LOOKS: Final = 8  # pages: how far one request looks back for something rare
_END: Final = 1 << 52  # behind every output
_FRESH_S: Final = 0.5
MOST_SHOWN: Final = 60
OPERATIONS: Final = frozenset({"cancel", "rerun", "run", "pause", "resume", "drain"})


class HostSource:
    """`socket` is the agent's. Answers are kept for half a second: many readers cost the agent what one does."""

    kind = "host"

    def __init__(self, socket: Path) -> None:
        self.agent = Agent(socket)
        self._past = Past(
            lambda cursor, since: self.agent.ask("runs", state="ended", limit=_PAGE, cursor=cursor, since=since)
        )
        self._made: tuple[Any, Any, dict[str, Any]] | None = None
        """An overview, and what it was made of."""
        self._brief: dict[str, Any] | None = None
        self._asked = float("-inf")
        self._asking = asyncio.Lock()

    async def status(self) -> dict[str, Any]:
        """All of it, as `status --json`."""
        return await self.agent.ask("status", recent=10)

    async def brief(self) -> dict[str, Any]:
        """What pages show of it: of hundreds of runs those that have gone on for the longest."""
        async with self._asking:
            if self._brief is None or time.monotonic() - self._asked > _FRESH_S:
                self._brief = await self.agent.ask("status", recent=1, most=MOST_SHOWN)
                self._asked = time.monotonic()
            return self._brief

    async def title(self) -> str:
        return str((await self.brief())["host"])

    async def group(self) -> str:
        return str((await self.brief())["group"])

    async def history(self) -> Sequence[dict[str, Any]]:
        last = (await self.brief())["recent"]
        async with self._asking:
            if last and self._past.has(last[0]["run_id"], last[0]["ended"], time.monotonic()):
                return self._past.runs  # nothing has ended since
            return await self._past.look(time.monotonic())

    async def overview(self) -> dict[str, Any]:
        status, past = await self.brief(), await self.history()
        if self._made is None or self._made[0] is not status or self._made[1] is not past:
            self._made = status, past, of_host(status, past, self._past.standing, time.time())
        return self._made[2]

    async def standing(self) -> Standing:
        await self.history()
        return self._past.standing

    async def runs(self, wanted: Filter) -> dict[str, Any]:
        # All of them only where somebody asks for what runs.
        status = await (self.status() if wanted.state == "running" else self.brief())
        job = _name_in(wanted.job, status["group"])
        nothing: dict[str, Any] = {"runs": [], "cursor": None}
        if job is None or (wanted.group and wanted.group != status["group"]):
            return nothing
        if wanted.host and not fnmatchcase(status["host"], wanted.host):
            return nothing
        active = [] if wanted.cursor or wanted.outcomes or wanted.until is not None else _active(status, wanted, job)
        if wanted.state in ("running", "waiting"):
            return {"runs": active[: wanted.limit], "cursor": None}
        found, cursor = ([] if wanted.state == "ended" else active)[: wanted.limit], wanted.cursor
        plain = not wanted.text and not any(char in job for char in "*?[")
        for _ in range(_LOOKS):
            # What the agent does not look for is looked for here: it gives no more than fits on the page.
            page = await self.agent.ask(
                "runs",
                state="ended",
                limit=max(1, wanted.limit - len(found)),
                cursor=cursor,
                job=job if plain else "",
                outcomes=list(wanted.outcomes) or None,
                since=wanted.since,
                until=wanted.until,
            )
            found += page["runs"] if plain else [run for run in page["runs"] if _is_wanted(run, job, wanted.text)]
            cursor = page["cursor"] or ""
            if not cursor or len(found) >= wanted.limit:
                break
        return {"runs": found, "cursor": cursor or None}

    async def run(self, run_id: str) -> dict[str, Any]:
        found = await self.agent.ask("show", run_id=run_id)
        if found["state"] == "unknown":
            raise Unknown(f"cannot find run {run_id} on this host; check the id, or ask the host that had it")
        return found

    async def output(self, run_id: str, start: int, limit: int) -> Piece:
        told = await self.agent.ask("output", run_id=run_id, limit=max(1, limit), from_=start if limit else _END)
        if told["state"] == "unknown":
            # A message that was rejected has no output, and is known all the same.
            run = await self.run(run_id)
            return Piece(0, 0, 0, b"", run["outcome"] is not None, run["outcome"])
        data = told["text"].encode("utf-8", "surrogateescape")
        return Piece(
            told["from"], told["next"], told["size"], data, told["end"], told["outcome"], told["anchors"], told["here"]
        )

    async def jobs(self) -> Sequence[dict[str, Any]]:
        status, standing = await self.brief(), await self.standing()
        declared = {one["job"]: one for one in (await self.agent.ask("jobs"))["jobs"]}
        names = {(status["group"], name) for name in declared} | set(standing.by_job)
        names |= {(status["group"], name) for name in status["running"] if name}
        return [
            {
                "job": name,
                "group": group,
                "declared": name in declared,
                "schedule": None,
                "enabled": True,
                "next": [],
                **declared.get(name, {}),
                "last": next(iter(standing.by_job.get((group, name), [])), None),
                "running": status["running"].get(name, 0),
            }
            for group, name in sorted(names)
        ]

    async def job(self, group: str, name: str) -> dict[str, Any]:
        for one in await self.jobs():
            if (one["group"], one["job"]) == (group, name):
                return one
        raise Unknown(
            f"cannot find job {group}/{name} on this host: it declares none of the name, and had no run of it"
        )

    async def next(self, group: str, name: str, count: int) -> Sequence[str]:
        """None: schedules are the fleet's, a host runs what it is sent."""
        job = await self.job(group, name)
        return list(job["next"])[:count]

    async def hosts(self) -> Sequence[dict[str, Any]]:
        status = await self.brief()
        return [
            {
                "group": status["group"],
                "host": status["host"],
                "state": status["state"],
                "version": status["agent"]["version"],
                "running": sum(status["running"].values()),
                "held": len(status["held"]),
                "policy": status["admission"]["policy"],
                "offered": status["admission"]["offered"],
                "used": status["admission"]["used"],
                "seen_at": status["time"],
                "why": status.get("waiting_for"),
                "instance_id": status["instance_id"],
            }
        ]

    async def queues(self) -> Sequence[dict[str, Any]]:
        """What the agent says of its queue, which it asks at most once a minute."""
        status = await self.brief()
        aws = status["aws"]
        why = aws["error"] or status.get("waiting_for")
        state = "away" if aws["reachable"] is False else "polling" if aws["reachable"] else "unknown"
        return [
            {
                "queue": status["queue"],
                "group": status["group"],
                "state": state,
                "why": why,
                "counts": counts_in(status),
            }
        ]

    async def audit(self, cursor: str, limit: int) -> dict[str, Any]:
        before = int(cursor) if cursor.isdecimal() else None
        return await self.agent.ask("audit", limit=limit, before=before)

    async def can(self, op: str) -> bool:
        return op in OPERATIONS

    async def change(self, change: Change, asker: Asker) -> dict[str, Any]:
        """Do it; raises NotPossible for what only the fleet can."""
        status = await self.brief()
        if change.op not in OPERATIONS:
            raise NotPossible(f"cannot {change.op} on a host alone: it is the fleet's, see docs/web.md", "fleet_only")
        if change.group and change.group != status["group"]:
            raise Unknown(f"cannot find group {change.group}: this host is of group {status['group']}")
        if change.group and not change.job and not change.host:
            raise NotPossible(f"cannot {change.op} a whole group from one host: it is the fleet's", "fleet_only")
        told: dict[str, Any] = {"note": change.note, "for_": {"who": asker.name, "role": asker.role, "way": asker.way}}
        if change.run_id:
            told["run_id"] = change.run_id
        if change.op == "run":
            done = await self.agent.tell("start", job=change.job, **told, **_given(change, "args", "env", "params"))
        else:
            done = await self.agent.tell(change.op, **told, **_given(change, "for_s", "grace"))
        self._asked = float("-inf")
        if change.op == "cancel":
            return _cancelled(change.run_id, done)
        return done

    async def refused(self, change: Change, asker: Asker) -> None:
        who = {"who": asker.name, "role": asker.role, "way": asker.way}
        await self.agent.tell("refused", what=change.op, subject=change.subject, note=change.note, for_=who)

    def close(self) -> None:
        self.agent.close()


def _cancelled(run_id: str, done: dict[str, Any]) -> dict[str, Any]:
    run: dict[str, Any] = done["runs"][0]
    if run["state"] == "unknown":
        raise Unknown(f"cannot cancel run {run_id}: this host does not know it")
    if not run["cancelled"]:
        how = run.get("outcome") or run["state"]
        raise NotPossible(f"cannot cancel run {run_id}: it has ended {how}", "ended")
    return run


def _given(change: Change, *names: str) -> dict[str, Any]:
    return {name: change.more[name] for name in names if change.more.get(name)}


def _name_in(job: str, group: str) -> str | None:
    """The name of GROUP/JOB, or of JOB; None where it is another group's."""
    of, slash, name = job.rpartition("/")
    return name if not slash or fnmatchcase(group, of) else None


def _active(status: dict[str, Any], wanted: Filter, job: str) -> list[dict[str, Any]]:
    """Those that run or wait, in the shape of those that have ended."""
    found = []
    if wanted.state in ("", "all", "running"):
        found += [_as_run(run, status, run["since"]) for run in reversed(status["runs"])]
    if wanted.state in ("", "all", "waiting"):
        found += [{**_as_run(one, status, None), "state": "held", "reason": one["reason"]} for one in status["held"]]
    return [run for run in found if _is_wanted(run, job, wanted.text)]


def _is_wanted(run: dict[str, Any], job: str, text: str) -> bool:
    name = run["job"] or ""
    return (not job or fnmatchcase(name, job)) and (not text or text in run["run_id"] or text in name)


def _as_run(run: dict[str, Any], status: dict[str, Any], started_at: str | None) -> dict[str, Any]:
    return {
        "run_id": run["run_id"],
        "job": run["job"],
        "group": status["group"],
        "state": run.get("state", "held"),
        "outcome": None,
        "reason": None,
        "exit_code": None,
        "host": status["host"],
        "attempt": run.get("attempt", 1),
        "started_at": started_at,
        "ended_at": None,
        "duration_s": None,
        "seen_at": status["time"],
    }
