"""Named histories of jobs that run after others: who deals with them dies between any two calls."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from typing import TYPE_CHECKING, Any

from runner.control.applying.apply import Who, apply
from runner.control.applying.files import Wanted
from runner.control.applying.plan import plan
from runner.control.definition import GroupDefinition, JobDefinition, run_id_at
from runner.control.recording.recorder import Recorder
from runner.control.scheduler import minute
from runner.protocol import table as keys
from runner.protocol.event import HostFacts, RunFacts, Source, run_event

from .cloud import Session, Violation, World
from .control_world import QUEUE
from .virtual import now

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

_STEP_S = 0.0025  # a call takes 5 ms: it dies before it, behind it, and while the answer is on its way
SOURCE = Source("g", HostFacts("h", None, "boot", "linux", "1"))


def _job(name: str, *after: str, when: Any = "success") -> JobDefinition:
    return JobDefinition("g", name, message={"command": "true"}, after=after, after_when=when)


_JOBS = [
    *(_job("a"), _job("b"), _job("one", "a"), _job("both", "a", "b"), _job("last", "both", "one")),
    *(_job("alarm", "a", when="failure"), _job("quiet", "alarm"), _job("end", "quiet", when="any")),
]


def _world(seed: int = 4) -> World:
    world = World(seed)
    world.slow = False
    return world


async def _apply(world: World, jobs: Sequence[JobDefinition]) -> None:
    made = plan(Wanted(tuple(jobs), (GroupDefinition("g", QUEUE + "g"),)), [], {}, prune=True)
    session: Any = Session(world)
    await apply(session, world.table(), made, [], {}, Who("ann", now()))


def _end(name: str, outcome: str, due: float, *, delivery: int = 1, labels: Any = None) -> str:
    run_id = run_id_at(name, due)
    facts = RunFacts(f"{run_id}x{delivery}", name, run_id, delivery, due, float(delivery), labels or {})
    data = {"outcome": outcome, "reason": outcome, "will_retry": False, "started_at": due, "finished_at": due + 5}
    return run_event(SOURCE, facts, kind="finished", attempt=1, sequence=2, time=due + 5, data=data).body


async def _settled(world: World, due: float) -> None:
    """The scheduler's minutes, and hosts that run what is sent, each run once."""
    ran: set[str] = set()
    recorder = Recorder(world.table(), session=Session(world))  # type: ignore[arg-type]
    for _ in range(12):
        await asyncio.sleep(60)
        await minute(Session(world), world.table(), now=now())  # type: ignore[arg-type]
        for _, _, message in list(world.sqs.sent):
            if message["run_id"] not in ran:
                ran.add(message["run_id"])
                body = _end(message["job"], "succeeded", due, labels=message["labels"])
                assert await recorder.record([("m", body)], now=now()) == []


def _must(world: World, due: float, fired: set[str], skipped: set[str]) -> None:
    sent = Counter(message["run_id"] for _, _, message in world.sqs.sent)
    wanted = {run_id_at(name, due) for name in fired}
    if set(sent) != wanted:
        raise Violation(f"sent {sorted(sent)} in place of {sorted(wanted)}")
    items = world.dynamo.items
    for name in skipped:
        run = items.get((keys.run("g", run_id_at(name, due)).pk, keys.RUN), {})
        if run.get("state") != "skipped" or "upstream" not in str(run["reason"]):
            raise Violation(f"{name} is {run.get('state')}: {run.get('reason')}")
    if left := [item for item in items.values() if item.get("state_key") == keys.OWED]:
        raise Violation(f"owed still: {left}")


def _dying_anywhere(
    life: Callable[[World, float, float], Coroutine[Any, Any, bool]], fired: set[str], skipped: set[str]
) -> None:
    """Somebody dies after so many steps, for each number of steps until nobody dies any more: then `life`, of a world,
    the time its jobs are due, and the seconds after which to die, says that the first one lived."""
    step, done = 1, False
    while not done:
        world = _world()
        due = float(int(now()) + 60 - int(now()) % 60)
        done = world.run(life(world, due, step * _STEP_S))
        _must(world, due, fired, skipped)
        step += 1
    if step < 20:
        raise Violation(f"it was over within {step} steps: nobody has died in it")


def _killed_anywhere(events: Callable[[float], list[str]], fired: set[str], skipped: set[str]) -> None:
    async def life(world: World, due: float, dies_after: float) -> bool:
        await _apply(world, _JOBS)
        bodies = [(f"m{place}", body) for place, body in enumerate(events(due))]
        recorder = Recorder(world.table(), session=Session(world))  # type: ignore[arg-type]
        first = await world.process(recorder.record(bodies, now=now()), dies_after=dies_after)
        other = Recorder(world.table(), session=Session(world))  # type: ignore[arg-type]
        # Delivered again, in another order; that one lives.
        random.shuffle(bodies)
        while bodies:
            failed = set(await other.record(bodies, now=now()))
            bodies = [entry for entry in bodies if entry[0] in failed]
        await _settled(world, due)
        return first is not None

    _dying_anywhere(life, fired, skipped)


