"""Named histories of the scheduler and the recorder: one fault each, as small as it gets."""

from __future__ import annotations

import asyncio
from typing import Any

from runner.control import turn, watch
from runner.control.definition import GroupDefinition, JobDefinition
from runner.control.due import due
from runner.control.notices import delivery
from runner.control.notices.facts import Fact, notice_item
from runner.control.recording.recorder import Recorder
from runner.control.scheduler import minute
from runner.errors import AwsUnavailable
from runner.protocol import table as keys
from runner.protocol.event import HostFacts, RunFacts, Source, run_event
from runner.protocol.units import format_time, parse_time

from .cloud import Outage, Session, Violation, World
from .control_world import QUEUE, seed
from .virtual import Clock, now

HOUR_S = 3600.0


def _world() -> World:
    world = World(4)
    world.slow = False
    return world


async def _at(hour: float) -> None:
    """The next time of day."""
    await asyncio.sleep((hour * HOUR_S - now()) % 86_400)


async def _minute(world: World) -> Any:
    return await minute(Session(world), world.table(), now=now())  # type: ignore[arg-type]


def story_a_stretch_that_was_begun_before_an_outage() -> None:
    """Its end is no measure of what is late when it is sent."""
    world = _world()

    async def history() -> None:
        jobs = [
            JobDefinition("g", "any", schedule="10 * * * *", missed="skip"),
            JobDefinition("g", "payroll", schedule="11 10 * * *", missed="skip"),
            JobDefinition("g", "report", schedule="11 * * * *", missed="last"),
        ]
        await seed(world, [GroupDefinition("g", QUEUE + "g")], jobs)
        await _at(10 + 9 / 60 + 2 / HOUR_S)
        await _minute(world)
        await asyncio.sleep(60)
        whole = turn.done

        async def cut_off(*_: Any) -> bool:
            raise AwsUnavailable("UpdateItem", "ThrottlingException", "the last call of the turn")

        turn.done = cut_off
        await _minute(world)
        turn.done = whole
        await asyncio.sleep(55)
        before = len(world.sqs.sent)
        world.outages = [Outage("enqueue", "", Clock.mono, Clock.mono + 10 * HOUR_S, 0.01)]
        for _ in range(599):
            await asyncio.sleep(60)
            await _minute(world)
        world.outages = []
        await asyncio.sleep(62)
        await _minute(world)
        for at, _, message in world.sqs.sent[before:]:
            late = now() - Clock.mono + at - parse_time(message["scheduled_at"])
            if late > 150 + 70:
                raise Violation(f"{message['run_id']} was sent {late / HOUR_S:.1f} hours late")
        if not world.sqs.sent[before:]:
            raise Violation("nothing was caught up with")

    world.run(history(), within=3 * 86_400.0)


def story_last_keeps_what_is_on_time() -> None:
    for missed in ("skip", "last", "all"):
        job = JobDefinition("g", "j", schedule="* * * * *", missed=missed)  # type: ignore[arg-type]
        until = 1_900_000_020.0
        on_time = [fire.at - until for fire in due([job], until - 200, until).fires]
        if not {-120.0, -60.0, 0.0} <= set(on_time):
            raise Violation(f"{missed} keeps {on_time}")


def story_a_new_group_whose_first_turns_fail() -> None:
    world = _world()

    async def history() -> None:
        await _at(3.0 + 1 / HOUR_S)
        jobs = [
            JobDefinition("g", "j", schedule="*/10 * * * *", missed="all", since=now()),
            JobDefinition("g", "each", schedule="* * * * *", missed="all", since=now()),
        ]
        begin = now()
        await seed(world, [GroupDefinition("g", QUEUE + "g")], jobs)
        world.outages = [Outage("enqueue", "", Clock.mono, Clock.mono + HOUR_S, 0.01)]
        for _ in range(64):
            await asyncio.sleep(60)
            await _minute(world)
        sent = {message["run_id"] for _, _, message in world.sqs.sent}
        for job in jobs:
            schedule: Any = job.parsed()
            times = schedule.due(begin, now() - 60)
            found = [run for run in sent if run.startswith(f"{job.name}-")]
            if len(found) < len(times):
                raise Violation(f"{len(times)} times of {job.name} were due, {len(found)} were sent")

    world.run(history(), within=3 * 86_400.0)


