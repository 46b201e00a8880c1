"""Named histories of what hosts are told, and of what they tell."""

from __future__ import annotations

import asyncio
from typing import Any

from runner.agent.fleet.claims import Away, Clear
from runner.agent.runs.admission.policy import Skip
from runner.aws import directives
from runner.protocol import table as keys
from runner.protocol.message import InvalidMessage

from .claims_host import Job
from .cloud import Outage, World
from .member_host import MemberHost
from .virtual import Clock, now

JOB = Job("job", "r1")


def _world() -> World:
    world = World(1)
    world.slow = False
    return world


async def _tell(world: World, what: str) -> None:
    table = world.table("operator")
    if what == "pause":
        await directives.pause(table, "g", on=True, by="ann", why="", now=now())
    elif what == "maintenance":
        await directives.maintenance(table, "g", "job", on=True, by="ann", why="", now=now())
    else:
        await directives.cancel(table, "g", "r1", by="ann", why="", now=now())


def _expected(what: str) -> list[str]:
    return ["cancelled"] if what == "cancel" else ["back"]


def _words(world: World) -> list[str]:
    return [sk for pk, sk in world.dynamo.items if pk == "g#DIRECTIVES" and sk.startswith(keys.CANCEL)]


async def _over_elsewhere(world: World) -> MemberHost:
    """A host that runs r1 to its end."""
    host = MemberHost(world, "two")
    await host.join()
    host.message(JOB)
    assert await host.until_said("r1") == ["started"]
    host.runs["r1"].ended.set()
    await asyncio.sleep(1.0)
    return host


def story_first_look() -> None:
    """A restart while the table is away: what answers first is no claim."""
    for what in ("pause", "maintenance", "cancel"):
        for seed in range(6):
            world = World(seed)

            async def main(world: World = world, what: str = what) -> None:
                await _tell(world, what)
                host = MemberHost(world)
                world.outages = [Outage("table", "@one", Clock.mono, Clock.mono + 10.2, 0.5)]
                await host.join()
                while isinstance(await host.member.stakes.enter("e1", JOB), Away):  # type: ignore[arg-type]
                    await asyncio.sleep(world.random.uniform(2, 4))
                assert (host.pauses.get("group") is not None) == (what == "pause")
                assert ("job" in host.member.maintenance) == (what == "maintenance")
                assert (host.member.cancelled("r1") is not None) == (what == "cancel")

            world.run(main())


def story_told_while_this_host_could_not_reach_the_table() -> None:
    """What was heard before an outage is not what holds after it."""
    for what in ("pause", "maintenance", "cancel"):
        world = _world()

        async def main(world: World = world, what: str = what) -> None:
            host = MemberHost(world)
            await host.join()
            world.outages = [Outage("table", "@one", Clock.mono + 1.0, Clock.mono + 60.0, 0.01)]
            await asyncio.sleep(30.0)
            await _tell(world, what)
            waiting = host.message(JOB)
            while not _known(host):
                assert await host.until_said("r1") == ["back"], "it was started, or told, on older word"
                await asyncio.sleep(world.random.uniform(0.5, 2.0))
                host.said.clear()
                host.message(JOB, waiting=waiting)
            assert await host.until_said("r1") == _expected(what)

        world.run(main())


def _known(host: MemberHost) -> set[str]:
    member = host.member
    said = {"pause": member.told.paused, "maintenance": member.maintenance, "cancel": member.told.cancelled}
    return {what for what, known in said.items() if known}


def story_told_while_it_is_asked_for() -> None:
    """The answer of the table took its time: what was told meanwhile counts."""
    for what in ("pause", "maintenance", "cancel"):
        world = _world()

        async def main(world: World = world, what: str = what) -> None:
            host = MemberHost(world)
            await host.join()
            update = host.member.stakes._table.update  # noqa: SLF001 - one slow call of the real class

            async def slow(*args: Any, **more: Any) -> Any:
                answer = await update(*args, **more)
                await asyncio.sleep(8.0)
                return answer

            host.member.stakes._table.update = slow  # type: ignore[method-assign] # noqa: SLF001
            host.message(JOB)
            await asyncio.sleep(0.5)
            await _tell(world, what)
            assert await host.until_said("r1") == _expected(what)

        world.run(main())


def story_no_word_goes_around_the_claim() -> None:
    """A run is over; a copy of its message comes to another host, where it would be cancelled, skipped or rejected."""
    endings = {
        "cancelled": None,
        "under maintenance": Skip("maintenance", "by ann"),
        "too late": Skip("stale", "too late"),
        "no place for it": InvalidMessage("too large", reason="does_not_fit", job="job", run_id="r1"),
    }
    for name, ending in endings.items():
        world = _world()

        async def main(world: World = world, name: str = name, ending: Any = ending) -> None:
            await _over_elsewhere(world)
            if name == "cancelled":
                await _tell(world, "cancel")
            host = MemberHost(world)
            await host.join()
            host.message(JOB, ending=ending)
            await asyncio.sleep(60.0)
            assert host.said == [("", "deleted")], f"{name}: told {host.said} of a run that is over"
            assert not _words(world)

        world.run(main())


