"""A pause, and the moments at which a host looks away."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest

from runner.agent.operator.pause_file import Pausing
from runner.agent.runs.admission.looking_away import Yields
from runner.agent.runs.lease import Lease
from runner.agent.runs.pause import Pause
from runner.agent.runs.run import Execution, MessageState
from runner.agent.services import Services
from runner.errors import CronRunnerError
from runner.protocol.job import Job

if TYPE_CHECKING:
    from pathlib import Path


class Clock:
    now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


def test_a_pause_is_kept_until_it_is_resumed(tmp_path: Path) -> None:
    clock, told = Clock(), []
    pausing = Pausing(tmp_path, now=clock)
    pausing.changed = lambda: told.append(1)
    assert pausing.current is None
    pausing.pause("anna", "new disk")
    again = Pausing(tmp_path, now=clock).current
    assert again == pausing.current
    assert str(again) == "paused by anna since 2027-01-15T08:00:00.000000Z: new disk"
    assert pausing.resume("anna")
    assert not pausing.resume("anna")
    assert Pausing(tmp_path, now=clock).current is None
    assert len(told) == 2


def test_a_pause_ends_by_itself(tmp_path: Path) -> None:
    clock = Clock()
    pausing = Pausing(tmp_path, now=clock)
    pausing.pause("anna", until=clock.now + 60)
    clock.now += 59
    assert pausing.current is not None
    clock.now += 1
    assert pausing.current is None
    assert list(tmp_path.iterdir()) == []


def test_a_drain_is_kept_as_one(tmp_path: Path) -> None:
    pausing = Pausing(tmp_path, now=Clock())
    pausing.pause("anna", drain=True)
    again = Pausing(tmp_path, now=Clock()).current
    assert again is not None
    assert again.drain
    assert str(again) == "drained by anna since 2027-01-15T08:00:00.000000Z"
    assert not pausing.pause("bert").drain


def test_a_pause_of_an_older_version_is_no_drain(tmp_path: Path) -> None:
    (tmp_path / "pause.json").write_text('{"by": "anna", "since": 1.0, "note": "", "until": null}')
    current = Pausing(tmp_path).current
    assert current is not None
    assert not current.drain


def held(message: MessageState, delivery: int = 1) -> Execution:
    lease = Lease("m", "r", "receipt", delivery, taken=0.0, until=30.0, visibility=30.0)
    job = Job("j", "r", ("true",), "true")
    return Execution(job, "m", 1, None, 0.0, "boot", message=message, lease=lease)


def test_a_drained_host_leaves_retries_to_others_where_they_may_go_back(tmp_path: Path) -> None:
    agent = SimpleNamespace(draining=False, pausing=Pausing(tmp_path), may_go_back=lambda delivery: delivery < 4)

    def left(execution: Execution) -> str | None:
        return Services.leaves_retry(cast("Services", agent), execution)

    leased, alone = held(MessageState.LEASED), held(MessageState.TAKEN_OVER)
    assert left(leased) is None
    agent.pausing.pause("anna")
    assert left(leased) is None, "a paused host makes its retries"
    agent.pausing.pause("anna", drain=True)
    assert left(leased) == "the host is drained by anna"
    assert left(alone) is None, "only this host answers for it"
    assert left(held(MessageState.LEASED, delivery=4)) is None, "the redrive policy would take it away"
    agent.pausing.resume("anna")
    agent.draining = True
    assert left(held(MessageState.LEASED, delivery=4)) == "the agent is draining"
    assert left(alone) is None


@pytest.mark.parametrize("text", ["", "[]", '{"by": 1', "{}"])
def test_a_pause_that_cannot_be_read_is_a_pause(tmp_path: Path, text: str) -> None:
    (tmp_path / "pause.json").write_text(text)
    current = Pausing(tmp_path).current
    assert current is not None
    assert "pause.json" in str(current)


def test_a_pause_that_cannot_be_kept_is_refused(tmp_path: Path) -> None:
    pausing = Pausing(tmp_path / "missing")
    with pytest.raises(CronRunnerError, match="cannot pause"):
        pausing.pause("anna")
    assert pausing.current is None


def test_a_host_looks_away_when_something_comes_back_that_it_can_never_run() -> None:
    yields = Yields()
    assert yields.quiet_for(100.0) == 0
    assert yields.longest_poll(100.0, 20.0) == 20.0
    delay = yields.plan(100.0, 1, 0.5)
    assert 10 <= delay <= 15
    comes_back = 100.0 + delay
    assert yields.longest_poll(100.0, 20.0) <= delay - 1
    assert yields.quiet_for(comes_back - 2) == 0
    assert yields.quiet_for(comes_back - 1) == 5
    assert yields.quiet_for(comes_back) == 4
    assert yields.quiet_for(comes_back + 4) == 0
    assert yields.longest_poll(comes_back + 4, 20.0) == 20.0


def test_many_share_a_moment_and_each_delivery_waits_longer() -> None:
    yields = Yields()
    first = yields.plan(0.0, 1, 0.9)
    assert yields.plan(2.0, 1, 0.1) == first - 2.0
    second, third = yields.plan(0.0, 2, 0.5), yields.plan(0.0, 3, 0.5)
    assert first * 4 < second < third <= 900


def test_what_is_decided_elsewhere_holds_beside_a_hosts_own_pause(tmp_path: Path) -> None:
    changes: list[int] = []
    pausing = Pausing(tmp_path, now=Clock())
    pausing.changed = lambda: changes.append(1)
    group = Pause("eve for the whole group", Clock.now, "release")
    pausing.tell("group", group)
    pausing.tell("group", group)
    assert pausing.current == group
    assert len(changes) == 1
    own = pausing.pause("anna")
    assert pausing.current == own
    notice = Pause("AWS", Clock.now, "spot interruption", drain=True)
    pausing.tell("notice", notice)
    assert pausing.current == notice  # a drain before a pause
    assert pausing.resume("anna")
    pausing.tell("notice", None)
    assert pausing.current == group  # nobody here can end it
    assert Pausing(tmp_path, now=Clock()).current is None  # nor is it kept
    pausing.tell("group", None)
    assert pausing.current is None
