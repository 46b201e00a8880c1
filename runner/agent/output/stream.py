"""One stream of one sink: gathers the output of its runs, sends batch after batch, commits what was accepted.

One batch is in flight at a time, and its offsets are on disk before the next is sent: a crash repeats one batch.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING

import structlog

from runner.agent.output.packing import Packer, partial_due
from runner.errors import AwsUnavailable
from runner.sinks import Batch, NoNewStream, Sink, SinkUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from runner.agent.output.attempt_output import Followed, Reader
    from runner.agent.output.offsets import OffsetStore
    from runner.agent.output.sink_gate import Gate
    from runner.agent.runs.output import Committed

log = structlog.get_logger()

SMALL_BATCH_BYTES = 256 << 10
"""What a batch holds at most that takes one place at the gate; no event of any sink is larger."""
COMMIT_WITHIN_S = 2.0
_FULL = "the journal waits for room on the disk; make some"
ENDS_S = 0.05
"""The output of a run that has ended waits so long for that of others, where they share the stream."""
GATHER_S = 0.2
"""The first output after a pause waits so long for more, if the sink's flush is not shorter."""


class Channel:
    """`clock` gives unix seconds. All methods are called in the event loop."""

    def __init__(
        self,
        sink: Sink,
        stream: str,
        *,
        offsets: OffsetStore,
        gate: Gate,
        clock: Callable[[], float],
        accepted: Callable[[Followed], None],
        moved: Callable[[Followed], None],
    ) -> None:
        self._sink = sink
        self._stream = stream
        self._offsets = offsets
        self._gate = gate
        self._clock = clock
        self._accepted = accepted
        self._moved = moved
        self._unmade = 0  # how often in a row the stream could not be made
        self._instead = ""
        self._runs: dict[str, Followed] = {}
        self._dirty: dict[str, Followed] = {}  # in turn: the run that filled a batch goes to the end
        self._partial: dict[str, float] = {}  # when the incomplete last line of a run is due, monotonic
        self._changed = asyncio.Event()
        self._due_at: float | None = None
        self._sent_at = 0.0
        self._failures = 0  # in a row
        self._closing = asyncio.Event()
        self._hurry = asyncio.Event()  # a run has ended, or all of it does

    @property
    def empty(self) -> bool:
        return not self._runs

    def add(self, followed: Followed) -> None:
        self._runs[followed.key] = followed

    def wake(self, followed: Followed, *, urgent: bool = False) -> None:
        """The run has grown, or ended (`urgent`: nothing is gained by waiting)."""
        if followed.key not in self._runs:
            return
        now = asyncio.get_running_loop().time()
        self._dirty[followed.key] = followed
        if urgent:
            self._hurry.set()
        soon = (
            now + ENDS_S * bool(followed.prefix(self._sink))
            if urgent
            else max(now + min(GATHER_S, self._sink.flush), self._sent_at + self._sink.flush)
        )
        self._due(soon)

    def close(self) -> None:
        """Send what there is once more and end."""
        self._closing.set()
        self._hurry.set()
        self._due(0.0)

    def _due(self, at: float) -> None:
        if self._due_at is None or at < self._due_at:
            self._due_at = at
            self._changed.set()

    async def run(self) -> None:
        """Ends when the channel has no runs left."""
        while self._runs:
            await self._until_due()
            self._due_at = None
            while await self._ship():
                pass
            if self._closing.is_set():
                return
            if self._partial:
                self._due(max(min(self._partial.values()), self._sent_at + self._sink.flush))

    async def _until_due(self) -> None:
        loop = asyncio.get_running_loop()
        while self._due_at is None or self._due_at > loop.time():
            self._changed.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(self._due_at):
                    await self._changed.wait()

    async def _ship(self) -> bool:
        """Send one batch, for as long as it takes; True when there is more to send at once."""
        self._forget_settled()
        while self._dirty or self._partial:
            # The batch is cut when its turn has come, and again after a failure: none is held by those who wait.
            large = self._large()
            async with self._gate.turn(self._closing, large=large):
                packer = self._pack(large=large)
                self._sent_at = asyncio.get_running_loop().time()
                wait, refused = await self._send(packer.batch)
            if wait is None:
                if packer.advances:
                    await self._commit(packer, refused)
                self._forget_settled()
                return packer.full
            for advance in packer.advances.values():
                self._dirty[advance.followed.key] = advance.followed
            del packer
            self._hurry.clear()
            if self._unmade:
                await self._share()
            # Only a run that ends while its stream cannot be made gains by an early look: it may go elsewhere.
            waiting_for = self._hurry if self._unmade else self._closing
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait if self._dirty or self._partial else 0.0):
                    await waiting_for.wait()
            if self._closing.is_set():
                return False
        return False

    async def _send(self, batch: Batch) -> tuple[float | None, int]:
        """None and the bytes of the batch that were refused for good; else the seconds that this stream waits."""
        if not batch.pieces:
            return None, 0
        try:
            refused = await self._sink.send(batch)
        except NoNewStream as error:
            log.warning("stream_not_made", sink=self._sink.name, stream=self._stream, error=str(error))
            self._unmade, self._instead = self._unmade + 1, error.instead
            return self._gate.pause(self._unmade), 0
        except (SinkUnavailable, AwsUnavailable) as error:
            log.warning("sink_unavailable", sink=self._sink.name, stream=self._stream, error=str(error))
            self._unmade = 0
            self._failures += 1
            return self._gate.failed(error, self._failures), 0
        self._failures = 0
        self._gate.succeeded()
        self._unmade = 0
        return None, refused

    async def _share(self) -> None:
        """While the stream cannot be made, ended small runs go to one that many share. On disk before they do, so
        that after a crash nothing of them comes to two streams."""
        name = self._sink.name
        movable = [run for run in self._runs.values() if self._instead and run.may_share(run.readers[name])]
        if not movable:
            return
        for run in movable:
            run.readers[name].shared = self._instead
        await self._offsets.commit([run.readers[name].committed(run.key) for run in movable])
        for run in movable:
            self._drop(run.key)
            self._moved(run)

    def _large(self) -> bool:
        """Whether there is more than fits into a small batch."""
        name, left = self._sink.name, SMALL_BATCH_BYTES
        for followed in self._dirty.values():
            offset = followed.readers[name].offset
            left -= followed.limit(offset)[0] - offset
            if left < 0:
                return True
        return False

    def _pack(self, *, large: bool) -> Packer:
        now = asyncio.get_running_loop().time()
        limits = self._sink.limits
        if not large:
            limits = replace(limits, batch_bytes=min(limits.batch_bytes, SMALL_BATCH_BYTES))
        packer = Packer(limits, self._stream, int(self._clock() * 1000))
        for key, due in list(self._partial.items()):
            if due <= now:
                self._dirty.setdefault(key, self._runs[key])
        for key, followed in list(self._dirty.items()):
            if packer.full:
                break
            del self._dirty[key]
            try:
                self._take(packer, followed, now)
            except OSError as error:
                log.error(
                    "spool_unreadable",
                    run_id=followed.tag.run_id,
                    path=str(followed.path),
                    error=str(error),
                    detail="tried again each second; see that the disk is well and the agent may read there",
                )
                self._partial[key] = now + 1.0
        return packer

    def _take(self, packer: Packer, followed: Followed, now: float) -> None:
        reader = followed.readers[self._sink.name]
        self._partial.pop(followed.key, None)
        silent = partial_due(followed, reader) <= now
        if self._sink.raw:
            packer.take_raw(followed, reader)
        else:
            packer.take(followed, reader, prefix=followed.prefix(self._sink), partial=silent)
        advance = packer.advances.get(followed.key)
        offset = advance.offset if advance is not None else reader.offset
        if packer.full:
            self._dirty[followed.key] = followed
        elif offset == followed.limit(offset)[0]:
            reader.partial_since = None
        elif advance is not None or not silent:
            if reader.partial_since is None or advance is not None:
                reader.partial_since = now
            self._partial[followed.key] = max(partial_due(followed, reader), now + 0.05)
        # What is left when the job is silent (a possible secret, a cut character) waits until it writes or ends.

    async def _commit(self, packer: Packer, refused: int) -> None:
        name = self._sink.name
        moved: dict[str, Reader] = {}
        entries: list[Committed] = []
        for key, advance in packer.advances.items():
            followed, reader = advance.followed, advance.followed.readers[name]
            # Of a batch of several runs nobody knows whose lines were refused; the first one answers for them.
            moved[key] = replace(
                reader,
                offset=advance.offset,
                mid=advance.mid,
                ms=advance.ms or reader.ms,
                refused=reader.refused + refused,
                condensed=reader.condensed + advance.condensed,
            )
            refused = 0
            entries.extend(self._facts(followed, moved[key]))
        if entries:
            await self._put_down(entries, [(advance.followed, moved[key]) for key, advance in packer.advances.items()])
        # Only now: the file is punched up to the offsets of its readers, and a crash goes back to the committed ones.
        for key, advance in packer.advances.items():
            advance.followed.readers[name] = moved[key]
            advance.followed.committed(entries)
            self._accepted(advance.followed)

    async def _put_down(self, entries: Sequence[Committed], moved: Sequence[tuple[Followed, Reader]]) -> None:
        """Wait for the commit. One that takes long waits for room on the disk, of which this output may hold the most:
        what the sink has accepted is given back before it is on disk that it has."""
        committing = asyncio.ensure_future(self._offsets.commit(entries))
        if not (await asyncio.wait({committing}, timeout=COMMIT_WITHIN_S))[0]:
            for followed, reader in moved:
                try:
                    followed.give_back(reader)
                except OSError as error:
                    log.warning("spool_not_given_back", path=str(followed.path), error=str(error), detail=_FULL)
        await committing

    def _facts(self, followed: Followed, reader: Reader) -> list[Committed]:
        """What has to be on disk before the stream's next batch is sent."""
        if followed.ended is None or followed.unread(reader):
            return [reader.committed(followed.key), followed.watched()]
        # That was its last batch, so no place in the file is to be kept for the rules either. Where it was also the
        # last of the stream, whose run has yet to tell its end, that end says it: until it is on disk, a crash repeats
        # this one batch.
        if not (self._sink.shared or reader.shared) and followed.ends_settled(reader):
            return []
        return [reader.committed(followed.key)]

    def _forget_settled(self) -> None:
        for key, followed in list(self._runs.items()):
            reader = followed.readers[self._sink.name]
            if followed.ended is not None and not followed.unread(reader):
                self._drop(key)
                followed.check_settled()
                self._accepted(followed)

    def _drop(self, key: str) -> None:
        del self._runs[key]
        self._dirty.pop(key, None)
        self._partial.pop(key, None)
