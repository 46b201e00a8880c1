"""What the pages and the API are made of: one small interface, and a host or the fleet behind it.

Values are those that the commands print as JSON; docs/web.md says which.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from runner.errors import CronRunnerError, NotThere

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from runner.web.sources.past import Standing


class SourceAway(CronRunnerError):
    """The agent, or AWS, does not answer."""


class Unknown(NotThere):
    """There is no such run, job, group or host."""


class NotPossible(CronRunnerError):
    """It was refused; `code` is the word for why."""

    def __init__(self, text: str, code: str = "refused") -> None:
        self.code = code
        super().__init__(text)


@dataclass(frozen=True, slots=True)
class Filter:
    """Which runs; times are unix seconds. `job` is GROUP/JOB, JOB or a glob of either; `text` a part of id or name."""

    job: str = ""
    group: str = ""
    host: str = ""
    outcomes: Sequence[str] = ()
    state: str = ""
    since: float | None = None
    until: float | None = None
    text: str = ""
    limit: int = 50
    cursor: str = ""


@dataclass(frozen=True, slots=True)
class Asker:
    """For whom a change is made: `name` and `role`, and where it came from."""

    name: str
    role: str
    way: str


@dataclass(frozen=True, slots=True)
class Change:
    """Something to be done: `op` is cancel, rerun, run, enable, disable, maintenance, pause, resume or drain."""

    op: str
    group: str = ""
    job: str = ""
    run_id: str = ""
    host: bool = False
    note: str = ""
    more: Mapping[str, Any] = field(default_factory=dict)

    @property
    def subject(self) -> str:
        return self.run_id or (f"{self.group}/{self.job}" if self.job else self.group) or "host"


@dataclass(frozen=True, slots=True)
class Piece:
    """Output from `start` on; `over`: nothing comes behind `next`.

    `anchors` are (position in `data`, offset) behind what is of another length here than there: masked values."""

    start: int
    next: int
    size: int
    data: bytes
    over: bool
    outcome: str | None = None
    anchors: Sequence[Sequence[int]] = ()
    here: bool = True  # False: none of it is kept where this was asked


class Source(Protocol):
    """Raises SourceAway, Unknown, NotPossible."""

    kind: str  # host, fleet

    async def title(self) -> str: ...
    async def group(self) -> str: ...
    async def status(self) -> dict[str, Any]: ...
    async def overview(self) -> dict[str, Any]: ...
    async def runs(self, wanted: Filter) -> dict[str, Any]: ...
    async def run(self, run_id: str) -> dict[str, Any]: ...
    async def output(self, run_id: str, start: int, limit: int) -> Piece: ...
    async def history(self) -> Sequence[dict[str, Any]]: ...
    async def standing(self) -> Standing: ...
    async def jobs(self) -> Sequence[dict[str, Any]]: ...
    async def job(self, group: str, name: str) -> dict[str, Any]: ...
    async def next(self, group: str, name: str, count: int) -> Sequence[str]: ...
    async def hosts(self) -> Sequence[dict[str, Any]]: ...
    async def queues(self) -> Sequence[dict[str, Any]]: ...
    async def audit(self, cursor: str, limit: int) -> dict[str, Any]: ...
    async def can(self, op: str) -> bool: ...
    async def change(self, change: Change, asker: Asker) -> dict[str, Any]: ...
    async def refused(self, change: Change, asker: Asker) -> None: ...
    def close(self) -> None: ...
