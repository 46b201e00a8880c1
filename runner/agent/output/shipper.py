"""The shipper: reads spool files as they grow and brings them to the sinks, each at its own pace.

    open → learn → grew … grew → finish → settled

Nothing here polls: the supervisor's notices (`grew`) wake the channels (channel.py), one per stream and sink, which
send what has gathered after the sink's flush time. Beside them one local reader counts lines and matches the rules.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import structlog

from runner.agent.output import spool_file
from runner.agent.output.attempt_output import Followed
from runner.agent.output.kept_files import Kept
from runner.agent.output.sink_gate import Gate
from runner.agent.output.stream import Channel
from runner.agent.runs.output import NO_RULES, Ended, OutputReport, Rules
from runner.log import secrets as masked_in_log

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from runner.agent.output.offsets import OffsetStore
    from runner.agent.runs.output import Lack
    from runner.sinks import Sink, Tag

log = structlog.get_logger()

_NOT_PUNCHED = "shipped output keeps its room on the disk; use a file system that can punch holes: ext4, xfs"


class Shipper:
    """All output of a host. `sinks` in the order of the configuration; the first one's acceptance is reported."""

    def __init__(
        self,
        *,
        spool_dir: Path,
        sinks: Sequence[Sink],
        offsets: OffsetStore,
        clock: Callable[[], float] = time.time,
        condense: bool = False,
    ) -> None:
        self._directory = spool_dir
        self.condense = condense  # of what begins from now on: `[output] carriage_return`
        self._sinks = tuple(sinks)
        self._offsets = offsets
        self._clock = clock
        self._runs: dict[str, Followed] = {}
        self._channels: dict[tuple[Sink, str], Channel] = {}
        self._gates = {sink.name: Gate(sink.parallel) for sink in sinks}
        self._tasks: asyncio.TaskGroup | None = None
        self._running: dict[tuple[Sink, str], asyncio.Task[None]] = {}
        self._unwatched: dict[str, Followed] = {}
        self._grown = asyncio.Event()
        self._closing = False
        self._kept = Kept(spool_dir, offsets)
        self._backlog = 0
        self._backlog_due = 0.0

    # -- the life of one attempt's output

    def open(self, tag: Tag, *, secrets: Iterable[str] = (), rules: Rules = NO_RULES) -> int:
        """Create the spool file and follow it. Returns a descriptor (read and write) that the caller closes.

        Nothing is shipped until `learn` says that all secrets are known. Raises OSError where the file cannot be made.
        """
        path, descriptor = spool_file.make(self._directory, tag.run_id, tag.execution, tag.attempt)
        followed = self._follow(tag, path, secrets, rules)
        followed.held = True
        return descriptor

    def learn(self, key: str, secrets: Iterable[str] = ()) -> None:
        """The run was started: these are the secrets of its env files, and its output may be shipped from now on."""
        followed = self._runs[key]
        if new := set(secrets) - followed.secrets:
            masked_in_log.add(new)
            followed.learn(new)
        followed.held = False
        if followed.size:
            self._wake(followed)

    async def resume(
        self,
        tag: Tag,
        *,
        secrets: Iterable[str] = (),
        rules: Rules = NO_RULES,
        end: Ended | None = None,
        marks: Sequence[int] = (),
    ) -> None:
        """After a restart: go on at the committed offsets. `end` for a run whose end was known before; `marks`: when
        the output of another one was written, by its supervisor."""
        path = spool_file.path_of(self._directory, tag)
        committed = await self._offsets.load(tag.key)
        followed = self._follow(tag, path, secrets, rules)
        followed.restore(committed)
        try:
            followed.pass_over_given_back()
        except FileNotFoundError:
            pass
        except OSError as error:
            _unreadable(followed, error)
        followed.marks.fill(end.marks if end is not None else marks)
        written = min(spool_file.written_at(path), self._clock())
        followed.grow(spool_file.size_of(path), asyncio.get_running_loop().time(), int(written * 1000))
        if end is not None:
            followed.end(end)
            followed.told = True
        self._wake(followed, urgent=end is not None)

    def grew(self, sizes: Mapping[str, int]) -> None:
        """The supervisor's notice: the logical size of each file that has grown."""
        now, ms = asyncio.get_running_loop().time(), int(self._clock() * 1000)
        for key, size in sizes.items():
            followed = self._runs.get(key)
            if followed is not None and followed.grow(size, now, ms):
                self._wake(followed)

    async def finish(self, key: str, end: Ended | None, *, within: float = 5.0) -> OutputReport:
        """The run ended (None: the supervisor is gone, the file is all there is). The rules have then seen all of it;
        the sinks are waited for at most `within` seconds and go on afterwards."""
        followed = self._runs[key]
        followed.held = False
        if end is not None and followed.end_silent(end):
            self._tell_channels(followed)
            return self._report(followed, "")
        followed.end(end)
        tail = ""
        try:
            tail = followed.tail()
        except OSError as error:
            _unreadable(followed, error)
        await _watch(followed)
        self._wake(followed, urgent=True)
        if not followed.settled.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(within):
                    await followed.settled.wait()
        return self._report(followed, tail)

    async def settled(self, key: str) -> None:
        """Returns when every sink has accepted everything; the file is then kept for `logs` for a while only."""
        followed = self._runs.get(key)
        if followed is not None:
            await followed.settled.wait()

    def has_settled(self, key: str) -> bool:
        """Whether `settled` would return at once."""
        followed = self._runs.get(key)
        return followed is None or followed.settled.is_set()

    def forget(self, key: str) -> None:
        """The run is settled and reported; its file falls under the quota of kept files."""
        followed = self._runs.pop(key, None)
        if followed is not None:
            masked_in_log.discard(followed.secrets)
            self._kept.add(followed.tag, followed.path, followed.size)
        self._grown.set()

    def make_room(self, lack: Callable[[], Lack] | None = None) -> None:
        """The disk lacks room: copies of shipped output go. `lack`, once given, is what is asked from then on."""
        if lack is not None:
            self._kept.lack = lack
        self._grown.set()

    def make_way(self) -> bool:
        """The same at once, before anything is put off for it; whether there were any."""
        return self._kept.make_way()

    def backlog(self) -> int:
        """Bytes on disk that some sink has not accepted yet, to be held against spool_max_bytes."""
        now = time.monotonic()
        if now >= self._backlog_due:
            self._backlog = sum(followed.backlog() for followed in self._runs.values())
            took = time.monotonic() - now  # with 100,000 small runs that wait for AWS it is not added up each time
            self._backlog_due = now + (20 * took if took > 0.002 else 0.0)
        return self._backlog

    def oldest(self) -> float | None:
        """Since when (time.monotonic) there has been output that some sink has not accepted; None: all is accepted."""
        oldest: float | None = None
        for followed in self._runs.values():
            since = followed.behind_since
            if since is not None and (oldest is None or since < oldest) and followed.behind():
                oldest = since
        return oldest

    def use(self, change: Callable[[Sink], Sink]) -> None:
        """After a reload: `change` gives the sink to use from now on. Output that is followed already goes on where it
        began: whoever reads it was told so."""
        self._sinks = tuple(change(sink) for sink in self._sinks)

    def destination(self, tag: Tag, name: str) -> tuple[Sink, str] | None:
        """The sink of this name and the stream that the output goes to there; None where there is no such sink."""
        followed = self._runs.get(tag.key)
        sink = next((s for s in (followed.sinks if followed else self._sinks) if s.name == name), None)
        if sink is None:
            return None
        return sink, followed.stream(sink) if followed else sink.stream(tag)

    # -- the tasks

    async def run(self) -> None:
        """Ship until cancelled, or until `close`. A fault in a channel ends this with it."""
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            for name in list(self._channels):
                self._start(name)
            while not self._closing:
                await self._grown.wait()
                self._grown.clear()
                await self._watch_grown()
                await self._kept.keep(self._names)
        self._tasks = None

    @property
    def followed(self) -> Iterable[Followed]:
        """All output that some sink may still get more of."""
        return self._runs.values()

    def _names(self) -> set[str]:
        return {followed.path.name for followed in self._runs.values()}

    async def close(self, within: float = 5.0) -> None:
        """Send what can be sent now, commit it, and let `run` end; the rest is the next agent's."""
        self._closing = True
        self._grown.set()
        for channel in self._channels.values():
            channel.close()
        running = list(self._running.values())
        if running:
            _, late = await asyncio.wait(running, timeout=within)
            for task in late:
                task.cancel()
        for sink in self._sinks:
            await sink.close()

    async def _watch_grown(self) -> None:
        while self._unwatched:
            await _watch(self._unwatched.popitem()[1])

    def _follow(self, tag: Tag, path: Path, secrets: Iterable[str], rules: Rules) -> Followed:
        followed = Followed(tag, path, sinks=self._sinks, secrets=secrets, rules=rules)
        followed.condense = self.condense
        self._runs[tag.key] = followed
        masked_in_log.add(followed.secrets)
        return followed

    def _wake(self, followed: Followed, *, urgent: bool = False) -> None:
        if followed.held:
            return
        self._unwatched[followed.key] = followed
        self._grown.set()
        for sink in followed.sinks:
            # A channel that has the run hears of its end, to let go of it; one is made only where there is output.
            name = (sink, followed.stream(sink))
            if name in self._channels or followed.unread(followed.readers[sink.name]):
                self._channel(sink, followed).wake(followed, urgent=urgent)
        if followed.ended is not None:
            followed.check_settled()

    def _tell_channels(self, followed: Followed) -> None:
        """It has ended: a channel that has it lets go of it."""
        for sink in followed.sinks:
            channel = self._channels.get((sink, followed.stream(sink)))
            if channel is not None:
                channel.wake(followed, urgent=True)

    def _channel(self, sink: Sink, followed: Followed) -> Channel:
        name = (sink, followed.stream(sink))
        channel = self._channels.get(name)
        if channel is None:
            channel = self._channels[name] = Channel(
                sink,
                name[1],
                offsets=self._offsets,
                gate=self._gates[sink.name],
                clock=self._clock,
                accepted=self._accepted,
                moved=lambda followed: self._wake(followed, urgent=True),
            )
        channel.add(followed)
        self._start(name)
        return channel

    def _start(self, name: tuple[Sink, str]) -> None:
        if self._tasks is None or name in self._running or self._closing:
            return
        task = self._tasks.create_task(self._channels[name].run(), name=f"ship {name[0].name} {name[1]}")
        self._running[name] = task
        task.add_done_callback(lambda task: self._ended(name, task))

    def _ended(self, name: tuple[Sink, str], task: asyncio.Task[None]) -> None:
        del self._running[name]
        if task.cancelled() or task.exception() is not None:
            self._tasks = None  # the group is on its way out, and takes no more tasks
        elif self._channels[name].empty:
            del self._channels[name]
        else:
            # A run joined between the channel's last look and its end.
            self._start(name)

    def _accepted(self, followed: Followed) -> None:
        if followed.settled.is_set():
            self._grown.set()
        try:
            # Many runs that are shipped side by side may each have nearly a step's worth, and fill a small disk.
            followed.punch(spool_file.SMALL_STEP if self._kept.lack() else spool_file.PUNCH_STEP)
        except OSError as error:
            log.warning("spool_not_punched", path=str(followed.path), error=str(error), detail=_NOT_PUNCHED)

    def _report(self, followed: Followed, tail: str) -> OutputReport:
        followed.told = True
        first = followed.readers[followed.sinks[0].name] if followed.sinks else None
        watch, ended = followed.watch, followed.ended
        return OutputReport(
            bytes=ended.bytes_total if ended is not None else followed.size,
            shipped_bytes=followed.shipped(first) if first is not None else 0,
            dropped_bytes=followed.dropped + (first.left_out if first is not None else 0),
            truncated=followed.dropped > 0,
            tail=tail,
            failed_on=watch.failed_on,
            missing=watch.missing,
            lines=watch.lines,
        )


async def _watch(followed: Followed) -> None:
    """Let the rules see all there is. `run` and `finish` may both be here, one after the other."""
    try:
        async with followed.watching:
            while (stretch := followed.unwatched()) is not None:
                watch, data = followed.watch, stretch.data
                if watch.cheap(data):
                    found = watch.look(data)
                    await asyncio.sleep(0)
                else:
                    found = await asyncio.get_running_loop().run_in_executor(_looks(), watch.look, data)
                followed.seen(stretch, found)
    except OSError as error:
        _unreadable(followed, error)


@functools.cache
def _looks() -> ThreadPoolExecutor:
    """The threads in which dear patterns are matched: few, so that a sender's patterns leave the jobs a core."""
    return ThreadPoolExecutor(1, thread_name_prefix="rules")


def _unreadable(followed: Followed, error: OSError) -> None:
    log.error(
        "spool_unreadable",
        run_id=followed.tag.run_id,
        path=str(followed.path),
        error=str(error),
        detail="its output is not shipped; see that the disk is well and the agent may read there",
    )
