"""Cutting a window of output into lines that fit a batch. Pure; bytes in, text and a byte count out.

The work is done on whole windows (split, decode, count) and not line by line: a million lines pass through here.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import TYPE_CHECKING

from runner.agent.output.masking import Masks, Span, joined, whole
from runner.sinks import SPLIT_MARK

if TYPE_CHECKING:
    from collections.abc import Sequence


BETWEEN, PARTIAL, SPLIT = 0, 1, 2
"""Where a cut has ended: between lines; within one, of which what was there had been waited for long enough; within
one that does not fit into an event, or of which more is known to be there."""


@dataclass(frozen=True, slots=True)
class Room:
    """What may still go into a batch. `event_bytes` bounds the text of one event, `overhead` is added to each."""

    batch_bytes: int
    events: int
    event_bytes: int
    overhead: int


@dataclass(frozen=True, slots=True)
class Cut:
    """Lines for a batch, made of the first `consumed` bytes of the window.

    `mid` is BETWEEN, PARTIAL or SPLIT; `size` is what the lines take from the batch; `condensed` counts the bytes among
    those consumed that a carriage return overwrote and that are not in the lines. Nothing consumed: there was no whole
    line, or no room.
    """

    lines: list[str]
    consumed: int
    mid: int
    size: int
    no_room: bool = False
    condensed: int = 0


@dataclass(frozen=True, slots=True)
class Window:
    """Output to be cut, from where the last cut ended.

    `mid`: where the last cut ended. `partial`: an incomplete last line may be sent now. `more`: what may be read goes
    on behind the window. `goes_on`: more was written behind what may be read now. `final`: nothing will join its end,
    which ends a line. `condense`: of what carriage returns overwrite, only the last state. `torn_start`, `torn_end`:
    output was dropped just before, just behind it; what may be the rest of a secret there is masked.
    """

    data: bytes
    mid: int = BETWEEN
    partial: bool = False
    more: bool = False
    goes_on: bool = False
    final: bool = False
    condense: bool = False
    torn_start: bool = False
    torn_end: bool = False


def cut_lines(window: Window, masks: Masks, room: Room, prefix: str = "") -> Cut:
    """Take as many lines from the start of the window as there is room for.

    The start of the window lies in no secret; neither does the end of what is consumed.
    """
    length = len(window.data)
    torn: list[Span] = []
    if masks and window.torn_start:
        torn.append((0, masks.torn(window.data)))
    if masks and window.torn_end and window.final:
        torn.append((masks.pending(window.data), length))
    data = window.data
    if window.final and not data.endswith(b"\n"):
        data += b"\n"
    view = _first_lines(data, room.events, masks.longest)
    cut = _cut(view, window, torn, masks, room, prefix, ends=window.final and len(view) == len(data))
    if not cut.consumed and not cut.no_room and len(view) < len(data):
        # No end of a line in the view is outside a secret of several lines.
        cut = _cut(data, window, torn, masks, room, prefix, ends=window.final)
    return cut if cut.consumed <= length else replace(cut, consumed=length)


def _cut(data: bytes, window: Window, torn: list[Span], masks: Masks, room: Room, prefix: str, *, ends: bool) -> Cut:
    """`data` is the window's, or its beginning."""
    spans = masks.spans(data) if masks else []
    if torn:
        spans = joined([*spans, *((start, end) for start, end in torn if start < min(end, len(data)))])
    pending = masks.pending(data) if masks and not ends else len(data)
    cut = None
    if end := _line_end(data, len(data), spans, pending):
        cut = _whole_lines(data[:end], spans, masks, room, window, prefix)
    if cut is None:
        return _Pieces(data, spans, pending, masks, room, window, prefix).cut()
    if window.condense and b"\r" in data:
        return replace(cut, condensed=_overwritten(data[: cut.consumed]))
    return cut


def _first_lines(data: bytes, count: int, beyond: int) -> bytes:
    """The data without what lies behind `count` lines, but for `beyond` bytes that a secret may reach into."""
    parts = data.split(b"\n", count)
    if len(parts) <= count:
        return data
    return data[: len(data) - len(parts[-1]) + beyond]


