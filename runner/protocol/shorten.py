"""Events within the size that the results queue takes."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Mapping
from typing import Any, Final

LIMIT: Final = 256 * 1024  # bytes, and characters too: the text is ASCII

_ENCODER: Final = json.JSONEncoder(ensure_ascii=True, separators=(",", ":"), allow_nan=False)
_LONG_TEXTS: Final = ("command", "body", "detail")
# What identifies the fact; bounded by the message's own rules.
_ALWAYS: Final = frozenset(
    {
        "sequence",
        "job",
        "run_id",
        "execution",
        "attempt",
        "delivery",
        "group",
        "host",
        "scheduled_at",
        "sent_at",
        "labels",
        "outcome",
        "reason",
        "exit_code",
        "signal",
        "will_retry",
        "shortened",
    }
)
_LONGEST_OTHER: Final = 256  # characters of a text that was never expected to be long


def encode(value: object) -> str:
    """Compact ASCII JSON; a number that JSON does not know becomes null."""
    try:
        return _ENCODER.encode(value)
    except ValueError:
        # A fact that cannot be written must not keep the others from being told.
        return _ENCODER.encode(_finite(value))


def shorten(envelope: Mapping[str, object], data: dict[str, Any], limit: int = LIMIT) -> str:
    """The JSON of an event that is too long, cut to `limit` bytes; changes `data`, which is part of `envelope`.

    The message that it was goes first, then the tail, command, body and detail, then the labels, then whatever else
    is long; `data.shortened` says so.
    """
    data["shortened"] = True
    if data.get("message") is not None:
        # As a whole: of a part of it somebody would make a run.
        data["message_bytes"], data["message"] = len(encode(data["message"])), None
    output = data.get("output")
    if isinstance(output, Mapping) and isinstance(output.get("tail"), str):
        without = {**output, "tail": ""}
        data["output"] = without
        without["tail"] = _last(output["tail"], limit - len(encode(envelope)))
    for name in _LONG_TEXTS:
        if name in data and len(encode(envelope)) > limit:
            whole, data[name] = data[name], ""
            data[name] = _first(whole, limit - len(encode(envelope)))
    if len(encode(envelope)) > limit:
        data["labels"] = {}
    if len(encode(envelope)) > limit:
        for name, value in data.items():
            data[name] = _clipped(value)
    if len(encode(envelope)) > limit:
        for name in data.keys() - _ALWAYS:
            del data[name]
    return encode(envelope)


def _first(value: object, room: int) -> object:
    """The beginning of a text, or the first words of a command, that takes at most `room` characters more."""
    if isinstance(value, str):
        return value[: _fitting(len(value), lambda n: _size(value[:n]) <= room)]
    if isinstance(value, list | tuple):
        words = list(value)
        kept = _fitting(len(words), lambda n: len(encode(words[:n])) - 2 <= room)
        return words[:kept]
    return ""


def _last(value: str, room: int) -> str:
    return value[len(value) - _fitting(len(value), lambda n: _size(value[len(value) - n :]) <= room) :]


def _fitting(most: int, fits: Any) -> int:
    """The largest n up to `most` that fits, or 0."""
    return max(bisect_right(range(most + 1), False, key=lambda n: not fits(n)) - 1, 0)


def _size(text: str) -> int:
    return len(encode(text)) - 2


def _clipped(value: object) -> object:
    if isinstance(value, str):
        return value[:_LONGEST_OTHER]
    if isinstance(value, Mapping):
        return {str(name)[:_LONGEST_OTHER]: _clipped(entry) for name, entry in list(value.items())[:_LONGEST_OTHER]}
    if isinstance(value, list | tuple):
        return [_clipped(entry) for entry in value[:_LONGEST_OTHER]]
    return value


def _finite(value: object) -> object:
    if isinstance(value, float):
        return value if value - value == 0 else None
    if isinstance(value, Mapping):
        return {name: _finite(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(entry) for entry in value]
    return value
