"""Hosts of a whole fleet: they run what is on the queue, under their claims, and tell what became of it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from runner.protocol.event import HostFacts, RunFacts, Source, run_event
from runner.protocol.units import parse_time

from .claims_host import Execution, Host, Job
from .claims_world import HOSTS, Fleet
from .control_world import QUEUE
from .news_world import End
from .virtual import Clock, now

if TYPE_CHECKING:
    from .cloud import World

GROUP = "g"


class Hosts(Fleet):
    """Their claims are checked as in a world of their own. ``inbox`` is the results queue: when each event comes, the
    id of its message, its body. ``over`` is how each run has ended after all."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.inbox: list[tuple[float, str, str]] = []
        self.over: dict[str, End] = {}
        self.runs: dict[str, Job] = {}
        self.hosts: list[Host] = []
        self.paused = False
        self.broken: list[BaseException] = []
        self._messages: dict[str, dict[str, Any]] = {}
        self._began: dict[str, float] = {}
        self._spoke: dict[str, float] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._taken = 0

    def join(self) -> None:
        draw = self.world.random
        self.hosts = [Host(self, name, ahead=draw.choice((0.0, 0.0, 1.5, -1.5))) for name in HOSTS]

    def take(self) -> None:
        """They get what is new on the queue, some of it twice."""
        draw = self.world.random
        for _, queue, message in self.world.sqs.sent[self._taken :]:
            if queue != QUEUE + GROUP:
                continue
            job = self.runs.setdefault(message["run_id"], Job(message["job"], message["run_id"]))
            self._messages.setdefault(message["run_id"], message)
            for _ in range(draw.choice((1, 1, 1, 2))):
                task = asyncio.get_running_loop().create_task(self._deliver(job))
                self._tasks.add(task)
                task.add_done_callback(self._ended_task)
        self._taken = len(self.world.sqs.sent)

    def _ended_task(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.broken.append(error)

    def at_work(self) -> bool:
        """Whether something is under way; raises what has broken a promise meanwhile."""
        if self.broken:
            raise self.broken[0]
        return bool(self._tasks) or self._taken < len(self.world.sqs.sent)

    async def _deliver(self, job: Job) -> None:
        """A copy comes to hosts until one of them says that its run is over."""
        draw = self.world.random
        await asyncio.sleep(draw.choice((0.1, 2.0, 30.0)))
        while self.paused or not await draw.choice(self.hosts).deliver(job, draw.getrandbits(40)):
            await asyncio.sleep(draw.choice((0.1, 5, 60)))

    # -- what `Host` calls

    def starts(self, execution: Execution) -> None:
        super().starts(execution)
        self._began[execution.id] = now()
        # With heartbeats, of which none comes: a run that takes long is given up, and heard of after all.
        beat = {"heartbeat_s": 20.0} if self.world.random.random() < 0.3 else {}
        self._tell(execution, "started", started_at=now(), timeout_s=900.0, **beat)

    def ends(self, execution: Execution, *, again: bool) -> None:
        super().ends(execution, again=again)
        draw = self.world.random
        outcome = "interrupted" if again else draw.choice(("succeeded", "succeeded", "failed", "cancelled"))
        run_id, began = execution.job.run_id, self._began[execution.id]
        # Of two that a lost lease has let run at once, the one that the queue gave out later counts.
        if not again and began >= self._spoke.get(run_id, 0.0):
            self._spoke[run_id] = began
            self.over[run_id] = End(now(), execution.job.run_id, execution.job.job, outcome)
        took = {"started_at": self._began[execution.id], "finished_at": now()}
        self._tell(execution, "finished", outcome=outcome, reason=outcome, exit_code=0, will_retry=False, **took)

    def _tell(self, execution: Execution, kind: Any, **data: Any) -> None:
        """An event is on its way: late, or twice."""
        draw, message = self.world.random, self._messages[execution.job.run_id]
        due = message.get("scheduled_at")
        facts = RunFacts(
            execution.id,
            execution.job.job,
            execution.job.run_id,
            1,
            parse_time(due) if due else None,
            self._began[execution.id],  # what the queue gives out later is the later one
            message.get("labels", {}),
        )
        source = Source(GROUP, HostFacts(execution.host, None, "boot", "linux", "1"))
        sequence = 1 if kind == "started" else 2
        event = run_event(source, facts, kind=kind, attempt=1, sequence=sequence, time=now(), data=data)
        for copy in range(draw.choice((1, 1, 1, 2))):
            late = draw.choice((0.0, 0.0, 1.0, 40.0, 400.0)) if self.world.faults else 0.0
            self.inbox.append((Clock.mono + late, f"{execution.id}{kind}{copy}", event.body))