def story_what_does_not_run_is_told_once() -> None:
    """Nobody has run it: the one who has its claim tells what becomes of it, and a copy is deleted then."""
    world = _world()

    async def main() -> None:
        one, two = MemberHost(world, "one"), MemberHost(world, "two")
        await one.join()
        await two.join()
        skip = Skip("maintenance", "by ann")
        one.message(JOB, ending=skip)
        two.message(JOB, ending=skip)
        await asyncio.sleep(60.0)
        assert sorted([*one.said, *two.said]) == [("", "deleted"), ("r1", "skipped: maintenance")]

    world.run(main())


def story_cancelled_while_another_host_runs_it() -> None:
    """The host that has the run ends it and tells it; the copy's host tells nothing."""
    world = _world()

    async def main() -> None:
        runs, other = MemberHost(world, "two"), MemberHost(world, "one")
        await runs.join()
        await other.join()
        runs.message(JOB)
        await runs.until_said("r1")
        await _tell(world, "cancel")
        await asyncio.sleep(7.0)
        other.message(JOB)
        await asyncio.sleep(60.0)
        assert not runs.runs
        assert other.said == [("", "deleted")]
        assert not _words(world)

    world.run(main())


def story_a_word_ends_with_what_it_was_about() -> None:
    """A replace each minute for an hour: no word is left, and a look reads what is new."""
    world = _world()

    async def main() -> None:
        hosts = [MemberHost(world, "one"), MemberHost(world, "two")]
        for host in hosts:
            await host.join()
        for minute in range(60):
            job = Job("job", f"r{minute}", "replace")
            host = hosts[minute % 2]
            began, waiting = Clock.mono, host.message(job)
            while await host.until_said(job.run_id) != ["started"]:
                host.said.clear()
                await asyncio.sleep(2.0)
                host.message(job, waiting=waiting)
            await asyncio.sleep(max(0.0, 60.0 - (Clock.mono - began)))
        await asyncio.sleep(60.0)
        assert len(hosts[0].runs) + len(hosts[1].runs) == 1
        assert not _words(world)
        read = _items_read(world)
        await asyncio.sleep(600.0)
        assert sum(read) <= 120 * 2 + 11 * 4, "a look reads what it knows already"

    world.run(main())


def _items_read(world: World) -> list[int]:
    """How many items each query returns from now on."""
    sizes: list[int] = []
    query = world.dynamo.query

    def counted(**asked: Any) -> Any:
        answer = query(**asked)
        sizes.append(len(answer["Items"]))
        return answer

    world.dynamo.query = counted  # type: ignore[method-assign]
    return sizes


def story_a_word_about_a_run_that_has_just_ended() -> None:
    """Its host never saw it: whoever wrote it takes it away."""
    world = _world()

    async def main() -> None:
        older, newer = MemberHost(world, "two"), MemberHost(world, "one")
        await older.join()
        await newer.join()
        older.message(Job("job", "r1", "replace"))
        await older.until_said("r1")
        waiting = newer.message(Job("job", "r2", "replace"))
        assert await newer.until_said("r2") == ["back"]
        older.runs["r1"].ended.set()
        await asyncio.sleep(2.0)
        newer.message(waiting.job, waiting=waiting)  # type: ignore[arg-type]
        await asyncio.sleep(2.0)
        assert ("r2", "started") in newer.said
        assert not _words(world)

    world.run(main())


def story_a_look_reads_what_is_new() -> None:
    """21,600 words of an older version lie there: a look does not read them each time."""
    world = _world()

    async def main() -> None:
        for number in range(21_600):
            key = keys.cancel("g", f"old-{number}")
            word = {**key.attributes(), "on": True, "by": "run x", "why": "overlap = replace", "number": "1"}
            world.dynamo.items[key.pk, key.sk] = word | {"changed_at": "2030-01-01T00:00:00.000000Z"}
        host = MemberHost(world)
        await host.join()
        pages = world.pages
        await asyncio.sleep(120.0)
        # About 24 looks, of which two or three read all 22 pages.
        assert world.pages - pages < 30 + 3 * 22
        await _tell(world, "cancel")
        began = Clock.mono
        while host.member.cancelled("r1") is None:
            await asyncio.sleep(0.1)
        assert Clock.mono - began < 7.0

    world.run(main())


def story_the_word_about_a_run_that_was_interrupted_stays() -> None:
    """It comes again, and is cancelled then."""
    world = _world()

    async def main() -> None:
        host, other = MemberHost(world), MemberHost(world, "two")
        await host.join()
        host.message(JOB)
        await host.until_said("r1")
        await host.runs["r1"].stop("interrupted")
        await _tell(world, "cancel")
        await asyncio.sleep(10.0)
        assert _words(world)
        await other.join()
        other.message(JOB)
        assert await other.until_said("r1") == ["cancelled"]
        await asyncio.sleep(5.0)
        assert not _words(world)

    world.run(main())


def story_without_a_look_nothing_is_claimed() -> None:
    """However well claims are answered."""
    world = _world()

    async def main() -> None:
        host = MemberHost(world)
        assert isinstance(await host.member.stakes.enter("e1", JOB), Away)  # type: ignore[arg-type]
        await host.join()
        assert await host.member.stakes.enter("e1", JOB) == Clear()  # type: ignore[arg-type]

    world.run(main())