def _line_end(data: bytes, limit: int, spans: Sequence[Span], pending: int) -> int:
    """The last end of a line up to `limit` where a cut goes through no secret; 0 where there is none."""
    while end := data.rfind(b"\n", 0, limit) + 1:
        limit = whole(end, spans, pending)
        if limit == end:
            return end
    return 0


def _whole_lines(
    data: bytes, spans: Sequence[Span], masks: Masks, room: Room, window: Window, prefix: str
) -> Cut | None:
    """Lines that end within the data; None where the first is too long for an event, or cannot end without a secret."""
    masked = masks.mask(data, [span for span in spans if span[0] < len(data)]) if spans else data
    lines = _decoded(masked, condense=window.condense)
    # The end of a line whose text was sent as a partial line: nothing is left to send of it.
    skipped = 1 if window.mid == PARTIAL and not lines[0] else 0
    texts = _texts(lines[skipped:] if skipped else lines, prefix)
    sizes = _sizes(texts, ascii_only=masked.isascii() and prefix.isascii())
    count = _fitting(sizes, room)
    if count == len(texts):
        return Cut(texts, len(data), BETWEEN, size=sum(sizes) + room.overhead * count)
    if sizes[count] > room.event_bytes and count + skipped == 0:
        return None
    raw = data.split(b"\n", count + skipped)
    end = len(data) - len(raw[-1])
    if whole(end, spans, len(data)) != end:
        end = _line_end(data, end - 1, spans, len(data))
        if not end:
            return None
        count = data.count(b"\n", 0, end) - skipped
    size = sum(sizes[:count]) + room.overhead * count
    mid = BETWEEN if end else window.mid
    return Cut(texts[:count], end, mid, size=size, no_room=sizes[count] <= room.event_bytes)


def _decoded(masked: bytes, *, condense: bool) -> list[str]:
    """The text of complete lines. A carriage return is text, but where what it overwrites is condensed."""
    if condense and b"\r" in masked:
        lines = masked.replace(b"\r\n", b"\n").decode("utf-8", "replace").split("\n")
        lines = [_last_state(line) if "\r" in line else line for line in lines]
    else:
        lines = masked.decode("utf-8", "replace").split("\n")
    lines.pop()
    return lines


def _last_state(line: str) -> str:
    line = line.rstrip("\r")
    return line[line.rfind("\r") + 1 :]


def _overwritten(data: bytes) -> int:
    """How many bytes of the lines are no part of their last state, nor of their end."""
    return sum(line.rstrip(b"\r").rfind(b"\r") + 1 for line in data.split(b"\n") if b"\r" in line)


def _texts(lines: list[str], prefix: str) -> list[str]:
    """What is sent for each line: CloudWatch takes no empty event, so an empty line becomes a space."""
    if prefix:
        return [prefix + line for line in lines]
    return [line or " " for line in lines] if "" in lines else lines


def _sizes(texts: list[str], *, ascii_only: bool) -> list[int]:
    return list(map(len, texts)) if ascii_only else [len(text.encode()) for text in texts]


def _fitting(sizes: list[int], room: Room) -> int:
    """How many of the lines, from the first, fit into the room and are no longer than an event."""
    count = min(len(sizes), room.events)
    if sizes and max(sizes) > room.event_bytes:
        count = min(count, next(n for n, size in enumerate(sizes) if size > room.event_bytes))
    sums = list(accumulate(sizes[:count]))
    return bisect_right(range(count), room.batch_bytes, key=lambda n: sums[n] + room.overhead * (n + 1))


