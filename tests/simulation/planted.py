"""Faults planted one at a time, to see that the worlds find them: `python -m tests.simulation.planted [--name NAME]`.

Prints for each the first seed whose world does not hold, and what it says; exits 1 where one is missed.
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
import tempfile
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tests.simulation import virtual

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

MOST = 2000
IN_ONE_PROCESS = 25


def plants() -> dict[str, Callable[[], None]]:
    """By name, what puts the fault into the agent's own classes. Imported here: after time is virtual."""
    from runner.agent import answers, arrivals, execution_ids, held
    from runner.agent.engine import attempts, debts, recovered
    from runner.agent.fleet import claims
    from runner.agent.journal import runs as journal
    from runner.agent.reporting import outbox
    from runner.agent.runs import inputs, step
    from runner.agent.runs.lease import Lease
    from runner.agent.runs.run import Execution, MessageState
    from runner.agent.runs.standing import Phase
    from runner.agent.runs.step import Order
    from runner.agent.supervision import link

    table = step._BY_INPUT

    def orders(change: Callable[[step.Rule], tuple[Order, ...]], *where: tuple[Phase, type[inputs.Input]]) -> None:
        for key in where or tuple(table):
            table[key] = tuple(replace(rule, orders=change(rule)) for rule in table[key])

    def without(order: Order, *where: tuple[Phase, type[inputs.Input]]) -> Callable[[], None]:
        return lambda: orders(lambda rule: tuple(one for one in rule.orders if one is not order), *where)

    def when(name: str, test: Callable[..., bool], *where: tuple[Phase, type[inputs.Input]]) -> Callable[[], None]:
        def plant() -> None:
            for key in where:
                table[key] = tuple(replace(rule, test=test) if rule.when == name else rule for rule in table[key])

        return plant

    def put(owner: Any, name: str, made: Any) -> Callable[[], None]:
        return lambda: setattr(owner, name, made)

    ended, told = (Phase.ENDED, inputs.Found), (Phase.ENDED, inputs.EndTold)

    async def unwritten(self: Any, run: Any) -> None:
        self._services.journal.accept(run.execution)
        await run.execute()

    collect = attempts.Attempts.do_collect

    async def acknowledge_first(self: Any, happened: Any) -> Any:
        self._services.link.acknowledge((self.execution.key,))
        return await collect(self, happened)

    async def delete_first(self: Any, _: Any) -> Any:
        execution, services, lease = self.execution, self._services, self.execution.lease
        if lease is not None:
            await services.keeper.delete(lease.receipt)
            services.keeper.drop(lease)
            execution.message, execution.lease = MessageState.TAKEN_OVER, None
            await services.commit(execution)
        return inputs.Continued()

    save = journal.Journal.save

    def unflushed(self: Any, *what: Any, **how: Any) -> Any:
        write = self.database.write
        self.database.write = lambda *statements, **_: write(*statements, when="now")
        try:
            return save(self, *what, **how)
        finally:
            self.database.write = write

    def untold(self: Any, execution: Any, *events: Any, **how: Any) -> Any:
        return save(self, execution, *(() if execution.pid is None else events), **how)

    def same_receipt(self: Any, received: Any, at: float, visibility: float) -> None:
        self.until, self.visibility = at + visibility, visibility

    async def has_end(_self: Any, _row: Any) -> bool:
        return True

    acknowledge = link.Link.acknowledge

    def once(self: Any, keys: Any) -> None:
        if self.connected:  # what is not told now is told never
            acknowledge(self, keys)

    offer = outbox.Outbox._offer

    async def taken(self: Any, batch: Any) -> Any:
        try:
            self._queue.send, before = _once(self._queue.send), self._queue.send
            return await offer(self, batch)
        finally:
            self._queue.send = before

    def _once(send: Any) -> Any:
        async def sent(batch: Any) -> Any:
            try:
                return await send(batch)
            except Exception:  # noqa: BLE001 - the fault: whatever it was, it counts as taken
                return []

        return sent

    async def clear(self: Any, execution: str, job: Any, *, starts: bool = True) -> Any:
        await enter(self, execution, job, starts=starts)
        return claims.Clear()

    enter = claims.Stakes.enter

    def enlist(self: Any, _: Any) -> None:
        self._services.roster.add(self)

    async def watch_nothing(self: Any, _: Any) -> Any:
        return await self._end_of()

    def quiet(self: Any) -> None:
        self._behind = False

    judged = attempts.Attempts._judged

    def forgotten_stop(self: Any, *what: Any, **how: Any) -> Any:
        self.stopped = None
        return judged(self, *what, **how)

    return {
        "started_before_its_row_is_written": put(held.Door, "_execute", unwritten),
        "acknowledged_before_it_is_told": put(attempts.Attempts, "do_collect", acknowledge_first),
        "told_and_not_flushed": put(journal.Journal, "save", unflushed),
        "deleted_before_its_event_is_delivered": without(Order.AWAIT_EVENT, told),
        "deleted_before_its_event_is_delivered_after_a_restart": without(Order.AWAIT_EVENT, ended),
        "deleted_before_it_is_taken_over": put(debts.Debts, "do_take_over", delete_first),
        "never_deleted": without(Order.DELETE, told),
        "never_deleted_after_a_restart": without(Order.DELETE, ended),
        "record_forgotten": without(Order.ACKNOWLEDGE, told),
        "record_of_an_attempt_forgotten": without(Order.ACKNOWLEDGE, (Phase.BACKOFF, inputs.EndTold)),
        "room_never_freed": without(Order.FREE_ROOM),
        "never_forgotten": without(Order.FORGET),
        "instance_not_compared": when(
            "never started",
            lambda _run, _stop, found: found.seen is inputs.Seen.NOTHING,
            (Phase.ACCEPTED, inputs.Found),
        ),
        "a_further_attempt_is_disowned": when(
            "never started, and its lease is over",
            lambda _run, _stop, found: found.seen is inputs.Seen.NOTHING and found.over,
            (Phase.ACCEPTED, inputs.Found),
        ),
        "backoff_forgotten_at_a_restart": without(Order.WAIT, (Phase.BACKOFF, inputs.Found)),
        "end_not_asked_for_after_a_restart": put(recovered.Recovered, "do_watch_again", watch_nothing),
        "lease_not_held_after_a_restart": put(recovered.Recovered, "do_enlist", enlist),
        "what_is_lost_is_not_run_again": put(step, "HANDED_BACK", frozenset()),
        "lost_is_deleted": when("lost or interrupted", lambda *_: False, told, ended),
        "event_lost_on_cancel": put(journal.Journal, "save", untold),
        "stop_forgotten_at_the_end": put(attempts.Attempts, "_judged", forgotten_stop),
        "started_event_twice": lambda: orders(
            lambda rule: (*rule.orders[:1], *rule.orders), (Phase.ACCEPTED, inputs.Began)
        ),
        "receipt_outdated": put(Lease, "adopt", same_receipt),
        "repeat_of_a_run_without_end": put(answers.Answers, "_has_end", has_end),
        "another_run_under_its_id": put(arrivals.Arrivals, "_of_run", lambda *_: True),
        "numbers_repeat": put(Execution, "next_sequence", lambda _: 1),
        "execution_ids_repeat": put(execution_ids, "_RANDOM_BYTES", 0),
        "acknowledgement_lost_with_the_connection": put(link.Link, "acknowledge", once),
        "lost_runs_not_told_of": put(link.Link, "_compare", lambda *_: None),
        "events_taken_that_were_not": put(outbox.Outbox, "_offer", taken),
        "older_events_not_read": put(outbox.Outbox, "rescan", quiet),
        "started_without_its_claim": put(claims.Stakes, "enter", clear),
    }


def main() -> int:
    arguments = _arguments()
    names = arguments.name or list(plants())
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
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            gc.disable()
            plants()[name]()
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
