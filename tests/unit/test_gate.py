"""The gate of a sink: many streams, one try at a time while the sink is away."""

from __future__ import annotations

import asyncio

from runner.agent.output.sink_gate import OUTAGE_AFTER, Gate
from runner.errors import AwsUnavailable
from runner.sinks import SinkUnavailable

OUTAGE = AwsUnavailable("PutLogEvents", "ConnectFailed", "refused", "unreachable")
BAD_NAME = AwsUnavailable("PutLogEvents", "InvalidParameterException", "no", "refused")


def away(gate: Gate) -> None:
    """Make it an outage."""
    waits = [gate.failed(OUTAGE, 1) for _ in range(OUTAGE_AFTER)]
    assert all(wait >= 1.0 for wait in waits[:-1])
    assert waits[-1] == 0.0


async def test_so_many_at_once_while_all_is_well() -> None:
    gate, inside, most = Gate(2), 0, 0

    async def send() -> None:
        nonlocal inside, most
        async with gate.turn(asyncio.Event()):
            inside += 1
            most = max(most, inside)
            await asyncio.sleep(0)
            inside -= 1

    await asyncio.gather(*(send() for _ in range(20)))
    assert most == 2


async def test_in_an_outage_all_streams_together_try_once_per_wait() -> None:
    gate, tries = Gate(4, draw=lambda: 0.0), 0
    away(gate)

    async def send() -> None:
        nonlocal tries
        async with gate.turn(asyncio.Event()):
            tries += 1
            gate.failed(SinkUnavailable("away"), 1)

    started = asyncio.get_running_loop().time()
    waiting = [asyncio.create_task(send()) for _ in range(50)]
    await asyncio.wait(waiting, timeout=2.5)
    took = asyncio.get_running_loop().time() - started
    for task in waiting:
        task.cancel()
    assert 1 <= tries <= took + 1


async def test_the_end_of_an_outage_frees_everyone() -> None:
    gate = Gate(4, draw=lambda: 0.0)
    away(gate)
    gate.succeeded()
    async with asyncio.timeout(1):
        async with gate.turn(asyncio.Event()):
            pass


async def test_closing_does_not_wait_for_the_next_try() -> None:
    gate, closing = Gate(1), asyncio.Event()
    away(gate)
    closing.set()
    async with asyncio.timeout(0.5):
        async with gate.turn(closing):
            pass


async def test_a_fault_of_one_stream_holds_up_no_other() -> None:
    gate = Gate(1)
    for failures in range(1, 20):
        assert gate.failed(BAD_NAME, failures) >= 1.0
    assert not gate.away
    async with asyncio.timeout(0.5):
        async with gate.turn(asyncio.Event()):
            pass


async def test_a_service_that_drops_some_calls_is_no_outage() -> None:
    gate = Gate(1, draw=lambda: 0.0)
    for _ in range(20):
        assert gate.failed(OUTAGE, 1) == 1.0
        gate.succeeded()
