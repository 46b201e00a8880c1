"""Faults planted one at a time, to see that the worlds find them: `python -m tests.simulation.planted [--name NAME]`.

Prints for each the first seed whose world does not hold, and what it says; exits 1 where one is missed.
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
import tempfile
from typing import TYPE_CHECKING

from tests.simulation import virtual

if TYPE_CHECKING:
    from collections.abc import Sequence

MOST = 2000
IN_ONE_PROCESS = 25


def main() -> int:
    from tests.simulation.plants import PLANTS

    arguments = _arguments()
    names = arguments.name or list(PLANTS)
    missed = 0
    for name in names:
        found = _search(name, arguments.count)
        missed += found is None
        sys.stdout.write(f"{name}: {'MISSED' if found is None else found}\n")
        sys.stdout.flush()
    sys.stdout.write(f"{len(names)} faults, {missed} missed\n")
    return 1 if missed else 0


def _search(name: str, count: int) -> str | None:
    """What the first world that does not hold says, after its seed."""
    for first in range(0, count, IN_ONE_PROCESS):
        if found := _in_a_child(name, range(first, min(first + IN_ONE_PROCESS, count))):
            return found
    return None


def _in_a_child(name: str, seeds: Sequence[int]) -> str:
    from tests.simulation.plants import PLANTS

    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            gc.disable()
            PLANTS[name]()
            with tempfile.TemporaryDirectory(prefix="planted-") as folder:
                tempfile.tempdir = folder
                os.write(writer, _first(seeds).encode()[:1000])
        finally:
            os._exit(0)
    os.close(writer)
    with open(reader, "rb") as pipe:  # noqa: PTH123 - a descriptor
        said = pipe.read().decode()
    os.waitpid(child, 0)
    return said


def _first(seeds: Sequence[int]) -> str:
    from runner.agent import execution_ids
    from tests.simulation import course, logs

    for seed in seeds:
        virtual.begin(seed)
        vars(execution_ids)["_random"].clear()
        world = course.world_of(seed)
        logs.listen(world, everything=False)
        try:
            course.live(world)
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is what is looked for
            return f"seed {seed}: {type(error).__name__}: {error}"
    return ""


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.simulation.planted", description="Faults, planted one by one."
    )
    parser.add_argument("--name", action="append", help="this one only; may be given again")
    parser.add_argument("--count", type=int, default=MOST, help=f"how many worlds at most for each (default: {MOST})")
    return parser.parse_args()


if __name__ == "__main__":
    if os.environ.get("PYTHONHASHSEED") != "0":
        # The order of sets is part of what a seed decides.
        line = [sys.executable, "-m", "tests.simulation.planted", *sys.argv[1:]]
        os.execve(sys.executable, line, os.environ | {"PYTHONHASHSEED": "0"})  # noqa: S606 - itself
    virtual.install()
    from runner.agent.engine import run
    from tests.simulation import logs

    run.STRICT = True
    logs.install()
    sys.exit(main())
