"""Filling one batch with the lines of one or many runs, within every limit of its sink."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from runner.agent.lines import BETWEEN, Cut, Room, Window, cut_lines
from runner.agent.redact import whole
from runner.sinks import Batch, Limits, Piece

if TYPE_CHECKING:
    from collections.abc import Mapping

    from runner.agent.follow import Followed, Reader

WINDOW_BYTES = 320 << 10
PARTIAL_SILENCE_S = 1.0
"""An incomplete line is sent when the job has been silent for so long…"""
PARTIAL_AGE_S = 10.0
"""…or, where it grows all the time, when it has waited for so long. The rest of it becomes a line of its own."""


@dataclass(frozen=True, slots=True)
class Advance:
    """Where a reader stands once the batch is accepted."""

    followed: Followed
    offset: int
    mid: int
    condensed: int = 0  # bytes on the way there that are not sent, by `carriage_return = "condense"`


class Packer:
    """Takes the output of runs, one after another, into one batch of a stream. `ms` stamps all its lines."""

    def __init__(self, limits: Limits, stream: str, ms: int) -> None:
        self._limits = limits
        self._stream = stream
        self.ms = ms
        self._bytes = limits.batch_bytes
        self._events = limits.batch_events
        self._pieces: list[Piece] = []
        self._advances: dict[str, Advance] = {}
        self.full = False

    @property
    def batch(self) -> Batch:
        return Batch(self._stream, tuple(self._pieces))

    @property
    def advances(self) -> Mapping[str, Advance]:
        """By key of the run. A run may advance without a line: the end of a line that was sent as partial."""
        return self._advances

    def take(self, followed: Followed, reader: Reader, *, prefix: str, partial: bool) -> None:
        """Take what there is of a run and fits. Raises OSError where its file cannot be read."""
        offset, mid, condensed = reader.offset, reader.mid, 0
        while not self.full:
            if dropped := followed.at_gap(offset):
                if not self._add(followed, [f"{prefix}[cron-runner: {dropped} bytes dropped here]"]):
                    break
                offset, mid = offset + dropped, BETWEEN
                continue
            end = followed.limit(offset)[0]
            data, final = followed.read(offset, self._window() + followed.masks.longest)
            if not data:
                break
            window = Window(
                data,
                mid=mid,
                partial=partial,
                more=offset + len(data) < end,
                goes_on=not final and end < followed.size,
                final=final,
                condense=followed.condense,
                torn_start=followed.behind_gap(offset),
                torn_end=final and followed.at_gap(offset + len(data)) > 0,
            )
            cut = cut_lines(window, followed.masks, self._room(), prefix)
            if cut.lines:
                self._append(followed, cut)
            offset, mid, condensed = offset + cut.consumed, cut.mid, condensed + cut.condensed
            self.full = self.full or cut.no_room
            if not cut.consumed:
                break
        if (offset, mid) != (reader.offset, reader.mid):
            self._advances[followed.key] = Advance(followed, offset, mid, condensed)

    def take_raw(self, followed: Followed, reader: Reader) -> None:
        """The same for a sink that wants bytes: all there are, but for a possible secret at the end."""
        offset = reader.offset
        dropped = followed.at_gap(offset)
        if dropped:
            mark = f"\n[cron-runner: {dropped} bytes dropped here]\n".encode()
            self._pieces.append(Piece(followed.tag, self.ms, [], mark))
            self._advances[followed.key] = Advance(followed, offset + dropped, BETWEEN)
            self.full = True
            return
        data, final = followed.read(offset, self._limits.batch_bytes + followed.masks.longest)
        spans = followed.masks.spans(data) if followed.masks else []
        pending = len(data) if final or not followed.masks else followed.masks.pending(data)
        cut = whole(len(data), spans, pending)
        if cut:
            self._pieces.append(
                Piece(
                    followed.tag,
                    self.ms,
                    [],
                    followed.masks.mask(data[:cut], [span for span in spans if span[0] < cut]),
                )
            )
            self._advances[followed.key] = Advance(followed, offset + cut, BETWEEN)
        self.full = len(data) >= self._limits.batch_bytes

    def _window(self) -> int:
        """How much is looked at next: no more than may fit, and enough to tell a line that is too long for an event.
        Text may take four times its bytes in memory, and what does not fit after all was decoded in vain."""
        limits = self._limits
        return max(min(limits.batch_bytes, self._bytes, WINDOW_BYTES), limits.event_bytes + 1)

    def _room(self) -> Room:
        return Room(self._bytes, self._events, self._limits.event_bytes, self._limits.event_overhead)

    def _append(self, followed: Followed, cut: Cut) -> None:
        self._pieces.append(Piece(followed.tag, self.ms, cut.lines))
        self._bytes -= cut.size
        self._events -= len(cut.lines)
        self.full = self._events <= 0 or self._bytes <= self._limits.event_overhead

    def _add(self, followed: Followed, lines: list[str]) -> bool:
        size = sum(len(line.encode()) + self._limits.event_overhead for line in lines)
        if size > self._bytes or len(lines) > self._events:
            self.full = True
            return False
        self._append(followed, Cut(lines, 0, BETWEEN, size=size))
        return True


def partial_due(followed: Followed, reader: Reader) -> float:
    """When an incomplete last line should be sent (monotonic seconds)."""
    since = reader.partial_since if reader.partial_since is not None else followed.grown_at
    return min(followed.grown_at + PARTIAL_SILENCE_S, since + PARTIAL_AGE_S)
