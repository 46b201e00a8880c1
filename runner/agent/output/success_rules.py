"""The success rules that look at output: fail_on and require, and the count of lines. Pure; fed with whole lines."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from runner.protocol.patterns import to_match

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

LINE_BYTES = 1 << 20
"""A longer line is matched in pieces of this size, each beginning OVERLAP bytes before the end of the one before."""
OVERLAP = 64 << 10

# A pattern that asks for the ends of the text, or turns multi-line mode off, is tried on each line by itself.
_SINGLE_LINE = re.compile(r"\\[Az]|\(\?[a-zA-Z]*-")


# Returns that overwrite nothing make no state: those at either end of a line.
_LINE_ENDS = re.compile(rb"\r*\n\r*")
_STATES = re.compile(rb"\r+")


@dataclass(frozen=True, slots=True)
class Rules:
    """Patterns in RE2 syntax, tried on each line of output as the job wrote it, without its line end; of a line that
    carriage returns overwrite, on each state."""

    fail_on: tuple[str, ...] = ()
    require: tuple[str, ...] = ()


class _Pattern(Protocol):
    def search(self, text: bytes, /) -> object | None: ...


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
        end = data.rfind(b"\n") + 1
        taken = end
        if final:
            end = taken = len(data)
        elif not end and len(data) >= LINE_BYTES:
            end = taken = data.rfind(b"\r", 0, -1) + 1  # a state can be told from the next one
            if not end:
                end, taken = len(data), len(data) - OVERLAP
        if not end:
            return 0
        self.lines += data.count(b"\n", 0, taken)
        if final and not data.endswith(b"\n"):
            self.lines += 1
        self._match(data[:end])
        return taken

    def _match(self, data: bytes) -> None:
        open_rules = [] if self._failed_on is not None else list(self._rules.fail_on)
        unmet = [pattern for pattern in self._rules.require if pattern not in self._met]
        if not open_rules and not unmet:
            return
        if b"\r" in data:
            data = _STATES.sub(b"\n", _LINE_ENDS.sub(b"\n", data).strip(b"\r"))
        self._failed_on = next((pattern for pattern in open_rules if self._found(pattern, data)), self._failed_on)
        self._met.extend(pattern for pattern in unmet if self._found(pattern, data))

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
