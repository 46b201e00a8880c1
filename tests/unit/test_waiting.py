"""The line of those who wait: what must hold after any sequence of arrivals, ends and loads."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.agent.runs.admission.line import (
    Dropped,
    Explained,
    HandBack,
    Line,
    Rejected,
    Replace,
    Skipped,
    Start,
    View,
    Waiting,
)
from runner.agent.runs.admission.occupancy import Ledger
from runner.agent.runs.admission.policy import Hold, HostLoad, Skip, Terms, WaitsFor, terms
from runner.config import Admission
from runner.config.sections import AdmissionResources
from runner.protocol.job import Job, Resources

M = 2**20
NOW = 1_800_000_000.0
HOST = HostLoad(cores=4, memory=1024 * M, busy=0.0, available=1024 * M)
HOLD_S = 60.0
MOST = 5

POLICIES = {
    "one-at-a-time": Admission(policy="one-at-a-time", hold=HOLD_S),
    "free-for-all": Admission(policy="free-for-all", max_jobs=3, hold=HOLD_S),
    "without a cap": Admission(policy="free-for-all", hold=HOLD_S),
    "resources": Admission(
        policy="resources",
        hold=HOLD_S,
        resources=AdmissionResources(reserve_memory=100 * M, named={"slots": 2.0}),
    ),
    "resources, capped": Admission(
        policy="resources", max_jobs=3, hold=HOLD_S, resources=AdmissionResources(cpu=3.0, memory=512 * M)
    ),
}


@dataclass
class World:
    """A host as the line sees it, and a check of every effect, with sums of its own."""

    on: Terms
    ledger: Ledger = field(default_factory=Ledger)
    running: dict[str, Job] = field(default_factory=dict)
    used: dict[str, dict[str, float]] = field(default_factory=dict)
    load: HostLoad = HOST
    clock: float = 0.0
    number: int = 0
    ended: list[Any] = field(default_factory=list)
    most: int | None = MOST
    known: bool = True
    paused: str | None = None

    def __post_init__(self) -> None:
        self.ledger.price = self.on.asked
        self.line: Line[str] = Line(self.ledger)

    def arrive(self, job: str, overlap: Any, asked: Resources, delivery: int = 1, late: float | None = None) -> str:
        self.number += 1
        run_id = f"run-{self.number}"
        not_after = None if late is None else NOW + self.clock + late
        made = Job(job, run_id, ("true",), "true", overlap=overlap, resources=asked, not_after=not_after)
        self.line.join(Waiting(made, run_id, self.clock, delivery))
        return run_id

    def end(self, run_id: str) -> None:
        del self.running[run_id]
        self.used.pop(run_id, None)
        self.ledger.remove(run_id)

    def measure(self, run_id: str, cpu: float, memory: int) -> None:
        self.used[run_id] = {"cpu": cpu, "memory": memory}
        self.ledger.measure({run_id: self.used[run_id]})

    def view(self) -> View:
        return View(
            self.on, self.load, NOW + self.clock, self.clock, self.most, redrive_known=self.known, paused=self.paused
        )

    def settle(self) -> list[Any]:
        before = dict(self.running)
        effects = self.line.settle(self.view())
        for effect in effects:
            self.check(effect, before)
        self.check_held()
        return effects

    # -- what must hold

    def free(self) -> dict[str, float]:
        """By our own sums: the offer, less asked or used, the larger."""
        left = dict(self.on.offered)
        untouched = 0.0
        for run_id, job in self.running.items():
            asked = self.on.asked(job.resources)
            used = self.used.get(run_id, {})
            for name, amount in asked.items():
                if name in left:
                    left[name] -= max(amount, used.get(name, 0.0))
            untouched += max(0.0, asked["memory"] - used.get("memory", 0.0))
        if self.on.measured and self.load.available is not None:
            left["memory"] = min(left["memory"], self.load.available - untouched)
        return left

    def overloaded(self) -> bool:
        busy = self.load.busy or 0.0
        return self.on.policy == "resources" and busy / self.load.cores > self.on.max_load

    def check(self, effect: Any, before: dict[str, Job]) -> None:
        waiting = effect.waiting
        job: Job = waiting.job
        same = [run_id for run_id, other in self.running.items() if other.job == job.job]
        match effect:
            case Start():
                assert not self.overloaded()
                assert job.not_after is None or NOW + self.clock <= job.not_after
                assert not (same and job.overlap in ("skip", "wait", "replace"))
                self.running[job.run_id] = job
                for name, amount in self.on.asked(job.resources).items():
                    assert amount == 0 or self.free().get(name, 0.0) >= -1e-6, f"over-committed: {name}"
            case Replace(run_ids=run_ids):
                assert job.overlap == "replace"
                assert set(run_ids) <= set(same)
                self.ended += run_ids
            case HandBack():
                assert waiting.delivery < MOST - 1
                assert self.known
                assert effect.never or self.paused or self.clock - waiting.since >= self.on.hold
            case Rejected():
                assert waiting.delivery >= MOST - 1
                assert self.known
            case Skipped(skip=skip):
                assert (skip.reason == "overlap") == (job.not_after is None or NOW + self.clock <= job.not_after)
                assert same or skip.reason == "stale"
            case Dropped():
                assert waiting.lost
        if not isinstance(effect, Replace | Start):
            assert job.run_id not in self.running
        assert before.keys() <= self.running.keys()

    def check_held(self) -> None:
        """Nobody waits who need not, the oldest least of all."""
        for_room = [w for w in self.line.waiting if w.held is not None and w.held.for_room]
        if for_room:
            asked, left = self.on.asked(for_room[0].job.resources), self.free()
            short = [name for name, amount in asked.items() if amount > 0 and amount > left.get(name, amount)]
            kept = self.line.kept is not None and self.line.kept.run_id != for_room[0].job.run_id
            assert short or self.overloaded() or kept, f"{for_room[0].reason}, and there is room"
        for waiting in self.line.waiting:
            assert waiting.reason
            overdue = self.clock - waiting.since >= self.on.hold
            assert not overdue or waiting.replaced or not self.view().may_go_back(waiting.delivery)


asked = st.builds(
    Resources,
    cpu=st.sampled_from([None, 0.0, 0.1, 0.5, 1.0, 2.0, 3.5, 9.0]),
    memory=st.sampled_from([None, 0, 1, 1, 64, 100, 200, 400, 924, 2048]).map(lambda count: count and count * M),
    named=st.sampled_from([{}, {}, {}, {"slots": 1.0}, {"slots": 2.0}]),
)
steps = st.lists(
    st.one_of(
        st.tuples(
            st.just("arrive"),
            st.sampled_from("abc"),
            st.sampled_from(["allow", "allow", "wait", "skip", "replace"]),
            asked,
            st.integers(1, MOST),
            st.sampled_from([None, None, None, -1.0, 20.0, 70.0]),
        ),
        st.tuples(st.just("arrive"), st.sampled_from("abcdef"), st.just("allow"), asked, st.just(1), st.none()),
        st.tuples(st.just("end"), st.integers(0, 20)),
        st.tuples(st.just("pass"), st.floats(0.1, 40)),
        st.tuples(st.just("load"), st.sampled_from([0.0, 1.0, 3.6, 3.7]), st.sampled_from([1024, 500, 200])),
        st.tuples(
            st.just("measure"),
            st.integers(0, 20),
            st.sampled_from([0.0, 0.5, 1.5, 3.0]),
            st.sampled_from([0, 50, 300, 600]),
        ),
        st.tuples(st.just("lose"), st.integers(0, 20)),
    ),
    min_size=12,
    max_size=40,
)


def one_of(world: World, number: int) -> str:
    return list(world.running)[number % len(world.running)]


def step(world: World, kind: str, values: list[Any]) -> None:
    """Let one thing happen, where it can."""
    if kind == "arrive":
        world.arrive(*values)
    elif kind == "pass":
        world.clock += values[0]
    elif kind == "load":
        world.load = replace(HOST, busy=values[0], available=values[1] * M)
    elif kind == "end" and world.running:
        world.end(one_of(world, values[0]))
    elif kind == "measure" and world.running:
        world.measure(one_of(world, values[0]), values[1], values[2] * M)
    elif kind == "lose" and world.line.waiting:
        world.line.waiting[values[0] % len(world.line.waiting)].lost = True


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(["resources", "resources, capped", *sorted(POLICIES)]), steps, st.booleans())
def test_any_sequence_of_arrivals_ends_and_loads(policy: str, sequence: list[tuple[Any, ...]], known: bool) -> None:
    world = World(terms(POLICIES[policy], HOST), known=known)
    for kind, *values in sequence:
        step(world, kind, values)
        world.settle()
        # What is to be replaced ends, sooner or later.
        for run_id in world.ended:
            if run_id in world.running:
                world.end(run_id)
        world.ended.clear()
    # When everything ends and the load goes, everybody's turn comes, in time for nobody to be left.
    world.load, world.known = HOST, True
    for _ in range(2 * len(sequence) + 2):
        for run_id in list(world.running):
            world.end(run_id)
        world.clock += HOLD_S
        world.settle()
    assert not world.line.waiting


@settings(max_examples=60, deadline=None)
@given(
    st.floats(1.1, 3.5),
    st.integers(1, 8),
    st.lists(st.lists(st.sampled_from([0.1, 0.25, 0.5, 1.0]), min_size=1, max_size=10), min_size=20, max_size=30),
)
def test_a_large_run_is_not_starved_by_small_ones_that_keep_arriving(
    large: float, lasts: int, arrivals: list[list[float]]
) -> None:
    world = World(terms(replace(POLICIES["resources"], hold=1e9), HOST))
    ends: dict[int, list[str]] = {}
    big = ""
    # Everybody before it starts and ends within so many turns; nobody behind it gets in its way.
    for turn in range(3 + lasts * 32):
        for run_id in ends.pop(turn, []):
            world.end(run_id)
        if turn == 3:
            big = world.arrive("large", "allow", Resources(cpu=large, memory=M))
        for cpu in arrivals[turn % len(arrivals)] if len(world.line.waiting) < 20 else ():
            world.arrive("small", "allow", Resources(cpu=cpu, memory=M))
        for effect in world.settle():
            if isinstance(effect, Start):
                ends.setdefault(turn + lasts, []).append(effect.waiting.job.run_id)
        if big in world.running:
            return
    raise AssertionError("it never started")


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from([0.1, 0.5, 1.0, 2.0]), min_size=2, max_size=12), st.integers(1, 4))
def test_runs_of_one_job_that_wait_for_each_other_keep_their_order(cpus: list[float], batch: int) -> None:
    world = World(terms(POLICIES["resources"], HOST))
    sent, order = [], []
    while len(order) < len(cpus):
        coming = cpus[len(sent) : len(sent) + batch]
        sent += [world.arrive("a", "wait", Resources(cpu=cpu, memory=M)) for cpu in coming]
        order += [effect.waiting.job.run_id for effect in world.settle() if isinstance(effect, Start)]
        assert len(world.running) == 1
        world.end(next(iter(world.running)))
    assert order == sent


def test_small_ones_pass_a_large_one_where_they_do_not_delay_it() -> None:
    world = World(terms(POLICIES["resources"], HOST))
    world.arrive("a", "allow", Resources(cpu=0.5, memory=M, named={"slots": 1}))
    large = world.arrive("b", "allow", Resources(cpu=1, memory=M, named={"slots": 2}))
    small = world.arrive("c", "allow", Resources(cpu=2, memory=M))
    other = world.arrive("d", "allow", Resources(cpu=0.5, memory=M))
    slots = world.arrive("e", "allow", Resources(cpu=0, memory=M, named={"slots": 1}))
    world.settle()
    assert set(world.running) == {"run-1", small}
    held = {waiting.job.run_id: waiting.reason for waiting in world.line.waiting}
    assert held == {
        large: "slots 2 asked, 1 free",
        other: f"cpu 0.5 asked, but it is kept for run {large}, held longer",
        slots: f"slots 1 asked, but it is kept for run {large}, held longer",
    }
    world.end("run-1")
    world.settle()
    assert large in world.running
    assert slots not in world.running


def test_messages_of_one_fifo_group_run_one_after_the_other_and_go_back_together() -> None:
    world = World(terms(POLICIES["without a cap"], None))
    for number in range(3):
        job = Job(f"job-{number}", f"g-{number}", ("true",), "true")
        world.line.join(Waiting(job, job.run_id, 0.0, 1, "group"))
    other = world.arrive("other", "allow", Resources())
    world.settle()
    assert set(world.running) == {"g-0", other}
    assert world.line.waiting[1].reason == "overlap: waits for run g-1 of group group"
    world.end("g-0")
    world.settle()
    assert set(world.running) == {"g-1", other}
    world.end("g-1")
    world.paused = "paused"
    assert [type(effect) for effect in world.settle()] == [HandBack]
    world.paused = None

    # One that goes back takes those behind it along, or they would overtake it.
    for number, cpu in enumerate((64, 1)):
        job = Job("a", f"h-{number}", ("true",), "true", resources=Resources(cpu=cpu))
        world.line.join(Waiting(job, job.run_id, 0.0, 1, "group"))
    world.on = terms(POLICIES["resources"], HOST)
    first, second = world.line.settle(world.view())
    assert isinstance(first, HandBack)
    assert isinstance(second, HandBack)
    assert first.never
    assert not second.never


def test_a_group_waits_for_each_of_its_runs_whoever_entered_it_in_the_ledger() -> None:
    """Two that a restart found at once: the next message waits for both."""
    world = World(terms(POLICIES["without a cap"], None))
    for name in ("old-1", "old-2"):
        world.ledger.add(name, "job", Resources(), "group")
    world.line.join(Waiting(Job("job", "new", ("true",), "true"), "t", 0.0, MOST, "group"))
    for name in ("old-1", "old-2"):
        world.line.settle(world.view())
        assert world.line.waiting[0].reason == f"overlap: waits for run {name} of group group"
        world.ledger.remove(name)
    [started] = world.line.settle(world.view())
    assert isinstance(started, Start)


def test_a_replacing_run_gets_the_room_of_the_one_it_replaces() -> None:
    world = World(terms(POLICIES["one-at-a-time"], None))
    old = world.arrive("a", "allow", Resources())
    world.settle()
    new = world.arrive("a", "replace", Resources())
    other = world.arrive("b", "allow", Resources())
    [effect] = [effect for effect in world.settle() if isinstance(effect, Replace)]
    assert effect.run_ids == (old,)
    assert not [effect for effect in world.settle() if isinstance(effect, Replace)], "it is cancelled once"
    world.end(old)
    world.settle()
    assert set(world.running) == {new}
    assert [waiting.job.run_id for waiting in world.line.waiting] == [other]


def test_a_paused_host_hands_back_what_it_may_and_holds_the_rest() -> None:
    world = World(terms(POLICIES["free-for-all"], None), paused="paused by root")
    world.arrive("a", "allow", Resources(), delivery=1)
    last = world.arrive("a", "allow", Resources(), delivery=MOST - 1)
    effects = world.settle()
    assert [type(effect) for effect in effects if not isinstance(effect, Start)][0] is HandBack  # noqa: RUF015
    assert [waiting.job.run_id for waiting in world.line.waiting] == [last]
    world.paused = None
    world.settle()
    assert set(world.running) == {last}


def test_a_run_becomes_stale_while_it_is_held() -> None:
    world = World(terms(POLICIES["one-at-a-time"], None))
    world.arrive("a", "allow", Resources())
    world.arrive("b", "allow", Resources(), late=30.0)
    world.settle()
    world.clock = 30.5
    [effect] = world.settle()
    assert isinstance(effect, Skipped)
    assert effect.skip.reason == "stale"


def test_what_never_fits_goes_back_and_is_rejected_when_it_may_not() -> None:
    world = World(terms(POLICIES["resources"], HOST))
    world.arrive("a", "allow", Resources(cpu=64), delivery=3)
    world.arrive("a", "allow", Resources(cpu=64), delivery=4)
    first, second = world.settle()
    assert isinstance(first, HandBack)
    assert first.never
    assert isinstance(second, Rejected)
    assert second.detail == "cpu 64 asked, this host offers 3.5"


def test_the_reason_is_said_once_for_each_change() -> None:
    world = World(terms(POLICIES["resources"], HOST))
    running = world.arrive("a", "allow", Resources(cpu=3.5, memory=M))
    world.arrive("b", "wait", Resources(cpu=1, memory=M), delivery=MOST)
    said = [effect for effect in world.settle() if not isinstance(effect, Start)]
    assert [effect.waiting.reason for effect in said] == ["cpu 1 asked, 0 free"]
    world.measure(running, 3.6, M)
    assert world.settle() == []
    world.load = replace(HOST, busy=3.9)
    [again] = world.settle()
    assert again.waiting.reason == "load 98% of the cores busy, above max_load 90%"


def test_a_job_under_maintenance_is_skipped_even_while_nothing_may_start() -> None:
    line: Line[str] = Line(Ledger())
    line.join(Waiting(Job("upkeep", "r-1", ("true",), "true"), "t", 0.0, 1))
    line.join(Waiting(Job("other", "r-2", ("true",), "true"), "t", 0.0, 1))
    on = terms(POLICIES["without a cap"], None)
    effects = line.settle(
        View(on=on, load=None, now=NOW, clock=0.0, blocked="disk", maintenance={"upkeep": "new disk"})
    )
    [skipped] = [effect for effect in effects if isinstance(effect, Skipped)]
    assert (skipped.waiting.job.run_id, skipped.skip) == ("r-1", Skip("maintenance", "new disk"))
    assert [waiting.job.run_id for waiting in line.waiting] == ["r-2"]


def test_what_the_fleet_said_holds_for_a_while_and_keeps_its_place() -> None:
    line: Line[str] = Line(Ledger())
    on = terms(POLICIES["one-at-a-time"], None)
    first, second = (Waiting(Job("j", f"r-{n}", ("true",), "true", overlap="wait"), "t", float(n), 1) for n in (1, 2))
    line.join(first)
    line.join(second)
    [started, *_] = line.settle(View(on=on, load=None, now=NOW, clock=2.0, max_receive_count=5))
    assert started == Start(first)
    line._running.remove("r-1")  # noqa: SLF001 - as the door does when the fleet says no
    first.elsewhere, first.not_before = Hold(WaitsFor.OVERLAP, "overlap: waits for run r-0 on another host"), 10.0
    line.rejoin(first)
    line.settle(View(on=on, load=None, now=NOW, clock=3.0, max_receive_count=5))
    assert [(waiting.job.run_id, waiting.kind) for waiting in line.waiting] == [("r-1", "overlap"), ("r-2", "overlap")]
    effects = line.settle(View(on=on, load=None, now=NOW, clock=10.0, max_receive_count=5))
    assert Start(first) in effects  # asked again


def test_a_copy_of_another_hosts_run_is_handed_back_at_once_and_held_when_it_may_not_be() -> None:
    on = terms(POLICIES["without a cap"], None)
    for delivery, kind in ((1, HandBack), (4, None)):
        line: Line[str] = Line(Ledger())
        copy = Waiting(Job("j", "r-1", ("true",), "true"), "t", 0.0, delivery)
        copy.elsewhere, copy.not_before = Hold(WaitsFor.CLAIMED, "another host runs it"), 10.0
        line.join(copy)
        effects = line.settle(View(on=on, load=None, now=NOW, clock=1.0, max_receive_count=5))
        if kind is None:
            assert line.waiting == [copy]
        else:
            assert [(type(effect), effect.hold.kind) for effect in effects] == [(HandBack, "claimed")]


@pytest.mark.parametrize(
    "name", ["overlap", "returned", "claimed", "fleet", "paused", "blocked", "never", "load", "room"]
)
def test_what_an_owner_names_a_resource_changes_no_rule(name: str) -> None:
    """The words for why one waits stand beside the names of resources, and are told from them."""
    on = terms(POLICIES["resources"], HOST)
    on = replace(on, offered={**on.offered, name: 1.0})
    running = Ledger(price=on.asked)
    running.add("r-0", "other", Resources(named={name: 1.0}))
    line: Line[str] = Line(running)
    line.join(Waiting(Job("j", "r-1", ("true",), "true", resources=Resources(named={name: 1.0})), "t", 0.0, 1))
    assert line.settle(View(on=on, load=None, now=NOW, clock=1.0, max_receive_count=5)) == [Explained(line.waiting[0])]
    assert line.waiting[0].kind == name
    assert line.kept is not None
    assert line.kept.run_id == "r-1"
