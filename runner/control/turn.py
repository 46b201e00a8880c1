"""One turn of the scheduler for one group: who may do it, from when to when, and how far it has come.

The group's TICK item holds ``until``, the end of what is done. A turn takes the item for less than a minute, so that
a second one beside it does nothing. It enqueues what became due since then, up to now, and writes down each place
that it has reached, so that the turn after one that died goes on from there: what it had sent since its last note is
sent again under the same run ids, and run once all the same. What is late, and what was missed, is judged by the
clock of the turn that sends it, never by that of one before.

What was missed and is to be enqueued all the same (`missed = "all"`) is ``behind``: stretches that are worked off
with the time that is left, so that it holds up nothing that is on time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from runner.aws.table import Refused, When
from runner.protocol import table as keys
from runner.protocol.units import format_time, parse_time

if TYPE_CHECKING:
    from collections.abc import Sequence

    from runner.aws.attributes import Item
    from runner.aws.table import Table

TURN_S: Final = 55.0
"""How long a turn has the item; the function that does it has to end before."""
FIRST_LOOK_BACK_S: Final = 300.0
"""Of a group whose jobs do not say since when they count."""


@dataclass(frozen=True, slots=True)
class Behind:
    """A stretch to catch up with: what is due behind a ``place`` and up to ``until``."""

    place: str
    until: float

    @property
    def after(self) -> float:
        """The time of its place, at which others may be due, too."""
        return float(self.place.partition(" ")[0])


@dataclass(frozen=True, slots=True)
class Turn:
    """A stretch of time to do: (``after``, ``until``], from the fire behind ``reached`` on.

    ``watched`` is up to where the watch has looked. What was to be caught up with up to ``behind_to`` is ``behind``
    already, where a turn has begun that and did not come to an end.
    """

    group: str
    number: int
    after: float
    until: float
    reached: str
    watched: float
    behind: tuple[Behind, ...] = ()
    behind_to: float = 0.0


def end_of(at: float) -> str:
    """The place behind all that is due at a time."""
    return f"{at:015.3f} \uffff"


async def take(table: Table, group: str, *, now: float, begin: float | None = None) -> Turn | None:
    """Take the group's turn; None where another has it.

    The first one of a group begins at ``begin``, and notes that: what it does not get done is the next one's.
    """
    free = When("attribute_not_exists(#taken_until) OR #taken_until < :now", {"now": format_time(now)})
    change = (
        "SET #taken_until = :end, #number = if_not_exists(#number, :zero) + :one,"
        " #until = if_not_exists(#until, :begin)"
    )
    first = now - FIRST_LOOK_BACK_S if begin is None else min(begin, now)
    values = {"end": format_time(now + TURN_S), "zero": 0, "one": 1, "begin": format_time(first)}
    item = await table.update(keys.tick(group), change, values, free)
    return None if isinstance(item, Refused) else _turn(group, item, now)


async def reached(table: Table, turn: Turn, place: str) -> bool:
    """Note how far it has come; False where the turn is another's by now, which has to end this one."""
    change = "SET #reached = :place"
    return not isinstance(await table.update(keys.tick(turn.group), change, {"place": place}, _ours(turn)), Refused)


async def opened(table: Table, turn: Turn, behind: Sequence[Behind]) -> bool:
    """Note what is to be caught up with, before more is sent; False as above."""
    change = "SET #behind = :behind, #behind_to = :to"
    values = {"behind": _items(behind), "to": format_time(behind[-1].until)}
    return not isinstance(await table.update(keys.tick(turn.group), change, values, _ours(turn)), Refused)


async def fired(table: Table, turn: Turn) -> bool:
    """Note that all that is on time has been enqueued; False as above."""
    change = "SET #until = :until REMOVE #to, #reached, #behind_to"
    values = {"until": format_time(turn.until)}
    return not isinstance(await table.update(keys.tick(turn.group), change, values, _ours(turn)), Refused)


async def caught_up(table: Table, turn: Turn, behind: Sequence[Behind]) -> bool:
    """Note what is left to catch up with; False as above."""
    values = {"behind": _items(behind)}
    return not isinstance(
        await table.update(keys.tick(turn.group), "SET #behind = :behind", values, _ours(turn)), Refused
    )


async def done(table: Table, turn: Turn, behind: Sequence[Behind] = (), watched: float | None = None) -> bool:
    """Note that its stretch is done, and let the next one have the item; False as above."""
    change = (
        "SET #until = :until, #behind = :behind, #watched = :watched REMOVE #to, #reached, #behind_to, #taken_until"
    )
    values = {
        "until": format_time(turn.until),
        "behind": _items(behind),
        "watched": format_time(turn.until if watched is None else watched),
    }
    return not isinstance(await table.update(keys.tick(turn.group), change, values, _ours(turn)), Refused)


def _turn(group: str, item: Item, now: float) -> Turn:
    after = parse_time(item["until"])
    behind = tuple(Behind(one["place"], parse_time(one["until"])) for one in item.get("behind", ()))
    watched = parse_time(item["watched"]) if "watched" in item else after
    # As the table keeps it: a fire time between the two would be in the stretch of neither turn.
    until = parse_time(format_time(now))
    behind_to = parse_time(item["behind_to"]) if "behind_to" in item else 0.0
    return Turn(group, item["number"], after, max(until, after), item.get("reached", ""), watched, behind, behind_to)


def _items(behind: Sequence[Behind]) -> list[dict[str, str]]:
    return [{"place": one.place, "until": format_time(one.until)} for one in behind]


def _ours(turn: Turn) -> When:
    return When("#number = :number", {"number": turn.number})
