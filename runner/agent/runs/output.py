"""The output of one attempt, as values: whose it is, what is looked for in it, how far it is read, how it ended."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, Self

from runner.sinks import Tag

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from runner.agent.runs.run import Execution
    from runner.config import Config
    from runner.protocol.event import Source

LOCAL = "rules"
"""The reader that counts lines and matches rules, among the names of sinks."""


def tag_of(execution: Execution, config: Config, source: Source) -> Tag:
    """Whose output it is. The same after a restart, since it names the file and the log stream."""
    return Tag(
        execution=execution.id,
        attempt=execution.attempt,
        job=execution.job.job,
        run_id=execution.run_id,
        started_at=execution.accepted_at,
        host=source.host.name,
        max_bytes=config.output.max_bytes,
    )


@dataclass(frozen=True, slots=True)
class Rules:
    """Patterns in RE2 syntax, tried on each line of output as the job wrote it, without its line end; of a line that
    carriage returns overwrite, on each state."""

    fail_on: tuple[str, ...] = ()
    require: tuple[str, ...] = ()


NO_RULES = Rules()


@dataclass(frozen=True, slots=True)
class Committed:
    """One reader's place in one file: bytes of the file, and a small dict that survives as JSON.

    `sink` is a sink's name, or LOCAL for the reader that counts lines and matches rules.
    """

    key: str
    sink: str
    offset: int
    state: Mapping[str, Any] = field(default_factory=dict)


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


@dataclass(frozen=True, slots=True)
class SpoolRow:
    """A spool file; `end` is None where the run may still write, or nobody knows how it ended."""

    tag: Tag
    secrets: tuple[str, ...]
    rules: Rules
    end: OutputEnd | None
    settled: bool = False


@dataclass(frozen=True, slots=True)
class OutputReport:
    """What the finished event and the verdict need. Sizes in bytes.

    `bytes` is all that the job wrote; `shipped_bytes` what the first sink has accepted; `dropped_bytes` what the cap,
    a full disk, the sink's refusal or `carriage_return = "condense"` took; `tail` the last 4 KiB, redacted.
    `lines` counts what was kept, a last line without its end too. `failed_on` is the fail_on pattern that matched,
    `missing` the require pattern that no line matched.
    """

    bytes: int
    shipped_bytes: int
    dropped_bytes: int
    truncated: bool
    tail: str
    failed_on: str | None
    missing: str | None
    lines: int

    def as_data(self) -> dict[str, Any]:
        """As the finished event has it."""
        return {
            "bytes": self.bytes,
            "shipped_bytes": self.shipped_bytes,
            "dropped_bytes": self.dropped_bytes,
            "truncated": self.truncated,
            "lines": self.lines,
            "tail": self.tail,
        }


@dataclass(frozen=True, slots=True)
class LogPlace:
    """Where a run's output is found in CloudWatch."""

    group: str
    stream: str
    url: str

    def as_data(self) -> dict[str, str]:
        return {"group": self.group, "stream": self.stream, "url": self.url}


@dataclass(slots=True)
class Lack:
    """What is missing until the work has its room, in bytes and in files."""

    bytes: int
    files: int

    def __bool__(self) -> bool:
        return self.bytes > 0 or self.files > 0
