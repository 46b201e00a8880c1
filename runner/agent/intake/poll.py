"""The intake: receives messages when there is room, and hands them on to whoever decides on each.

The poll loop never asks for more than could start at once. A receive under way is always finished: a long poll that
is abandoned would swallow the next message for its visibility timeout.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from typing import TYPE_CHECKING, Any, Protocol

import structlog

from runner.agent.runs.admission.policy import MOST_MESSAGES
from runner.aws.backoff import retrying
from runner.errors import AwsUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    from runner.agent.runs.admission.line import Waiting
    from runner.agent.runs.admission.looking_away import Yields
    from runner.agent.runs.table import Roster
    from runner.aws.sqs import Queue, Received
    from runner.config.sections import Queue as QueueConfig

    class Door(Protocol):
        """Says whether there is room, and looks after those who wait for some."""

        yields: Yields
        blocked_by: Callable[[], str | None]

        @property
        def held(self) -> list[Waiting[Any]]: ...

        def shut(self) -> tuple[str | None, bool]: ...

        def room(self) -> tuple[int, str]: ...

        async def run(self) -> None: ...

        def release(self) -> None: ...

        async def released(self) -> None: ...

    class Arrivals(Protocol):
        """Takes what was received: to decide on it, or to put it back where the agent stops."""

        async def take(self, received: list[Received], stopping: asyncio.Event) -> None: ...


log = structlog.get_logger()

# When runs end in quick succession, a moment's patience fills a receive: until most of the places are free.
GATHER_S = 0.01
GATHERED = 0.6
# SQS counts, and costs, an empty receive like any other: one that comes back at once, as with `wait = "0s"` or by an
# endpoint that does not wait, is not followed by the next within this time.
EMPTY_APART_S = 1.0


class Intake:
    """Owns the poll loop. `settings` are those of the queue that are in use."""

    def __init__(
        self, queue: Queue, settings: Callable[[], QueueConfig], roster: Roster, door: Door, arrivals: Arrivals
    ) -> None:
        self._queue = queue
        self._settings = settings
        self._roster = roster
        self._door = door
        self._arrivals = arrivals
        self._stop = asyncio.Event()
        self.last_receive: float | None = None  # CLOCK_MONOTONIC of the last answered receive
        self.last_message: float | None = None  # of the last one that brought something
        self.ended = False  # `run` has: it makes no progress any more, and owes none
        self.asking_since: float | None = None  # since when there has been room to receive
        self.progress = time.monotonic()  # the last time the loop went round; the watchdog follows it
        self.answering_since: float | None = None  # the first answer after the start, or after an outage
        self.failing_since: float | None = None
        self.failing_by = ""
        self.waiting_for = ""
        self.blocked_since: float | None = None  # since when something else than work keeps it from receiving

    @property
    def held(self) -> list[Waiting[Any]]:
        """The received messages that wait here, oldest first; each says what for."""
        return self._door.held

    @property
    def blocked_by(self) -> Callable[[], str | None]:
        """Says why nothing is received although there is room."""
        return self._door.blocked_by

    def stop(self) -> None:
        """Receive no more, and hand back what is held. A receive under way is finished, and what it brings goes too."""
        self._stop.set()
        self._door.release()
        self._roster.changed.set()

    async def run(self) -> None:
        """The poll loop; ends after `stop`."""
        async with asyncio.TaskGroup() as tasks:
            waiting = tasks.create_task(self._door.run(), name="door")
            while not self._stop.is_set():
                self.progress = time.monotonic()
                asked = await self._wait_for_room()
                if self._stop.is_set():
                    break
                if self.asking_since is None:
                    self.asking_since = time.monotonic()
                received = await self._receive(asked)
                if received:
                    await self._arrivals.take(received, self._stop)
                elif not self._stop.is_set():
                    await self._pace()
            waiting.cancel()
            await self._door.released()
        self.ended = True

    # -- receiving

    async def _wait_for_room(self) -> int:
        roster = self._roster
        while not self._stop.is_set():
            roster.changed.clear()
            asked, why = self._room()
            if asked:
                self.waiting_for = ""
                asked = await self._gather(asked)
            if asked:
                return asked
            self.waiting_for = why
            self.asking_since = None
            self.progress = time.monotonic()
            try:
                async with asyncio.timeout(1.0):
                    await roster.changed.wait()
            except TimeoutError:
                pass
        return 0

    async def _gather(self, asked: int) -> int:
        """Wait a moment for more room where it is being freed; how much there is then, never none for long."""
        roster = self._roster
        enough = min(MOST_MESSAGES, math.ceil(GATHERED * (asked + roster.taking_room)))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(GATHER_S):
                while 0 < asked < enough and roster.taking_room and not self._stop.is_set():
                    roster.changed.clear()
                    await roster.changed.wait()
                    asked = self._door.room()[0]
        return self._room()[0]

    def _room(self) -> tuple[int, str]:
        """How many messages to ask for; why none."""
        blocked, paused = self._door.shut()
        if blocked is None or paused:
            self.blocked_since = None
        elif self.blocked_since is None:
            self.blocked_since = time.monotonic()
        if blocked is not None:
            return 0, blocked
        if self._door.yields.quiet_for(time.monotonic()):
            return 0, "others to receive a run that does not fit here"
        return self._door.room()

    async def _receive(self, asked: int) -> list[Received]:
        config = self._settings()
        received: list[Received] = []
        try:
            async for attempt in retrying(stop=self._stop, on_failure=self._failed):
                with attempt:
                    self.progress = time.monotonic()
                    wait = self._door.yields.longest_poll(self.progress, config.wait)
                    received = await self._queue.receive(asked, wait, config.visibility)
        except AwsUnavailable:
            return []  # asked to stop while AWS was away
        if self.failing_since is not None:
            log.warning("queue_available_again", seconds=round(time.monotonic() - self.failing_since, 1))
            self.failing_since = None
        self.last_receive = time.monotonic()
        if received:
            self.last_message = self.last_receive
        if self.answering_since is None:
            self.answering_since = self.last_receive
        return received

    async def _pace(self) -> None:
        """Wait out what is left of the time between an empty receive and the next."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.progress + EMPTY_APART_S - time.monotonic()):
                await self._stop.wait()

    def _failed(self, error: AwsUnavailable, wait: float) -> None:
        self.progress = time.monotonic()
        if self.failing_since is None:
            self.failing_since = time.monotonic()
            self.answering_since = None
        self.failing_by = str(error)
        log.warning("receive_failed", error=str(error), retry_in=round(wait, 1))
