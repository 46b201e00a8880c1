"""Filling one batch with the lines of one or many runs, within every limit of its sink."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import inf
from operator import attrgetter
from typing import TYPE_CHECKING, NamedTuple

from runner.agent.output.lines import BETWEEN, PARTIAL, Cut, Room, Window, cut_lines
from runner.agent.output.masking import whole
from runner.sinks import Batch, Limits, Piece

if TYPE_CHECKING:
    from collections.abc import Mapping

    from runner.agent.output.attempt_output import Followed, Reader

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
    ms: int = 0  # of its last line, 0 without one
    condensed: int = 0  # bytes on the way there that are not sent, by `carriage_return = "condense"`


class _Part(NamedTuple):
    """Lines of one time: those up to `upto` that are in no earlier part. They were there when the window had grown to
    `end` bytes."""

    upto: int
    ms: int
    end: int


_TIME = attrgetter("ms")


class Packer:
    """Takes the output of runs, one after another, into one batch of a stream. `now` is unix milliseconds."""

    def __init__(self, limits: Limits, stream: str, now: int) -> None:
        self._limits = limits
        self._stream = stream
        self._now = now
        self._floor = max(0, int(now - limits.oldest_s * 1000)) if limits.oldest_s < inf else 0
        self._least = 0  # where a run's next line may be in time: lines of one come back in the order they were sent in
        self._times: tuple[int, int] | None = None  # the first and the last of the batch
        self._bytes = limits.batch_bytes
        self._events = limits.batch_events
        self._pieces: list[Piece] = []
        self._advances: dict[str, Advance] = {}
        self.full = False

    @property
    def batch(self) -> Batch:
        return Batch(self._stream, tuple(sorted(self._pieces, key=_TIME)))

    @property
    def advances(self) -> Mapping[str, Advance]:
        """By key of the run. A run may advance without a line: the end of a line that was sent as partial."""
        return self._advances

    def take(self, followed: Followed, reader: Reader, *, prefix: str, partial: bool) -> None:
        """Take what there is of a run and fits. Raises OSError where its file cannot be read."""
        offset, mid, condensed = reader.offset, reader.mid, 0
        # Strictly rising between batches: lines of one millisecond come back in the order in which they were sent.
        self._least = reader.ms + 1
        taken = len(self._pieces)
        while not self.full:
            if dropped := followed.at_gap(offset):
                mark = f"{prefix}[cron-runner: {dropped} bytes dropped here]"
                if not self._add(followed, mark, followed.marks.at(offset + dropped)):
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
                near = self._near(followed, window, cut, offset, prefix)
                if near is None:
                    break
                cut = near
            offset, mid, condensed = offset + cut.consumed, cut.mid, condensed + cut.condensed
            self.full = self.full or cut.no_room
            if not cut.consumed:
                break
        if (offset, mid) != (reader.offset, reader.mid):
            ms = self._pieces[-1].ms if len(self._pieces) > taken else 0
            self._advances[followed.key] = Advance(followed, offset, mid, ms, condensed)

    def take_raw(self, followed: Followed, reader: Reader) -> None:
        """The same for a sink that wants bytes: all there are, but for a possible secret at the end."""
        offset = reader.offset
        dropped = followed.at_gap(offset)
        if dropped:
            mark = f"\n[cron-runner: {dropped} bytes dropped here]\n".encode()
            self._pieces.append(Piece(followed.tag, self._now, [], mark))
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
                    self._now,
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

    def _near(self, followed: Followed, window: Window, cut: Cut, offset: int, prefix: str) -> Cut | None:
        """Take the lines, or the first of them that are near enough to the others of the batch in time; None: none."""
        parts = self._in_time(followed, window, cut, offset)
        first = parts[0].ms
        far = next((n for n, part in enumerate(parts) if self._too_far(first, part.ms)), len(parts))
        if far < len(parts):
            self.full = True
            if not far:
                return None
            end = window.data.rfind(b"\n", 0, parts[far - 1].end) + 1
            less = cut_lines(
                replace(window, data=window.data[:end], final=False, more=True), followed.masks, self._room(), prefix
            )
            if less.lines:
                cut, parts = less, self._in_time(followed, window, less, offset)
            else:
                # They end in a secret of several lines, and stay together.
                parts = [_Part(len(cut.lines), first, cut.consumed)]
        self._append(followed, cut, parts)
        return cut

    def _in_time(self, followed: Followed, window: Window, cut: Cut, offset: int) -> list[_Part]:
        """When the lines of the cut were written."""
        parts: list[_Part] = []
        least, position, done = self._least, 0, 0
        # The end of a line of which all was sent before makes no line.
        seen = -1 if window.mid == PARTIAL and window.data.startswith(b"\n") else 0
        for end, written in followed.marks.between(offset, offset + cut.consumed):
            last = end - offset >= cut.consumed
            if not last:
                seen += window.data.count(b"\n", position, end - offset)
            position = end - offset
            upto = len(cut.lines) if last else min(seen, len(cut.lines))
            if upto > done:
                least, done = self._stamp(written, least), upto
                parts.append(_Part(upto, least, position))
        return parts

    def _stamp(self, written: int | None, least: int) -> int:
        """When a line was written, as far as the sink takes it, and not before the one in front of it."""
        ms = self._now if written is None else min(max(written, self._floor), self._now)
        return max(ms, least)

    def _too_far(self, first: int, ms: int) -> bool:
        begin, end = self._times or (first, first)
        return max(ms, end) - min(first, begin) > self._limits.span_s * 1000

    def _append(self, followed: Followed, cut: Cut, parts: list[_Part]) -> None:
        begin = 0
        for part in parts:
            lines = cut.lines[begin : part.upto] if len(parts) > 1 else cut.lines
            self._pieces.append(Piece(followed.tag, part.ms, lines))
            begin = part.upto
        first, last = self._times or (parts[0].ms, parts[0].ms)
        self._times = min(first, parts[0].ms), max(last, parts[-1].ms)
        self._least = parts[-1].ms
        self._bytes -= cut.size
        self._events -= len(cut.lines)
        self.full = self.full or self._events <= 0 or self._bytes <= self._limits.event_overhead

    def _add(self, followed: Followed, line: str, written: int | None) -> bool:
        size = len(line.encode()) + self._limits.event_overhead
        ms = self._stamp(written, self._least)
        if size > self._bytes or self._events < 1 or self._too_far(ms, ms):
            self.full = True
            return False
        self._append(followed, Cut([line], 0, BETWEEN, size=size), [_Part(1, ms, 0)])
        return True


def partial_due(followed: Followed, reader: Reader) -> float:
    """When an incomplete last line should be sent (monotonic seconds)."""
    since = reader.partial_since if reader.partial_since is not None else followed.grown_at
    return min(followed.grown_at + PARTIAL_SILENCE_S, since + PARTIAL_AGE_S)
