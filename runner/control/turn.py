"""One turn of the scheduler for one group: who may do it, from when to when, and how far it has come.

The group's TICK item holds ``until``, the end of what is done. A turn takes the item for less than a minute, so that
a second one beside it does nothing. While it enqueues (after, to] it writes down the place it has reached, so that
the turn after one that died goes on from there: what it had sent since its last note is sent again under the same run
ids, and run once all the same.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from runner.aws.table import Refused, When
from runner.protocol import table as keys
from runner.protocol.units import format_time, parse_time

if TYPE_CHECKING:
    from runner.aws.attributes import Item
    from runner.aws.table import Table

TURN_S: Final = 55.0
"""How long a turn has the item; the function that does it has to end before."""
FIRST_LOOK_BACK_S: Final = 300.0


@dataclass(frozen=True, slots=True)
class Turn:
    """A stretch of time to do: (``after``, ``until``], from the fire behind ``reached`` on."""

    group: str
    number: int
    after: float
    until: float
    reached: str


async def take(table: Table, group: str, *, now: float) -> Turn | None:
    """Take the group's turn; None where another has it."""
    free = When("attribute_not_exists(#taken_until) OR #taken_until < :now", {"now": format_time(now)})
    change = "SET #taken_until = :end, #number = if_not_exists(#number, :zero) + :one"
    values = {"end": format_time(now + TURN_S), "zero": 0, "one": 1}
    item = await table.update(keys.tick(group), change, values, free)
    return None if isinstance(item, Refused) else _turn(group, item, now)


async def reached(table: Table, turn: Turn, place: str) -> bool:
    """Note how far it has come; False where the turn is another's by now, which has to end this one."""
    values = {"to": format_time(turn.until), "place": place, "after": format_time(turn.after)}
    change = "SET #until = :after, #to = :to, #reached = :place"
    return not isinstance(await table.update(keys.tick(turn.group), change, values, _ours(turn)), Refused)


async def done(table: Table, turn: Turn) -> bool:
    """Note that its stretch is done, and let the next one have the item."""
    change = "SET #until = :until REMOVE #to, #reached, #taken_until"
    values = {"until": format_time(turn.until)}
    return not isinstance(await table.update(keys.tick(turn.group), change, values, _ours(turn)), Refused)


def following(turn: Turn, now: float) -> Turn:
    """The stretch after it, up to now, under the same hold."""
    return replace(turn, after=turn.until, until=now, reached="")


def _turn(group: str, item: Item, now: float) -> Turn:
    after = parse_time(item["until"]) if "until" in item else now - FIRST_LOOK_BACK_S
    # What an earlier turn has begun keeps its end: what was missed, and what is on time, is judged by it.
    until = parse_time(item["to"]) if "to" in item else max(now, after)
    return Turn(group, item["number"], after, until, item.get("reached", ""))


def _ours(turn: Turn) -> When:
    return When("#number = :number", {"number": turn.number})
