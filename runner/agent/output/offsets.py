"""How far each reader of each spool file has come: what the shipper asks of the journal."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Awaitable, Mapping, Sequence

    from runner.sinks import Tag


@dataclass(frozen=True, slots=True)
class Committed:
    """One reader's place in one file: bytes of the file, and a small dict that survives as JSON.

    `sink` is a sink's name, or LOCAL for the reader that counts lines and matches rules.
    """

    key: str
    sink: str
    offset: int
    state: Mapping[str, Any] = field(default_factory=dict)


LOCAL = "rules"


class OffsetStore(Protocol):
    """The journal's part. `commit` returns when the entries are on disk; commits of many callers join."""

    def load(self, key: str) -> Awaitable[Sequence[Committed]]: ...
    def commit(self, entries: Sequence[Committed]) -> Awaitable[None]: ...
    def known(self) -> Awaitable[Sequence[tuple[Tag, bool]]]:
        """Every attempt with a spool file, of any process, and whether all sinks have it."""

    def removed(self, keys: Sequence[str]) -> Awaitable[None]:
        """The files of these settled attempts are gone."""
