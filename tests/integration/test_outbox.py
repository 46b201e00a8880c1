"""The outbox on a real journal and a queue that refuses, is away, or takes half."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from typing import TYPE_CHECKING, Any

import pytest
from scripted import ScriptedQueue, away

from runner.agent.journal.database import Database
from runner.agent.journal.outgoing import Unsent
from runner.agent.journal.runs import Journal
from runner.agent.reporting import outbox as outbox_module
from runner.agent.reporting.outbox import Outbox, turns
from runner.aws.sqs import Failed, Outgoing
from runner.protocol.event import Event

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

PATIENCE = 0.5


class Bench:
    """An outbox at work."""

    def __init__(self, path: Path, *, fifo: bool = False) -> None:
        self.database = Database(path)
        self.journal = Journal(self.database, "agent")
        self.queue = ScriptedQueue(fifo=fifo)
        self.outbox = Outbox(self.journal, self.queue, patience=PATIENCE)  # type: ignore[arg-type]
        self._task = asyncio.create_task(self.outbox.run())

    async def tell(self, id_: str, subject: str = "r", **data: Any) -> asyncio.Future[None]:
        accepted = self.outbox.accepted(id_)
        body = json.dumps({"id": id_, "data": {"sequence": 1, **data}})
        await self.journal.event(Event(id_, "t", body, subject), 1.0)
        self.outbox.committed()
        return accepted

    @property
    def arrived(self) -> list[str]:
        return [json.loads(entry.body)["id"] for entry in self.queue.taken]

    async def close(self) -> None:
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        await self.database.close()


@pytest.fixture
async def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bench]:
    _hasten(monkeypatch)
    made = Bench(tmp_path / "journal.db")
    yield made
    await made.close()


@pytest.fixture
async def fifo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bench]:
    _hasten(monkeypatch)
    made = Bench(tmp_path / "journal.db", fifo=True)
    yield made
    await made.close()


def _hasten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox_module, "RETRY_S", 0.01)
    monkeypatch.setattr("runner.aws.backoff.FLOOR", 0.02)


async def until(condition: Callable[[], object], within: float = 20.0) -> None:
    async with asyncio.timeout(within):
        while not condition():
            await asyncio.sleep(0.01)


async def test_events_go_in_batches_and_are_forgotten_when_taken(bench: Bench) -> None:
    accepted = [await bench.tell(f"e{number}") for number in range(35)]
    async with asyncio.timeout(20):
        await asyncio.gather(*accepted)
        assert await bench.outbox.flush(10)
    assert sorted(bench.arrived) == sorted(f"e{number}" for number in range(35))
    assert all(len(call) <= 10 for call in bench.queue.offered)
    assert await bench.journal.unsent_count() == 0


async def test_a_batch_that_is_taken_in_part(bench: Bench) -> None:
    """Only what was not taken is sent again; a refusal that may pass never makes an event shorter or lost."""
    once = {
        "e0": Failed(0, "InternalError", sender_fault=False),
        "e2": Failed(0, "KmsAccessDenied", sender_fault=True),
    }
    bench.queue.judge = lambda entry: once.pop(json.loads(entry.body)["id"], None)
    async with asyncio.timeout(20):
        await asyncio.gather(*[await bench.tell(f"e{number}", tail="x" * 100) for number in range(4)])
    assert sorted(bench.arrived) == ["e0", "e1", "e2", "e3"]
    assert all("shortened" not in json.loads(entry.body)["data"] for entry in bench.queue.taken)


async def test_an_outage_loses_nothing_and_wears_patience_out(bench: Bench) -> None:
    bench.queue.answers.extend([away()] * 8)
    began = time.monotonic()
    accepted = await bench.tell("e1")
    await accepted  # not taken yet, but nobody waits any longer
    waited = time.monotonic() - began
    assert waited >= PATIENCE
    assert bench.arrived == []
    assert bench.outbox.failing_since is not None
    assert bench.outbox.failing_since - began < 0.2  # since the first call that failed began, not since it ended
    await until(lambda: bench.arrived == ["e1"])
    await until(lambda: bench.outbox.failing_since is None)
    assert await bench.outbox.flush(5)


async def test_a_queue_that_refuses_every_entry_is_away_too(bench: Bench) -> None:
    bench.queue.judge = lambda _: Failed(0, "InternalError", sender_fault=False)
    async with asyncio.timeout(20):
        await (await bench.tell("e1"))
    assert bench.arrived == []
    bench.queue.judge = lambda _: None
    await until(lambda: bench.arrived == ["e1"])


async def test_an_event_that_is_too_large_is_shortened_until_it_fits(bench: Bench) -> None:
    def limit(entry: Outgoing) -> Failed | None:
        return Failed(0, "InvalidParameterValue", sender_fault=True) if len(entry.body) > 10_000 else None

    bench.queue.judge = limit
    async with asyncio.timeout(20):
        large = await bench.tell("large", output={"tail": "x" * 100_000})
        await asyncio.gather(large, await bench.tell("small"))
    found = {json.loads(entry.body)["id"]: json.loads(entry.body)["data"] for entry in bench.queue.taken}
    assert found["large"]["shortened"] is True
    assert 5_000 < len(found["large"]["output"]["tail"]) < 10_000
    assert "shortened" not in found["small"]


async def test_an_event_that_is_never_taken_is_given_up_loudly(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    bench.queue.judge = lambda entry: (
        Failed(0, "InvalidMessageContents", sender_fault=True) if '"bad"' in entry.body else None
    )
    async with asyncio.timeout(20):
        await asyncio.gather(await bench.tell("bad"), await bench.tell("good"))
        assert await bench.outbox.flush(10)
    assert bench.arrived == ["good"]
    assert "event_refused" in capsys.readouterr().out


async def test_a_call_that_is_refused_for_one_entry_is_taken_apart(bench: Bench) -> None:
    bench.queue.answers.append(away("BatchRequestTooLong"))
    async with asyncio.timeout(20):
        await asyncio.gather(*[await bench.tell(f"e{number}") for number in range(3)])
    assert sorted(bench.arrived) == ["e0", "e1", "e2"]


async def test_no_more_than_a_window_is_in_memory(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox_module, "WINDOW", 50)
    bench.queue.answers.extend([away()] * 5)
    bench.outbox.hurry()
    for number in range(300):
        await bench.tell(f"e{number:03}")
        assert len(bench.outbox._window) + bench.outbox._sending <= 50  # noqa: SLF001
    async with asyncio.timeout(30):
        while not await bench.outbox.flush(5):
            assert len(bench.outbox._window) <= 50  # noqa: SLF001
    assert sorted(set(bench.arrived)) == [f"e{number:03}" for number in range(300)]


async def test_the_events_of_a_run_stay_in_order_on_a_fifo_queue(fifo: Bench) -> None:
    """Whatever is refused in between; other runs are not kept waiting for it."""
    fifo.queue.answers.extend(
        [
            [Failed(0, "InternalError", sender_fault=False), Failed(1, "InternalError", sender_fault=False)],
            [],
            [Failed(0, "InternalError", sender_fault=False)],
        ]
    )
    names = [f"{run}-{number}" for number in range(4) for run in ("a", "b", "c")]
    async with asyncio.timeout(20):
        await asyncio.gather(*[await fifo.tell(name, subject=name[0]) for name in names])
    for run in ("a", "b", "c"):
        assert [name for name in fifo.arrived if name[0] == run] == [f"{run}-{number}" for number in range(4)]
    assert {entry.group_id for entry in fifo.queue.taken} == {"a", "b", "c"}
    assert {entry.dedup_id for entry in fifo.queue.taken} == set(names)


def test_turns_give_each_group_one_place_at_a_time() -> None:
    entries = [Outgoing(str(index), "", group_id=group) for index, group in enumerate("aabac")]
    assert [[entry.id for entry in turn] for turn in turns(entries)] == [["0", "2", "4"], ["1"], ["3"]]
    plain = [Outgoing(str(index), "") for index in range(3)]
    assert turns(plain) == [plain]


async def test_hurry_lets_go_of_who_waits_now_and_later(bench: Bench) -> None:
    bench.queue.answers.extend([away()] * 3)
    accepted = await bench.tell("e1")
    bench.outbox.hurry()
    async with asyncio.timeout(1):
        await accepted
        await (await bench.tell("e2"))
    await until(lambda: sorted(bench.arrived) == ["e1", "e2"])


async def test_flush_gives_up_in_time(bench: Bench) -> None:
    bench.queue.answers.extend([away()] * 1000)
    await bench.tell("e1")
    began = time.monotonic()
    assert not await bench.outbox.flush(0.3)
    assert time.monotonic() - began < 5


async def test_a_recorded_event_is_sent_again_under_its_id(bench: Bench) -> None:
    async with asyncio.timeout(20):
        await (await bench.tell("e1"))
        await bench.outbox.again(Unsent(0, "e1", None, "r", json.dumps({"id": "e1", "data": {}})))
    assert bench.arrived == ["e1", "e1"]


async def test_what_was_not_sent_is_sent_by_the_next_agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _hasten(monkeypatch)
    first = Bench(tmp_path / "journal.db")
    first.queue.answers.extend([away()] * 1000)
    await first.tell("e1")
    await first.close()
    second = Bench(tmp_path / "journal.db")
    second.outbox.committed()
    await until(lambda: second.arrived == ["e1"])
    await second.close()
