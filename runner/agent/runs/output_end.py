"""How the output of one attempt ended."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, Self

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class Ended(Protocol):
    """How the output ended: the supervisor's ExitRecord, or OutputEnd. Bytes; `gap` is [start, end) in the file,
    `marks` say when it grew (marks.py)."""

    @property
    def bytes_total(self) -> int: ...
    @property
    def bytes_written(self) -> int: ...
    @property
    def gap(self) -> Sequence[int] | None: ...
    @property
    def marks(self) -> Sequence[int]: ...
    @property
    def rest(self) -> str: ...


@dataclass(frozen=True, slots=True)
class OutputEnd:
    """`bytes_total` is all that the job wrote, `bytes_written` the file's logical size, `gap` its dropped middle.
    `rest` are the last words that a full disk refused, for the finished event alone: they are kept nowhere."""

    bytes_total: int
    bytes_written: int
    gap: tuple[int, int] | None = None
    marks: Sequence[int] = ()
    rest: str = ""

    def to_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__ if name != "rest"}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Read what to_json wrote, or an ExitRecord's JSON."""
        gap = value.get("gap")
        return cls(
            int(value["bytes_total"]),
            int(value["bytes_written"]),
            (int(gap[0]), int(gap[1])) if gap else None,
            value.get("marks") or (),
        )
