"""How ``cron-runner logs`` prints output: as it was, by lines with their times, or as JSON; all of it, or its end."""

from __future__ import annotations

import json
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from runner.cli import printing

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from runner.reading.cloudwatch import Line
    from runner.sinks import Piece


@dataclass(frozen=True, slots=True)
class Wanted:
    """`tail`: so many of the last lines; `since` and `until` are unix milliseconds: a line whose time is not known is
    shown. `times`: before each line."""

    as_json: bool = False
    tail: int | None = None
    since: float | None = None
    until: float | None = None
    times: bool = False

    @property
    def raw(self) -> bool:
        """Whether bytes are wanted, as they were."""
        return not (self.as_json or self.times) and self.tail is self.since is self.until is None


class Printer:
    """Prints what is read: bytes and lines as they were, or JSON."""

    def __init__(self, run_id: str, wanted: Wanted) -> None:
        self._run_id = run_id
        self._wanted = wanted
        self._held: deque[bytes] | None = None if wanted.tail is None else deque(maxlen=wanted.tail)

    @property
    def raw(self) -> bool:
        return self._wanted.raw

    def pieces(self, pieces: Iterable[Piece]) -> None:
        """What the spool has."""
        for piece in pieces:
            if self.raw:
                printing.data(piece.raw)
            else:
                self._print(self._of_piece(piece))

    def lines(self, lines: Sequence[Line]) -> None:
        """What CloudWatch has."""
        made = (self._made(line.ms, line.text.removesuffix("\n")) for line in lines if self._is_wanted(line.ms))
        if self.raw:
            printing.data(b"".join(line.text.encode() for line in lines))
        else:
            self._print(made)

    def caught_up(self) -> None:
        """All that there is by now was given: of a tail it is shown, and what comes later as it comes."""
        if self._held is not None:
            held, self._held = self._held, None
            printing.data(b"".join(held))

    def _print(self, made: Iterable[bytes]) -> None:
        if self._held is not None:
            self._held.extend(made)
        else:
            printing.data(b"".join(made))

    def _of_piece(self, piece: Piece) -> Iterator[bytes]:
        from runner.reading.spool import NEVER_MS  # noqa: PLC0415 - `--help` needs none of it

        ms = piece.ms if 0 < piece.ms < NEVER_MS else None
        if self._is_wanted(ms):
            for line in piece.lines:
                yield self._made(ms, line, job=piece.tag.job, attempt=piece.tag.attempt)

    def _is_wanted(self, ms: float | None) -> bool:
        since, until = self._wanted.since, self._wanted.until
        return ms is None or ((since is None or ms >= since) and (until is None or ms < until))

    def _made(self, ms: float | None, message: str, **more: Any) -> bytes:
        from runner.protocol.units import format_time  # noqa: PLC0415 - as above

        time = None if ms is None else format_time(ms / 1000)
        if self._wanted.as_json:
            return json.dumps({"time": time, "run_id": self._run_id, **more, "message": message}).encode() + b"\n"
        begin = f"{time or '-'} " if self._wanted.times else ""
        return f"{begin}{message}\n".encode("utf-8", "surrogateescape")
