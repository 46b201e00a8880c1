"""What the control socket tells of runs one by one, here and over: in pages, one with all that is known of it, and its
output. Each is read from the journal in a thread, beside what the event loop knows of those that are not over."""

from __future__ import annotations

import asyncio
import math
import time
from typing import TYPE_CHECKING, Any, Final

from runner.agent.journal import history
from runner.agent.operator import past_runs
from runner.agent.operator.actions import state_of
from runner.agent.operator.past_runs import Here, what_it_is
from runner.agent.operator.status import PART_WITHIN_S, held_entry, run_entry
from runner.agent.output.output_part import output_part
from runner.agent.runs.admission.policy import WaitsFor
from runner.agent.runs.run import MessageState, State
from runner.errors import Refused
from runner.protocol.units import time_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from runner.agent.held import Door
    from runner.agent.journal.history import Past, Place, Wanted
    from runner.agent.operator.standing import Standing
    from runner.agent.runs.admission.line import Waiting
    from runner.agent.runs.table import Run
    from runner.agent.runs.ticket import Ticket
    from runner.agent.services import Services

MOST_RUNS: Final = 1000
_LIVE: Final = ("pid", "running_s", "deadline", "next_attempt", "cpu_s", "memory_bytes", "processes", "lease_lost")
STARTS_WHEN: Final = {
    WaitsFor.ROOM: "what runs here gives back enough of it; `cron-runner status` shows who has it",
    WaitsFor.OVERLAP: "that run has ended; `cron-runner cancel` ends it",
    WaitsFor.RETURNED: "the message before it has come back, and its run has ended",
    WaitsFor.CLAIMED: "the other host is done with it, or is gone",
    WaitsFor.FLEET: "the fleet's table answers again",
    WaitsFor.PAUSED: "the pause is over: `cron-runner resume`",
    WaitsFor.BLOCKED: "that is mended",
    WaitsFor.NEVER: "never on this host",
}


