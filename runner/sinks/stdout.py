"""JSON lines on standard output, for containers whose platform collects them."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime

from runner.sinks import Batch, Limits, Piece, SinkUnavailable, Tag
from runner.sinks.blocking import Blocking


class Stdout:
    """The sink "stdout": {"time", "job", "run_id", "attempt", "message"} a line, time in RFC 3339."""

    name = "stdout"
    raw = False
    parallel = 1
    shared = True
    limits = Limits(batch_bytes=256 << 10, batch_events=1_000, event_bytes=64 << 10)

    def __init__(self, descriptor: int = 1, *, flush: float = 0.2) -> None:
        self._descriptor = descriptor
        self.flush = flush
        self._blocking = Blocking("stdout")

    def stream(self, tag: Tag) -> str:
        """All runs share the one standard output."""
        del tag
        return "stdout"

    def prefix(self, tag: Tag) -> str:
        """Fields name the run."""
        del tag
        return ""

    async def send(self, batch: Batch) -> int:
        data = "".join(text for piece in batch.pieces for text in _json_lines(piece)).encode()
        try:
            # A reader that does not read blocks the thread, and this sink alone.
            await self._blocking(lambda: write_all(self._descriptor, data))
        except OSError as error:
            raise SinkUnavailable(f"cannot write to standard output: {error.strerror}") from error
        return 0

    async def close(self) -> None:
        self._blocking.close()


def _json_lines(piece: Piece) -> list[str]:
    moment = datetime.fromtimestamp(piece.ms / 1000, UTC).isoformat(timespec="microseconds")
    head = json.dumps(
        {
            "time": moment.replace("+00:00", "Z"),
            "job": piece.tag.job,
            "run_id": piece.tag.run_id,
            "attempt": piece.tag.attempt,
        }
    )
    return [f'{head[:-1]}, "message": {json.dumps(line)}}}\n' for line in piece.lines]


def write_all(descriptor: int, data: bytes) -> None:
    """Write everything; blocks. Raises OSError."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
