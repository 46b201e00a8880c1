"""The command: worlds one after the other, in processes of their own; the first that does not hold is printed."""

from __future__ import annotations

import argparse
import gc
import os
import sys
import tempfile
import traceback
from typing import TYPE_CHECKING

from runner.agent import execution_ids
from runner.agent.engine import run
from tests.simulation import course, histories, logs, virtual

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.simulation.world import World

DESCRIPTION = "Agents on virtual time: worlds that a seed draws, or one named history."
# What the dead left is kept until its process ends (virtual.py), so a process lives through so many worlds only.
IN_ONE_PROCESS = 25


def main() -> int:
    arguments = _arguments()
    run.STRICT = True
    if arguments.list:
        sys.stdout.write("\n".join(histories.BY_NAME) + "\n")
        return 0
    logs.install()
    if arguments.history:
        return 0 if _in_a_child(lambda: _history(arguments.history, trace=arguments.trace)) else 1
    decisions = crashes = 0
    for first in range(arguments.seed, arguments.seed + arguments.count, IN_ONE_PROCESS):
        seeds = range(first, min(first + IN_ONE_PROCESS, arguments.seed + arguments.count))
        counted = _in_a_child(lambda seeds=seeds: _worlds(seeds, trace=arguments.trace))
        if counted is None:
            return 1
        decisions, crashes = decisions + counted[0], crashes + counted[1]
    sys.stdout.write(f"{arguments.count} worlds, {decisions} decisions, {crashes} crashes\n")
    return 0


def _history(name: str, *, trace: bool) -> tuple[int, int] | None:
    history = histories.BY_NAME[name]
    world = _one(0, lambda: histories.world_of(history), history.live, trace=trace, name=name)
    return None if world is None else (world.decisions, world.crashes)


def _worlds(seeds: range, *, trace: bool) -> tuple[int, int] | None:
    decisions = crashes = 0
    for seed in seeds:
        world = _one(seed, lambda seed=seed: course.world_of(seed), course.live, trace=trace, name=f"seed {seed}")
        if world is None:
            return None
        decisions, crashes = decisions + world.decisions + world.loop.callbacks, crashes + world.crashes
    return decisions, crashes


def _one(
    seed: int, make: Callable[[], World], live: Callable[[World], None], *, trace: bool, name: str
) -> World | None:
    """One world; None where something in it was not as it must be, which is printed with all that led to it."""
    virtual.begin(seed)
    vars(execution_ids)["_random"].clear()  # bytes that the world before had asked for, and not used
    world = make()
    logs.listen(world, everything=trace)
    try:
        live(world)
    except BaseException as error:  # noqa: BLE001 - whatever it is, it is what is looked for
        history = "\n".join(world.history)
        sys.stdout.write(f"{history}\n{name}: {type(error).__name__}: {error}\n")
        if not isinstance(error, AssertionError) or trace:
            traceback.print_exception(error, file=sys.stdout)
        return None
    if trace:
        sys.stdout.write("\n".join(world.history) + "\n")
    return world


def _in_a_child(work: Callable[[], tuple[int, int] | None]) -> tuple[int, int] | None:
    """What a process of its own made of it; None where it found something, or died."""
    sys.stdout.flush()
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            gc.disable()
            with tempfile.TemporaryDirectory(prefix="worlds-") as folder:
                tempfile.tempdir = folder
                counted = work()
            if counted is not None:
                os.write(writer, f"{counted[0]} {counted[1]}".encode())
                status = 0
        finally:
            sys.stdout.flush()
            os._exit(status)
    os.close(writer)
    with open(reader, "rb") as pipe:  # noqa: PTH123 - a descriptor
        said = pipe.read().split()
    return (int(said[0]), int(said[1])) if os.waitpid(child, 0)[1] == 0 and len(said) == 2 else None


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=DESCRIPTION)
    parser.add_argument("--seed", type=int, default=0, help="the first seed")
    parser.add_argument("--count", type=int, default=1, help="how many worlds")
    parser.add_argument("--trace", action="store_true", help="print all that happens, with the agents' log")
    parser.add_argument("--history", help="live through this named history instead")
    parser.add_argument("--list", action="store_true", help="print the names of all histories")
    return parser.parse_args()
