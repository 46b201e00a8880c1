"""Leases on a clock that the test moves: when they are renewed, when they are lost, and what SQS is asked for."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import pytest
from scripted import ScriptedQueue, away

from runner.agent.intake import renewals as lease_module
from runner.agent.intake.renewals import LeaseKeeper
from runner.agent.runs.lease import SQS_LIMIT_S, TAKE_OVER_S, Lease
from runner.aws.messages import Received
from runner.aws.sqs import Failed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

VISIBILITY = 120.0
HOUR = 3600.0


class Bench:
    """A keeper at work, and everything that it says."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.queue = ScriptedQueue()
        self.lost: list[tuple[str, str]] = []
        self.limited: list[str] = []
        self.renewed: list[str] = []
        self.keeper = LeaseKeeper(
            self.queue,  # type: ignore[arg-type]
            VISIBILITY,
            on_lost=lambda lease, why: self.lost.append((lease.run_id, why)),
            on_limit=lambda lease: self.limited.append(lease.run_id),
            on_renewed=lambda leases: self.renewed.extend(lease.run_id for lease in leases),
            clock=lambda: self.now,
        )

    def hold(self, name: str = "r") -> Lease:
        lease = Lease(name, name, f"receipt-{name}", 1, self.now, self.now + VISIBILITY, VISIBILITY)
        self.keeper.hold(lease)
        return lease

    async def pass_(self, seconds: float) -> None:
        """Let time pass, in steps as the keeper would wake, and everything that follows happen."""
        end = self.now + seconds
        while self.now < end:
            self.now = min(self.now + 5.0, end)
            self.keeper._wake_renewal.set()  # noqa: SLF001 - the loop's timer knows nothing of this clock
            for _ in range(60):
                await asyncio.sleep(0)


@pytest.fixture
async def bench(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bench]:
    monkeypatch.setattr(lease_module, "RETRY_S", 0.0)
    made = Bench()
    tasks = [asyncio.create_task(made.keeper.renew_forever()), asyncio.create_task(made.keeper.delete_forever())]
    yield made
    for task in tasks:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def test_renewed_at_a_third_in_batches_of_ten(bench: Bench) -> None:
    leases = [bench.hold(f"r{number}") for number in range(25)]
    await bench.pass_(35)
    assert bench.queue.extended == []
    await bench.pass_(5)
    assert sorted(len(call) for call in bench.queue.extended) == [5, 10, 10]
    assert {seconds for call in bench.queue.extended for _, seconds in call} == {VISIBILITY}
    assert {lease.until for lease in leases} == {bench.now + VISIBILITY}
    assert sorted(bench.renewed) == sorted(lease.run_id for lease in leases)
    await bench.pass_(10 * VISIBILITY)
    assert not bench.lost


async def test_what_fails_alone_is_renewed_again_alone(bench: Bench) -> None:
    for number in range(3):
        bench.hold(f"r{number}")
    bench.queue.answers.append([Failed(1, "InternalError", sender_fault=False)])
    await bench.pass_(45)
    assert [len(call) for call in bench.queue.extended] == [3, 1]
    assert bench.queue.extended[1][0][0] == "receipt-r1"
    assert not bench.lost


async def test_a_refused_receipt_is_a_lost_lease_once(bench: Bench) -> None:
    bench.hold("kept")
    bench.hold("gone")
    bench.queue.answers.append([Failed(1, "MessageNotInflight", sender_fault=True, gone=True)])
    await bench.pass_(4 * VISIBILITY)
    assert bench.lost == [("gone", "SQS refused the renewal: MessageNotInflight")]
    assert all(len(call) == 1 for call in bench.queue.extended[1:])


async def test_a_lease_that_cannot_be_renewed_is_lost_when_its_time_has_passed(bench: Bench) -> None:
    bench.hold()
    bench.queue.answers.extend([away()] * 10_000)
    await bench.pass_(VISIBILITY - 5)
    assert not bench.lost
    await bench.pass_(10)
    assert bench.lost == [("r", "not renewed for 120s")]
    calls = len(bench.queue.extended)
    await bench.pass_(VISIBILITY)
    assert len(bench.queue.extended) == calls
    assert len(bench.lost) == 1


async def test_the_time_of_a_lease_counts_from_before_the_call(bench: Bench) -> None:
    lease = bench.hold()

    async def slow(entries: object) -> list[Failed]:
        del entries
        bench.now += 15.0
        return []

    bench.queue.extend = slow  # type: ignore[method-assign, assignment]
    await bench.pass_(40)
    assert lease.until == bench.now - 15.0 + VISIBILITY


async def test_a_redelivery_brings_a_lost_lease_back(bench: Bench) -> None:
    lease = bench.hold()
    bench.queue.answers.append([Failed(0, "ReceiptHandleIsInvalid", sender_fault=True, gone=True)])
    await bench.pass_(45)
    assert lease.lost
    lease.adopt(Received("r", "newer", "", 2, 0.0, None, bench.now, bench.now), bench.now, VISIBILITY)
    bench.keeper.hold(lease)
    await bench.pass_(45)
    assert bench.queue.extended[-1][0][0] == "newer"
    assert (lease.delivery, lease.lost, len(bench.lost)) == (2, False, 1)


