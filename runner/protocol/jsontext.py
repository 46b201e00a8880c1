"""JSON as a queue may send it: strictly read, so that one text has one meaning."""

from __future__ import annotations

import json
import re
from itertools import islice
from typing import TYPE_CHECKING, Final, NoReturn

from runner.protocol.invalid import InvalidMessage
from runner.protocol.suggest import shown

if TYPE_CHECKING:
    from collections.abc import Iterator

LARGEST_BODY: Final = 1024 * 1024  # bytes; also the most that SQS carries
# Each value costs far more than its bytes: `[[],[],...` of 1 MiB takes 25 MB and a fifth of a second.
MOST_VALUES: Final = 10_000

# What reads a body calls itself for each level, and how often Python lets it differs by version. Nobody means more.
_DEEPEST: Final = 100

_PIECE: Final = 1 << 16

# A string is passed over whole, also one without an end; in a text without escapes.
_VALUE: Final = re.compile(r'"[^"]*"?|[\[{,]')
_LEVEL: Final = re.compile(r'"[^"]*"?|[\[\]{}]')


class NotJson(InvalidMessage):
    """The body is something else, or damaged."""


def decode(body: str | bytes) -> object:
    """The value of a JSON text of at most 1 MiB in UTF-8; raises InvalidMessage, and nothing else.

    Duplicate keys, NaN and Infinity are refused: parsers disagree on what they mean.
    """
    text = _text(body)
    if not few_values(text, MOST_VALUES):
        raise InvalidMessage(f"the body has more than {MOST_VALUES} values; send fewer")
    if _is_deep(text):
        raise InvalidMessage("the body is nested too deep; send a flat JSON object")
    try:
        return _DECODER.decode(text)
    except InvalidMessage:
        raise
    except json.JSONDecodeError as error:
        where = f"line {error.lineno} column {error.colno}"
        raise NotJson(f"the body is not JSON: {error.msg} at {where}; send a JSON object") from None
    except RecursionError:
        raise InvalidMessage("the body is nested too deep; send a flat JSON object") from None
    except ValueError:  # int() refuses thousands of digits, json passes that on
        raise InvalidMessage("the body holds a number with too many digits; send a smaller one") from None


def _text(body: str | bytes) -> str:
    if isinstance(body, bytes):
        _check_size(len(body))
        try:
            body = body.decode("utf-8")
        except UnicodeDecodeError as error:
            text = f"the body is not UTF-8: {error.reason} at byte {error.start}; send UTF-8"
            raise InvalidMessage(text) from None
    elif len(body) * 4 > LARGEST_BODY:
        _check_size(sum(len(piece) for piece in utf8(body)))
    # Editors and shells on Windows begin files with a byte order mark.
    return body.removeprefix("\ufeff")


def utf8(text: str) -> Iterator[bytes]:
    """A text in UTF-8, in pieces: Python takes four bytes for each character while it encodes."""
    return (text[at : at + _PIECE].encode("utf-8", "surrogatepass") for at in range(0, len(text), _PIECE))


def _check_size(size: int) -> None:
    if size > LARGEST_BODY:
        raise InvalidMessage(f"the body has {size} bytes; send at most {LARGEST_BODY}")


def few_values(text: str, most: int) -> bool:
    """Whether a JSON text has at most so many values, roughly; found out without making any of them."""
    if sum(map(text.count, "[{,")) <= most:
        return True
    # Most of these may be within strings. Of those there is one for each value, and one for its name.
    values = strings = 0
    for found in _VALUE.finditer(_unescaped(text)):
        if found[0][0] == '"':
            strings += 1
        else:
            values += 1
        if values > most or strings > 2 * most + 1:
            return False
    return True


def _is_deep(text: str) -> bool:
    """Whether values lie in each other more than `_DEEPEST` deep; of a text of few values."""
    if text.count("[") + text.count("{") <= _DEEPEST:
        return False
    depth = 0
    for found in islice(_LEVEL.finditer(_unescaped(text)), 5 * MOST_VALUES):
        depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(found[0], 0)
        if not 0 <= depth <= _DEEPEST:
            return depth > 0  # with more ends than beginnings it is no JSON, which is found out soon
    return False


def _unescaped(text: str) -> str:
    """A JSON text without the escapes that quotes have to do with: each would take a step of its own."""
    return text.replace("\\\\", "").replace('\\"', "")


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    table = dict(pairs)
    if len(table) == len(pairs):
        return table
    seen: set[str] = set()
    for name, _ in pairs:
        if name in seen:
            raise InvalidMessage(f"the key {shown(name)} is given twice in one object; give it once")
        seen.add(name)
    raise AssertionError("keys fewer than pairs, and none given twice")


def _refuse_constant(constant: str) -> NoReturn:
    raise InvalidMessage(f"{constant} is not JSON; give a finite number")


_DECODER: Final = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_refuse_constant)
