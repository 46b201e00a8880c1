"""The intake: receives messages when there is room, and brings them to the door (held.py), which decides on each.

The poll loop never asks for more than could start at once. A receive under way is always finished: a long poll that
is abandoned would swallow the next message for its visibility timeout.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from typing import TYPE_CHECKING

import structlog

from runner.agent.held import Door
from runner.agent.runs.admission.policy import MOST_MESSAGES
from runner.agent.runs.lease import Lease
from runner.agent.runs.run import MessageState
from runner.aws.backoff import retrying
from runner.errors import AwsUnavailable
from runner.protocol.message import InvalidMessage, read_job

if TYPE_CHECKING:
    from collections.abc import Callable

    from runner.agent.answers import Answers
    from runner.agent.run import Run
    from runner.agent.runs.admission.line import Waiting
    from runner.agent.services import Services
    from runner.agent.ticket import Ticket
    from runner.aws.sqs import Queue, Received
    from runner.protocol.job import Job

log = structlog.get_logger()

# When runs end in quick succession, a moment's patience fills a receive: until most of the places are free.
GATHER_S = 0.01
GATHERED = 0.6
# SQS counts, and costs, an empty receive like any other: one that comes back at once, as with `wait = "0s"` or by an
# endpoint that does not wait, is not followed by the next within this time.
EMPTY_APART_S = 1.0
# Characters of a message that is read without letting others have their turn before.
AT_ONCE = 2048


class Intake:
    """Owns the poll loop. `blocked_by` says why nothing is received although there is room."""

    def __init__(self, services: Services, queue: Queue, answers: Answers) -> None:
        self._services = services
        self._queue = queue
        self._answers = answers
        self._stop = asyncio.Event()
        self.door = Door(services, answers, fifo=queue.fifo)
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
    def held(self) -> list[Waiting[Ticket]]:
        """The received messages that wait here, oldest first; each says what for."""
        return self.door.held

    @property
    def blocked_by(self) -> Callable[[], str | None]:
        return self.door.blocked_by

    @blocked_by.setter
    def blocked_by(self, why: Callable[[], str | None]) -> None:
        self.door.blocked_by = why

    @property
    def max_receive_count(self) -> int | None:
        """The redrive policy's, None where there is none. Setting it says that it is known."""
        return self.door.max_receive_count

    @max_receive_count.setter
    def max_receive_count(self, count: int | None) -> None:
        self.door.max_receive_count = count
        self.door.redrive_known = True

    def stop(self) -> None:
        """Receive no more, and hand back what is held. A receive under way is finished, and what it brings goes too."""
        self._stop.set()
        self.door.release()
        self._services.roster.changed.set()

    async def run(self) -> None:
        """The poll loop; ends after `stop`."""
        async with asyncio.TaskGroup() as tasks:
            waiting = tasks.create_task(self.door.run(), name="door")
            while not self._stop.is_set():
                self.progress = time.monotonic()
                asked = await self._wait_for_room()
                if self._stop.is_set():
                    break
                if self.asking_since is None:
                    self.asking_since = time.monotonic()
                received = await self._receive(asked)
                if self._stop.is_set():
                    await self._hand_back_all(received)
                elif received:
                    await self._take(received)
                else:
                    await self._pace()
            waiting.cancel()
            await self.door.released()
        self.ended = True

    # -- receiving

    async def _wait_for_room(self) -> int:
        roster = self._services.roster
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
        roster = self._services.roster
        enough = min(MOST_MESSAGES, math.ceil(GATHERED * (asked + roster.taking_room)))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(GATHER_S):
                while 0 < asked < enough and roster.taking_room and not self._stop.is_set():
                    roster.changed.clear()
                    await roster.changed.wait()
                    asked = self.door.room()[0]
        return self._room()[0]

    def _room(self) -> tuple[int, str]:
        """How many messages to ask for; why none."""
        paused = self._services.pausing.current
        blocked = self.door.blocked_by() if paused is None else str(paused)
        if blocked is None or paused is not None:
            self.blocked_since = None
        elif self.blocked_since is None:
            self.blocked_since = time.monotonic()
        if blocked is not None:
            return 0, blocked
        if self.door.yields.quiet_for(time.monotonic()):
            return 0, "others to receive a run that does not fit here"
        return self.door.room()

    async def _receive(self, asked: int) -> list[Received]:
        config = self._services.config.queue
        received: list[Received] = []
        try:
            async for attempt in retrying(stop=self._stop, on_failure=self._failed):
                with attempt:
                    self.progress = time.monotonic()
                    wait = self.door.yields.longest_poll(self.progress, config.wait)
                    received = await self._queue.receive(asked, wait, config.visibility)
        except AwsUnavailable:
            return []  # asked to stop while AWS was away
        if self.failing_since is not None:
            log.warning("queue_available_again", seconds=round(time.monotonic() - self.failing_since, 1))
            self.failing_since = None
        self.last_receive = time.monotonic()
        if received:
            self.last_message = self.last_receive
            self._services.counts.received += len(received)
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

    # -- deciding

    async def _take(self, received: list[Received]) -> None:
        fresh: list[tuple[Job, Received]] = []
        for message in [one for one in received if not self._answers.again(one)]:
            if len(message.body) > AT_ONCE:
                await asyncio.sleep(0)  # reading it may take tens of milliseconds
            try:
                job = self._resolve(message)
            except InvalidMessage as error:
                rejecting = self._answers.reject(message, error)
                self._services.answer(message, rejecting, f"reject {message.message_id}")
                continue
            if not self._here(job, message):
                fresh.append((job, message))
        arrivals: dict[str, tuple[Job, Received, Lease]] = {}
        unanswered = await self._answers.unanswered(fresh)
        if self._stop.is_set():
            await self._hand_back_all([message for _, message in unanswered])
            return
        for job, message in unanswered:
            # Two copies may have come in one batch.
            if (first := arrivals.get(job.run_id)) is not None:
                if self._of_run(job, message, first[0], first[1].message_id):
                    self._again(first[2], message)
            elif not self._here(job, message):
                arrivals[job.run_id] = job, message, self._lease(message, job.run_id)
        self.door.enter(list(arrivals.values()))

    def _here(self, job: Job, message: Received) -> bool:
        """Whether its run is active, waits, or is being skipped here: then that one's lease goes on with the newest
        receipt."""
        run, held = self._services.roster.get(job.run_id), self.door.find(job.run_id)
        skipped = self._answers.skipping.get(job.run_id)
        if run is not None:
            if self._of_run(job, message, run.execution.job, run.execution.message_id):
                self._adopt(run, message)
        elif held is not None:
            lease = held.ticket.lease
            if self._of_run(job, message, held.job, lease.message_id) and self._again(lease, message):
                held.delivery = message.delivery
        elif skipped is not None:
            if self._of_run(job, message, *skipped):
                self._services.answer(message, self._answers.delete(message), f"delete {message.message_id}")
        else:
            return False
        return True

    def _of_run(self, job: Job, message: Received, known: Job, its_message: str | None) -> bool:
        """Whether a message is of the run that has its run id here; one that is not is rejected."""
        if message.message_id == its_message or job.same_run(known):
            return True
        self._services.answer(message, self._answers.refuse(job, message, known), f"reject {message.message_id}")
        return False

    def _again(self, lease: Lease, message: Received) -> bool:
        """One more message of a run that is not in the journal yet: whether it is the same one, delivered again."""
        if lease.message_id == message.message_id:
            lease.adopt(message, message.asked_at, self._services.config.queue.visibility)
            return True
        # A second one: two that took turns as the run's message would wear out their deliveries.
        self._services.answer(message, self._answers.delete(message), f"delete {message.message_id}")
        return False

    def _resolve(self, message: Received) -> Job:
        config = self._services.config
        return read_job(
            message.body,
            message_id=message.message_id,
            defaults=config.defaults(),
            declarations=config.jobs,
            trust=self._services.trust,
        )

    def _lease(self, message: Received, run_id: str) -> Lease:
        return Lease.of(message, self._services.config.queue.visibility, run_id=run_id)

    def _adopt(self, run: Run, message: Received) -> None:
        """The run is active here: its lease goes on with the newest receipt."""
        services, execution = self._services, run.execution
        visibility = services.config.queue.visibility
        if execution.lease is None and execution.message is MessageState.NONE:
            # Adopted, and nobody knew its message: this is it.
            execution.message_id, execution.sent_at = message.message_id, message.sent_at
            execution.message, execution.delivery = MessageState.LEASED, message.delivery
            execution.lease = self._lease(message, execution.run_id)
            execution.lease.execution = execution.id
            services.keeper.hold(execution.lease)
            services.commit(execution)
            services.journal.renewed([execution.lease])
            log.info("message_redelivered", run_id=execution.run_id, delivery=message.delivery)
            return
        if execution.lease is None or message.message_id != execution.lease.message_id:
            # Taken over earlier, yet the message is back; or a second message of the run, whose own is still held.
            # Two that took turns as its message would wear out their deliveries. Either way this one may go.
            services.answer(message, self._answers.delete(message), f"delete {message.message_id}")
            return
        log.info("message_redelivered", run_id=execution.run_id, delivery=message.delivery)
        execution.lease.adopt(message, message.asked_at, visibility)
        services.keeper.hold(execution.lease)
        services.journal.renewed([execution.lease])

    async def _hand_back_all(self, received: list[Received]) -> None:
        if received:
            self._services.counts.handed_back["stopping"] += len(received)
            log.info("messages_handed_back", messages=len(received), reason="the agent is stopping")
            await self._services.keeper.release([self._lease(message, "") for message in received], 0)
