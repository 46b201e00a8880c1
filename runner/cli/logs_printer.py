"""How ``cron-runner logs`` prints output: as it was, or as JSON lines."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from runner.cli import printing

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from runner.reading.cloudwatch import Line
    from runner.sinks import Piece


class Printer:
    """Prints what is read: bytes and lines as they were, or JSON."""

    def __init__(self, run_id: str, *, as_json: bool) -> None:
        self._run_id = run_id
        self.as_json = as_json

    def pieces(self, pieces: Any) -> None:
        for piece in pieces:
            printing.data(b"".join(self._of_piece(piece)) if self.as_json else piece.raw)

    def _of_piece(self, piece: Piece) -> Iterator[bytes]:
        for line in piece.lines:
            yield self._json(None, line, job=piece.tag.job, attempt=piece.tag.attempt)

    def lines(self, lines: Sequence[Line]) -> None:
        from runner.protocol.units import format_time  # noqa: PLC0415

        made = (
            self._json(format_time(line.ms / 1000), line.text.removesuffix("\n"))
            if self.as_json
            else line.text.encode()
            for line in lines
        )
        printing.data(b"".join(made))

    def _json(self, time: str | None, message: str, **more: Any) -> bytes:
        record = {"time": time, "run_id": self._run_id, **more, "message": message}
        return json.dumps(record).encode() + b"\n"
