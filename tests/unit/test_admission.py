"""Admission as a function of values."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from runner.agent.runs.admission.occupancy import Ledger
from runner.agent.runs.admission.policy import (
    Admit,
    Hold,
    HostLoad,
    Kept,
    NeverFits,
    Skip,
    Terms,
    WaitsFor,
    decide,
    hand_back,
    lacks,
    room,
    terms,
)
from runner.config import Admission
from runner.config.sections import AdmissionResources
from runner.protocol.job import Job, Resources

if TYPE_CHECKING:
    from collections.abc import Mapping

NOW = 1_800_000_000.0
G = 2**30
M = 2**20
HOST = HostLoad(cores=4, memory=8 * G, busy=0.2, available=8 * G)
ONE = terms(Admission(policy="one-at-a-time"), None)
FREE = terms(Admission(policy="free-for-all"), None)
JOB = Job(job="backup", run_id="b-2", argv=("true",), command="true")


def free_for(most: int) -> Terms:
    return terms(Admission(policy="free-for-all", max_jobs=most), None)


def resources(host: HostLoad = HOST, max_jobs: int = 0, **settings: Any) -> Terms:
    return terms(Admission(policy="resources", max_jobs=max_jobs, resources=AdmissionResources(**settings)), host)


def asks(cpu: float | None = None, memory: int | None = None, named: Mapping[str, float] | None = None) -> Job:
    return replace(JOB, resources=Resources(cpu, memory, named or {}))


def running(on: Terms, *runs: tuple[str, str], **each: Any) -> Ledger:
    ledger = Ledger(price=on.asked)
    for run_id, job in runs:
        ledger.add(run_id, job, Resources(**each))
    return ledger


OTHER = ("r-1", "report")
SAME = ("b-1", "backup")


def test_one_at_a_time_asks_for_one_message_and_only_while_nothing_runs() -> None:
    assert room(ONE, running(ONE), None) == (1, "")
    assert room(ONE, running(ONE, OTHER), None) == (0, "one-at-a-time: another run is active")


def test_free_for_all_asks_for_what_is_left_of_max_jobs_and_never_more_than_ten() -> None:
    def runs(count: int) -> Ledger:
        return running(FREE, *((f"r-{number}", "report") for number in range(count)))

    assert room(FREE, runs(500), None)[0] == 10
    assert room(free_for(16), runs(9), None)[0] == 7
    assert room(free_for(16), runs(0), None)[0] == 10
    assert room(free_for(16), runs(16), None) == (0, "max_jobs: 16 of 16 are running")


def test_what_is_kept_for_a_held_run_is_not_asked_for() -> None:
    on = resources(cpu=4.0, memory=8 * G)
    assert room(on, running(on), None)[0] == 4
    assert room(on, running(on), None, Kept("big", {"cpu": 1.5, "memory": G, "(jobs)": 1}))[0] == 2
    assert room(on, running(on), None, Kept("big", {"cpu": 4, "(jobs)": 1}))[0] == 0


def test_a_second_run_waits_for_the_first_under_one_at_a_time() -> None:
    assert decide(ONE, JOB, running(ONE), None, NOW) == Admit()
    assert decide(ONE, JOB, running(ONE, OTHER), None, NOW) == lacks("jobs", "one-at-a-time: another run is active")


@pytest.mark.parametrize("on", [free_for(1), resources(max_jobs=1)], ids=["free-for-all", "resources"])
def test_max_jobs_caps_both_other_policies(on: Terms) -> None:
    assert decide(on, JOB, running(on, OTHER), HOST, NOW) == lacks("jobs", "max_jobs: 1 of 1 are running")


@pytest.mark.parametrize(
    ("overlap", "expected"),
    [
        ("allow", Admit()),
        ("skip", Skip("overlap", "run b-1 of backup is active")),
        ("wait", Hold(WaitsFor.OVERLAP, "overlap: waits for run b-1 of backup")),
        ("replace", Admit(replaces=("b-1",))),
    ],
)
def test_overlap_with_a_run_of_the_same_job(overlap: str, expected: object) -> None:
    job = replace(JOB, overlap=overlap)
    assert decide(FREE, job, running(FREE, OTHER, SAME), None, NOW) == expected
    assert decide(FREE, job, running(FREE, OTHER), None, NOW) == Admit()


def test_replace_takes_the_place_of_the_run_that_it_ends() -> None:
    job = replace(JOB, overlap="replace")
    assert decide(ONE, job, running(ONE, SAME), None, NOW) == Admit(replaces=("b-1",))
    on = resources(cpu=1.0, memory=G)
    assert decide(on, job, running(on, SAME), HOST, NOW) == Admit(replaces=("b-1",))
    # A run is not cancelled for one that could not start in its place.
    larger = replace(job, resources=Resources(cpu=1.0, memory=G))
    filled = running(on, SAME, cpu=0.5, memory=G // 2)
    filled.add("other", "report", Resources(cpu=0.5, memory=G // 2))
    assert isinstance(decide(on, larger, filled, HOST, NOW), Hold)


def test_after_not_after_a_run_is_stale() -> None:
    job = replace(JOB, not_after=NOW)
    assert decide(FREE, job, running(FREE), None, NOW) == Admit()
    decision = decide(FREE, job, running(FREE), None, NOW + 0.001)
    assert isinstance(decision, Skip)
    assert decision.reason == "stale"


@pytest.mark.parametrize(
    ("delivery", "most", "expected"), [(1, None, True), (99, None, True), (1, 5, True), (3, 5, True), (4, 5, False)]
)
def test_a_hand_back_never_triggers_the_redrive_policy(delivery: int, most: int | None, *, expected: bool) -> None:
    assert hand_back(delivery, most) is expected


# -- resources


def test_the_host_offers_what_it_has_less_the_reserve_and_what_is_said_instead() -> None:
    assert resources().offered == {"cpu": 3.5, "memory": 8 * G - 512 * M}
    on = resources(cpu=2.0, memory=G, named={"db_slots": 4.0})
    assert on.offered == {"cpu": 2.0, "memory": G, "db_slots": 4.0}


def test_a_host_smaller_than_the_reserve_offers_half_of_itself_and_takes_one_default_job() -> None:
    tiny = HostLoad(cores=0.5, memory=256 * M, busy=0.0, available=200 * M)
    on = resources(tiny, reserve_memory=64 * M)
    assert on.offered == {"cpu": 0.25, "memory": 192 * M}
    assert on.default == {"cpu": 0.25, "memory": 192 * M, "(jobs)": 1}
    assert decide(on, JOB, running(on), tiny, NOW) == Admit()
    assert room(on, running(on), None) == (1, "")


def test_declared_amounts_are_held_until_there_is_room_and_say_why() -> None:
    on = resources(memory=4 * G, cpu=4.0)
    taken = running(on, OTHER, cpu=3.5, memory=int(1.8 * G))
    assert decide(on, asks(cpu=0.5, memory=int(3.1 * G)), taken, None, NOW) == lacks(
        "memory", "memory 3.1G asked, 2.2G free"
    )
    assert decide(on, asks(cpu=1, memory=M), taken, None, NOW) == lacks("cpu", "cpu 1 asked, 0.5 free")
    assert decide(on, asks(cpu=0.5, memory=2 * G), taken, None, NOW) == Admit()


def test_named_resources_are_counted() -> None:
    on = resources(named={"db_slots": 2.0})
    taken = running(on, OTHER, cpu=0.1, memory=M, named={"db_slots": 1})
    assert decide(on, asks(0.1, M, {"db_slots": 1}), taken, None, NOW) == Admit()
    assert decide(on, asks(0.1, M, {"db_slots": 2}), taken, None, NOW) == lacks("db_slots", "db_slots 2 asked, 1 free")


def test_what_exceeds_the_host_never_fits_and_defaults_are_clamped() -> None:
    on = resources(cpu=0.5, memory=128 * M, named={"db_slots": 2.0})
    assert decide(on, JOB, running(on), None, NOW) == Admit()
    assert decide(on, asks(cpu=1), running(on), None, NOW) == NeverFits("cpu 1 asked, this host offers 0.5")
    assert decide(on, asks(memory=G), running(on), None, NOW) == NeverFits("memory 1G asked, this host offers 128M")
    assert decide(on, asks(named={"db_slot": 1}), running(on), None, NOW) == NeverFits(
        'unknown resource "db_slot", did you mean "db_slots"? (this host does not offer it)'
    )


def test_measured_use_above_the_declared_counts() -> None:
    on = resources(cpu=4.0, memory=4 * G)
    taken = running(on, OTHER, cpu=1, memory=G)
    taken.measure({"r-1": {"cpu": 3.25, "memory": 3 * G}})
    assert decide(on, asks(cpu=1, memory=M), taken, None, NOW) == lacks("cpu", "cpu 1 asked, 0.75 free")
    assert decide(on, asks(cpu=0.5, memory=2 * G), taken, None, NOW) == lacks("memory", "memory 2G asked, 1G free")
    taken.measure({"r-1": {"cpu": 0.1, "memory": M}})
    assert taken.taken == {"cpu": 1, "memory": G, "(jobs)": 1}
    taken.remove("r-1")
    assert not any(taken.taken.values())


def test_memory_that_others_use_is_not_free_nor_what_is_declared_and_not_touched_yet() -> None:
    on = resources(reserve_memory=G)
    taken = running(on, OTHER, cpu=1, memory=2 * G)
    load = replace(HOST, available=5 * G)
    # 5G available, less 2G that the run beside it has not touched yet.
    assert decide(on, asks(memory=4 * G), taken, load, NOW) == lacks("memory", "memory 4G asked, 3G free")
    # Once touched, the kernel counts it.
    taken.measure({"r-1": {"cpu": 0.0, "memory": 2 * G}})
    assert decide(on, asks(memory=3 * G), taken, replace(HOST, available=3 * G), NOW) == Admit()


def test_what_the_system_uses_is_what_the_reserve_is_for() -> None:
    # A container of 256M: its other half is used by the agent and the supervisor.
    tiny = HostLoad(cores=0.5, memory=256 * M, busy=0.1, available=150 * M)
    on = resources(tiny)
    assert decide(on, JOB, running(on), tiny, NOW) == Admit()


def test_more_memory_on_offer_than_there_is_means_that_it_is_over_committed() -> None:
    on = resources(memory=64 * G, cpu=4.0)
    assert decide(on, asks(memory=32 * G), running(on), HOST, NOW) == Admit()


@pytest.mark.parametrize(("busy", "admitted"), [(3.6, True), (3.61, False), (None, True)])
def test_above_max_load_nothing_is_admitted(busy: float | None, *, admitted: bool) -> None:
    load = replace(HOST, busy=busy)
    decision = decide(resources(), JOB, running(resources()), load, NOW)
    assert isinstance(decision, Admit) is admitted
    assert (room(resources(), running(resources()), load)[0] > 0) is admitted
    # The other policies do not look at it.
    assert decide(FREE, JOB, running(FREE), load, NOW) == Admit()


def test_the_sums_end_where_they_began_in_any_order() -> None:
    on = resources(cpu=10.0)
    ledger = running(on)
    for number in range(1000):
        ledger.add(str(number), "job", Resources(cpu=0.1 + number / 7, memory=number))
    for number in sorted(range(1000), key=lambda number: number * 37 % 1000):
        ledger.remove(str(number))
    assert not any(ledger.taken.values())
    assert ledger.untouched == 0
    assert ledger.of_job("job") == ()