class Records:
    """Called on the agent's event loop."""

    def __init__(self, services: Services, door: Door, standing: Standing) -> None:
        self._services = services
        self._door = door
        self._standing = standing

    def _here(self) -> Here:
        services = self._services
        default = services.link.hello.default_user if services.link.hello else None
        return Here(services.source.host.name, services.config, services.config.run.user or default)

    # -- many

    async def page(self, wanted: Wanted, state: str, cursor: str, limit: int) -> dict[str, Any]:
        """`runs`, the newest first, and the `cursor` that goes on behind them, None at the end. The first page begins
        with those that are not over. `state` is `open`, `ended` or "" for both."""
        limit = max(1, min(limit, MOST_RUNS))
        after = wanted.first if not cursor else _place(cursor)
        first = not cursor and state != "ended"
        pasts, on = await asyncio.to_thread(self._read_page, wanted, after, limit, first, ended=state != "open")
        open_, ended = pasts
        here = self._here()
        runs = [*(self._open_entries(open_, wanted, here) if first else ()), *(past_runs.entry(p, here) for p in ended)]
        return {"runs": runs, "cursor": None if on is None else f"{on[0]!r}~{on[1]}"}

    def _read_page(
        self, wanted: Wanted, after: Place, limit: int, first: bool, *, ended: bool
    ) -> tuple[tuple[list[Past], list[Past]], Place | None]:
        with history.reading(self._services.journal.database.path) as journal:
            rows = history.open_rows(journal) if first else []
            found, on = history.page(journal, wanted, after, limit) if ended else ([], None)
            return ([history.Past(row, ()) for row in rows], found), on

    def _open_entries(self, pasts: Sequence[Past], wanted: Wanted, here: Here) -> list[dict[str, Any]]:
        if wanted.outcomes is not None or wanted.until is not None:
            return []
        wall, clock = self._services.now(), time.monotonic()
        entries = [self._held(waiting, here, wall, clock) for waiting in self._door.held]
        for past in pasts:
            run = self._services.roster.get(past.row.run_id)
            if run is not None and run.execution.id == past.row.execution and not run.active:
                continue  # it has ended since it was read
            state = {} if run is None else {"state": state_of(run)}
            entries.append({**past_runs.entry(past, here), **state})
        return [entry for entry in entries if wanted.job in (None, entry["job"])]

    def _held(self, waiting: Waiting[Ticket], here: Here, wall: float, clock: float) -> dict[str, Any]:
        job, held = waiting.job, held_entry(waiting, wall, clock)
        return {
            **dict.fromkeys(past_runs.FIELDS),
            "run_id": job.run_id,
            "job": job.job,
            "group": here.config.group,
            "state": "held",
            "scheduled_at": time_of(job.scheduled_at),
            "reason": held["reason"],
            "host": here.host,
            "seen_at": held["since"],
            "labels": dict(job.labels),
        }

    # -- one

    async def one(self, run_id: str) -> dict[str, Any]:
        """All that this host knows of a run; `state` is `unknown` where that is nothing."""
        services = self._services
        standing = await self._standing.of(run_id)
        pasts = await asyncio.to_thread(self._read_one, run_id)
        waiting, run, here = self._door.find(run_id), services.roster.get(run_id), self._here()
        if waiting is not None:
            return {**self._waiting(waiting, pasts, here), **standing}
        if not pasts:
            return {"run_id": run_id, "state": "unknown"}
        told = past_runs.account(pasts, here)
        if run is not None and run.execution.id == pasts[0].row.execution and run.active:
            told |= await self._live(run, told["attempts"], here)
        return {**told, **standing}

    def _read_one(self, run_id: str) -> list[Past]:
        with history.reading(self._services.journal.database.path) as journal:
            return history.executions(journal, run_id)

    def _waiting(self, waiting: Waiting[Ticket], pasts: Sequence[Past], here: Here) -> dict[str, Any]:
        received, wall, clock = waiting.ticket.received, self._services.now(), time.monotonic()
        held = held_entry(waiting, wall, clock)
        return {
            **self._held(waiting, here, wall, clock),
            "execution": waiting.ticket.execution,
            **what_it_is(waiting.job, here),
            "attempts": past_runs.attempts(pasts),
            "message": {
                "id": received.message_id,
                "delivery": waiting.delivery,
                "sent_at": time_of(received.sent_at),
                "received_at": held["since"],
                "state": str(MessageState.LEASED),
            },
            "held": {
                **{name: held[name] for name in ("since", "waited_s", "kind", "reason")},
                "starts_when": "" if waiting.held is None else STARTS_WHEN[waiting.held.waits_for],
            },
        }

    async def _live(self, run: Run, attempts: list[dict[str, Any]], here: Here) -> dict[str, Any]:
        """What the journal does not know of a run that is not over."""
        services, execution = self._services, run.execution
        usage = None
        if execution.state is State.RUNNING:
            try:
                async with asyncio.timeout(PART_WITHIN_S):
                    usage = (await services.link.usage()).get(execution.key)
            except TimeoutError:
                pass  # a supervisor that does not answer: that is just when people look
        now = run_entry(run, usage, services.now(), time.monotonic())
        live: dict[str, Any] = {"state": now["state"], "stopping": now["stopping"]}
        live |= {name: now[name] for name in _LIVE}
        live |= what_it_is(execution.job, here, user=run.user, secrets=run.secrets())
        if execution.state is State.RUNNING:
            place = services.log_place(run.tag())
            log = place.as_data() if place else None
            going = {
                **dict.fromkeys(past_runs.OF_AN_ATTEMPT),
                "execution": execution.id,
                "attempt": execution.attempt,
                "started_at": now["since"],
                "output": {"bytes": services.output_bytes(execution.key)},
                "log": log,
            }
            live |= {"attempts": [*attempts, going], "log": log}
        return live

    # -- its output

    async def output(self, run_id: str, start: int, most: int, *, marks: bool = False) -> dict[str, Any]:
        """A part of its output, from this byte on of what all its attempts wrote, one after the other. `marks`: with
        when the attempt's file grew, as far as it is known, as `Marks.flat` has it."""
        state, known = self._services.journal.database.path.parent, list(self._services.shipper.followed)
        part = await asyncio.to_thread(output_part, state, run_id, start, most)
        if marks:
            key = f"{part.get('execution')}/{part.get('attempt')}"
            part["marks"] = next((one.marks.flat() for one in known if one.key == key), [])
        return part


def _place(cursor: str) -> Place:
    at, _, execution = cursor.partition("~")
    try:
        ended = float(at)
    except ValueError:
        ended = math.nan
    if math.isnan(ended):
        raise Refused("invalid", 'cannot go on there: "cursor" is none that this agent gave')
    return ended, execution
