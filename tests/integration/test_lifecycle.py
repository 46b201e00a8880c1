"""The life-cycle hook: held while the host owes something, told again where Auto Scaling did not hear it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from runner.agent.host import instance_end, lifecycle
from runner.agent.host.instance_end import watch
from runner.agent.host.lifecycle import see_out
from runner.aws.metadata.instance import Notice, read_notice
from runner.aws.metadata.lifecycle import LifecycleHook
from runner.aws.session import Session

from instances import NO_ACTION, Instance, instance

if TYPE_CHECKING:
    from collections.abc import Iterator

    from runner.agent.runs.pause import Pause


@pytest.fixture
def ec2(monkeypatch: pytest.MonkeyPatch) -> Iterator[Instance]:
    with instance() as made:
        for name, value in made.environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("AWS_REGION", "eu-west-1")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
        monkeypatch.setattr(lifecycle, "HEARTBEAT_EVERY_S", 0.05)
        monkeypatch.setattr(lifecycle, "LOOK_EVERY_S", 0.01)
        monkeypatch.setattr(instance_end, "LOOK_EVERY_S", 0.02)
        yield made


@pytest.fixture
def session() -> Iterator[Session]:
    made = Session()
    yield made
    made.close()


async def test_heartbeats_until_it_is_done_and_one_completion(ec2: Instance, session: Session) -> None:
    async def done() -> bool:
        return len(ec2.calls) >= 3

    await see_out(LifecycleHook.of(session, "a/b/drain"), done)
    assert ec2.actions() == ["RecordLifecycleActionHeartbeat"] * 3 + ["CompleteLifecycleAction"]
    assert ec2.calls[0]["AutoScalingGroupName"] == "a/b"


async def test_what_auto_scaling_did_not_take_is_told_again(ec2: Instance, session: Session) -> None:
    async def done() -> bool:
        return True

    ec2.refusals = [("ValidationError", NO_ACTION), ("Throttling", "Rate exceeded"), ("InternalFailure", "")]
    await see_out(LifecycleHook.of(session, "web/drain"), done)
    assert ec2.actions() == ["CompleteLifecycleAction"] * 4


class Told:
    """What holds on the host."""

    def __init__(self) -> None:
        self.now: Pause | None = None

    def told(self, _: str) -> Pause | None:
        return self.now

    def tell(self, _: str, pause: Pause | None) -> None:
        self.now = pause


async def test_a_notice_that_is_taken_back_lets_go_of_the_hook() -> None:
    told, begun, ended = Told(), asyncio.Event(), asyncio.Event()
    notices: list[Notice | None] = [Notice("auto scaling: Terminated", hook=True)]

    async def leave() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    watching = asyncio.create_task(watch(told, lambda: None, look=lambda: notices[-1], leave=leave))
    async with asyncio.timeout(30):
        await begun.wait()
        assert told.now is not None
        notices.append(None)
        await ended.wait()
        notices.append(Notice("auto scaling: Terminated", hook=True))
        begun.clear()
        await begun.wait()
    watching.cancel()
    await asyncio.wait({watching})


@pytest.mark.parametrize(
    ("spot", "state", "rebalance", "expected"),
    [
        ("", "InService", "", None),
        ("", "InService", '{"noticeTime": "T"}', Notice("rebalance recommendation of T")),
        ("", "", "odd", Notice("rebalance recommendation")),
        ('{"action": "stop", "time": "T"}', "InService", "", Notice("spot interruption: stop at T")),
        ('{"action": "stop", "time": "T"}', "Terminated\n", "{}", Notice("spot interruption: stop at T", hook=True)),
        ("odd", "", "", Notice("spot interruption")),
        ("", "Warmed:Stopped", '{"noticeTime": "T"}', Notice("auto scaling: Warmed:Stopped", hook=True)),
    ],
)
def test_the_nearest_end_is_what_is_told(spot: str, state: str, rebalance: str, expected: Notice | None) -> None:
    assert read_notice(spot, state, rebalance) == expected
