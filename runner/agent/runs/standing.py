"""Where a run stands, as its row says it: its phase, and what is owed for it still."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from runner.agent.runs.run import Execution


class Phase(StrEnum):
    """A run goes through these in this order; from `backoff` back to `accepted`, and from `accepted` or `running` to
    the end. The first two have no row yet."""

    WAITING = "waiting"  # received; in the line
    CLAIMING = "claiming"  # its room is taken; the fleet is asked
    ACCEPTED = "accepted"  # in the journal; its start is under way
    RUNNING = "running"  # its process is there
    COLLECTING = "collecting"  # its process is gone; the rest of its output comes, its end is not told
    BACKOFF = "backoff"  # its next attempt is due later
    ENDED = "ended"


class Debt(StrEnum):
    """What is to be done before a run may be forgotten. They are paid in this order, but for `output`."""

    EVENT = "event"  # the results queue has not taken its last event
    CLAIM = "claim"  # the fleet's table says still that this host has it
    MESSAGE = "message"  # its message is on the queue, held from here
    OUTPUT = "output"  # not every sink has all of it


PAID_BY = {
    Debt.EVENT: "the results queue to take its last event",
    Debt.CLAIM: "the fleet's table to take note of its end",
    Debt.MESSAGE: "SQS to delete its message, or to take it back",
    Debt.OUTPUT: "its sinks to take the rest of its output",
}


def phase_of(execution: Execution) -> Phase:
    """The phase of a run that has a row."""
    if execution.collecting:
        return Phase.COLLECTING
    return Phase(execution.state.value)


def waits_for(execution: Execution, due: str, obstacle: str, owes: list[Debt]) -> str:
    """What must happen next, in words; "" where nothing is left. `due`: when the next attempt is; `obstacle`: why
    nothing can be started now."""
    phase = phase_of(execution)
    if phase is Phase.ACCEPTED:
        return f"its start: {obstacle}" if obstacle else "its start"
    if phase is Phase.RUNNING:
        return f"the end of its process, pid {execution.pid}"
    if phase is Phase.COLLECTING:
        return "the rest of its output"
    if phase is Phase.BACKOFF:
        return f"its next attempt, due {due}"
    return next((PAID_BY[debt] for debt in owes), "")
