"""Where output goes: one small interface, and the values that cross it.

The shipper (runner/agent/output) cuts the output into batches that respect a sink's `limits`; the sink only sends.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from math import inf
from typing import TYPE_CHECKING, Any, Protocol, Self

from runner.errors import CronRunnerError

if TYPE_CHECKING:
    from collections.abc import Mapping


SPLIT_MARK = " [cron-runner: line continues]"
"""Ends every piece of a line that had to be split but the last."""


@dataclass(frozen=True, slots=True)
class Tag:
    """Whose output it is. Must be the same after a restart of the agent: it names the log stream and the file."""

    execution: str
    attempt: int
    job: str
    run_id: str
    started_at: float  # unix seconds; {date} in stream names
    host: str = ""
    max_bytes: int = 1 << 30  # as told to the supervisor: head half and tail half are kept

    @property
    def key(self) -> str:
        """EXECUTION/ATTEMPT, as everywhere between agent, supervisor and journal."""
        return f"{self.execution}/{self.attempt}"

    @property
    def head_bytes(self) -> int:
        """Where the dropped middle of a run over its cap begins."""
        return self.max_bytes // 2

    def to_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Read what to_json wrote; unknown keys of another version are skipped."""
        known = {field.name for field in fields(cls)}
        return cls(**{name: item for name, item in value.items() if name in known})


@dataclass(frozen=True, slots=True)
class Limits:
    """What one batch may hold. Sizes are bytes in UTF-8; each event counts `event_overhead` on top of its text. Events
    may be `oldest_s` old, and those of a batch no further apart than `span_s`."""

    batch_bytes: int
    batch_events: int
    event_bytes: int
    event_overhead: int = 0
    oldest_s: float = inf
    span_s: float = inf


@dataclass(frozen=True, slots=True)
class Piece:
    """Successive lines of one run. `ms` is when they were written, unix milliseconds, rising within the run."""

    tag: Tag
    ms: int
    lines: list[str]
    raw: bytes = b""  # a raw sink gets this and no lines


@dataclass(frozen=True, slots=True)
class Batch:
    """What is sent in one go, and accepted or not as a whole; the pieces in the order of their times."""

    stream: str
    pieces: tuple[Piece, ...]


class SinkUnavailable(CronRunnerError):
    """The sink did not take the batch; it is sent again later. `str()` says why."""


class NoNewStream(SinkUnavailable):
    """The batch's stream does not exist and may not be made now. `instead` is a stream that runs may share: those
    that have ended and are small go there, each line with its run id; "" where there is none."""

    def __init__(self, detail: str, instead: str) -> None:
        self.instead = instead
        super().__init__(detail)


class Sink(Protocol):
    """A place for output. One batch per stream is in flight at a time, at most `parallel` over all streams.

    `send` returns the number of bytes of text that the sink refused for good (too old, malformed) and raises
    SinkUnavailable or errors.AwsUnavailable when the batch should be sent again.
    """

    @property
    def name(self) -> str: ...  # the key of its offsets in the journal: never change it
    @property
    def raw(self) -> bool: ...  # wants the masked bytes as they come, not lines
    @property
    def flush(self) -> float: ...  # seconds that a line may wait for others
    @property
    def parallel(self) -> int: ...
    @property
    def shared(self) -> bool: ...  # whether several runs may have one stream
    @property
    def limits(self) -> Limits: ...
    def stream(self, tag: Tag) -> str:
        """The stream of a run. Runs with the same stream share batches."""

    def prefix(self, tag: Tag) -> str:
        """What every line of the run begins with, where runs share a stream."""

    async def send(self, batch: Batch) -> int: ...
    async def close(self) -> None: ...
