"""A host as far as claims and locks go: its agent's real `Stakes`, and what an agent does with their answers."""

from __future__ import annotations

import asyncio
import contextvars
from dataclasses import dataclass
from typing import TYPE_CHECKING

from runner.agent.fleet.claims import Busy, Clear, Over, Stakes

from .cloud import Span
from .virtual import Clock, skew

if TYPE_CHECKING:
    from .claims_world import Fleet

LEASE_S = 60.0


@dataclass(frozen=True, slots=True)
class Job:
    """What `Stakes` looks at."""

    job: str
    run_id: str
    overlap: str = "allow"

    def mark(self) -> str:
        return f"{self.job} command:c"


@dataclass(slots=True, eq=False)
class Execution:
    id: str
    job: Job
    host: str


class Host:
    """`deliver` gives it a copy of a run's message."""

    def __init__(self, fleet: Fleet, name: str, *, ahead: float) -> None:
        self.name = name
        self._fleet = fleet
        self._world = fleet.world
        self._ahead = ahead
        self._tasks: list[asyncio.Task[None]] = []
        self._here: dict[str, Execution] = {}
        self._up = asyncio.Event()
        self._life = 0
        self._renewing: asyncio.Task[None] | None = None
        self._stakes = self._agent()

    # -- its agent

    def _agent(self) -> Stakes:
        """An agent starts: what runs is taken over."""
        self._life += 1
        stakes = Stakes(self._world.table(self.name), "g", LEASE_S, on_lost=self._lost)
        for execution in self._here.values():
            stakes.resume(execution.id, execution.job)  # type: ignore[arg-type]
        self._renewing = self._spawn(stakes.renew_forever())
        self._up.set()
        return stakes

    async def restart(self, away: float, *, on_purpose: bool) -> None:
        """The agent dies, or leaves; the runs go on, and another agent comes after ``away`` seconds."""
        self._world.note(self.name, "agent leaves" if on_purpose else "agent dies")
        if on_purpose:
            await self._stakes.extend(900.0)
        self._world.figures.deaths += 1
        self._up.clear()
        for task in self._tasks:
            task.cancel()
        self._tasks.clear()
        if not on_purpose:
            self._fleet.gone.append(Span(self.name, Clock.mono, Clock.mono + away))
        await asyncio.sleep(away)
        self._world.note(self.name, "agent starts")
        self._stakes = self._agent()

    def _spawn(self, work: object) -> asyncio.Task[None]:
        """A task of this agent's, on this host's clock; it ends with the agent."""
        context = contextvars.copy_context()
        context.run(skew.set, self._ahead)
        task = asyncio.get_running_loop().create_task(work, context=context)  # type: ignore[arg-type]
        self._tasks.append(task)
        return task

    def _lost(self, execution: str, why: str) -> None:
        self._world.note(self.name, "lost", execution, why)
        self._fleet.told_lost(execution, why, life=self._life)

    # -- a run

    async def deliver(self, job: Job, number: int) -> bool:
        """A copy of the message is here: whether the run is over, so that no copy need come any more."""
        await self._up.wait()
        await self._world.thawed(self.name)
        execution = Execution(f"{job.run_id}@{self.name}#{number}", job, self.name)
        started = False
        life = self._life
        task = self._spawn(self._ask(execution))
        await asyncio.wait([task])
        if life != self._life or not self._up.is_set() or task.cancelled():
            return False  # the agent is gone with what it held; the message comes again
        answer = task.result()
        if answer is None:
            return False
        if isinstance(answer, Over):
            return True
        started = isinstance(answer, Clear)
        if not started:
            return True  # skipped
        return await self._execute(execution)

    async def _ask(self, execution: Execution) -> object:
        """Ask until there is room for it; None where the message goes back to the queue."""
        world, job = self._world, execution.job
        for _ in range(world.random.choice((1, 3, 30, 300))):
            self._fleet.asking(execution)
            world.figures.decisions += 1
            answer = await self._stakes.enter(execution.id, job)  # type: ignore[arg-type]
            await world.thawed(self.name)
            world.note(self.name, "enter", execution.id, type(answer).__name__)
            if isinstance(answer, Clear):
                self._fleet.starts(execution)
                self._here[execution.id] = execution
                return answer
            self._fleet.not_started(execution)
            if isinstance(answer, Over):
                return answer
            if isinstance(answer, Busy):
                self._fleet.busy(execution, answer.run_id)
                if job.overlap == "skip":
                    self._spawn(self._stakes.leave(execution.id, again=False))
                    self._fleet.skipped(execution)
                    return answer
                self._spawn(self._stakes.leave(execution.id, again=True))
            await asyncio.sleep(world.random.uniform(2, 4))
            await world.thawed(self.name)
        return None

    async def _execute(self, execution: Execution) -> bool:
        """The run goes on whatever becomes of the agent; its end is told by the agent that is there then."""
        world = self._world
        life = self._life
        await asyncio.sleep(world.random.choice((0.01, 1, 19.99, 20, 90, 400)))
        await world.thawed(self.name)
        again = world.random.random() < 0.1
        del self._here[execution.id]
        self._fleet.ends(execution, again=again)
        # Until the table has heard of it: over as many lives of the agent as that takes.
        while True:
            await self._up.wait()
            if life == self._life:
                task = self._spawn(self._stakes.leave(execution.id, again=again))
            else:
                task = self._spawn(self._stakes.end(execution.id, execution.job, again=again))  # type: ignore[arg-type]
            await asyncio.wait([task])
            if not task.cancelled():
                task.result()
                break
            life = -1
        self._fleet.left(execution, again=again)
        return not again