def story_the_recorder_dies_between_any_two_calls() -> None:
    well = {"one", "both", "last", "end"}
    _killed_anywhere(lambda due: [_end("a", "succeeded", due), _end("b", "succeeded", due)], well, {"alarm", "quiet"})


def story_the_recorder_dies_while_it_skips() -> None:
    skipped = {"one", "both", "last"}
    _killed_anywhere(
        lambda due: [_end("a", "failed", due), _end("b", "succeeded", due)], {"alarm", "quiet", "end"}, skipped
    )


def story_the_scheduler_dies_while_it_fires() -> None:
    """What a recorder without a session owes is the scheduler's; it dies anywhere, and another one comes."""

    async def life(world: World, due: float, dies_after: float) -> bool:
        await _apply(world, _JOBS)
        bodies = [("a", _end("a", "succeeded", due)), ("b", _end("b", "succeeded", due))]
        assert await Recorder(world.table()).record(bodies, now=now()) == []
        await asyncio.sleep(70)
        work = minute(Session(world), world.table(), now=now())  # type: ignore[arg-type]
        first = await world.process(work, dies_after=dies_after)
        await _settled(world, due)
        return first is not None

    _dying_anywhere(life, {"one", "both", "last", "end"}, {"alarm", "quiet"})


def story_two_recorders_end_both_parents_at_once() -> None:
    """Each sees that the other parent has not ended yet, or both that all have: it is fired, and by one decision."""
    for behind in range(40):
        world = _world()
        due = float(int(now()) + 60 - int(now()) % 60)

        async def history(world: World = world, due: float = due, behind: int = behind) -> None:
            await _apply(world, _JOBS)

            async def one(name: str, wait: float) -> None:
                await asyncio.sleep(wait)
                recorder = Recorder(world.table(), session=Session(world))  # type: ignore[arg-type]
                assert await recorder.record([("m", _end(name, "succeeded", due))], now=now()) == []

            await asyncio.gather(one("a", 0.0), one("b", behind * _STEP_S))
            sent = [message["run_id"] for _, _, message in world.sqs.sent]
            if run_id_at("both", due) not in sent:
                raise Violation(f"{behind} steps behind: it was not fired at once")
            await _settled(world, due)

        world.run(history())
        _must(world, due, {"one", "both", "last", "end"}, {"alarm", "quiet"})


def story_a_queue_that_is_gone_holds_up_no_other_group() -> None:
    world = _world()
    due = float(int(now()) + 60 - int(now()) % 60)

    async def history() -> None:
        from .cloud import Outage
        from .virtual import Clock

        await _apply(world, _JOBS)
        other = [JobDefinition("h", "p"), *(JobDefinition("h", f"c{n}", after=("p",)) for n in range(40))]
        made = plan(Wanted(tuple(other), (GroupDefinition("h", QUEUE + "h"),)), [], {}, prune=True)
        session: Any = Session(world)
        await apply(session, world.table(), made, [], {}, Who("ann", now()))
        world.outages = [Outage("enqueue", QUEUE + "h", Clock.mono, Clock.mono + 400, 5.0)]
        recorder = Recorder(world.table())
        source = Source("h", SOURCE.host)
        for number in range(30):
            facts = RunFacts(f"x{number}", "p", f"p-{number}", 1, None, None)
            data = {"outcome": "succeeded", "will_retry": False, "started_at": due, "finished_at": due}
            told = run_event(source, facts, kind="finished", attempt=1, sequence=2, time=due, data=data)
            assert await recorder.record([("m", told.body)], now=now()) == []
        assert await recorder.record([("m", _end("a", "succeeded", due))], now=now()) == []
        await asyncio.sleep(70)
        await minute(session, world.table(), now=now())
        if run_id_at("one", due) not in {message["run_id"] for _, _, message in world.sqs.sent}:
            raise Violation("what runs after others in one group waits for the queue of another one")
        for _ in range(60):
            await asyncio.sleep(60)
            await minute(session, world.table(), now=now())
        sent = Counter(message["run_id"] for _, queue, message in world.sqs.sent if queue == QUEUE + "h")
        if len(sent) != 30 * 40:
            raise Violation(f"{len(sent)} of {30 * 40} were sent when the queue was there again")

    world.run(history())
