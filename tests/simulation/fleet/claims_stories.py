"""Named histories of claims and locks: one fault each, as small as it gets."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from runner.agent.fleet.claims import Busy, Clear, Elsewhere, Over, Stakes
from runner.protocol import table as keys
from runner.protocol.units import parse_time

from .claims_host import Job
from .cloud import Outage, Span, World
from .virtual import Clock, now

if TYPE_CHECKING:
    from collections.abc import Coroutine

LEASE_S = 120.0


class Agent:
    """One life of a host's agent: its stakes, and what it was told of lost leases."""

    def __init__(self, world: World, host: str = "one") -> None:
        self.lost: list[tuple[str, str]] = []
        self.stakes = Stakes(world.table(host), "g", LEASE_S, on_lost=lambda *said: self.lost.append(said))
        self.renewing = asyncio.get_running_loop().create_task(self.stakes.renew_forever())

    async def enter(self, execution: str, job: Job) -> Any:
        return await self.stakes.enter(execution, job)  # type: ignore[arg-type]

    def die(self) -> None:
        self.renewing.cancel()

    async def next_life(self, world: World, running: dict[str, Job], host: str = "one") -> Agent:
        """Killed, and the agent after it takes over what runs."""
        self.die()
        await asyncio.sleep(1.0)
        after = Agent(world, host)
        for execution, job in running.items():
            after.stakes.resume(execution, job)  # type: ignore[arg-type]
        return after


def _world() -> World:
    world = World(1)
    world.slow = False
    return world


def _claim(world: World, run_id: str) -> dict[str, Any]:
    key = keys.claim("g", run_id)
    return world.dynamo.items.get((key.pk, key.sk), {})


def _lock(world: World, job: str) -> dict[str, Any]:
    key = keys.lock("g", job)
    return world.dynamo.items.get((key.pk, key.sk), {})


def _lose_answers(world: World, work: Coroutine[Any, Any, Any], *, first: int, last: int) -> Coroutine[Any, Any, Any]:
    """The answers of these calls of it are lost, counted from 1: applied, and the caller sees an error."""

    async def lossy() -> Any:
        calls = 0
        query, update = world.dynamo.query, world.dynamo.update_item

        def counted(**asked: Any) -> Any:
            nonlocal calls
            calls += 1
            world.faults, world.fails_before, world.fails_after = first <= calls <= last, 0.0, 1.0
            return update(**asked)

        world.dynamo.update_item = counted  # type: ignore[method-assign]
        try:
            return await work
        finally:
            world.dynamo.update_item, world.dynamo.query, world.faults = update, query, False  # type: ignore[method-assign]

    return lossy()


def story_an_end_just_as_the_agent_comes_back() -> None:
    """The renewal takes the claim again while the end is written: the end counts."""
    for after in range(12):
        world = _world()
        world.slow = True

        async def main(world: World = world, after: int = after) -> None:
            job = Job("job", "r1", "wait")
            agent = Agent(world)
            assert await agent.enter("e1", job) == Clear()
            agent = await agent.next_life(world, {"e1": job})
            await asyncio.sleep(after * 0.004)
            await agent.stakes.leave("e1", again=False)
            await asyncio.sleep(1.0)
            other = Agent(world, "two")
            assert await other.enter("e2", job) == Over(), "the run would run again"
            assert "holder" not in _lock(world, "job"), "the lock is held after the end"

        world.run(main())


def story_a_renewal_under_way_at_the_end() -> None:
    """What was renewed while it was given up stays given up, whether its answers came before or not."""
    for after in range(24):
        world = _world()
        world.slow = True

        async def main(world: World = world, after: int = after) -> None:
            job = Job("job", "r1", "skip")
            agent = Agent(world)
            assert await agent.enter("e1", job) == Clear()
            if after < 12:
                agent = await agent.next_life(world, {"e1": job})
                await asyncio.sleep(after * 0.004)
            else:
                await asyncio.sleep(LEASE_S / 3 - 0.01 + (after - 12) * 0.004)
            await agent.stakes.leave("e1", again=False)
            await asyncio.sleep(1.0)
            assert "holder" not in _lock(world, "job"), "the lock is held after the end"
            assert await Agent(world, "two").enter("e2", Job("job", "r2", "skip")) == Clear()

        world.run(main())


