"""What systemd is told round by round: fed or not, and for how long a stop is given more time."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from runner.agent.operator import health_watch as module
from runner.agent.operator.health import STUCK_AFTER_S, Facts
from runner.agent.operator.health_watch import EXTEND_S, STOP_MARGIN_S, HealthWatch


class World:
    """The parts that a watch looks at, with a clock of their own."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(HealthWatch, "facts", lambda _: Facts())
        self.now = 1000.0
        self.touched = 0
        self.database = SimpleNamespace(blocked_since=None, progress=self.now, touch=self._touch)
        self.intake: Any = SimpleNamespace(progress=self.now, ended=False)
        run = SimpleNamespace(execution=SimpleNamespace(job=SimpleNamespace(grace=30.0)))
        services: Any = SimpleNamespace(
            journal=SimpleNamespace(database=self.database),
            roster=SimpleNamespace(active=lambda: [run]),
            config=SimpleNamespace(agent=SimpleNamespace(drain_timeout=600.0)),
        )
        self.told: list[tuple[str, float]] = []
        notifier: Any = SimpleNamespace(
            watchdog_every=15.0, stopping=lambda status, extend: self.told.append((status, extend))
        )
        stats: Any = None
        self.watch = HealthWatch(services, self.intake, notifier, stats, stats, clock=lambda: self.now)

    def _touch(self) -> None:
        self.touched += 1

    def round(self) -> set[str]:
        return set(self.watch.round()) - {"STATUS"}


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return World(monkeypatch)


def test_it_is_fed_while_both_go_on(world: World) -> None:
    assert world.round() == {"WATCHDOG"}
    assert world.touched == 1
    world.now += STUCK_AFTER_S
    world.database.progress = world.now
    assert world.round() == set(), "the poll loop is stuck"
    world.intake.progress = world.now
    assert world.round() == {"WATCHDOG"}
    world.database.progress -= STUCK_AFTER_S
    assert world.round() == set(), "the journal is stuck"


def test_a_poll_loop_that_waits_for_a_full_disk_is_not_stuck(world: World) -> None:
    world.now += 10 * STUCK_AFTER_S
    world.database.progress = world.database.blocked_since = world.now - 1
    assert world.round() == {"WATCHDOG"}
    # When the disk has room again, the loop has its whole time to go round.
    world.database.blocked_since = None
    world.now += STUCK_AFTER_S - 1
    world.database.progress = world.now
    assert world.round() == {"WATCHDOG"}
    world.now += 1
    assert world.round() == set()


def test_a_stop_is_given_time_while_it_goes_on_and_not_for_ever(world: World) -> None:
    assert "EXTEND_TIMEOUT_USEC" not in world.round()
    world.watch.stopping()
    assert world.told == [("0 running, 0 held; polling ; no message yet", EXTEND_S)]
    world.intake.ended = True  # and makes no progress any more
    limit = 600.0 + 30.0 + STOP_MARGIN_S
    began = world.now
    while world.now < began + limit - 1:
        assert world.round() == {"WATCHDOG", "EXTEND_TIMEOUT_USEC"}
        world.now += module.EVERY_S
        world.database.progress = world.now
    world.now = began + limit
    assert world.round() == {"WATCHDOG"}
    # A stop whose journal is stuck is not given more.
    world.now = began + 200.0
    assert world.round() == {"WATCHDOG", "EXTEND_TIMEOUT_USEC"}
    world.database.progress = world.now - STUCK_AFTER_S
    assert world.round() == set()
