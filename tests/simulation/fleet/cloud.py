"""A world: one table, queues, and the ways of its processes to them, which fail as networks and services do."""

from __future__ import annotations

import asyncio
import contextvars
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from runner.aws.table import Table
from runner.errors import AwsUnavailable, CronRunnerError

from .queue_stub import Sqs
from .table_stub import Dynamo
from .virtual import BEGIN, Clock, Loop, skew

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

T = TypeVar("T")

DEADLINE_S = 5.0


class Violation(AssertionError):
    """A promise of docs/fleet.md that did not hold."""


class Outage(NamedTuple):
    """`purpose` as in `Session.call`, or "*"; `where`: a queue's URL, "@" and a host's name, or "" for all. Each call
    fails after `fails_after` seconds."""

    purpose: str
    where: str
    begin: float
    end: float
    fails_after: float


class Span(NamedTuple):
    """When a host is frozen, or its agent is not there."""

    who: str
    begin: float
    end: float


@dataclass(slots=True)
class Figures:
    """What a world went through."""

    calls: int = 0
    lost_answers: int = 0
    deaths: int = 0
    decisions: int = 0


class Session:
    """The way of one process, `who`, to AWS; stands for `runner.aws.session.Session`."""

    def __init__(self, world: World, who: str = "") -> None:
        self._world = world
        self._who = who

    async def call(
        self,
        purpose: str,
        action: str,
        do: Callable[[Any], Any],
        read: Callable[[Any], T],
        *,
        queue_url: str = "",
        poll_wait: float = 0.0,
    ) -> T:
        del poll_wait
        world, draw = self._world, self._world.random
        world.figures.calls += 1
        await asyncio.sleep(draw.choice((0.002, 0.004, 0.01, 0.05)) if world.slow else 0.004)
        await world.thawed(self._who)
        down = world.down(purpose, queue_url, self._who)
        if down is not None:
            await asyncio.sleep(down)
            raise AwsUnavailable(action, "ServiceUnavailable", "the world has an outage")
        if world.faults and draw.random() < world.fails_before:
            raise AwsUnavailable(action, "ThrottlingException", "the world throttles")
        if world.faults and draw.random() < world.fails_before / 4:
            await asyncio.sleep(DEADLINE_S)
            raise AwsUnavailable(action, "Deadline", "the world does not answer")
        try:
            answer = read(do(world.dynamo if purpose == "table" else world.sqs))
        except ValueError as error:
            raise AwsUnavailable(action, "ValidationException", str(error)) from error
        await asyncio.sleep(draw.choice((0.001, 0.004, 0.03)) if world.slow else 0.001)
        await world.thawed(self._who)
        if world.faults and draw.random() < world.fails_after:
            world.figures.lost_answers += 1
            raise AwsUnavailable(action, "ConnectionReset", "the answer was lost")
        return answer


class World:
    """One history; all chance in it comes from `random`, which is `seed`'s."""

    def __init__(self, seed: int) -> None:
        Clock.mono = BEGIN
        self.seed = seed
        self.random = random.Random(seed)
        random.seed(seed)  # the product's own jitter
        self.faults = False
        self.fails_before = 0.02
        self.fails_after = 0.02  # applied, and its answer is lost
        self.entry_faults = 0.0
        self.stale = False
        self.slow = True
        self.page = 1000
        self.pages = 0
        self.outages: list[Outage] = []
        self.frozen: list[Span] = []
        self.log: list[tuple[Any, ...]] = []
        self.figures = Figures()
        self.dynamo = Dynamo(self)
        self.sqs = Sqs(self)

    def table(self, who: str = "") -> Table:
        return Table(Session(self, who), "fleet")  # type: ignore[arg-type]

    def note(self, *what: Any) -> None:
        """A line of the history that is shown where the world breaks a promise."""
        self.log.append((round(Clock.mono - BEGIN, 2), *what))

    def down(self, purpose: str, queue_url: str, who: str) -> float | None:
        for outage in self.outages:
            mine = outage.where in ("", queue_url) or outage.where == f"@{who}"
            if outage.begin <= Clock.mono < outage.end and outage.purpose in (purpose, "*") and mine:
                return outage.fails_after
        return None

    async def thawed(self, who: str) -> None:
        """A frozen host does nothing, and the time goes on."""
        while ends := [span.end for span in self.frozen if span.who == who and span.begin <= Clock.mono < span.end]:
            await asyncio.sleep(max(ends) - Clock.mono)

    def run(self, work: Coroutine[Any, Any, T], *, within: float = 50_000.0) -> T:
        """Everything that happens in this world, within some seconds of its own; an exception of a task that nobody
        waits for is a violation."""
        loop = Loop()
        asyncio.set_event_loop(loop)
        unheard: list[BaseException | str] = []
        loop.set_exception_handler(lambda _, said: unheard.append(said.get("exception") or said["message"]))
        try:
            found = loop.run_until_complete(asyncio.wait_for(work, within))
        finally:
            left = asyncio.all_tasks(loop)
            for task in left:
                task.cancel()
            if left:
                loop.run_until_complete(asyncio.wait(left))
            loop.close()
        if unheard:
            raise Violation(f"a task failed unheard: {unheard[0]!r}")
        return found

    async def process(
        self, work: Coroutine[Any, Any, T], *, dies_after: float | None = None, ahead: float = 0.0
    ) -> Any:
        """As a process of its own, whose clock is ``ahead``, and that is killed after some seconds. What it returned,
        the `CronRunnerError` that it ended with, or None where it was killed."""
        context = contextvars.copy_context()
        context.run(skew.set, ahead)
        task = asyncio.get_running_loop().create_task(work, context=context)
        done, _ = await asyncio.wait([task], timeout=dies_after)
        if not done:
            task.cancel()
            self.figures.deaths += 1
            await asyncio.wait([task])
            if not task.cancelled():
                task.exception()  # what it ran into on its way out is nobody's: it is dead
            return None
        if task.cancelled():
            return None
        error = task.exception()
        if error is None:
            return task.result()
        if isinstance(error, CronRunnerError | AwsUnavailable):
            return error
        raise error
