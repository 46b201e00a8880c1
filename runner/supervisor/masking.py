"""Masking of secret values in output: whole values, and each of their lines, wherever a chunk boundary falls.

The agent masks with it what it ships (agent/output/masking.py); the supervisor what it writes of a job with fetched
secrets, so that no file ever has them. Loaded with the first such job.

Works on bytes and on the literal values with `bytes.find`, which passes over text without secrets at memory speed.
Occurrences that overlap are masked together, so that no part of either is left.
"""

from __future__ import annotations

TYPE_CHECKING = False  # not imported from typing, which costs a megabyte
if TYPE_CHECKING:
    import re
    from collections.abc import Iterable, Sequence
    from typing import Any

MASK = "***"
SHORTEST_SECRET = 6  # a shorter value would be found by chance in ordinary words and numbers
Span = tuple[int, int]
_MOST_HELD = 256 << 10


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


class Masking:
    """A stream without the secrets: bytes in, bytes out. What may be a secret's beginning is held until more comes."""

    __slots__ = ("_held", "_masks", "_secrets")

    def __init__(self, secrets: Iterable[str], held: bytes = b"") -> None:
        self._secrets = list(secrets)
        self._masks = Masks(self._secrets)
        self._held = held

    def feed(self, data: bytes) -> bytes:
        """What of it may be shown by now."""
        data = self._held + data
        spans = self._masks.spans(data)
        cut = self._masks.pending(data)
        # One that has been found, and may be the beginning of a longer one: as long as that is open, neither is shown.
        cut = next((start for start, end in spans if start < cut < end), cut)
        if len(data) - cut > _MOST_HELD:  # values that overlap themselves, such as 000000, in a long row
            cut = len(data) - self._masks.longest
        self._held = data[cut:]
        return self._masks.mask(data[:cut], [(start, min(end, cut)) for start, end in spans if start < cut])

    def rest(self) -> bytes:
        """What was held when nothing more comes."""
        data, self._held = self._held, b""
        return self._masks.mask(data)

    def state(self) -> dict[str, Any]:
        """For `restored`: it has the secrets."""
        return {"secrets": self._secrets, "held": self._held.hex()}

    @classmethod
    def restored(cls, state: dict[str, Any]) -> Masking:
        return cls(state["secrets"], bytes.fromhex(state["held"]))


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
    import re  # noqa: PLC0415 - half a megabyte, for values such as 000000

    return re.compile(re.escape(pattern) + b"(?:" + re.escape(pattern[-shift:]) + b")*+", re.DOTALL)
