"""The output of one attempt: its spool file, how far it has grown, and how far each reader has come."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from runner.agent.output import spool_file
from runner.agent.output.lines import BETWEEN
from runner.agent.output.marks import Marks
from runner.agent.output.masking import Masks, joined, whole
from runner.agent.output.success_rules import LINE_BYTES, Found, Stretch, Watch
from runner.agent.runs.output import LOCAL, Committed, Ended, OutputEnd, Rules

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from runner.sinks import Sink, Tag

TAIL_BYTES = 4096
SMALL_READ = 512
SMALL_BYTES = 256 << 10
"""A run with no more output than this may share a stream where it gets none of its own."""


@dataclass(slots=True)
class Reader:
    """One sink's place in the file. `offset` is committed; `mid` is where in a line that is, as in lines.py."""

    sink: str
    offset: int = 0
    mid: int = BETWEEN
    ms: int = 0  # the last timestamp sent
    refused: int = 0  # bytes that the sink would not take for good
    condensed: int = 0  # bytes that were not sent, overwritten by a carriage return
    shared: str = ""  # the stream that it goes to instead of its own, with its run id on each line
    partial_since: float | None = None  # when the incomplete last line was first seen, monotonic
    done: bool = False

    def committed(self, key: str) -> Committed:
        return Committed(
            key,
            self.sink,
            self.offset,
            {
                "mid": self.mid,
                "ms": self.ms,
                "refused": self.refused,
                "condensed": self.condensed,
                "shared": self.shared,
            },
        )

    @property
    def left_out(self) -> int:
        """Bytes before its place that the sink has not got."""
        return self.refused + self.condensed


