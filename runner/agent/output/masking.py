"""Masking of secret values in output: whole values, and each of their lines, wherever a chunk boundary falls.

Works on bytes and on the literal values with `bytes.find`, which passes over text without secrets at memory speed.
Occurrences that overlap are masked together, so that no part of either is left.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from typing import TYPE_CHECKING

from runner.agent.runs.secrets import MASK
from runner.log import SHORTEST_SECRET

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


Span = tuple[int, int]


def patterns(secrets: Iterable[str]) -> tuple[bytes, ...]:
    """The byte strings to look for: every value, and every line of a value of several lines, of 6 characters or more.

    A value whose lines are all looked for themselves is left out: its lines mask it.
    """
    found: set[bytes] = set()
    for secret in secrets:
        value = secret.strip()
        lines = [line.strip() for line in value.split("\n")]
        long = [line for line in lines if len(line) >= SHORTEST_SECRET]
        found.update(_encoded(line) for line in long)
        if len(value) >= SHORTEST_SECRET and (len(long) < len(lines)):
            found.add(_encoded(value))
    return tuple(sorted(found))


class Masks:
    """The secret values of one run."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._patterns = patterns(secrets)
        self._chains = tuple(_chain(pattern) for pattern in self._patterns)
        self.longest = max(map(len, self._patterns), default=0)

    def __bool__(self) -> bool:
        return bool(self._patterns)

    def spans(self, data: bytes) -> list[Span]:
        """Where secrets are, in order, overlapping ones joined."""
        found: list[Span] = []
        for pattern, chain in zip(self._patterns, self._chains, strict=True):
            start = data.find(pattern)
            while start >= 0:
                end = start + len(pattern)
                if chain is not None and (match := chain.match(data, start)) is not None:
                    end = match.end()
                found.append((start, end))
                start = data.find(pattern, end - len(pattern) + 1)
        return joined(found)

    def pending(self, data: bytes) -> int:
        """Where the earliest secret begins that the end of the data may have cut; len(data) where there is none."""
        earliest = len(data)
        for pattern in self._patterns:
            start = data.find(pattern[:1], max(0, len(data) - len(pattern) + 1))
            while 0 <= start < earliest:
                if pattern.startswith(data[start:]):
                    earliest = start
                    break
                start = data.find(pattern[:1], start + 1)
        return earliest

    def torn(self, data: bytes) -> int:
        """How many bytes at the start may be the rest of a secret whose beginning was dropped."""
        return max((_overlap(pattern, data) for pattern in self._patterns), default=0)

    def mask(self, data: bytes, spans: Sequence[Span] | None = None) -> bytes:
        """The data with secrets replaced. Line ends within a secret stay, so that lines remain one to one."""
        hits = self.spans(data) if spans is None else spans
        if not hits:
            return data
        parts: list[bytes] = []
        position = 0
        for start, end in hits:
            if start >= len(data):
                break
            parts.append(data[position:start])
            parts.append(_masked(data[start:end]))
            position = end
        parts.append(data[position:])
        return b"".join(parts)

    def mask_text(self, text: str) -> str:
        """The same for text, such as a command that is shown."""
        return self.mask(_encoded(text)).decode("utf-8", "surrogateescape")


def whole(cut: int, spans: Sequence[Span], pending: int) -> int:
    """The greatest position up to `cut` that lies in no secret and behind the start of no possible one."""
    cut = min(cut, pending)
    index = bisect_right(spans, (cut, -1)) - 1
    if index >= 0 and spans[index][0] < cut < spans[index][1]:
        return spans[index][0]
    return cut


def _encoded(text: str) -> bytes:
    """As it stands in the environment of a process; what cannot stand there (a lone surrogate) cannot come out."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace")


def _overlap(left: bytes, right: bytes) -> int:
    """The length of the longest end of `left`, short of all of it, that `right` begins with."""
    lengths = range(min(len(left) - 1, len(right)), 0, -1)
    return next((length for length in lengths if left.endswith(right[:length])), 0)


def _masked(secret: bytes) -> bytes:
    mask = MASK.encode()
    if b"\n" not in secret:
        return mask
    return b"\n".join(mask if line.strip(b"\r") else line for line in secret.split(b"\n"))


def joined(spans: list[Span]) -> list[Span]:
    """The same places in order, overlapping ones as one."""
    spans.sort()
    result: list[Span] = []
    for start, end in spans:
        if result and start < result[-1][1]:
            result[-1] = (result[-1][0], max(end, result[-1][1]))
        else:
            result.append((start, end))
    return result


def _chain(pattern: bytes) -> re.Pattern[bytes] | None:
    """For a value that can overlap itself (``000000``): matches a whole row of overlapping occurrences at once.

    Without it a megabyte of zeros would take a Python step per byte.
    """
    shift = next((n for n in range(1, len(pattern)) if pattern.startswith(pattern[n:])), None)
    if shift is None:
        return None
    return re.compile(re.escape(pattern) + b"(?:" + re.escape(pattern[-shift:]) + b")*+", re.DOTALL)
