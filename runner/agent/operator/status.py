"""What `status` shows: the agent, its host, its runs, as one JSON object whose shape docs/status.md describes.

Made only when somebody asks; nothing is kept up to date for it.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from typing import TYPE_CHECKING, Any, TypeVar

from runner import __version__
from runner.agent.operator.actions import state_of
from runner.agent.runs.admission.amounts import JOBS
from runner.agent.runs.run import State
from runner.errors import CronRunnerError
from runner.protocol.units import format_time, time_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from runner.agent.held import Door
    from runner.agent.intake.depths import Depths
    from runner.agent.intake.poll import Intake
    from runner.agent.journal.runs import RunRow
    from runner.agent.operator.health import Health
    from runner.agent.runs.admission.amounts import Amounts
    from runner.agent.runs.admission.line import Waiting
    from runner.agent.runs.pause import Pause
    from runner.agent.runs.process import Usage
    from runner.agent.runs.table import Run
    from runner.agent.runs.ticket import Ticket
    from runner.agent.services import Services

T = TypeVar("T")

SCHEMA = 1
RECENT = 10
MOST_RECENT = 1000
# A supervisor or a disk that does not answer is left out: that is just when people look.
PART_WITHIN_S = 2.0
DEPTHS_WITHIN_S = 1.0
USAGE_KEPT_S = 10.0


class Overview:
    """Gathers it from the agent's parts. `health` judges the agent as `/healthz` does."""

    def __init__(
        self, services: Services, intake: Intake, door: Door, queue: str, health: Callable[[], Health], depths: Depths
    ) -> None:
        self._depths = depths
        self._services = services
        self._intake = intake
        self._door = door
        self._queue = queue
        self._health = health
        self._started_at = services.now()
        self._started = time.monotonic()
        self._used: Mapping[str, Usage] = {}
        self._used_at = float("-inf")

    async def gather(self, recent: int = RECENT, most: int | None = None) -> dict[str, Any]:
        """The whole of it, with so many of the last ends.

        `most`: no more of the runs than this, the oldest, and beside them `running`, how many there are of each job.
        """
        services = self._services
        usage, rows, unsent, depths = await asyncio.gather(
            self._usage(fresh=most is None),
            _within(services.journal.recent(max(0, min(recent, MOST_RECENT))), None),
            _within(services.journal.unsent_count(), None),
            self._depths.look(DEPTHS_WITHIN_S),
        )
        wall, clock = services.now(), time.monotonic()
        health = self._health()
        runs = services.roster.all()
        active = [run for run in runs if run.active]
        shown = active if most is None else active[:most]
        return {
            "schema": SCHEMA,
            "time": format_time(wall),
            "agent": self._agent(clock),
            "host": services.source.host.name,
            "instance_id": services.source.host.instance_id,
            "group": services.config.group,
            "queue": self._queue,
            "state": self._state(),
            "waiting_for": self._intake.waiting_for or None,
            "health": {
                "ok": health.ok,
                "reasons": list(health.reasons),
                # Why nothing is received is said already.
                "notes": [note for note in health.notes if note != self._intake.waiting_for],
            },
            "aws": self._aws(wall, clock),
            "pause": pause_entry(services.pausing.current),
            "admission": self._admission(),
            "runs": [run_entry(run, usage.get(run.execution.key), wall, clock) for run in shown],
            **({} if most is None else {"running": dict(Counter(run.execution.job.job for run in active))}),
            "held": [held_entry(waiting, wall, clock) for waiting in self._door.held],
            "recent": None if rows is None else [recent_entry(row) for row in rows],
            "backlog": {
                "output_bytes": services.shipper.backlog(),
                "events": unsent,
                "ended_runs": sum(1 for run in runs if not run.active),
            },
            "queues": depths,
        }

    async def _usage(self, *, fresh: bool) -> Mapping[str, Usage]:
        """What the attempts use. Of hundreds that is most of what an overview costs, so that a page, which is looked at
        again and again, has it some seconds old."""
        now = time.monotonic()
        if fresh or now - self._used_at > USAGE_KEPT_S:
            self._used, self._used_at = await _within(self._services.link.usage(), {}), now
        return self._used

    def _agent(self, clock: float) -> dict[str, Any]:
        hello = self._services.link.hello
        return {
            "version": __version__,
            "pid": os.getpid(),
            "since": format_time(self._started_at),
            "up_s": round(clock - self._started, 3),
            "supervisor_version": hello.version if hello else None,
            "supervisor_pid": hello.pid if hello else None,
            "supervisor_start": hello.start if hello else None,
        }

    def _state(self) -> str:
        """One word: stopping, draining, paused, away, blocked, full, yielding, polling."""
        services, intake = self._services, self._intake
        pause = services.pausing.current
        if services.draining:
            return "stopping"
        if pause is not None:
            return "draining" if pause.drain else "paused"
        if intake.failing_since is not None:
            return "away"
        if self._door.blocked_by() is not None:
            return "blocked"
        if intake.waiting_for:
            return "yielding" if self._door.room()[0] else "full"
        return "polling"

    def _aws(self, wall: float, clock: float) -> dict[str, Any]:
        """Whether the queue answers, and since when; `reachable` is None until it was asked for the first time."""
        intake, outbox = self._intake, self._services.outbox

        def at(moment: float | None) -> str | None:
            return None if moment is None else format_time(wall - (clock - moment))

        away = intake.failing_since is not None
        known = away or intake.answering_since is not None
        return {
            "reachable": not away if known else None,
            "since": at(intake.failing_since if away else intake.answering_since),
            "last_receive": at(intake.last_receive),
            "error": intake.failing_by if away else None,
            "results_away_since": at(outbox.failing_since),
            "results_error": outbox.failing_by if outbox.failing_since is not None else None,
        }

    def _admission(self) -> dict[str, Any]:
        door, ledger = self._door, self._services.roster.ledger
        on = door.offer.on()
        load = door.offer.load
        return {
            "policy": on.policy,
            "offered": named(on.offered),
            "used": named({name: ledger.taken.get(name, 0.0) for name in on.offered}),
            "max_load": on.max_load if on.policy == "resources" else None,
            "load": None
            if load is None
            else {
                "cores": load.cores,
                "busy_cores": None if load.busy is None else round(load.busy, 3),
                "memory_bytes": load.memory,
                "available_bytes": load.available,
            },
        }


