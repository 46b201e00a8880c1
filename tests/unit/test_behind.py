"""Since when output waits for a sink: what /metrics calls the unshipped age."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from runner.agent.output import attempt_output as module
from runner.agent.output.attempt_output import Followed
from runner.agent.runs.output import OutputEnd, Rules
from runner.sinks import Tag

TAG = Tag(execution="e", attempt=1, job="job", run_id="r", started_at=0.0, max_bytes=1000)
SECRET = "s" * 50


class World:
    """One followed file, a sink that takes what it is told to, and a clock."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, secrets: tuple[str, ...] = (), tag: Tag = TAG) -> None:
        self.now = 100.0
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: self.now))
        sink: Any = SimpleNamespace(name="sink")
        self.followed = Followed(tag, Path("/nowhere"), sinks=[sink], secrets=secrets, rules=Rules())

    def write(self, size: int, at: float) -> None:
        self.now = at
        self.followed.grow(size, at)

    def take(self, offset: int, at: float) -> None:
        self.now = at
        self.followed.readers["sink"].offset = offset
        self.followed.committed([])

    @property
    def since(self) -> float | None:
        return self.followed.behind_since if self.followed.behind() else None


def test_what_is_not_taken_grows_old(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch)
    assert world.since is None
    world.write(10, at=100)
    world.write(20, at=160)
    assert world.since == 100
    world.take(5, at=170)
    assert world.since == 100
    world.take(20, at=180)
    assert world.since is None
    world.write(30, at=200)
    assert world.since == 200


def test_a_sink_that_is_always_a_step_behind_is_not_late(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch, tag=replace(TAG, max_bytes=1 << 40))
    for step in range(1, 50):
        world.write(step * 100, at=100 + step)
        world.take(step * 100 - 50, at=100.5 + step)
        assert world.since is not None
        assert world.now - world.since < 2.0


def test_what_may_be_a_secret_or_lies_beyond_the_head_is_not_owed_before_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World(monkeypatch, secrets=(SECRET,))
    world.write(60, at=100)
    world.take(20, at=101)  # the rest may be the beginning of the secret
    assert world.since is None
    # The half of max_bytes that is sure to be kept is shipped; of the rest nobody knows before the end.
    world.write(5000, at=110)
    world.take(500, at=120)
    assert world.since is None
    world.now = 130
    monkeypatch.setattr(module.spool_file, "size_of", lambda _: 5000)
    world.followed.end(OutputEnd(5000, 5000, (500, 4500)))
    assert world.since == 130
    world.take(5000, at=140)
    assert world.since is None


def test_a_file_that_was_cut_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch)
    world.write(400, at=100)
    monkeypatch.setattr(module.spool_file, "size_of", lambda _: 100)
    world.followed.end(OutputEnd(400, 400))
    world.take(100, at=110)
    assert world.since is None
