"""The agent's standing connection to its supervisor.

Runs ask it to start and stop processes and wait here for their ends. When the connection is lost it connects again
(to the same supervisor, or to a new one where that died) and compares what is waited for with what the supervisor
still has: a run that no supervisor knows any more is lost, and its waiter is told so.
"""

from __future__ import annotations

import asyncio
import errno
import random
import time
from typing import TYPE_CHECKING, Any

import structlog

from runner.agent.runs.process import ExitRecord, Started
from runner.agent.supervision.connection import StartRefused
from runner.aws.backoff import delay, pause
from runner.errors import SupervisorUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from runner.agent.runs.process import Hello, Known, StartSpec, Usage
    from runner.agent.supervision.connection import Supervision

log = structlog.get_logger()

RECONNECT_S = 1.0
RECONNECT_CAP_S = 5.0
LASTING_S = 5.0
"""A connection that was lost sooner than this was none to speak of: the next ones come ever more slowly."""
# A connection outlives the reader at its other end: only an answer says that somebody is there.
ASK_EVERY_S = 2.0
ANSWERS_WITHIN_S = 2.0
_REPLACED = "the supervisor was started anew; what it had running is reported as lost"
_STANDS_STILL = (
    "it does not answer: nothing is received until it does, and no deadline of a job is kept; see whether it is "
    "stopped (SIGSTOP, a debugger, a frozen cgroup), and the host's load"
)
# A supervisor that is about to go, that has too many ends nobody asked for, or that lacks what others will give back
# (descriptors, processes, memory): the start is repeated.
REFUSED_FOR_NOW = frozenset({"stopping", "full", "lack"})


class Lost(Exception):
    """The supervisor that was told to start this attempt is gone, and with it whatever it knew."""


class NotStarted(Exception):
    """The attempt is not wanted any more, and no supervisor has started it."""


