"""The five fields of a crontab's line as Debian's cron reads them, written for our parser. Pure.

Of cron 3.0pl1-162, entry.c.

It takes more than its manual says, and not what other crons take: names anywhere, ranges that go round match nothing,
whatever follows a list up to the next blank is passed over, and a step needs a range.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from runner.protocol.suggest import shown

if TYPE_CHECKING:
    from collections.abc import Mapping

_MONTHS: Final = {
    name: number
    for number, name in enumerate(
        ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"), start=1
    )
}
_DAYS: Final = {name: number for number, name in enumerate(("sun", "mon", "tue", "wed", "thu", "fri", "sat"))}
_NONE: Final[Mapping[str, int]] = {}
_KINDS: Final = (
    ("minute", 0, 59, _NONE),
    ("hour", 0, 23, _NONE),
    ("day of the month", 1, 31, _NONE),
    ("month", 1, 12, _MONTHS),
    ("day of the week", 0, 7, _DAYS),
)
WORDS: Final = {
    "yearly": "0 0 1 1 *",
    "annually": "0 0 1 1 *",
    "monthly": "0 0 1 * *",
    "weekly": "0 0 * * 0",
    "daily": "0 0 * * *",
    "midnight": "0 0 * * *",
    "hourly": "0 * * * *",
}
"""By the flags that cron gives them each is as these fields are."""
_NUMBER: Final = re.compile(r"[A-Za-z0-9]+")
_OURS: Final = re.compile(r"(?:\*|[0-9]{1,2}(?:-[0-9]{1,2})?)(?:/[0-9]{1,2})?")


class Refused(ValueError):
    """Cron itself takes no such line, or would never run it."""


@dataclass(frozen=True, slots=True)
class Field:
    """``star``: it begins with `*`, which is more than that it holds all its values. ``rest``: what was passed over."""

    text: str
    values: frozenset[int]
    star: bool
    rest: str


def schedule_of(texts: list[str]) -> tuple[str, list[str]]:
    """Five fields as five fields that mean the same here, and what there is to say of that; raises Refused."""
    fields = [_field(text, *kind) for text, kind in zip(texts, _KINDS, strict=True)]
    notes = [
        f"cron passes over {shown(field.rest)} of the {kind[0]} {shown(field.text)}"
        for field, kind in zip(fields, _KINDS, strict=True)
        if field.rest
    ]
    day, weekday = fields[2], fields[4]
    either = not (day.star or weekday.star)
    for index in (0, 1, 3) if either else range(5):
        if not fields[index].values:
            said = f"{_KINDS[index][0]} {shown(fields[index].text)}"
            raise Refused(f"{said} goes round, and for cron that is no time at all")
    written = [_written(field, *kind[1:3]) for field, kind in zip(fields, _KINDS, strict=True)]
    if either and not (day.values and weekday.values):
        if not day.values and not weekday.values:
            said = f"days {shown(day.text)} and {shown(weekday.text)}"
            raise Refused(f"{said} go round, and for cron that is no day at all")
        # Either of both is enough, and one of them never comes.
        written[4 if day.values else 2] = "*"
    return " ".join(written), notes


def _field(text: str, kind: str, low: int, high: int, names: Mapping[str, int]) -> Field:
    found: set[int] = set()
    rest = text
    while True:
        first, last, step, rest = _range(rest, text, kind, low, high, names)
        found.update(range(first, last + 1, step))
        if not rest.startswith(","):
            return Field(text, frozenset(found), text.startswith("*"), rest)
        rest = rest[1:]


def _range(rest: str, text: str, kind: str, low: int, high: int, names: Mapping[str, int]) -> tuple[int, int, int, str]:
    """The next range of a list: its ends, its step, and what follows."""
    if rest.startswith("*"):
        first, last, rest = low, high, rest[1:]
    else:
        first, rest = _number(rest, text, kind, names)
        last = first
        if rest.startswith("-"):
            last, rest = _number(rest[1:], text, kind, names)
        elif rest.startswith("/"):
            said = f"{kind} {shown(text)} has a step without a range"
            raise Refused(f"{said}; cron refuses that, too: say {first}-{high}{rest}")
    step = 1
    if rest.startswith("/"):
        step, rest = _number(rest[1:], text, kind, _NONE)
        if step < 1:
            raise Refused(f"{kind} {shown(text)} has a step of nothing; cron refuses that, too")
    if not (low <= first <= high and low <= last <= high):
        raise Refused(f"{kind} {shown(text)} is outside {low} to {high}; cron refuses that, too")
    return first, last, step, rest


def _number(rest: str, text: str, kind: str, names: Mapping[str, int]) -> tuple[int, str]:
    match = _NUMBER.match(rest)
    said = match[0] if match else ""
    if said.lower() in names:
        return names[said.lower()], rest[len(said) :]
    if not said.isdigit() or len(said) > 9:
        raise Refused(f"{kind} {shown(text)} cannot be read; cron refuses it, too")
    return int(said), rest[len(said) :]


def _written(field: Field, low: int, high: int) -> str:
    """The field for our parser: as it is where that reads it alike."""
    # A range that goes round is no fault to cron, and one to us.
    if not field.rest and all(_OURS.fullmatch(part) and _rises(part) for part in field.text.split(",")):
        return ",".join(part.partition("-")[0] if _one(part) else part for part in field.text.split(","))
    if field.star and field.values >= set(range(low, high + 1)):
        return "*"
    listed = ",".join(map(str, sorted(field.values)))
    # A list that begins with a star has the lowest value in any case, and that alone by so wide a step.
    return f"*/{high + 1},{listed}" if field.star else listed


def _one(part: str) -> bool:
    """Whether it is a range of one value, of which a step would make more for our parser."""
    ends = part.partition("/")[0].split("-")
    return len(ends) == 2 and int(ends[0]) == int(ends[1])


def _rises(part: str) -> bool:
    ends = part.partition("/")[0].split("-")
    return len(ends) < 2 or int(ends[0]) <= int(ends[1])
