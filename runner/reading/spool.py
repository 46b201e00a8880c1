"""A run's output as this host still has it: the spool files, read with the values to mask from the journal.

Only reads: it may be used beside a running agent, by whoever may read the state directory.
"""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from runner.agent.journal.spools import row_of
from runner.agent.output import spool_file
from runner.agent.output.attempt_output import Followed, Reader
from runner.agent.output.marks import Marks
from runner.agent.output.packing import Packer
from runner.agent.runs.output import Rules, SpoolRow
from runner.errors import CronRunnerError
from runner.sinks import Limits

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from runner.sinks import Piece

_LIMITS = Limits(batch_bytes=1 << 20, batch_events=10_000, event_bytes=256 << 10)
_SINK = "logs"
NEVER_MS = 1 << 53
"""The time of a line of which it is not known, beside 0: no line is as old, or as new."""


class NotReadable(CronRunnerError):
    """The state directory is somebody else's."""


@dataclass(frozen=True, slots=True)
class Known:
    """What the journal knows of a run's latest execution. `attempts` are those with a row, in order.

    `never_ran`: it has ended, skipped or rejected or cancelled, before any attempt; `outcome` and `reason` say how.
    """

    job: str
    ended: bool
    attempts: Sequence[SpoolRow]
    never_ran: bool
    outcome: str
    reason: str


class KeptOutput:
    """The journal and the spool of this host. `state` is `[paths] state`."""

    def __init__(self, state: Path) -> None:
        self._state = state

    def known(self, run_id: str) -> Known | None:
        """None where this host does not know the run. Raises NotReadable."""
        path = self._state / "journal.db"
        try:
            path.stat()
            with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=10.0)) as journal:
                return _known(journal, run_id)
        except FileNotFoundError:
            return None
        except (OSError, sqlite3.Error) as error:
            raise NotReadable(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from error

    def is_whole(self, known: Known) -> bool:
        """Whether all output of the run is here: no file removed, nothing of its beginning given back to the disk."""
        if [row.tag.attempt for row in known.attempts] != list(range(1, len(known.attempts) + 1)):
            return False
        try:
            files = [spool_file.path_of(self._state / "spool", row.tag) for row in known.attempts]
            return bool(files) and all(spool_file.first_data(path, 0) == 0 for path in files)
        except OSError:
            return False

    def output(self, row: SpoolRow) -> AttemptOutput:
        return AttemptOutput(spool_file.path_of(self._state / "spool", row.tag), row)


class AttemptOutput:
    """One attempt's output, from its beginning on, masked."""

    def __init__(self, path: Path, row: SpoolRow) -> None:
        self._followed = Followed(row.tag, path, sinks=(), secrets=row.secrets, rules=Rules())
        self._reader = Reader(_SINK)
        self._marks: Sequence[int] = ()
        self.update(row)

    @property
    def size(self) -> int:
        return self._followed.size

    def grew(self, marks: Sequence[int]) -> None:
        """When the file grew, as its agent knows it; `Marks.flat`."""
        self._marks = marks

    def update(self, row: SpoolRow) -> None:
        """Look again how far the file has grown, and what the journal knows of it by now."""
        self._followed.learn(row.secrets)
        self._followed.grow(spool_file.size_of(self._followed.path), time.monotonic())
        if row.end is not None:
            self._marks = row.end.marks or self._marks
            self._followed.end(row.end)

    def end(self) -> None:
        """Nothing more comes, whatever the journal says."""
        if self._followed.ended is None:
            self._followed.end(None)

    def pieces(self, *, raw: bool) -> Iterator[Piece]:
        """What has come since the last call, as bytes (`raw`) or as lines; all of it after the end. Raises OSError."""
        followed, reader = self._followed, self._reader
        # Not the file's own time: that may be when its disk was given back.
        followed.marks = Marks()
        followed.marks.fill(self._marks)
        while True:
            packer = Packer(_LIMITS, "", NEVER_MS)
            if raw:
                packer.take_raw(followed, reader)
            else:
                packer.take(followed, reader, prefix="", partial=followed.ended is not None)
            advance = packer.advances.get(followed.key)
            if advance is None:
                return
            # Looked at after the read: what was given back to the disk meanwhile reads as zeros.
            data = (
                reader.offset if followed.at_gap(reader.offset) else spool_file.first_data(followed.path, reader.offset)
            )
            if data > reader.offset:
                reader.offset, reader.mid = min(data, followed.limit(reader.offset)[0]), False
                continue
            reader.offset, reader.mid = advance.offset, advance.mid
            yield from packer.batch.pieces


def _known(journal: sqlite3.Connection, run_id: str) -> Known | None:
    run = journal.execute(
        "SELECT execution, job, state, started_at, outcome, reason FROM runs WHERE run_id = ? "
        "ORDER BY outcome IS NOT NULL AND outcome = 'rejected', accepted_at DESC LIMIT 1",
        (run_id,),
    ).fetchone()
    if run is None:
        return None
    execution, job, state, started_at, outcome, reason = run
    # Keys are EXECUTION/ATTEMPT, and "0" comes next after "/".
    rows = journal.execute(
        "SELECT tag, record FROM spools WHERE key > ? AND key < ?", (f"{execution}/", f"{execution}0")
    ).fetchall()
    attempts = sorted((row_of(described, record) for described, record in rows), key=lambda row: row.tag.attempt)
    ended = state == "ended"
    never_ran = ended and not attempts and started_at is None
    return Known(job, ended, attempts, never_ran, outcome or "", reason or "")
