"""The agents' log: into the world's history where all of it is wanted, and its errors always before the checkers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import structlog

from runner.log import set_level
from tests.simulation import checkers
from tests.simulation.virtual import LIFE

if TYPE_CHECKING:
    from tests.simulation.world import World

_WORLDS: list[World] = []


def install() -> None:
    """Once in a process."""
    structlog.configure(processors=[_heard])


def listen(world: World, *, everything: bool) -> None:
    """From here on the log is this world's."""
    _WORLDS[:] = [world]
    world.log_level = "debug" if everything else "error"
    set_level(world.log_level)


def _heard(_logger: object, _method: str, event: dict[str, Any]) -> dict[str, Any]:
    world = _WORLDS[0]
    name = event.pop("event")
    world.note("log:", name, event)
    life = LIFE.get()
    if name == "lease_lost" and life is not None:
        checkers.loss_told(life, event)
    raise structlog.DropEvent