class Followed:
    """One spool file. Offsets in it are offsets in the job's output; the dropped middle of a capped run is a hole."""

    def __init__(self, tag: Tag, path: Path, *, sinks: Sequence[Sink], secrets: Iterable[str], rules: Rules) -> None:
        self.tag = tag
        self.sinks = tuple(sinks)  # those it began with; a reload changes them for what begins later
        self.key = tag.key
        self.path = path
        self.size = 0
        self.grown_at = 0.0
        self.ended: OutputEnd | None = None
        self.condense = False  # what carriage returns overwrite is not sent
        self.held = False  # not shipped before all secrets are known
        self.told = False  # where its output is has been told, and stays so
        self.settled = asyncio.Event()
        self.marks = Marks()
        self.readers = {sink.name: Reader(sink.name) for sink in sinks}
        self.secrets = set(secrets)
        self._masks: Masks | None = None
        self._streams: dict[str, str] = {}  # its own, by sink
        self._whole: bytes | None = None
        self.rules = rules
        self.watch = Watch(rules)
        self.watching = asyncio.Lock()  # one looks at its output at a time
        self._watched = 0
        self._watched_committed = 0
        self._punched = 0
        self.behind_since: float | None = None  # monotonic: when output up to `_behind_to` was there, not all accepted
        self._behind_to = 0

    def learn(self, secrets: Iterable[str]) -> None:
        self.secrets.update(secrets)
        self._masks = None

    @property
    def masks(self) -> Masks:
        if self._masks is None:
            self._masks = Masks(self.secrets)
        return self._masks

    def restore(self, committed: Iterable[Committed]) -> None:
        """Go on where an earlier agent has come to."""
        for entry in committed:
            if entry.sink == LOCAL:
                self._watched = self._watched_committed = entry.offset
                self.watch = Watch(self.rules, entry.state)
            elif (reader := self.readers.get(entry.sink)) is not None:
                reader.offset = entry.offset
                reader.mid = int(entry.state.get("mid", BETWEEN))
                reader.ms = int(entry.state.get("ms", 0))
                reader.refused = int(entry.state.get("refused", 0))
                reader.condensed = int(entry.state.get("condensed", 0))
                reader.shared = str(entry.state.get("shared", ""))

    def pass_over_given_back(self) -> None:
        """Read nothing that was given back to the disk: that is shipped, whatever the journal knows. Raises OSError."""
        for reader in self.readers.values():
            if (offset := self._data_at(reader.offset)) > reader.offset:
                reader.offset, reader.mid = offset, BETWEEN
        self._watched = self._watched_committed = self._data_at(self._watched)

    def _data_at(self, offset: int) -> int:
        # The hole that a cap made begins at the head's end, and is told as dropped.
        data = spool_file.first_data(self.path, offset)
        return min(data, self.tag.head_bytes) if offset <= self.tag.head_bytes else data

    def grow(self, size: int, now: float, ms: int = 0) -> bool:
        """It has this size at `now` (monotonic), `ms` in unix milliseconds."""
        if size <= self.size or self.ended is not None:
            return False
        self.marks.add(ms, size)
        self.size, self.grown_at = size, now
        self._mark(now)
        return True

    def end(self, ended: Ended | None) -> None:
        """Nothing more is written. Without a record (the supervisor is gone) the file is all there is."""
        written = spool_file.size_of(self.path)
        if ended is None:
            head = self.tag.head_bytes
            over = written > self.tag.max_bytes
            gap = (head, written - (self.tag.max_bytes - head)) if over else None
            self.ended = OutputEnd(written, written, gap)
        else:
            gap = (ended.gap[0], ended.gap[1]) if ended.gap else None
            # A file that somebody cut is no reason to wait for bytes that cannot come.
            self.ended = OutputEnd(ended.bytes_total, min(ended.bytes_written, written), gap, rest=ended.rest)
            self.marks.fill(ended.marks)
        self.size = self.ended.bytes_written
        self.marks.add(int(spool_file.written_at(self.path) * 1000), self.size)
        self._behind_to = min(self._behind_to, self.size)
        self._mark(time.monotonic())

    def end_silent(self, ended: Ended) -> bool:
        """End it where it wrote nothing: its file need not be looked at, and every reader is done. Whether it did."""
        if ended.bytes_total or self.size or self.ended is not None:
            return False
        self.ended = OutputEnd(0, 0)
        for reader in self.readers.values():
            reader.done = True
        self.settled.set()
        return True

    # -- where a reader may read

    def limit(self, offset: int) -> tuple[int, bool]:
        """The end of the readable stretch at `offset`, and whether it is final: nothing will join it there."""
        if self.ended is None:
            # Beyond the head half the supervisor may drop what it has written, until the run has ended.
            return min(self.size, self.tag.head_bytes), False
        gap = self.ended.gap
        if gap is not None and offset < gap[1]:
            return max(offset, gap[0]), True
        return self.size, True

    def at_gap(self, offset: int) -> int:
        """Bytes dropped just here, 0 where none are. What is not in the file counts as behind its end, wherever the
        disk was full: only how much it was is known."""
        if self.ended is None:
            return 0
        if self.size <= offset < self.ended.bytes_total:
            return self.ended.bytes_total - offset
        gap = self.ended.gap
        return gap[1] - max(offset, gap[0]) if gap is not None and gap[0] <= offset < gap[1] else 0

    def behind_gap(self, offset: int) -> bool:
        return self.ended is not None and self.ended.gap is not None and offset == self.ended.gap[1]

    def unread(self, reader: Reader) -> bool:
        return reader.offset < self.limit(reader.offset)[0] or self.at_gap(reader.offset) > 0

    def stream(self, sink: Sink) -> str:
        """The stream that its output goes to."""
        if shared := self.readers[sink.name].shared:
            return shared
        own = self._streams.get(sink.name)
        if own is None:
            own = self._streams[sink.name] = sink.stream(self.tag)
        return own

    def prefix(self, sink: Sink) -> str:
        """What each of its lines begins with."""
        return f"{self.tag.run_id} " if self.readers[sink.name].shared else sink.prefix(self.tag)

    def may_share(self, reader: Reader) -> bool:
        """Whether it can still go to another stream than its own: it has ended, is small, and nobody knows yet."""
        return (
            self.ended is not None
            and not self.told
            and not reader.offset
            and not reader.shared
            and self.ended.bytes_total <= SMALL_BYTES
        )

    def read(self, offset: int, size: int) -> tuple[bytes, bool]:
        """The next bytes, and whether they reach the final end of the stretch. Raises OSError."""
        end, final = self.limit(offset)
        data = self._bytes(offset, min(size, end - offset)) if end > offset else b""
        if not data and end > offset and self.ended is not None:
            # Somebody has cut the file: what is gone counts as dropped, and nobody waits for it.
            self.size = offset
            self.ended = OutputEnd(self.ended.bytes_total, offset)
            return b"", True
        return data, final and offset + len(data) >= end

    def _bytes(self, offset: int, size: int) -> bytes:
        """From the file; what a run that has ended wrote in all is read once where it is next to nothing."""
        if self.ended is None or self.size > SMALL_READ:
            return spool_file.read(self.path, offset, size)
        if self._whole is None:
            self._whole = spool_file.read(self.path, 0, self.size)
        return self._whole[offset : offset + size]

    # -- what readers have done

    def unwatched(self) -> Stretch | None:
        """The next stretch that the rules have not seen; None when there is nothing new. Raises OSError."""
        while dropped := self.at_gap(self._watched):
            self._watched += dropped
        data, final = self.read(self._watched, LINE_BYTES)
        stretch = self.watch.cut(data, final=final)
        return stretch if stretch is not None and stretch.taken else None

    def seen(self, stretch: Stretch, found: Found) -> None:
        """The rules have seen it: where they are and what they know change together, as they are committed together."""
        self.watch.take(stretch, found)
        self._watched += stretch.taken

    def watched(self) -> Committed:
        """Where the local reader stands; committed along with the sinks' offsets."""
        return Committed(self.key, LOCAL, self._watched, self.watch.state)

    def places(self) -> list[Committed]:
        """Where all its readers stand."""
        return [*(reader.committed(self.key) for reader in self.readers.values()), self.watched()]

    def committed(self, entries: Iterable[Committed]) -> None:
        for entry in entries:
            if entry.key == self.key and entry.sink == LOCAL:
                self._watched_committed = entry.offset
        self.marks.forget(self._accepted())
        if self.behind_since is not None and self._accepted() >= self._behind_to:
            self.behind_since = None
            self._mark(time.monotonic())
        self.check_settled()

    def check_settled(self) -> None:
        for reader in self.readers.values():
            reader.done = self.ended is not None and not self.unread(reader)
        if self.ended is not None and all(reader.done for reader in self.readers.values()):
            self.settled.set()
            self._whole = None

    def ends_settled(self, last: Reader) -> bool:
        """Whether its end, which is told next, can say that every sink has everything once `last` has, and the file is
        whole until then: what is punched must never be more than what is committed."""
        others = (reader for name, reader in self.readers.items() if name != last.sink)
        return not self.told and not self._watched_committed and not any(self.unread(reader) for reader in others)

    def punch(self, step: int = spool_file.PUNCH_STEP) -> None:
        """Give back the disk behind all readers, in steps of so many bytes. Raises OSError."""
        behind = min((reader.offset for reader in self.readers.values()), default=0)
        end = min(behind, self._watched_committed, self.size - spool_file.KEEP_BYTES)
        if end - self._punched >= step:
            self._punched = spool_file.punch(self.path, self._punched, end)

    def give_back(self, accepted: Reader) -> None:
        """The same while it cannot be put down that `accepted` has come so far: the way out of a full disk needs none.

        The hole says it: an agent after us reads on behind it. Raises OSError.
        """
        places = {**self.readers, accepted.sink: accepted}
        end = min(self._watched, self.size - spool_file.KEEP_BYTES, *(reader.offset for reader in places.values()))
        if end - self._punched >= spool_file.BLOCK:
            self._punched = spool_file.punch(self.path, self._punched, end)

    def backlog(self) -> int:
        """Bytes on disk that some sink has not accepted."""
        return min(max(0, self.size - self._accepted()), self.tag.max_bytes)

    def behind(self) -> bool:
        """Whether a sink owes something: not what may yet turn out to be a secret or the head of a dropped middle."""
        spare = self.masks.longest + 4 if self.ended is None else 0
        return self._owed() - self._accepted() > spare

    def _accepted(self) -> int:
        """Up to where every sink has it."""
        return min((reader.offset for reader in self.readers.values()), default=self.size)

    def _owed(self) -> int:
        """Up to where every sink is to have it: before the end, of what is sure to be kept."""
        return self.size if self.ended is not None else min(self.size, self.tag.head_bytes)

    def _mark(self, now: float) -> None:
        """Note what is there and not accepted now, unless older output is noted already."""
        if self.behind_since is None and self._accepted() < (owed := self._owed()):
            self.behind_since, self._behind_to = now, owed

    # -- what the finished event says

    @property
    def dropped(self) -> int:
        """Bytes that are not in the file: beyond the cap, or while the disk was full."""
        if self.ended is None:
            return 0
        gap = self.ended.gap
        kept = self.ended.bytes_written - (gap[1] - gap[0] if gap else 0)
        return max(0, self.ended.bytes_total - kept)

    def shipped(self, reader: Reader) -> int:
        gap = self.ended.gap if self.ended is not None else None
        skipped = max(0, min(reader.offset, gap[1]) - gap[0]) if gap else 0
        return max(0, min(reader.offset, self.size) - skipped - reader.left_out)

    def tail(self) -> str:
        """The last 4 KiB of output, redacted. Raises OSError."""
        gap = self.ended.gap if self.ended is not None else None
        floor = gap[1] if gap else self._punched
        start = max(floor, self.size - TAIL_BYTES - 2 * self.masks.longest)
        data = self._bytes(start, self.size - start) if self.size > start else b""
        # A secret that begins before `start` is not found; it ends within the first `longest` bytes.
        first = self.masks.longest if start > floor else 0
        if self.ended is not None and self.ended.rest:
            rest = self.ended.rest.encode("utf-8", "surrogateescape")
            if len(rest) < self.ended.bytes_total - self.size:  # it does not join what is in the file
                data, first, gap = b"", self.masks.longest, None
            data += rest
        spans = self.masks.spans(data)
        if gap and start == gap[1] and (torn := self.masks.torn(data)):
            spans = joined([*spans, (0, torn)])
        cut = whole(min(len(data), max(len(data) - TAIL_BYTES, first)), spans, len(data))
        text = self.masks.mask(data[cut:], [(a - cut, b - cut) for a, b in spans if a >= cut])
        return _last(text.decode("utf-8", "replace"), TAIL_BYTES)


def _last(text: str, size: int) -> str:
    """The end of the text that is at most `size` bytes of UTF-8."""
    data = text.encode()
    return text if len(data) <= size else data[-size:].decode("utf-8", "ignore")
