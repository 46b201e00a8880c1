"""The success rules that look at output: fail_on and require, and the count of lines. Pure; fed with whole lines.

What a sender's patterns cost is bounded for each byte, and a mebibyte of output can still keep a core busy for seconds.
So a stretch of output is cut (`cut`) and counted (`take`) by whoever owns the `Watch`, and looked at (`look`) in
between, which changes nothing that anybody else reads and so may be done in a thread: re2 gives the interpreter's lock
away.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

from runner.protocol.patterns import to_match

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from runner.agent.runs.output import Rules

LINE_BYTES = 1 << 20
"""A longer line is matched in pieces of this size, each beginning OVERLAP bytes before the end of the one before."""
OVERLAP = 64 << 10

# A pattern that asks for the ends of the text, or turns multi-line mode off, is tried on each line by itself.
_SINGLE_LINE = re.compile(r"\\[Az]|\(\?[a-zA-Z]*-")


# Returns that overwrite nothing make no state: those at either end of a line.
_LINE_ENDS = re.compile(rb"\r*\n\r*")
_STATES = re.compile(rb"\r+")


class _Pattern(Protocol):
    programsize: int

    def search(self, text: bytes, /) -> object | None: ...


@dataclass(frozen=True, slots=True)
class Stretch:
    """Whole lines to look at, how many bytes of the output they take up, and how many lines end in them."""

    data: bytes
    taken: int
    lines: int


@dataclass(frozen=True, slots=True)
class Found:
    """The fail_on pattern that a stretch matches first, and the require patterns that it meets."""

    failed_on: str | None = None
    met: tuple[str, ...] = ()


_CHEAP: Final = 500_000
"""Bytes times instructions. The dearest pattern takes some nanoseconds for each: below it a look holds nobody up."""
_SIMPLE: Final = re.compile(r"[\w .:,;=/@#%&<>~'\"^$-]{1,100}")
"""What is compiled at once: words, without repetitions and classes."""


_NOTHING: Final = Found()


class Watch:
    """Reads a run's output once, in order. Its `state` together with the offset lets it go on after a restart."""

    def __init__(self, rules: Rules, state: Mapping[str, Any] | None = None) -> None:
        state = state or {}
        self._rules = rules
        self.lines: int = state.get("lines", 0)
        self._failed_on: str | None = state.get("failed_on")
        self._met: list[str] = [pattern for pattern in state.get("met", ()) if pattern in rules.require]
        self._compiled: dict[str, _Pattern] = {}

    @property
    def state(self) -> dict[str, Any]:
        return {"lines": self.lines, "failed_on": self._failed_on, "met": list(self._met)}

    @property
    def failed_on(self) -> str | None:
        """The fail_on pattern that matched first."""
        return self._failed_on

    @property
    def missing(self) -> str | None:
        """The first require pattern that no line has matched."""
        return next((pattern for pattern in self._rules.require if pattern not in self._met), None)

    def feed(self, data: bytes, *, final: bool = False) -> int:
        """Take whole lines (with `final`, all) from the start of the data; returns how many bytes were taken."""
        stretch = self.cut(data, final=final)
        if stretch is None:
            return 0
        self.take(stretch, self.look(stretch.data))
        return stretch.taken

    def cut(self, data: bytes, *, final: bool = False) -> Stretch | None:
        """The whole lines (with `final`, all) at the start of the data; None where there is none yet."""
        end = data.rfind(b"\n") + 1
        taken = end
        if final:
            end = taken = len(data)
        elif not end and len(data) >= LINE_BYTES:
            end = taken = data.rfind(b"\r", 0, -1) + 1  # a state can be told from the next one
            if not end:
                end, taken = len(data), len(data) - OVERLAP
        if not end:
            return None
        lines = data.count(b"\n", 0, taken) + (final and not data.endswith(b"\n"))
        return Stretch(data[:end], taken, lines)

    def cheap(self, data: bytes) -> bool:
        """Whether a look at the data costs so little that it may be done at once."""
        size = 0
        for pattern in self._open():
            compiled = self._compiled.get(pattern)
            if compiled is None and _SIMPLE.fullmatch(pattern) is None:
                return False
            size += compiled.programsize if compiled is not None else len(pattern)
        return size * len(data) <= _CHEAP

    def look(self, data: bytes) -> Found:
        """What the data matches of the rules that are open. One look at a time; it may be in a thread."""
        open_rules = () if self._failed_on is not None else self._rules.fail_on
        unmet = [pattern for pattern in self._rules.require if pattern not in self._met]
        if not open_rules and not unmet:
            return _NOTHING
        if b"\r" in data:
            data = _STATES.sub(b"\n", _LINE_ENDS.sub(b"\n", data).strip(b"\r"))
        failed_on = next((pattern for pattern in open_rules if self._found(pattern, data)), None)
        return Found(failed_on, tuple(pattern for pattern in unmet if self._found(pattern, data)))

    def take(self, stretch: Stretch, found: Found) -> None:
        """Count a stretch that was looked at."""
        self.lines += stretch.lines
        self._failed_on = self._failed_on or found.failed_on
        self._met.extend(found.met)

    def _open(self) -> Iterator[str]:
        if self._failed_on is None:
            yield from self._rules.fail_on
        yield from (pattern for pattern in self._rules.require if pattern not in self._met)

    def _found(self, pattern: str, data: bytes) -> bool:
        """Whether a line matches. The lines are first searched in one go, in multi-line mode: a line that matches is
        found there, too; a match there that goes over a line's end is told from one by trying the lines."""
        compiled = self._compiled.get(pattern) or self._compile(pattern)
        if _SINGLE_LINE.search(pattern) is None and compiled.search(data) is None:
            return False
        lines: Sequence[bytes] = data.removesuffix(b"\n").split(b"\n")
        return any(compiled.search(line) is not None for line in lines)

    def _compile(self, pattern: str) -> _Pattern:
        compiled: _Pattern = to_match(pattern, (*self._rules.fail_on, *self._rules.require))
        self._compiled[pattern] = compiled
        return compiled
