"""A pause, and the moments at which a host looks away."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from runner.agent.pausing import Pausing
from runner.agent.yielding import Yields
from runner.errors import CronRunnerError

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
