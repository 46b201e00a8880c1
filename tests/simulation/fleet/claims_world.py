"""Random worlds of claims and locks, and what docs/fleet.md promises of them.

Three hosts get copies of the messages of a few runs, while the table is away for some, agents die and are restarted,
hosts are frozen, calls fail and answers are lost.
"""

from __future__ import annotations

import asyncio
import itertools
from typing import TYPE_CHECKING, Any

from runner.aws.leases import SKEW_S
from runner.protocol import table as keys

from .claims_host import LEASE_S, Execution, Host, Job
from .cloud import Outage, Span, Violation, World
from .virtual import BEGIN, Clock

if TYPE_CHECKING:
    import random
    from collections.abc import Iterable

# With calls that fail now and then, a host that can reach the table renews well before this much of a lease is left.
OUT_OF_REACH_S = LEASE_S * 2 / 3 - 15.0
# How long after an end, or a refused start, what was held may still be seen: the tries of a call that fails.
GIVEN_UP_WITHIN_S = 150.0
HOSTS = ("h0", "h1", "h2")
RESTARTS_UNTIL_S = 1500.0
LONGEST_S = 20_000.0


class Fleet:
    """What is true of the runs, and the promises."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.gone: list[Span] = []
        self._active: dict[str, Execution] = {}
        self._ended: dict[str, Execution] = {}
        self._asking: dict[str, Execution] = {}
        self._over: set[str] = set()
        self._skipped: set[str] = set()
        # Executions that may be found in the table, each with until when.
        self._known: dict[str, tuple[Execution, float]] = {}
        self._taken_from: set[str] = set()
        self._told: dict[str, int] = {}  # by which life of its host's agent
        world.dynamo.changed.append(self._written)

    # -- what the table is told

    def _written(self, key: tuple[str, str], before: dict[str, Any] | None, after: dict[str, Any] | None) -> None:
        if key[1] not in ("CLAIM", "LOCK"):
            return
        was, now_ = (before or {}).get("holder"), (after or {}).get("holder")
        self.world.note("  table", key[0], key[1], f"{was} -> {now_}", "done" if (after or {}).get("done") else "")
        if before and before.get("done") and (not after or not after.get("done") or was != now_):
            raise Violation(f"the claim of {key[0]} was over for good, and is {now_}'s")
        if was and now_ and was != now_ and was in self._active:
            # Taken from one that runs: only where its host could not speak up for long enough.
            if self._out_of_reach(self._active[was].host) < OUT_OF_REACH_S:
                raise Violation(f"{key[1]} of {was} was taken by {now_} though its host could reach the table")
            self._taken_from.add(was)

    def _out_of_reach(self, host: str) -> float:
        """For how many of the last seconds of a lease this host could not renew."""
        first = Clock.mono - LEASE_S - 2 * SKEW_S
        world = self.world
        spans = [(o.begin, o.end + o.fails_after) for o in world.outages if o.where in ("", f"@{host}")]
        spans += [(s.begin, s.end) for s in [*world.frozen, *self.gone] if s.who == host]
        return _length((max(first, a), min(Clock.mono, b)) for a, b in spans)

    # -- what the hosts do

    def asking(self, execution: Execution) -> None:
        self._asking[execution.id] = execution
        self._known[execution.id] = execution, float("inf")

    def not_started(self, execution: Execution) -> None:
        self._asking.pop(execution.id, None)
        self._known[execution.id] = execution, Clock.mono + GIVEN_UP_WITHIN_S

    def starts(self, execution: Execution) -> None:
        """It may run: nothing else of its run id, nor of its job where that matters, unless that one's host was out
        of reach for as long as its lease."""
        self._asking.pop(execution.id, None)
        job = execution.job
        if job.run_id in self._over:
            raise Violation(f"{execution.id} starts after its run was over")
        for other in self._active.values():
            same = other.job.run_id == job.run_id
            if not same and (other.job.job != job.job or job.overlap == "allow"):
                continue
            if other.id not in self._taken_from:
                what = "one run id runs twice" if same else "two runs of a job overlap"
                raise Violation(f"{what}: {other.id} and {execution.id}")
        self._active[execution.id] = execution
        self._known[execution.id] = execution, float("inf")
        self.world.note(execution.host, "START", execution.id)

    def ends(self, execution: Execution, *, again: bool) -> None:
        self.world.note(execution.host, "END", execution.id, "again" if again else "")
        del self._active[execution.id]

    def left(self, execution: Execution, *, again: bool) -> None:
        """The table has heard of the end."""
        job = execution.job
        self.world.note(execution.host, "left", execution.id)
        self._known[execution.id] = execution, Clock.mono
        claim = self.world.dynamo.items.get(_at(keys.claim("g", job.run_id))) or {}
        lock = self.world.dynamo.items.get(_at(keys.lock("g", job.job))) or {}
        if lock.get("holder") == execution.id:
            raise Violation(f"the lock of {job.job} is held after {execution.id} has left")
        if again:
            if claim.get("holder") == execution.id and not claim.get("done"):
                raise Violation(f"the claim of {job.run_id} is held after {execution.id} has left")
            return
        if claim.get("done"):
            self._over.add(job.run_id)
        elif claim.get("holder") is None or claim["holder"] == execution.id:
            raise Violation(f"{execution.id} ended, and the claim of its run is not over: it would run again")
        elif execution.id not in self._told:
            raise Violation(f"{execution.id} ended while {claim['holder']} has its claim, and nobody was told")

    def skipped(self, execution: Execution) -> None:
        self._skipped.add(execution.job.run_id)

    def busy(self, execution: Execution, run_id: str) -> None:
        """Told that another run of its job is active: then it is, or was not long ago, or its host is out of reach."""
        for other, until in self._known.values():
            if other.job.run_id != run_id or other.id == execution.id:
                continue
            # An agent that died frees what it held when its lease has run out.
            died = [s.end for s in self.gone if s.who == other.host and s.begin > Clock.mono - 3 * LEASE_S]
            away = self._out_of_reach(other.host) or died
            if until + 1.0 >= Clock.mono or away:
                return
        raise Violation(f"{execution.id} is told that {run_id} is active, and nothing of it is")

    def told_lost(self, execution: str, why: str, *, life: int) -> None:
        """A lease is lost where the table says that it is another's; each life of an agent tells it once."""
        if self._told.get(execution) == life:
            raise Violation(f"{execution} was told twice that its lease is lost")
        self._told[execution] = life
        if execution not in self._taken_from and execution in self._active:
            raise Violation(f"{execution} is told that its lease is lost, and nobody took it: {why}")

    def at_the_end(self, runs: list[Job]) -> None:
        """All is quiet: every run is over or was skipped, and nothing is held."""
        for job in runs:
            claim = self.world.dynamo.items.get(_at(keys.claim("g", job.run_id))) or {}
            if not claim.get("done"):
                raise Violation(f"the run {job.run_id} is not over at the end: {claim}")
            lock = self.world.dynamo.items.get(_at(keys.lock("g", job.job))) or {}
            if lock.get("holder") is not None:
                raise Violation(f"the lock of {job.job} is {lock['holder']}'s at the end")