class _Pieces:
    """Text that is no whole line that fits: a line over the event limit, a partial line, a progress bar."""

    def __init__(
        self,
        data: bytes,
        spans: Sequence[Span],
        pending: int,
        masks: Masks,
        room: Room,
        window: Window,
        prefix: str,
    ) -> None:
        self._data = data
        self._spans = spans
        self._pending = pending
        self._masks = masks
        self._room = room
        self._window = window
        self._more = window.more or len(data) < len(window.data)
        self._prefix = prefix
        self._most = room.event_bytes - len(prefix.encode()) - len(SPLIT_MARK)

    def cut(self) -> Cut:
        mid = self._window.mid
        newline = self._newline()
        ends_here = newline >= 0
        end = newline if ends_here else len(self._data)
        texts: list[str] = []
        position = size = gone = 0
        while position < end:
            piece_end, text, after = self._piece(position, end, mid, ends_here=ends_here)
            if piece_end == position:
                break
            cost = len(text.encode()) + self._room.overhead
            if len(texts) == self._room.events or size + cost > self._room.batch_bytes:
                return Cut(texts, position, mid, size=size, no_room=True, condensed=gone)
            was_last = end - position <= self._room.event_bytes
            gone += _overwritten(self._data[position:piece_end]) if self._window.condense else 0
            position, mid = piece_end, after
            texts.append(text)
            size += cost
            if was_last and not ends_here:
                break
        if position == end and ends_here:
            return Cut(texts, end + 1, BETWEEN, size=size, condensed=gone)
        return Cut(texts, position, mid, size=size, condensed=gone)

    def _newline(self) -> int:
        """The first end of a line that is in no secret; one within a secret of several lines is text here."""
        newline = self._data.find(b"\n")
        while newline >= 0 and whole(newline + 1, self._spans, self._pending) != newline + 1:
            newline = self._data.find(b"\n", newline + 1)
        return newline

    def _piece(self, start: int, end: int, mid: int, *, ends_here: bool) -> tuple[int, str, int]:
        """The next piece of the line: where it ends (`start`: wait for more), its text, and `mid` behind it."""
        if end - start <= self._room.event_bytes:
            cut = end if ends_here else self._partial_end(start, end, mid)
            marked = not ends_here and (mid == SPLIT or self._window.goes_on)
            text = self._text(start, cut) + (SPLIT_MARK if marked else "")
            if len(text.encode()) <= self._room.event_bytes:
                return cut, text, SPLIT if marked else PARTIAL
        text = ""
        # Bytes that are no UTF-8 become three each; a third of the room always fits.
        for most in (self._most, self._most // 3 - 4):
            cut = self._safe(start, _character_end(self._data, start, min(start + most, end)))
            text = self._text(start, cut)
            if len(text.encode()) <= self._room.event_bytes - len(SPLIT_MARK):
                break
        return cut, text + SPLIT_MARK if cut < end or not ends_here else text, SPLIT

    def _text(self, start: int, end: int) -> str:
        inside = [(max(a, start) - start, min(b, end) - start) for a, b in self._spans if a < end and b > start]
        text = self._masks.mask(self._data[start:end], inside).decode("utf-8", "replace")
        return self._prefix + ((_last_state(text) if self._window.condense and "\r" in text else text) or " ")

    def _partial_end(self, start: int, end: int, mid: int) -> int:
        """How much of an incomplete line may go: a progress bar up to its last state; else, when the job is silent,
        all but a cut character or a possible secret. Behind a piece with its mark something is kept for the last one,
        which has none."""
        if self._more:
            return start
        cut = self._data.rfind(b"\r", start, end) + 1
        if not self._data[start:cut].strip(b"\r"):
            cut = _character_end(self._data, start, end) if self._window.partial else start
        if mid == SPLIT and not self._window.goes_on:
            cut = min(cut, _character_end(self._data, start, end - 1))
        return max(start, whole(cut, self._spans, self._pending))

    def _safe(self, start: int, cut: int) -> int:
        safe = whole(cut, self._spans, self._pending)
        if safe > start:
            return safe
        # A secret longer than an event: taken whole, its mask is short. A possible one at the very end: wait.
        return next((b for a, b in self._spans if a <= start < b), start)


def _character_end(data: bytes, start: int, cut: int) -> int:
    """`cut`, or up to three bytes before it where a character of several bytes would be cut there."""
    for back in range(1, min(4, cut - start) + 1):
        byte = data[cut - back]
        if byte & 0xC0 == 0x80:
            continue
        length = 4 if byte >= 0xF0 else 3 if byte >= 0xE0 else 2 if byte >= 0xC0 else 1
        return cut - back if length > back else cut
    return cut