class Link:
    """One supervisor at a time. `connect` makes the Supervision for each try."""

    def __init__(self, make: Callable[[Callable[[ExitRecord], None]], Supervision]) -> None:
        self._make = make
        self._supervision: Supervision | None = None
        self._connected = asyncio.Event()
        self._ends: dict[str, asyncio.Future[ExitRecord | None]] = {}
        self._starting: set[str] = set()
        self._unacknowledged: set[str] = set()
        self._acknowledging = False
        self._known: dict[str, Known] = {}
        self.hello: Hello | None = None
        self.away_since: float | None = None  # time.monotonic(); None while connected
        self._put_off: dict[str, str] = {}  # the starts that it refused for now, and why

    # -- the connection

    async def connect(self) -> Hello:
        """Connect, starting a supervisor where there is none. Raises SupervisorUnavailable."""
        supervision = self._make(self._ended)
        hello = await supervision.connect()
        try:
            known = {run.key: run for run in await supervision.list()}
        except SupervisorUnavailable:
            await supervision.close()
            raise
        except StartRefused as error:  # for want of descriptors or memory: it passes
            await supervision.close()
            raise SupervisorUnavailable(str(error)) from error
        if self.hello is not None and hello.instance != self.hello.instance:
            log.error(
                "supervisor_replaced", was=self.hello.instance, now=hello.instance, pid=hello.pid, detail=_REPLACED
            )
        self._supervision, self.hello, self._known = supervision, hello, known
        self._compare(known)
        self._connected.set()
        self.away_since = None
        self.acknowledge(())
        return hello

    async def run(self) -> None:
        """The link's task: connects again whenever the connection is lost."""
        short = 0  # connections in a row that did not last
        while True:
            await self._connected.wait()
            assert self._supervision is not None
            since = time.monotonic()
            await self._ask(self._supervision)
            self._connected.clear()
            if self.away_since is None:
                self.away_since = time.monotonic()
            short = short + 1 if time.monotonic() - since < LASTING_S else 0
            # One that is made and lost again at once, as for want of descriptors, is no reason to hurry.
            wait = _wait_after(short - 1) if short > 1 else 0.0
            log.warning("supervisor_disconnected", retry_in=round(wait, 1))
            await asyncio.sleep(wait)
            await self._reconnect()

    async def _reconnect(self) -> None:
        failures = 0
        while not self._connected.is_set():
            try:
                hello = await self.connect()
            except (SupervisorUnavailable, OSError, RuntimeError) as error:
                # Also what this process itself lacks: a descriptor, memory, a thread. It passes.
                failures += 1
                wait = _wait_after(failures)
                log.error("supervisor_unavailable", error=str(error), retry_in=round(wait, 1))
                await asyncio.sleep(wait)
            else:
                log.info("supervisor_connected", pid=hello.pid, instance=hello.instance)

    async def _ask(self, supervision: Supervision) -> None:
        """Ask for an answer again and again until the connection is lost."""
        closed = asyncio.ensure_future(supervision.wait_closed())
        try:
            while not (await asyncio.wait({closed}, timeout=ASK_EVERY_S))[0]:
                asked = time.monotonic()
                answer = supervision.ack(())  # the least there is to ask for
                if not (await asyncio.wait({answer}, timeout=ANSWERS_WITHIN_S))[0]:
                    self.away_since = asked
                    log.error("supervisor_stands_still", detail=_STANDS_STILL)
                    await asyncio.wait({answer})  # or until the connection is given up
                if self.away_since is not None and answer.exception() is None:
                    log.info("supervisor_answers_again", seconds=round(time.monotonic() - self.away_since, 1))
                    self.away_since = None
        except SupervisorUnavailable:
            await closed
        finally:
            closed.cancel()

    async def close(self) -> None:
        if self._supervision is not None:
            await self._supervision.close()

    def _compare(self, known: Mapping[str, Known]) -> None:
        for key, future in list(self._ends.items()):
            run = known.get(key)
            if run is not None and run.exit is not None:
                self._ended(run.exit)
            elif run is None and key not in self._starting and not future.done():
                future.set_result(None)

    def _ended(self, record: ExitRecord) -> None:
        future = self._ends.get(record.key)
        if future is None:
            # Its waiter comes later: a run that is taken over from an agent before us.
            future = self._ends[record.key] = asyncio.get_running_loop().create_future()
        if not future.done():
            future.set_result(record)

    @property
    def connected(self) -> bool:
        """Whether it is there, and answers."""
        return self._connected.is_set() and self.away_since is None

    @property
    def start_error(self) -> str | None:
        """Why some start is put off: what is received now could not start either."""
        return next(iter(self._put_off.values()), None)

    # -- runs

    def knows(self, key: str) -> Known | None:
        """What the supervisor said of this attempt when the connection was made."""
        return self._known.get(key)

    def known_keys(self) -> list[str]:
        return list(self._known)

    async def start(self, spec: StartSpec, spool_fd: int, stopping: asyncio.Event) -> Started:
        """Start an attempt, across lost connections.

        A start that was sent and not answered is repeated: the supervisor starts one key once. Raises Lost when the
        supervisor went away meanwhile, NotStarted when `stopping` is set while the start is put off.
        """
        sent_to: str | None = None
        self._starting.add(spec.key)
        try:
            while True:
                await self._connected.wait()
                assert self._supervision is not None
                assert self.hello is not None
                if sent_to is not None and sent_to != self.hello.instance:
                    raise Lost(spec.key)
                sent_to = self.hello.instance
                try:
                    started = await self._supervision.start(spec, spool_fd)
                except SupervisorUnavailable as error:
                    log.warning("start_not_answered", key=spec.key, error=str(error))
                    await asyncio.sleep(0.1)
                    continue
                except StartRefused as error:
                    if error.code not in REFUSED_FOR_NOW:
                        return _refused(spec.key, error)
                    # It said that it did not start it, so any supervisor may.
                    sent_to = None
                    if not self._put_off:  # one line for all: there may be hundreds, each second
                        log.warning("start_put_off", key=spec.key, error=str(error), retry_in=RECONNECT_S)
                    self._put_off[spec.key] = str(error)
                    if await pause(RECONNECT_S, stopping):
                        raise NotStarted(spec.key) from error
                    continue
                if started.exit is None:
                    self._ends.setdefault(spec.key, asyncio.get_running_loop().create_future())
                return started
        finally:
            self._starting.discard(spec.key)
            self._put_off.pop(spec.key, None)

    async def ended(self, key: str) -> ExitRecord | None:
        """Wait for the end of an attempt; None: it was lost with its supervisor."""
        future = self._ends.setdefault(key, asyncio.get_running_loop().create_future())
        return await future

    def watch(self, key: str) -> None:
        """Expect the end of an attempt that an agent before us started."""
        run = self._known.get(key)
        future = self._ends.setdefault(key, asyncio.get_running_loop().create_future())
        if not future.done():
            if run is None:
                future.set_result(None)
            elif run.exit is not None:
                future.set_result(run.exit)

    async def stop(self, key: str, cause: str, detail: str = "", grace: float | None = None) -> None:
        """Ask for the end of an attempt; one that has ended already is left alone."""
        while True:
            await self._connected.wait()
            assert self._supervision is not None
            try:
                await self._supervision.stop(key, cause, detail, grace)
            except SupervisorUnavailable as error:
                log.warning("stop_not_answered", key=key, error=str(error))
                await asyncio.sleep(0.1)
            else:
                return

    async def signal(self, key: str, number: int) -> int | None:
        """Send all processes of an attempt a signal; how many there were, None if it has ended. Raises
        SupervisorUnavailable, StartRefused."""
        await self._connected.wait()
        assert self._supervision is not None
        return await self._supervision.signal(key, number)

    def acknowledge(self, keys: Iterable[str]) -> None:
        """The ends of these attempts are in the journal: the supervisor may forget them.

        Nobody waits for it: what it has not heard of when the connection is lost, it is told on the next one.
        """
        for key in keys:
            self._unacknowledged.add(key)
            self._ends.pop(key, None)
            self._known.pop(key, None)
        if not self._acknowledging:
            # At the end of this loop turn: all that ended in one commit share a request.
            self._acknowledging = True
            asyncio.get_running_loop().call_soon(self._acknowledge)

    def _acknowledge(self) -> None:
        self._acknowledging = False
        if self._supervision is None or not self._connected.is_set() or not self._unacknowledged:
            return
        try:
            answer = self._supervision.ack(self._unacknowledged)
        except SupervisorUnavailable:
            return
        keys, self._unacknowledged = self._unacknowledged, set()

        def heard(answer: asyncio.Future[Any]) -> None:
            if answer.cancelled() or answer.exception() is not None:
                self._unacknowledged |= keys

        answer.add_done_callback(heard)

    async def usage(self) -> Mapping[str, Usage]:
        """What the running attempts use now; empty while the supervisor cannot be asked."""
        if self._supervision is None or not self.connected:
            return {}
        try:
            return await self._supervision.usage()
        except (SupervisorUnavailable, StartRefused):
            return {}


def _wait_after(failures: int) -> float:
    return delay(failures, random.random(), cap=RECONNECT_CAP_S)  # noqa: S311 - jitter


def _refused(key: str, error: StartRefused) -> Started:
    """A start that the supervisor will never make, such as one as a user that its own configuration does not name."""
    now = time.time()
    number = errno.EPERM if error.code == "user" else errno.EINVAL
    return Started(key, exit=ExitRecord(key, start_error=(number, str(error)), started_at=now, finished_at=now))