def random_world(world: World) -> None:
    draw = world.random
    _weather(world)
    fleet = Fleet(world)

    async def main() -> None:
        kinds = {name: draw.choice(("allow", "wait", "skip")) for name in ("a", "b")}
        names = [draw.choice("ab") for _ in range(draw.randint(2, 6))]
        runs = [Job(name, f"r{number}", kinds[name]) for number, name in enumerate(names)]
        hosts = [Host(fleet, name, ahead=draw.choice((0.0, 0.0, 1.5, -1.5))) for name in HOSTS]
        async with asyncio.TaskGroup() as all_:
            for job in runs:
                all_.create_task(_message(draw, job, hosts))
            for host in hosts:
                all_.create_task(_restarts(draw, host))
        world.faults = False
        await asyncio.sleep(GIVEN_UP_WITHIN_S)
        fleet.at_the_end(runs)

    world.run(main(), within=LONGEST_S)


def _weather(world: World) -> None:
    draw = world.random
    world.faults = draw.random() < 0.8
    world.fails_before = draw.choice((0.01, 0.05))
    world.fails_after = draw.choice((0.01, 0.05))
    if draw.random() < 0.5:
        begin = BEGIN + draw.uniform(0, 600)
        where = draw.choice(("", "@h0", "@h1"))
        length = draw.choice((0.5, 20, 100, 200, 400))
        world.outages = [Outage("table", where, begin, begin + length, draw.choice((0.01, 5.0)))]
    if draw.random() < 0.4:
        begin = BEGIN + draw.uniform(0, 600)
        world.frozen = [Span(draw.choice(HOSTS), begin, begin + draw.choice((0.05, 10, 70, 130, 300)))]


async def _message(draw: random.Random, job: Job, hosts: list[Host]) -> None:
    """Copies of a run's message come to hosts until one of them says that it is over."""
    numbers = itertools.count()
    await asyncio.sleep(draw.uniform(0, 300))

    async def copy() -> None:
        while not await draw.choice(hosts).deliver(job, next(numbers)):
            await asyncio.sleep(draw.choice((0.1, 5, 60)))

    async with asyncio.TaskGroup() as copies:
        for _ in range(draw.choice((1, 1, 2, 3))):
            copies.create_task(copy())
            await asyncio.sleep(draw.choice((0, 0.02, 30, 200)))


async def _restarts(draw: random.Random, host: Host) -> None:
    while Clock.mono < BEGIN + RESTARTS_UNTIL_S:
        await asyncio.sleep(draw.choice((50, 200, 1000)))
        if draw.random() < 0.5:
            await host.restart(draw.choice((0.0, 1.0, 5.0)), on_purpose=draw.random() < 0.3)


def _at(key: keys.Key) -> tuple[str, str]:
    return key.pk, key.sk


def _length(spans: Iterable[tuple[float, float]]) -> float:
    """Of the union of spans, of which some may be empty."""
    total, reached = 0.0, float("-inf")
    for begin, end in sorted(span for span in spans if span[0] < span[1]):
        total += max(0.0, end - max(begin, reached))
        reached = max(reached, end)
    return total
