"""A run-once's output on the terminal: the bytes as they come, with secrets masked."""

from __future__ import annotations

import os

from runner.sinks import Batch, Limits, Tag
from runner.sinks.blocking import Blocking
from runner.sinks.stdout import write_all


class Terminal:
    """Not a sink of the configuration. Whoever reads it may go away: the run and its other sinks go on."""

    name = "terminal"
    raw = True
    flush = 0.0
    parallel = 1
    shared = True
    limits = Limits(batch_bytes=64 << 10, batch_events=1 << 30, event_bytes=64 << 10)

    def __init__(self, descriptor: int = 1) -> None:
        # Its own descriptor: standard output may be closed or replaced while the last bytes are on their way.
        self._descriptor = os.dup(descriptor)
        self._gone = False
        self._blocking = Blocking("terminal")

    def stream(self, tag: Tag) -> str:
        """There is one terminal."""
        del tag
        return "terminal"

    def prefix(self, tag: Tag) -> str:
        """The bytes are shown as they are."""
        del tag
        return ""

    async def send(self, batch: Batch) -> int:
        if self._gone:
            return 0
        data = b"".join(piece.raw for piece in batch.pieces)
        try:
            await self._blocking(lambda: write_all(self._descriptor, data))
        except OSError:
            # `run-once | head`, a closed window: there is nobody to tell, and nothing to wait for.
            self._gone = True
        return 0

    async def close(self) -> None:
        self._blocking.close()
        os.close(self._descriptor)