async def test_a_receipt_that_changes_during_its_renewal_is_not_lost(bench: Bench) -> None:
    lease = bench.hold()

    async def refuse(entries: object) -> list[Failed]:
        del entries
        lease.adopt(Received("r", "newer", "", 2, 0.0, None, bench.now, bench.now), bench.now, VISIBILITY)
        return [Failed(0, "MessageNotInflight", sender_fault=True, gone=True)]

    bench.queue.extend = refuse  # type: ignore[method-assign, assignment]
    await bench.pass_(45)
    assert not bench.lost
    assert lease.receipt == "newer"


async def test_twelve_hours(bench: Bench) -> None:
    """No call ever asks beyond SQS's limit, and the run is taken over before it, once."""
    lease = bench.hold()
    began = bench.now
    asked: list[float] = []

    async def extend(entries: list[tuple[str, float]]) -> list[Failed]:
        asked.append(bench.now + entries[0][1])
        return []

    bench.queue.extend = extend  # type: ignore[method-assign, assignment]
    await bench.pass_(TAKE_OVER_S - 5)
    assert not bench.limited
    await bench.pass_(10)
    assert bench.limited == ["r"]
    await bench.keeper.extend([lease], 24 * HOUR)
    await bench.pass_(SQS_LIMIT_S - TAKE_OVER_S - 30)
    assert max(asked) < began + SQS_LIMIT_S
    assert bench.limited == ["r"]
    assert not bench.lost


async def test_a_deletion_is_repeated_until_sqs_has_taken_it(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runner.aws.backoff.FLOOR", 0.01)
    bench.queue.answers.extend(
        [
            away("ThrottlingException"),
            [Failed(0, "InternalError", sender_fault=False), Failed(1, "ReceiptHandleIsInvalid", True, gone=True)],
        ]
    )
    async with asyncio.timeout(20):
        await asyncio.gather(*(bench.keeper.delete(f"receipt-{number}") for number in range(12)))
    assert [len(call) for call in bench.queue.deleted] == [10, 10, 3]
    assert bench.queue.deleted[2] == ["receipt-10", "receipt-11", "receipt-0"]


async def test_a_message_that_comes_again_while_it_is_deleted_goes_by_its_newest_receipt(bench: Bench) -> None:
    lease, delete = bench.hold(), bench.queue.delete

    async def received_again(receipts: Sequence[str]) -> list[Failed]:
        if receipts == ["receipt-r"]:
            again = Received("r", "receipt-again", "", 2, 0.0, None, bench.now, bench.now)
            lease.adopt(again, bench.now, VISIBILITY)
        return await delete(receipts)

    bench.queue.delete = received_again  # type: ignore[method-assign]
    async with asyncio.timeout(20):
        await bench.keeper.delete_held(lease)
    assert bench.queue.deleted == [["receipt-r"], ["receipt-again"]]
    assert not bench.keeper.holding


async def test_a_release_is_not_renewed_any_more(bench: Bench) -> None:
    lease = bench.hold()
    await bench.keeper.release([lease], 7)
    assert bench.queue.extended == [[("receipt-r", 7)]]
    await bench.pass_(2 * VISIBILITY)
    assert len(bench.queue.extended) == 1
    assert not bench.lost


class Counted(Lease):
    """Counts how often its time is looked at."""

    looks = 0

    def due(self) -> float:
        Counted.looks += 1
        return super().due()


async def settle() -> None:
    for _ in range(60):
        await asyncio.sleep(0)


async def test_a_new_lease_costs_no_look_at_those_that_are_held(bench: Bench) -> None:
    for number in range(500):
        bench.keeper.hold(Counted(f"m{number}", "", f"x{number}", 1, bench.now, bench.now + VISIBILITY, VISIBILITY))
    await settle()
    Counted.looks = 0
    for number in range(20):
        bench.now += 0.01
        bench.hold(f"new{number}")
        await settle()
    assert Counted.looks == 0
    await bench.pass_(60)
    assert sum(len(call) for call in bench.queue.extended) == 520


async def test_a_lease_that_is_due_before_the_next_look_is_renewed_at_once(bench: Bench) -> None:
    bench.hold("first")
    await settle()
    bench.keeper.hold(Lease("m", "resumed", "receipt", 1, bench.now - HOUR, bench.now + 1.0, VISIBILITY))
    await settle()
    assert bench.queue.extended == [[("receipt", VISIBILITY)]]


async def test_a_message_is_held_once_by_its_newest_lease(bench: Bench) -> None:
    older, newer = bench.hold("m"), bench.hold("m")
    assert bench.keeper.holding == 1
    bench.keeper.drop(older)
    assert bench.keeper.holding == 1
    bench.keeper.drop(newer)
    assert bench.keeper.holding == 0


async def test_leases_that_are_due_one_after_the_other_are_renewed_in_few_looks(bench: Bench) -> None:
    """Messages come one by one: each renewed by a call of its own would cost ten times as many."""
    for number in range(100):
        until = bench.now + VISIBILITY + number * 0.01
        bench.keeper.hold(Lease(f"m{number}", f"r{number}", f"x{number}", 1, bench.now, until, VISIBILITY))
    start = bench.now
    while bench.now < start + 45:
        bench.now += 0.05
        await settle()
        if bench.keeper.looks_at <= bench.now:
            bench.keeper._wake_renewal.set()  # noqa: SLF001 - the loop's timer knows nothing of this clock
    assert not bench.lost
    assert sum(len(call) for call in bench.queue.extended) == 100
    assert len(bench.queue.extended) <= 20
