"""What the agent lacks for a while (descriptors, memory, threads) ends nothing, and is no reason to hurry."""

from __future__ import annotations

import asyncio
import errno
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest

from runner.agent.supervision import link as link_module
from runner.agent.supervision.launch import _dial
from runner.agent.supervision.link import Link
from runner.errors import SupervisorUnavailable


class Brief:
    """A supervisor's connection that is lost as soon as it is made, or cannot be made."""

    made = 0
    faults: ClassVar[list[Exception]] = []

    def __init__(self, _on_exit: object) -> None:
        Brief.made += 1

    async def connect(self) -> Any:
        if Brief.faults and Brief.made > 1:
            raise Brief.faults.pop(0)
        return SimpleNamespace(instance="i", pid=1)

    async def list(self) -> list[Any]:
        return []

    async def close(self) -> None:
        """Nothing is open."""

    async def wait_closed(self) -> None:
        """At once."""

    def ack(self, _keys: object) -> asyncio.Future[Any]:
        raise SupervisorUnavailable("gone")


async def reconnect(monkeypatch: pytest.MonkeyPatch, faults: list[Exception], enough: int) -> list[float]:
    """How long the link waited before each of its tries."""
    Brief.made, Brief.faults = 0, faults
    waits: list[float] = []
    real = asyncio.sleep

    async def sleep(seconds: float) -> None:
        waits.append(seconds)
        await real(0)

    monkeypatch.setattr(link_module.asyncio, "sleep", sleep)
    monkeypatch.setattr(link_module.random, "random", lambda: 0.5)
    link = Link(Brief)  # type: ignore[arg-type]
    await link.connect()
    task = asyncio.create_task(link.run())
    while len(waits) < enough:
        assert not task.done()
        await real(0)
    task.cancel()
    return waits


async def test_connections_that_do_not_last_come_ever_more_slowly(monkeypatch: pytest.MonkeyPatch) -> None:
    waits = await reconnect(monkeypatch, [], 20)
    assert waits[0] == 0
    assert all(wait >= 1 for wait in waits[1:])
    assert sum(waits) > 40  # twenty in the time of hundreds


@pytest.mark.parametrize(
    "fault",
    [
        OSError(errno.EMFILE, "Too many open files"),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
        RuntimeError("can't start new thread"),
        SupervisorUnavailable("not there"),
    ],
    ids=repr,
)
async def test_what_this_process_lacks_does_not_end_the_link(monkeypatch: pytest.MonkeyPatch, fault: Exception) -> None:
    waits = await reconnect(monkeypatch, [fault] * 5, 8)
    assert all(wait >= 1 for wait in waits[1:])


def test_no_descriptor_for_the_connection_is_no_supervisor_for_now(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    def none_left(*_: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr("runner.agent.supervision.launch.socket.socket", none_left)
    with pytest.raises(SupervisorUnavailable, match="Too many open files"):
        _dial(tmp_path / "supervisor.sock")
