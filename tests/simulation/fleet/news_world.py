"""Recorder, watch and delivery together: whatever comes late, twice or in another order, history says how each run
ended, the job stands as its last run left it, and that is what people were told last."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from runner.control import watch
from runner.control.definition import GroupDefinition, JobDefinition
from runner.control.notices import delivery
from runner.control.notices.notify import Notify
from runner.control.notices.senders import NotTaken
from runner.control.recording.change import NotRecorded
from runner.control.recording.recorder import Recorder
from runner.control.recording.run_state import FAILURES
from runner.protocol import table as keys
from runner.protocol.event import HostFacts, RunFacts, Source, run_event

from .cloud import Violation
from .control_world import seed
from .virtual import Clock, now

if TYPE_CHECKING:
    from runner.control.notices.facts import Fact

    from .cloud import World

GROUP = "g"
JOBS = ("a", "b")
_BAD_NEWS = ("failure", "lost", "too-long")
_SETTLED_S = 7300.0
_AGAIN_S = 30.0


@dataclass(frozen=True, slots=True)
class End:
    """How a run ends after all: as its last attempt on the host that has it last."""

    at: float
    run_id: str
    job: str
    outcome: str

    @property
    def counts(self) -> bool:
        return self.outcome == "succeeded" or self.outcome in FAILURES


class Course:
    """Runs of two jobs: some with several attempts, some given out once more while, or after, the first goes on."""

    def __init__(self, world: World) -> None:
        self._draw = world.random
        self.ends: list[End] = []
        self.bodies: list[tuple[float, str]] = []
        at = now()
        for number in range(self._draw.randint(1, 8)):
            at += self._draw.choice((1, 30, 400))
            self._run(self._draw.choice(JOBS), number, at)

    def _run(self, job: str, number: int, at: float) -> None:
        run_id, outcome = f"{job}-{number}", ""
        for delivery_number in range(1, self._draw.choice((1, 1, 1, 2)) + 1):
            host = HostFacts(self._draw.choice(("h1", "h2")), None, "boot", "linux", "1")
            facts = RunFacts(f"{run_id}x{delivery_number}", job, run_id, delivery_number, at, None)
            tries = self._draw.choice((1, 1, 2, 3))
            for attempt in range(1, tries + 1):
                last = attempt == tries
                outcome = self._draw.choice(("succeeded", "failed", "timed_out", "cancelled")) if last else "failed"
                if last and delivery_number == 1 and self._draw.random() < 0.3:
                    outcome = "lost"
                at = self._attempt(Source(GROUP, host), facts, attempt, at, outcome, again=not last)
        self.ends.append(End(at - 1, run_id, job, outcome))

    def _attempt(
        self, source: Source, facts: RunFacts, attempt: int, begin: float, outcome: str, *, again: bool
    ) -> float:
        end = begin + self._draw.choice((0.5, 5, 600))

        def tell(kind: Any, time: float, **data: Any) -> None:
            sequence = 2 * attempt + (kind == "finished")
            event = run_event(source, facts, kind=kind, attempt=attempt, sequence=sequence, time=time, data=data)
            self.bodies.append((time, event.body))

        tell("started", begin, pid=1, started_at=begin, timeout_s=900.0)
        took = {"started_at": begin, "finished_at": end, "duration_s": end - begin}
        tell("finished", end, outcome=outcome, reason=outcome, exit_code=0, will_retry=again, **took)
        return end + 1

    def told(self) -> list[tuple[float, str, str]]:
        """When each event comes to the results queue, its message's id and body; some come twice."""
        draw, order = self._draw, self._draw.choice(("time", "late", "any"))

        def late() -> float:
            return {"time": 0.0, "late": draw.choice((0.0, 0.0, 5.0, 900.0)), "any": draw.uniform(0, 2000)}[order]

        found = [(at + late(), f"m{place}", body) for place, (at, body) in enumerate(self.bodies)]
        found += [(at + draw.choice((0, 40)), f"copy-{name}", body) for at, name, body in found if draw.random() < 0.2]
        return sorted(found)


