"""How far each reader of each spool file has come: what the shipper asks of the journal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Awaitable, Sequence

    from runner.agent.runs.output import Committed
    from runner.sinks import Tag


class OffsetStore(Protocol):
    """The journal's part. `commit` returns when the entries are on disk; commits of many callers join."""

    def load(self, key: str) -> Awaitable[Sequence[Committed]]: ...
    def commit(self, entries: Sequence[Committed]) -> Awaitable[None]: ...
    def known(self) -> Awaitable[Sequence[tuple[Tag, bool]]]:
        """Every attempt with a spool file, of any process, and whether all sinks have it."""

    def removed(self, keys: Sequence[str]) -> Awaitable[None]:
        """The files of these settled attempts are gone."""
