"""Dead letters go together, in order, and none is waited for by more than there is room for."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from runner.agent.intake import dead_letters
from runner.agent.intake.dead_letters import DeadLetters
from runner.agent.runs.burden import MOST, MOST_BYTES, Burden, weight
from runner.aws.messages import Failed, Received
from runner.errors import AwsUnavailable

if TYPE_CHECKING:
    from runner.aws.sqs import Outgoing


def received(name: str, size: int = 0) -> Received:
    return Received(name, f"r-{name}", name + "x" * size, 1, 0.0, None, 0.0, 0.0)


class Taker:
    """A queue that takes, refuses or fails, and remembers in which calls."""

    fifo = False

    def __init__(self) -> None:
        self.calls: list[list[str]] = []
        self.away = False
        self.refuses: dict[str, str] = {}  # code by body

    async def send(self, entries: list[Outgoing]) -> list[Failed]:
        self.calls.append([entry.body for entry in entries])
        await asyncio.sleep(0)
        if self.away:
            raise AwsUnavailable("SendMessageBatch", "AccessDenied", "no")
        return [
            Failed(at, self.refuses[entry.body], sender_fault=False)
            for at, entry in enumerate(entries)
            if entry.body in self.refuses
        ]


@pytest.fixture
def taker() -> Taker:
    return Taker()


@pytest.fixture
def letters(taker: Taker, monkeypatch: pytest.MonkeyPatch) -> DeadLetters:
    made: Any = DeadLetters(None, "")  # type: ignore[arg-type]
    made.settle(None)
    made._queue = taker  # noqa: SLF001 - no session, so no wire
    monkeypatch.setattr(dead_letters, "delay", lambda *_, **__: 0.0)
    return made  # type: ignore[no-any-return]


def test_what_waits_together_goes_together(letters: DeadLetters, taker: Taker) -> None:
    async def run() -> list[bool]:
        return await asyncio.gather(*(letters.send(received(f"m{n:02}")) for n in range(25)))

    assert asyncio.run(run()) == [True] * 25
    assert sorted(body for call in taker.calls for body in call) == [f"m{n:02}" for n in range(25)]
    assert len(taker.calls) <= 4


def test_large_ones_go_in_batches_that_the_queue_takes(letters: DeadLetters, taker: Taker) -> None:
    async def run() -> list[bool]:
        return await asyncio.gather(*(letters.send(received(f"m{n}", 100_000)) for n in range(7)))

    assert asyncio.run(run()) == [True] * 7
    assert max(sum(map(len, call)) for call in taker.calls) <= 256 * 1024


def test_one_that_is_refused_holds_up_no_other(letters: DeadLetters, taker: Taker) -> None:
    taker.refuses = {"bad": "KmsDisabled", "never": "InvalidMessageContents"}

    async def run() -> tuple[set[str], bool]:
        tasks = {name: asyncio.create_task(letters.send(received(name))) for name in ("bad", "never", "a", "b")}
        await asyncio.wait([tasks["never"], tasks["a"], tasks["b"]])
        waiting = {name for name, task in tasks.items() if not task.done()}
        taker.refuses = {}
        return waiting, await tasks["bad"]

    assert asyncio.run(run()) == ({"bad"}, True)


def test_what_is_crowded_while_the_queue_fails_is_given_up(letters: DeadLetters, taker: Taker) -> None:
    taker.away = True
    crowd: list[str] = []

    async def send(name: str) -> bool:
        crowd.append(name)
        try:
            return await letters.send(received(name), crowded=lambda: len(crowd) > 20)
        finally:
            crowd.remove(name)

    async def run() -> tuple[int, bool]:
        first = [asyncio.create_task(send(f"m{n}")) for n in range(20)]
        await asyncio.sleep(0.01)
        assert not any(task.done() for task in first)
        last = asyncio.create_task(send("one more"))
        assert not any(await asyncio.gather(*first, last))
        taker.away = False
        return len(crowd), await send("after")

    assert asyncio.run(run()) == (0, True)


def test_a_letter_whose_sender_has_left_is_not_sent_for_ever(letters: DeadLetters, taker: Taker) -> None:
    async def run() -> None:
        taker.away = True
        left = asyncio.create_task(letters.send(received("left")))
        await asyncio.sleep(0.01)
        left.cancel()
        await asyncio.wait([left])
        taker.away = False
        taker.calls.clear()
        assert await letters.send(received("next"))

    asyncio.run(run())
    assert taker.calls == [["next"]]


def test_a_copy_has_what_came_along_as_far_as_the_queue_takes_it(
    letters: DeadLetters, taker: Taker, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[Outgoing] = []
    real = taker.send

    async def send(entries: list[Outgoing]) -> list[Failed]:
        sent.extend(entries)
        return await real(entries)

    monkeypatch.setattr(taker, "send", send)
    given: dict[str, dict[str, Any]] = {"a": {"DataType": "Binary", "BinaryValue": b"\0\xff"}}
    message = Received("m", "r", "x", 1, 0.0, "group", 0.0, 0.0, given, "Root=1-2-3")
    assert asyncio.run(letters.send(message))
    assert [(entry.attributes, entry.trace, entry.group_id) for entry in sent] == [(given, "Root=1-2-3", "group")]
    # What the queue will never take with them is worth more without them than nothing.
    sent.clear()
    taker.refuses = {"x": "InvalidParameterValue"}
    monkeypatch.setattr(dead_letters, "delay", lambda *_, **__: 0.0)
    assert asyncio.run(letters.send(message))
    assert [(bool(entry.attributes), bool(entry.trace)) for entry in sent] == [(True, True), (False, False)]


def test_room_to_receive_counts_number_and_bytes() -> None:
    burden = Burden()
    assert burden.room()[0] > 10
    assert not burden.heavy
    for _ in range(MOST):
        burden.add(100)
    assert burden.room()[0] == 0
    assert f"{MOST} messages" in burden.room()[1]
    for _ in range(MOST - 10):
        burden.remove(100)
    assert burden.room()[0] > 10
    burden.add(MOST_BYTES)
    assert burden.room()[0] == 0
    assert burden.heavy
    burden.remove(MOST_BYTES)
    burden.also = lambda: (MOST, 0)
    assert burden.room()[0] == 0


def test_a_message_weighs_what_it_takes_in_memory() -> None:
    assert weight(received("a", 1000)) < weight(received("é", 1000)) + 1000
    assert weight(received("\U0001f600", 1000)) > 4000