def story_a_stopped_host_leaves_no_lease_behind_its_extension() -> None:
    """`extend` before the agent goes, just as a run ends."""
    world = _world()

    async def main() -> None:
        job = Job("job", "r1", "wait")
        agent = Agent(world)
        assert await agent.enter("e1", job) == Clear()
        await asyncio.gather(agent.stakes.extend(900.0), agent.stakes.leave("e1", again=False))
        assert "holder" not in _lock(world, "job")
        assert _claim(world, "r1")["done"]

    world.run(main())


def story_one_failed_call_after_a_restart() -> None:
    """The lease stands in the table for minutes: nothing is lost, and it is renewed on."""
    world = _world()

    async def main() -> None:
        job = Job("job", "r1", "wait")
        agent = Agent(world)
        assert await agent.enter("e1", job) == Clear()
        await agent.stakes.extend(900.0)
        world.outages = [Outage("table", "", Clock.mono, Clock.mono + 1.5, 0.01)]
        agent = await agent.next_life(world, {"e1": job})
        await asyncio.sleep(1000.0)
        assert not agent.lost
        assert parse_time(_claim(world, "r1")["until"]) > now()
        assert await Agent(world, "two").enter("e2", job) == Elsewhere()

    world.run(main())


def story_an_outage_as_long_as_a_lease() -> None:
    """Nobody took what ran out meanwhile: it is taken again, and holds."""
    world = _world()

    async def main() -> None:
        agent = Agent(world)
        assert await agent.enter("e1", Job("job", "r1", "wait")) == Clear()
        world.outages = [Outage("table", "", Clock.mono + 45.0, Clock.mono + 45.0 + LEASE_S + 60.0, 0.01)]
        await asyncio.sleep(600.0)
        assert not agent.lost
        assert await Agent(world, "two").enter("e2", Job("job", "r2", "wait")) == Busy("r1")

    world.run(main())


def story_only_the_lock_is_anothers() -> None:
    """A lock that another took while its host was cut off is told as lost, once; the claim is renewed on, and the lock
    is taken again when it is free."""
    world = _world()

    async def main() -> None:
        agent = Agent(world)
        assert await agent.enter("e1", Job("job", "r1", "wait")) == Clear()
        world.outages = [Outage("table", "@one", Clock.mono, Clock.mono + LEASE_S + 30.0, 0.01)]
        await asyncio.sleep(LEASE_S + 10.0)
        other = Agent(world, "two")
        assert await other.enter("e2", Job("job", "r2", "wait")) == Clear()
        await asyncio.sleep(300.0)
        assert [execution for execution, _ in agent.lost] == ["e1"]
        assert await other.enter("e3", Job("job", "r1", "wait")) == Elsewhere(), "the run id would run twice"
        await other.stakes.leave("e2", again=False)
        await asyncio.sleep(LEASE_S)
        assert await other.enter("e4", Job("job", "r3", "wait")) == Busy("r1")

    world.run(main())


def story_a_run_of_sixteen_days() -> None:
    """What expires is moved on while it is in use."""
    world = _world()

    async def main() -> None:
        job = Job("job", "r1")
        agent = Agent(world)
        assert await agent.enter("e1", job) == Clear()
        for _ in range(17 * 24):
            await asyncio.sleep(3600.0)
            world.dynamo.forget()
        assert not agent.lost
        assert await Agent(world, "two").enter("e2", job) == Elsewhere()
        await agent.stakes.leave("e1", again=False)
        assert _claim(world, "r1")["expires_at"] > now() + 14 * keys.DAY_S

    world.run(main(), within=20 * keys.DAY_S)


