"""Words for what was given and what was meant."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_SHOWN_LENGTH = 80


def unknown(what: str, name: str, known: Iterable[str]) -> str:
    """`unknown field "timout", did you mean "timeout"?`, without the question where nothing is near."""
    near = nearest(name, known)
    question = f', did you mean "{near}"?' if near else ""
    return f"unknown {what} {shown(name)}{question}"


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name most like `name`, case aside, or None where none is near."""
    from difflib import get_close_matches  # noqa: PLC0415 - only for what is wrong

    # A name far longer than any known one is no slip of the pen, and costs difflib quadratic time.
    folded = {candidate.casefold(): candidate for candidate in sorted(known)}
    found = get_close_matches(name[:_SHOWN_LENGTH].casefold(), folded, n=1, cutoff=0.6)
    return folded[found[0]] if found else None


def shown(value: object) -> str:
    """A given value for an error text: one line, ASCII, short; collections by their kind only."""
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return json.dumps(value if len(value) <= _SHOWN_LENGTH else value[:_SHOWN_LENGTH] + "...")
        case int() if value.bit_length() > 200:
            return "a huge number"
        case int() | float():
            return str(value)
    return kind(value)


def kind(value: object) -> str:
    """What a JSON or TOML value is, in words."""
    if value is None:
        return "null"
    return next((words for types, words in _KINDS if isinstance(value, types)), f"a {type(value).__name__}")


# A boolean is an int to Python, so it comes first.
_KINDS: tuple[tuple[type | tuple[type, ...], str], ...] = (
    (bool, "a boolean"),
    ((int, float), "a number"),
    (str, "a string"),
    (dict, "an object"),
    ((list, tuple), "an array"),
)
