"""Worlds of the whole fleet: scheduler, recorder, watch and notices, two of each, hosts with their claims, and jobs
that run after others; while calls fail, answers are lost, functions and agents die, and somebody changes jobs.

The promises of docs/fleet.md are the checkers: each fire time once, nothing lost, one host a run id, the right end in
history whatever comes late or twice, each child once, what people were told is how it is.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from runner.control import watch
from runner.control.applying.apply import Who, apply
from runner.control.applying.files import Wanted
from runner.control.applying.plan import plan
from runner.control.chains import firing
from runner.control.definition import GroupDefinition, JobDefinition
from runner.control.notices import delivery
from runner.control.notices.notify import Notify
from runner.control.recording.recorder import Recorder
from runner.control.scheduler import minute
from runner.control.store import groups as groups_of
from runner.control.store import jobs as jobs_of
from runner.control.trigger import triggered
from runner.protocol import table as keys

from . import control_world, news_world
from .chain_checks import Chains
from .claims_world import GIVEN_UP_WITHIN_S
from .cloud import Outage, Session, Violation
from .control_world import QUEUE
from .news_world import People
from .virtual import BEGIN, EPOCH, Clock, now
from .whole_hosts import GROUP, Hosts

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .cloud import World

_AGAIN_S = 30.0
_QUIET_S = 7300.0
_SCHEDULES = ("*/5 * * * *", "rate(3 minutes)", "*/10 * * * *")


def random_world(world: World) -> None:
    draw = world.random
    world.faults = draw.random() < 0.8
    world.stale = draw.random() < 0.5
    world.fails_before, world.fails_after = draw.choice((0.0, 0.02, 0.05)), draw.choice((0.0, 0.02, 0.05))
    world.entry_faults = draw.choice((0, 0, 0.05))
    whole = _Whole(world, horizon=draw.choice((8, 15, 25)) * 60.0)
    if draw.random() < 0.4:
        begin = Clock.mono + draw.uniform(0, whole.horizon)
        purpose, fails_after = draw.choice(("*", "table", "enqueue")), draw.choice((0.01, 5.0))
        world.outages.append(Outage(purpose, "", begin, begin + draw.choice((70, 200, 1000, 5000)), fails_after))
    if draw.random() < 0.3:  # the other group's queue alone, for long
        world.outages.append(Outage("enqueue", QUEUE + "other", Clock.mono, Clock.mono + whole.horizon, 0.01))
    world.run(whole.history())


def random_jobs(world: World) -> list[JobDefinition]:
    """Some that are due by a schedule, and some after these and after each other."""
    draw, since = world.random, now() - 600
    jobs: list[JobDefinition] = []
    for number in range(draw.randint(1, 3)):
        missed, limit = draw.choice(("last", "all")), draw.choice((None, None, 200.0))
        schedule = draw.choice(_SCHEDULES)
        jobs.append(
            JobDefinition(GROUP, f"s{number}", schedule=schedule, missed=missed, since=since, start_within=limit)
        )
    for number in range(draw.randint(1, 5)):
        parents = draw.sample(jobs, min(len(jobs), draw.choice((1, 1, 2, 3))))
        when = draw.choice(("success", "success", "failure", "any"))
        jobs.append(JobDefinition(GROUP, f"c{number}", after=tuple(job.name for job in parents), after_when=when))
    other = JobDefinition("other", "o", schedule="*/5 * * * *", missed="all", since=since)
    return [*jobs, other]


class _Whole:
    def __init__(self, world: World, horizon: float) -> None:
        self.world = world
        self.horizon = horizon
        self.hosts = Hosts(world)
        self.people = People(world)
        self.jobs = random_jobs(world)
        notify = Notify(("https://x/y",))
        self.groups = [GroupDefinition(GROUP, QUEUE + GROUP, notify=notify), GroupDefinition("other", QUEUE + "other")]
        self.chains = Chains(world, self.jobs)
        self._background: list[asyncio.Task[Any]] = []

    async def history(self) -> None:
        world, begin = self.world, now()
        faults, outages = world.faults, world.outages
        world.faults, world.outages = False, []
        await self._apply(self.jobs)
        world.faults, world.outages = faults, outages
        self.hosts.join()
        end = BEGIN + self.horizon
        run = asyncio.get_running_loop().create_task
        functions = [run(control_world._function(world, end)) for _ in range(2)]  # noqa: SLF001 - of a world beside it
        self._background = [run(self._hosts()), run(self._tell()), *(run(self._recorder()) for _ in range(2))]
        changes = [run(self._operator(end)), run(self._by_hand(end)), run(self._pauses(end)), run(self._restarts(end))]
        await asyncio.gather(*functions, *changes)
        world.faults = False
        # What was is not forgotten: who was out of reach may have lost what it held.
        world.outages = [outage._replace(end=min(outage.end, Clock.mono)) for outage in world.outages]
        await self._apply(self.jobs)
        await asyncio.sleep(61)
        for _ in range(4):
            await minute(self._session(), world.table(), now=now())
            await asyncio.sleep(60)
        await self._settle()
        for task in self._background:
            task.cancel()
        self._check(begin, EPOCH + end)

    async def _settle(self) -> None:
        """Nothing fires by its schedule any more; all that is under way comes to its end."""
        quiet = Clock.mono + _QUIET_S
        while Clock.mono < quiet:
            for task in self._background:
                if task.done():
                    task.result()  # it has failed: nobody goes on by himself
            if self.hosts.at_work() or self.hosts.inbox:
                quiet = Clock.mono + _QUIET_S
            await watch.open_runs(self.world.table(), now=now())
            await firing.resend(self.world.table(), self._session(), now=now(), within=20.0)
            await asyncio.sleep(60)

    # -- those who live in it

    def _session(self) -> Any:
        return Session(self.world)

    async def _hosts(self) -> None:
        while True:
            self.hosts.take()
            await asyncio.sleep(1.0)

    async def _recorder(self) -> None:
        """A function that records what is there; it dies now and then, and what it had is delivered again."""
        draw, inbox = self.world.random, self.hosts.inbox
        recorder = Recorder(self.world.table(), session=self._session())
        while True:
            ready = [entry for entry in inbox if entry[0] <= Clock.mono][: draw.choice((1, 5, 10))]
            if not ready:
                await asyncio.sleep(1.0)
                continue
            for entry in ready:
                inbox.remove(entry)
            dies = draw.choice((None, None, 0.02, 0.05, 0.1, 0.3)) if self.world.faults else None
            failed = await self.world.process(
                recorder.record([(name, body) for _, name, body in ready], now=now()), dies_after=dies
            )
            if failed is None:
                recorder = Recorder(self.world.table(), session=self._session())
            again = [entry for entry in ready if not isinstance(failed, list) or entry[1] in failed]
            inbox += [(Clock.mono + _AGAIN_S, name, body) for _, name, body in again]

    async def _tell(self) -> None:
        while True:
            dies = self.world.random.choice((None, None, 0.3)) if self.world.faults else None
            people: Any = self.people
            await self.world.process(delivery.deliver(self.world.table(), people, now=now()), dies_after=dies)
            await asyncio.sleep(60)

    async def _restarts(self, end: float) -> None:
        draw = self.world.random
        while self.world.faults and Clock.mono < end:
            await asyncio.sleep(draw.choice((50, 200, 400)))
            await draw.choice(self.hosts.hosts).restart(draw.choice((0.0, 1.0, 5.0)), on_purpose=draw.random() < 0.3)

    async def _by_hand(self, end: float) -> None:
        """Somebody starts a job beside its schedule."""
        draw = self.world.random
        for _ in range(draw.choice((0, 1, 2))):
            await asyncio.sleep(draw.uniform(0, self.horizon / 2))
            run_id, body = triggered(draw.choice(self.jobs[:-1]), now=now(), by="ann")
            self.world.sqs.send_message_batch(QUEUE + GROUP, [{"Id": run_id, "MessageBody": body}])
        await asyncio.sleep(max(0.0, end - Clock.mono))

    async def _operator(self, end: float) -> None:
        """Jobs are disabled, or deleted, and are there again some time later."""
        draw, last = self.world.random, self.jobs[-2]
        for _ in range(draw.choice((0, 0, 1, 2))):
            await asyncio.sleep(draw.uniform(0, self.horizon / 3))
            self.chains.changed.add(last.name)
            without = [job for job in self.jobs if job is not last]
            wanted = draw.choice((without, [*without, replace(last, enabled=False)]))
            await self.world.process(self._apply(wanted), dies_after=draw.choice((None, 0.03, 0.1)))
            await asyncio.sleep(draw.choice((1.0, 200.0)))
            await self.world.process(self._apply(self.jobs))
        await asyncio.sleep(max(0.0, end - Clock.mono))

    async def _pauses(self, end: float) -> None:
        """The group is paused for a while: what is fired waits on the queue."""
        draw = self.world.random
        if draw.random() < 0.3:
            await asyncio.sleep(draw.uniform(0, self.horizon / 2))
            self.hosts.paused = True
            await asyncio.sleep(draw.choice((100.0, 900.0)))
            self.hosts.paused = False
        await asyncio.sleep(max(0.0, end - Clock.mono))

    async def _apply(self, jobs: Iterable[JobDefinition]) -> None:
        table = self.world.table("operator")
        there, groups = await jobs_of(table), await groups_of(table)
        made = plan(Wanted(tuple(jobs), tuple(self.groups)), there, groups, prune=True)
        await apply(self._session(), table, made, there, groups, Who("ann", now() - 600))

    # -- the promises

    def _check(self, begin: float, end: float) -> None:
        world, items = self.world, self.world.dynamo.items
        self.hosts.at_the_end(list(self.hosts.runs.values()))
        for over in self.hosts.over.values():
            state = items.get((keys.run(GROUP, over.run_id).pk, keys.RUN), {}).get("state")
            if state != over.outcome:
                raise Violation(f"run {over.run_id} is {state}, and it ended {over.outcome}")
        sent = control_world._sent(world)  # noqa: SLF001 - as above
        for job in self.jobs:
            if job.schedule:
                control_world._check(job, sent, begin, end)  # noqa: SLF001 - as above
        for left in (item for item in items.values() if item.get("state_key") in ("TELL", keys.OWED)):
            raise Violation(f"it is left: {left}")
        self.chains.check(self.hosts)
        for job in self.jobs:
            mine = sorted((e for e in self.hosts.over.values() if e.job == job.name and e.counts), key=lambda e: e.at)
            if mine and job.start_within is None:
                status = items[keys.status(GROUP, job.name).pk, keys.STATUS]
                told = [fact for fact in self.people.told if fact.job == job.name]
                news_world._check_job(status, mine, told)  # noqa: SLF001 - as above


assert GIVEN_UP_WITHIN_S < _QUIET_S
