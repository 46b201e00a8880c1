"""What a key may hold: from a TOML value, or an environment variable's text, to the value the agent uses.

A `Kind` refuses with a ValueError that says what was expected; the caller adds file and key.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Generic, TypeVar

from runner.protocol.units import parse_duration, parse_size

T = TypeVar("T")
Word = TypeVar("Word", bound=str)


@dataclass(frozen=True, slots=True)
class Kind(Generic[T]):
    """One type of value.

    ``parse`` takes what tomllib gives; ``decode`` makes that out of an environment variable's text.
    """

    name: str
    parse: Callable[[object], T]
    decode: Callable[[str], object]


@dataclass(frozen=True, slots=True)
class Setting:
    """What is known of one key beside its type: its default as a user writes it, and what it does."""

    text: object
    kind: Kind[Any]
    help: str
    fixed: bool


def setting(text: object, kind: Kind[T], help: str, *, fixed: bool = False) -> T:  # noqa: A002 - argparse's word
    """A dataclass field that is a key of the configuration.

    Args:
        text: the default, as it stands in the example file.
        help: what the key does, in the users' words; example file and man page are made of it.
        fixed: a reload cannot change it, a restart can.
    """
    entry = {"setting": Setting(text, kind, help, fixed)}
    value = kind.parse(text)
    if isinstance(value, Mapping):  # unhashable, so dataclasses would take it for a shared mutable default
        return field(default_factory=lambda: value, metadata=entry)
    # As with dataclasses.field(): the field's type is what callers see.
    made: T = field(default=value, metadata=entry)
    return made


def type_name(value: object) -> str:
    """The TOML type of ``value`` in the words of the people who write the file."""
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, str):
        return f'the text "{value}"' if len(value) <= 40 else "a text"
    if isinstance(value, int | float):
        return f"the number {value}"
    if isinstance(value, list):
        return "a list"
    if isinstance(value, dict):
        return "a table"
    return f"a {type(value).__name__}"  # tomllib's dates and times


def expected(what: str, value: object) -> ValueError:
    return ValueError(f"expected {what}, not {type_name(value)}")


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise expected("a text in quotes", value)
    if "\0" in value:
        raise ValueError("a NUL character cannot be used here")
    return value


def _boolean(value: object) -> bool:
    if not isinstance(value, bool):
        raise expected("true or false", value)
    return value


def _whole(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise expected("a whole number", value)
    return value


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise expected("a number", value)
    if not math.isfinite(value):
        raise ValueError(f"expected a number, not {value}")
    return float(value)


def _auto(parse: Callable[[object], T], what: str) -> Callable[[object], T | None]:
    def parse_or_auto(value: object) -> T | None:
        if value == "auto":
            return None
        if isinstance(value, str | int | float) and not isinstance(value, bool):
            try:
                return parse(value)
            except ValueError as error:
                raise ValueError(f'{error}, or "auto"') from None
        raise expected(f'{what} or "auto"', value)

    return parse_or_auto


def _texts(value: object) -> tuple[str, ...]:
    if not isinstance(value, list | tuple):
        meant = f": write [{json.dumps(value)}]" if isinstance(value, str) else ""
        raise ValueError(f"{expected('a list of texts', value)}{meant}")  # noqa: TRY004 - kinds refuse with ValueError
    try:
        return tuple(_text(entry) for entry in value)
    except ValueError as error:
        raise ValueError(f"in the list: {error}") from None


def _variable(value: object) -> str:
    # The value may be a secret in the wrong place, so the fault does not show it.
    if not isinstance(value, str):
        raise ValueError("expected a text in quotes")  # noqa: TRY004 - kinds refuse with ValueError
    return _text(value)


def _table(parse: Callable[[object], T]) -> Callable[[object], Mapping[str, T]]:
    def parse_table(value: object) -> Mapping[str, T]:
        if not isinstance(value, Mapping):
            raise expected("a table", value)
        values: dict[str, T] = {}
        for name, entry in value.items():
            try:
                values[name] = parse(entry)
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from None
        return MappingProxyType(values)

    return parse_table


def _path(value: object) -> Path:
    path = Path(_text(value))
    if not path.is_absolute():
        raise ValueError(f'expected an absolute path, not "{value}"')
    return path


def one_of(*choices: Word) -> Kind[Word]:
    """A word out of a fixed list."""
    known = ", ".join(f'"{choice}"' for choice in choices)

    def parse(value: object) -> Word:
        for choice in choices:
            if value == choice:
                return choice
        raise expected(f"one of {known}", value)

    return Kind("one of " + known, parse, _as_it_is)


def _as_it_is(text: str) -> object:
    return text


def _decode_number(text: str) -> object:
    """A number where the text is one, else the text: "20" is 20 seconds, and "20s" stays what it is."""
    for parse in (int, float):
        try:
            return parse(text.strip())
        except ValueError:
            continue
    return text


def _decode_boolean(text: str) -> object:
    return {"true": True, "false": False}.get(text.strip().lower(), text)


def _decode_list(text: str) -> object:
    if text.lstrip().startswith("["):
        return decode_json(text)
    return [entry.strip() for entry in text.split(",") if entry.strip()]


def decode_json(text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"expected JSON: {error}") from None


TEXT = Kind("text", _text, _as_it_is)
BOOLEAN = Kind("true or false", _boolean, _decode_boolean)
WHOLE = Kind("whole number", _whole, _decode_number)
NUMBER = Kind("number", _number, _decode_number)
DURATION = Kind("duration", parse_duration, _decode_number)
SIZE = Kind("size", parse_size, _decode_number)
AUTO_NUMBER = Kind('number or "auto"', _auto(_number, "a number"), _decode_number)
AUTO_SIZE = Kind('size or "auto"', _auto(parse_size, "a size"), _decode_number)
TEXTS = Kind("list of texts", _texts, _decode_list)
TEXT_TABLE = Kind("table of texts", _table(_variable), decode_json)
NUMBER_TABLE = Kind("table of numbers", _table(_number), decode_json)
PATH = Kind("absolute path", _path, _as_it_is)