def story_a_week_away() -> None:
    """Every group fires on time at once, whatever another has to catch up with."""
    world = _world()

    async def history() -> None:
        since = now() - 30 * 86_400
        many = [
            JobDefinition("g", f"j{n}", schedule="*/5 * * * *", missed=("skip", "last", "all")[n % 3], since=since)  # type: ignore[arg-type]
            for n in range(300)
        ]
        one = JobDefinition("small", "one", schedule="* * * * *", since=since)
        await seed(world, [GroupDefinition(name, QUEUE + name) for name in ("g", "small")], [*many, one])
        for name in ("g", "small"):
            until = {"until": format_time(now() - 7 * 86_400), "number": 1}
            await world.table().put(keys.tick(name).attributes() | until)
        report = await _minute(world)
        if report.failed or report.unfinished:
            raise Violation(f"the turn did not come to its end: {report}")
        fresh = {
            message["job"] for _, _, message in world.sqs.sent if parse_time(message["scheduled_at"]) > now() - 300
        }
        if missing := {job.name for job in [*many, one]} - fresh:
            raise Violation(f"{len(missing)} jobs have not fired on time")

    world.run(history())


class _Targets:
    """Stands for `Senders`."""

    def __init__(self, takes_s: float) -> None:
        self.told: list[tuple[float, str, str]] = []
        self.takes_s = takes_s

    async def send(self, fact: Fact, target: str) -> None:
        if "dead" in target:
            await asyncio.sleep(28.0)
            raise delivery.NotTaken("no answer")
        # The first word takes its time.
        await asyncio.sleep(self.takes_s if fact.news == "failure" else 0.1)
        self.told.append((Clock.mono, fact.job, fact.news))


def _notice(job: str, news: Any, target: str) -> dict[str, Any]:
    fact = Fact(id=f"{news}/g/{job}", news=news, group="g", job=job, at=now(), run_id="r")
    return notice_item(fact, [target], now=now())


def story_a_target_that_hangs() -> None:
    world = _world()

    async def history() -> None:
        table, targets = world.table(), _Targets(0.1)
        for number in range(200):
            await table.put(_notice(f"d{number}", "failure", "https://dead/x"))
        await asyncio.sleep(1)
        await table.put(_notice("pay", "failure", "https://alive/x"))
        begin = Clock.mono
        await delivery.deliver(table, targets, now=now())  # type: ignore[arg-type]
        if not targets.told or targets.told[0][0] - begin > 10:
            raise Violation("a target that hangs holds up another")

    world.run(history())


def story_two_deliver_at_once() -> None:
    """However far behind the first the second begins, a recovery does not overtake its failure."""
    for behind in (0.0, 0.02, 0.05, 0.2, 1.0, 5.0, 20.0):
        world = _world()

        async def history(world: World = world, behind: float = behind) -> None:
            table, targets = world.table(), _Targets(8.0)
            for news in ("failure", "recovery"):
                await table.put(_notice("pay", news, "https://alive/x"))
                await asyncio.sleep(0.1)

            async def late() -> None:
                await asyncio.sleep(behind)
                await delivery.deliver(table, targets, now=now())  # type: ignore[arg-type]

            await asyncio.gather(delivery.deliver(table, targets, now=now()), late())  # type: ignore[arg-type]
            if [news for _, _, news in targets.told] != ["failure", "recovery"]:
                raise Violation(f"{behind} s behind: {targets.told}")

        world.run(history())


def story_a_run_that_the_watch_gave_up_had_been_cancelled() -> None:
    """What a recorder remembers of a job is looked at again where it would write nothing on top of it."""
    world = _world()

    async def history() -> None:
        await seed(world, [GroupDefinition("g", QUEUE + "g")], [JobDefinition("g", "j")])
        first, second = Recorder(world.table()), Recorder(world.table())
        source = Source("g", HostFacts("h", None, "boot", "linux", "1"))

        async def say(recorder: Recorder, run_id: str, kind: Any, sequence: int, **data: Any) -> None:
            facts = RunFacts(f"{run_id}x", "j", run_id, 1, now(), None)
            said = run_event(source, facts, kind=kind, attempt=1, sequence=sequence, time=now(), data=data)
            assert await recorder.record([(f"{run_id}{kind}", said.body)], now=now()) == []

        def ended(outcome: str) -> dict[str, Any]:
            times = {"started_at": now() - 5, "finished_at": now(), "duration_s": 5.0}
            return {"outcome": outcome, "reason": outcome, "exit_code": 0, "will_retry": False, **times}

        await say(first, "silent", "started", 1, started_at=now(), timeout_s=3600.0, heartbeat_s=10.0)
        await say(second, "well", "finished", 2, **ended("succeeded"))
        await asyncio.sleep(120)
        assert await watch.open_runs(world.table(), now=now()) == (1, 0)
        status = world.dynamo.items[keys.status("g", "j").pk, keys.STATUS]
        assert status["state"] == "lost"
        await say(second, "silent", "finished", 2, **ended("cancelled"))
        status = world.dynamo.items[keys.status("g", "j").pk, keys.STATUS]
        if (status["state"], status["failing_since"]) != ("succeeded", None):
            raise Violation(f"the job is {status['state']} by {status['run_id']}, which was cancelled")

    world.run(history())