def named(amounts: Amounts) -> dict[str, float]:
    """Amounts under the names that people know: places are `jobs`. Whole ones are whole numbers."""
    return {
        "jobs" if name == JOBS else name: int(amount) if amount == int(amount) else amount
        for name, amount in amounts.items()
    }


def pause_entry(pause: Pause | None) -> dict[str, Any] | None:
    """Who paused or drained this host, and why."""
    if pause is None:
        return None
    return {
        "kind": "drain" if pause.drain else "pause",
        "by": pause.by,
        "since": format_time(pause.since),
        "note": pause.note,
        "until": time_of(pause.until),
    }


def run_entry(run: Run, usage: Usage | None, wall: float, clock: float) -> dict[str, Any]:
    """One run that is not over."""
    execution, job = run.execution, run.execution.job
    running = execution.state is State.RUNNING
    started_at = execution.started_at if running else None
    # By the monotonic clock: a jump of the other one moves no deadline.
    ran = clock - run.running_since if run.running_since is not None else wall - (started_at or wall)
    due = None
    if execution.state is State.BACKOFF and execution.ended_at is not None:
        due = execution.ended_at + job.retries.delay(execution.attempt)
    stopped = run.stopped
    return {
        "run_id": execution.run_id,
        "job": job.job,
        "state": state_of(run),
        "execution": execution.id,
        "attempt": execution.attempt,
        "attempts": job.retries.max + 1,
        "user": run.user or job.user or None,
        "pid": execution.pid if running else None,
        "accepted": format_time(execution.accepted_at),
        "since": time_of(started_at),
        "running_s": round(max(0.0, ran), 3) if running else None,
        "deadline": format_time(wall + job.timeout - ran) if running else None,
        "next_attempt": time_of(due),
        "last_outcome": execution.outcome,
        "cpu_s": round(usage.cpu_user_s + usage.cpu_system_s, 3) if usage else None,
        "memory_bytes": usage.memory_bytes if usage else None,
        "processes": usage.processes if usage else None,
        "delivery": execution.delivery,
        "lease_lost": execution.lease_lost,
        "stopping": None if stopped is None else f"{stopped.cause} {stopped.detail}".strip(),
    }


def held_entry(waiting: Waiting[Ticket], wall: float, clock: float) -> dict[str, Any]:
    """A received message that waits here, and what for."""
    waited = max(0.0, clock - waiting.since)
    return {
        "run_id": waiting.job.run_id,
        "job": waiting.job.job,
        "since": format_time(wall - waited),
        "waited_s": round(waited, 3),
        "kind": waiting.kind,
        "reason": waiting.reason,
        "delivery": waiting.delivery,
    }


def recent_entry(row: RunRow) -> dict[str, Any]:
    """The last attempt of an execution that has ended."""
    took = None
    if row.started_at is not None and row.ended_at is not None:
        took = round(max(0.0, row.ended_at - row.started_at), 3)
    return {
        "run_id": row.run_id,
        "job": row.job or None,
        "outcome": row.outcome,
        "reason": row.reason,
        "exit_code": row.exit_code,
        "attempt": row.attempt,
        "since": time_of(row.started_at),
        "ended": time_of(row.ended_at),
        "duration_s": took,
    }


async def _within(part: Awaitable[T], otherwise: T) -> T:
    try:
        async with asyncio.timeout(PART_WITHIN_S):
            return await part
    except (TimeoutError, CronRunnerError):
        return otherwise