class People:
    """Who is told: slow, and at times away."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.told: list[Fact] = []

    async def send(self, fact: Fact, _target: str) -> None:
        await asyncio.sleep(self._world.random.choice((0.01, 0.5)))
        if self._world.faults and self._world.random.random() < 0.1:
            raise NotTaken("it is away")
        self._world.note("told", fact.news, fact.run_id)
        self.told.append(fact)


def random_world(world: World) -> None:
    draw = world.random
    world.stale = draw.random() < 0.5
    world.faults = draw.random() < 0.7
    world.fails_before, world.fails_after = draw.choice((0.01, 0.05)), draw.choice((0.01, 0.05))
    jobs = [JobDefinition(GROUP, name, too_long=draw.choice((None, 300.0))) for name in JOBS]
    course, people = Course(world), People(world)
    world.run(_history(world, course, people, jobs))
    _check(world, course.ends, people.told)


async def _history(world: World, course: Course, people: People, jobs: list[JobDefinition]) -> None:
    await seed(world, [GroupDefinition(GROUP, "https://sqs/1/g", notify=Notify(("https://x/y",)))], jobs)
    inbox: list[tuple[float, str, str]] = []
    events, minutes = course.told(), asyncio.get_running_loop().create_task(_minutes(world, people))

    async def come() -> None:
        for at, name, body in events:
            await asyncio.sleep(max(0.0, at - now()))
            inbox.append((Clock.mono, name, body))

    coming = asyncio.get_running_loop().create_task(come())
    await asyncio.gather(coming, *(_function(world, inbox, coming) for _ in range(2)))
    world.faults = False
    await asyncio.sleep(_SETTLED_S)
    minutes.cancel()


async def _function(world: World, inbox: list[tuple[float, str, str]], coming: asyncio.Task[None]) -> None:
    """A recorder that takes what is there; it dies now and then, and what it had is delivered again."""
    recorder = Recorder(world.table())
    while inbox or not coming.done():
        ready = [entry for entry in inbox if entry[0] <= Clock.mono][: world.random.choice((1, 5, 10))]
        if not ready:
            await asyncio.sleep(1.0)
            continue
        for entry in ready:
            inbox.remove(entry)
        world.figures.decisions += 1
        dies = world.random.choice((None, None, None, 0.05, 0.3)) if world.faults else None
        work = recorder.record([(name, body) for _, name, body in ready], now=now())
        failed = await world.process(work, dies_after=dies)
        again = [entry for entry in ready if not isinstance(failed, list) or entry[1] in failed]
        inbox += [(Clock.mono + _AGAIN_S, name, body) for _, name, body in again]


async def _minutes(world: World, people: People) -> None:
    while True:
        watched = await world.process(watch.open_runs(world.table(), now=now()))
        if isinstance(watched, NotRecorded):
            world.note("not recorded", watched)
        dies = world.random.choice((None, None, 0.3)) if world.faults else None
        await world.process(delivery.deliver(world.table(), people, now=now()), dies_after=dies)  # type: ignore[arg-type]
        await asyncio.sleep(60)


def _check(world: World, ends: list[End], told: list[Fact]) -> None:
    items = world.dynamo.items
    for end in ends:
        run = items.get((keys.run(GROUP, end.run_id).pk, keys.RUN), {})
        if run.get("state") != end.outcome:
            raise Violation(f"run {end.run_id} is {run.get('state')}, and it ended {end.outcome}")
    for job in JOBS:
        mine = sorted((end for end in ends if end.job == job and end.counts), key=lambda end: end.at)
        if mine:
            _check_job(items[keys.status(GROUP, job).pk, keys.STATUS], mine, [one for one in told if one.job == job])
    if left := [item for item in items.values() if item.get("state_key") == "TELL"]:
        raise Violation(f"{len(left)} notices are left")


def _check_job(status: dict[str, Any], mine: list[End], told: list[Fact]) -> None:
    last = mine[-1]
    tied = len({end.at for end in mine}) < len(mine)
    if status["state"] != last.outcome and not tied:
        raise Violation(f"the job is {status['state']} by {status['run_id']}, and its last run is {last}")
    good = status["state"] == "succeeded"
    if good == bool(status["failing_since"]):
        raise Violation(f"it {status['state']}, and is failing since {status['failing_since']}: {status['troubles']}")
    words = [fact.news for fact in told if fact.news in (*_BAD_NEWS, "recovery")]
    if good and words and words[-1] != "recovery":
        raise Violation(f"people were left with {words[-1]} of a job that is well")
    if not good and (not words or words[-1] == "recovery"):
        raise Violation(f"people were told {words[-1:]} last, of a job that failed")