def story_a_claim_whose_answer_was_lost() -> None:
    """It may be held, or not: until that is known, somebody of ours keeps it in mind, and gives it up."""
    for last in (1, 2):
        world = _world()

        async def main(world: World = world, last: int = last) -> None:
            agent = Agent(world)
            await _lose_answers(world, agent.enter("e1", Job("job", "r1", "skip")), first=last, last=last)
            # The message goes back to its queue meanwhile; nobody says anything more of it.
            await asyncio.sleep(30.0)
            other = Agent(world, "two")
            assert await other.enter("e2", Job("job", "r2", "skip")) == Clear(), "skipped, and nothing runs"
            assert await other.enter("e3", Job("other", "r1", "skip")) == Clear(), "claimed, and nothing runs"

        world.run(main())


def story_asked_again_while_it_is_given_up() -> None:
    """An execution that is given up, slowly, and asked for again holds what it was told it holds."""
    world = _world()

    async def main() -> None:
        mine, others = Agent(world), Agent(world, "two")
        assert await others.enter("e1", Job("job", "r1", "wait")) == Clear()
        assert await mine.enter("e2", Job("job", "r2", "wait")) == Busy("r1")
        world.outages = [Outage("table", "@one", Clock.mono, Clock.mono + 3.0, 0.01)]
        leaving = asyncio.get_running_loop().create_task(mine.stakes.leave("e2", again=True))
        await asyncio.sleep(3.01)
        await others.stakes.leave("e1", again=False)
        assert await mine.enter("e2", Job("job", "r2", "wait")) == Clear()
        await asyncio.sleep(60.0)
        assert leaving.done()
        assert await others.enter("e3", Job("job", "r2", "wait")) == Elsewhere()
        assert await others.enter("e4", Job("job", "r3", "wait")) == Busy("r2")

    world.run(main())


def story_frozen_past_its_lease_and_the_copy_was_given_up() -> None:
    """Nobody holds the claim: the end is written."""
    world = _world()

    async def main() -> None:
        job = Job("job", "r1")
        agent = Agent(world)
        assert await agent.enter("e1", job) == Clear()
        world.frozen = [Span("one", Clock.mono, Clock.mono + 300.0)]
        await asyncio.sleep(200.0)
        other = Agent(world, "two")
        assert await other.enter("e2", job) == Clear()
        await other.stakes.leave("e2", again=True)
        agent.die()  # as it ends before the next renewal
        await agent.stakes.leave("e1", again=False)
        assert await other.enter("e3", job) == Over(), "the run would run again"

    world.run(main())


def story_frozen_past_its_lease_and_another_has_the_claim() -> None:
    """The end is another's to write, and that the lease is lost is told."""
    world = _world()

    async def main() -> None:
        job = Job("job", "r1")
        agent = Agent(world)
        assert await agent.enter("e1", job) == Clear()
        world.frozen = [Span("one", Clock.mono, Clock.mono + 300.0)]
        await asyncio.sleep(200.0)
        other = Agent(world, "two")
        assert await other.enter("e2", job) == Clear()
        agent.die()
        await agent.stakes.leave("e1", again=False)
        assert [execution for execution, _ in agent.lost] == ["e1"]
        assert _claim(world, "r1")["holder"] == "e2"
        assert not _claim(world, "r1").get("done")

    world.run(main())


def story_a_claim_that_was_answered_after_its_lease() -> None:
    """Frozen between the question and its answer: what is told was true a lease ago."""
    world = _world()

    async def main() -> None:
        job = Job("job", "r1")
        agent = Agent(world)
        world.frozen = [Span("one", Clock.mono + 0.0045, Clock.mono + 300.0)]
        asking = asyncio.get_running_loop().create_task(agent.enter("e1", job))
        await asyncio.sleep(200.0)
        assert _claim(world, "r1")["holder"] == "e1"
        other = Agent(world, "two")
        assert await other.enter("e2", job) == Clear()
        assert await asking == Elsewhere(), "the run would run twice"

    world.run(main())
