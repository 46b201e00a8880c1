"""The faults that can be planted: each by its name, as what puts it into the agent's own classes, for good."""

# Whole classes are changed here, from outside: their own names are reached for.
# ruff: noqa: SLF001

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from runner.agent import arrivals, execution_ids, held
from runner.agent.engine import attempts, debts, recovered
from runner.agent.fleet import claims
from runner.agent.journal import runs as journal
from runner.agent.reporting import outbox
from runner.agent.runs import inputs, step
from runner.agent.runs.inputs import EndTold, Found, Input, Seen
from runner.agent.runs.lease import Lease
from runner.agent.runs.run import Execution, MessageState
from runner.agent.runs.standing import Phase
from runner.agent.runs.step import Order
from runner.agent.supervision import link

if TYPE_CHECKING:
    from collections.abc import Callable

    Where = tuple[Phase, type[Input]]

COLLECT, SAVE = attempts.Attempts.do_collect, journal.Journal.save
ACKNOWLEDGE, OFFER, ENTER = link.Link.acknowledge, outbox.Outbox._offer, claims.Stakes.enter


# -- in the table


def without(order: Order, *where: Where) -> Callable[[], None]:
    """This order is left out, there or everywhere."""

    def plant() -> None:
        for key in where or tuple(step._BY_INPUT):
            step._BY_INPUT[key] = tuple(
                replace(rule, orders=tuple(one for one in rule.orders if one is not order))
                for rule in step._BY_INPUT[key]
            )

    return plant


def when(words: str, test: Callable[..., bool], *where: Where) -> Callable[[], None]:
    """The rule of these words holds under another condition."""

    def plant() -> None:
        for key in where:
            rules = step._BY_INPUT[key]
            assert any(rule.when == words for rule in rules)
            step._BY_INPUT[key] = tuple(replace(rule, test=test) if rule.when == words else rule for rule in rules)

    return plant


# -- in what carries it out


def put(owner: Any, name: str, made: Any) -> Callable[[], None]:
    assert hasattr(owner, name)
    return lambda: setattr(owner, name, made)


async def _unwritten(self: Any, run: Any) -> None:
    self._services.journal.accept(run.execution)
    await run.execute()


async def _acknowledge_first(self: Any, happened: Any) -> Any:
    self._services.link.acknowledge((self.execution.key,))
    return await COLLECT(self, happened)


async def _delete_first(self: Any, _: Any) -> Any:
    execution, services, lease = self.execution, self._services, self.execution.lease
    if lease is not None:
        await services.keeper.delete(lease.receipt)
        services.keeper.drop(lease)
        execution.message, execution.lease = MessageState.TAKEN_OVER, None
        await services.commit(execution)
    return inputs.Continued()


def _unflushed(self: Any, *what: Any, **how: Any) -> Any:
    write = self.database.write
    self.database.write = lambda *statements, **_: write(*statements, when="now")
    try:
        return SAVE(self, *what, **how)
    finally:
        self.database.write = write


def _untold(self: Any, execution: Any, *events: Any, **how: Any) -> Any:
    return SAVE(self, execution, *(() if execution.pid is None else events), **how)


def _same_receipt(self: Any, _received: Any, at: float, visibility: float) -> None:
    self.until, self.visibility = at + visibility, visibility


def _told_once(self: Any, keys: Any) -> None:
    if self.connected:  # what is not told now is told never
        ACKNOWLEDGE(self, keys)


async def _counts_as_taken(self: Any, batch: Any) -> Any:
    send = self._queue.send

    async def sent(batch: Any) -> Any:
        try:
            return await send(batch)
        except Exception:  # noqa: BLE001 - the fault: whatever it was
            return []

    self._queue.send = sent
    try:
        return await OFFER(self, batch)
    finally:
        self._queue.send = send


async def _clear(self: Any, execution: str, job: Any, **how: Any) -> Any:
    await ENTER(self, execution, job, **how)
    return claims.Clear()


async def _asks_nobody(self: Any, _: Any) -> Any:
    return await self._end_of()


_IN_ACCEPTED: Where = (Phase.ACCEPTED, Found)
_TOLD: Where = (Phase.ENDED, EndTold)
_ENDED: Where = (Phase.ENDED, Found)

PLANTS: dict[str, Callable[[], None]] = {
    "started_before_its_row_is_written": put(held.Door, "_execute", _unwritten),
    "acknowledged_before_it_is_told": put(attempts.Attempts, "do_collect", _acknowledge_first),
    "told_and_not_flushed": put(journal.Journal, "save", _unflushed),
    "deleted_before_its_event_is_delivered": without(Order.AWAIT_EVENT, _TOLD),
    "deleted_before_its_event_is_delivered_after_a_restart": without(Order.AWAIT_EVENT, _ENDED),
    "deleted_before_it_is_taken_over": put(debts.Debts, "do_take_over", _delete_first),
    "never_deleted": without(Order.DELETE, _TOLD),
    "never_deleted_after_a_restart": without(Order.DELETE, _ENDED),
    "record_forgotten": without(Order.ACKNOWLEDGE, _TOLD),
    "record_of_an_attempt_forgotten": without(Order.ACKNOWLEDGE, (Phase.BACKOFF, EndTold)),
    "never_leaves_the_table": without(Order.FORGET),
    "instance_not_compared": when("never started", lambda _run, _stop, found: found.seen is Seen.NOTHING, _IN_ACCEPTED),
    "backoff_forgotten_at_a_restart": without(Order.WAIT, (Phase.BACKOFF, Found)),
    "end_not_asked_for_after_a_restart": put(recovered.Recovered, "do_watch_again", _asks_nobody),
    "what_is_lost_is_not_run_again": put(step, "HANDED_BACK", frozenset()),
    "what_is_lost_is_deleted": when("lost or interrupted", lambda *_: False, _TOLD, _ENDED),
    "end_without_a_process_untold": put(journal.Journal, "save", _untold),
    "receipt_outdated": put(Lease, "adopt", _same_receipt),
    "another_run_under_its_id_taken_for_it": put(arrivals.Arrivals, "_of_run", lambda *_: True),
    "numbers_of_events_repeat": put(Execution, "next_sequence", lambda _: 1),
    "names_of_executions_repeat": put(execution_ids, "_RANDOM_BYTES", 0),
    "acknowledgement_lost_with_the_connection": put(link.Link, "acknowledge", _told_once),
    "lost_with_the_supervisor_and_not_told": put(link.Link, "_compare", lambda *_: None),
    "event_taken_for_delivered": put(outbox.Outbox, "_offer", _counts_as_taken),
    "started_without_its_claim": put(claims.Stakes, "enter", _clear),
}
