"""``python -m tests.simulation.fleet --seed N --count M [--kind claims]``: random worlds of the fleet half.

Exits 0 and prints what the worlds went through, or exits 1 with the seed that broke a promise and its history.
``--story NAME`` tells one named history, ``--story all`` each of them; ``--stories`` lists them.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import traceback
from typing import TYPE_CHECKING, Any

from . import virtual

if TYPE_CHECKING:
    from collections.abc import Callable

    from .cloud import World

# Modules with `random_world(world)`, and with functions `story_NAME()` that raise where a promise is broken.
WORLDS = {
    "claims": "claims_world",
    "control": "control_world",
    "recorders": "recorders_world",
    "news": "news_world",
    "whole": "whole_world",
}
STORIES = ("claims_stories", "control_stories", "directives_stories", "chains_stories")
MOST_LINES = 120


def main() -> int:
    if os.environ.get("PYTHONHASHSEED") != "0":
        # Sets of strings have an order by it: a seed is to be one history.
        os.environ["PYTHONHASHSEED"] = "0"
        os.execv(sys.executable, [sys.executable, "-m", "tests.simulation.fleet", *sys.argv[1:]])  # noqa: S606
    virtual.install()
    asked = _arguments()
    _silence()
    if asked.stories:
        print("\n".join(_stories()))  # noqa: T201
        return 0
    if asked.story:
        names = list(_stories()) if asked.story == "all" else [asked.story]
        return max(_told(name, _stories()[name]) for name in names)
    return max(_many(kind, asked.seed, asked.count, stop=not asked.all) for kind in asked.kind or WORLDS)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.fleet", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--kind", action="append", choices=sorted(WORLDS))
    parser.add_argument("--all", action="store_true", help="go on behind a broken promise, and count them")
    parser.add_argument("--story")
    parser.add_argument("--stories", action="store_true")
    return parser.parse_args()


def _silence() -> None:
    import structlog

    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))


def _module(name: str) -> Any:
    return importlib.import_module(f"{__package__}.{name}")


def _stories() -> dict[str, Callable[[], None]]:
    found = {}
    for module in STORIES:
        for name, story in vars(_module(module)).items():
            if name.startswith("story_"):
                found[name.removeprefix("story_")] = story
    return found


def _told(name: str, story: Callable[[], None]) -> int:
    try:
        story()
    except Exception:  # noqa: BLE001 - whatever it is, the others are told too
        print(f"{name}: broken: {traceback.format_exc()}")  # noqa: T201
        return 1
    print(f"{name}: held")  # noqa: T201
    return 0


def _many(kind: str, first: int, count: int, *, stop: bool) -> int:
    from . import cloud

    history = _module(WORLDS[kind]).random_world
    totals: dict[str, int] = {"worlds": 0}
    broken: dict[str, list[int]] = {}
    for seed in range(first, first + count):
        world = cloud.World(seed)
        try:
            history(world)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is this seed's
            cause = _root(error)
            if stop:
                _show(kind, cause, world)
                return 1
            what = f"{type(cause).__name__}: {cause}"
            broken.setdefault("".join(char for char in what if not char.isdigit()), []).append(seed)
        totals["worlds"] += 1
        for name in cloud.Figures.__slots__:
            totals[name] = totals.get(name, 0) + getattr(world.figures, name)
    print(kind, *(f"{name}={value}" for name, value in totals.items()))  # noqa: T201
    for what, seeds in sorted(broken.items(), key=lambda entry: -len(entry[1])):
        print(f"{len(seeds):5} x {what[:150]} (seed {seeds[0]})")  # noqa: T201
    return 1 if broken else 0


def _root(error: BaseException) -> BaseException:
    """The first cause within groups of exceptions."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _show(kind: str, error: BaseException, world: World) -> None:
    for line in world.log[-MOST_LINES:]:
        print(*line)  # noqa: T201
    if not isinstance(error, AssertionError):
        traceback.print_exception(error)
    print(f"{kind} world of seed {world.seed}: {type(error).__name__}: {error}")  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())
