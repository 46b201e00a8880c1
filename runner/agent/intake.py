"""The intake: receives messages when there is room, and decides what becomes of each.

The poll loop never asks for more than could start at once. A receive under way is always finished: a long poll that
is abandoned would swallow the next message for its visibility timeout.
"""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import structlog

from runner.agent.admission import Active, Admit, Decision, Hold, Skip, decide, hand_back, room
from runner.agent.execution import Execution, MessageState
from runner.agent.lease import Lease
from runner.agent.run import Run
from runner.aws.backoff import pause, retrying
from runner.errors import AwsUnavailable
from runner.protocol.message import InvalidMessage, parse_message, resolve

if TYPE_CHECKING:
    from collections.abc import Callable

    from runner.agent.answers import Answers
    from runner.agent.services import Services
    from runner.aws.sqs import Queue, Received
    from runner.protocol.job import Job

log = structlog.get_logger()

# When runs end in quick succession, a moment's patience fills a receive with several messages.
GATHER_S = 0.005
HAND_BACK_DELAY_S = (5.0, 15.0)


@dataclass(slots=True, eq=False)
class Held:
    """A received message that waits for room; `since` is CLOCK_MONOTONIC."""

    job: Job
    received: Received
    lease: Lease
    reason: str
    since: float = field(default_factory=time.monotonic)


class Intake:
    """Owns the poll loop and what is held. `max_receive_count` is the redrive policy's, None where there is none."""

    def __init__(self, services: Services, queue: Queue, answers: Answers) -> None:
        self._services = services
        self._queue = queue
        self._answers = answers
        self._stop = asyncio.Event()
        self._idle = asyncio.Event()
        self.held: list[Held] = []
        self.max_receive_count: int | None = None
        self.last_receive: float | None = None  # CLOCK_MONOTONIC of the last answered receive
        self.asking_since: float | None = None  # since when there has been room to receive
        self.progress = time.monotonic()  # the last time the loop went round; the watchdog follows it
        self.failing_since: float | None = None
        self.failing_by = ""
        self.blocked_by: Callable[[], str | None] = lambda: None
        self.waiting_for = ""

    def stop(self) -> None:
        """Receive no more. A receive under way is finished, and what it brings is handed back."""
        self._stop.set()
        self._services.roster.changed.set()

    async def run(self) -> None:
        """The poll loop; ends after `stop`."""
        async with asyncio.TaskGroup() as tasks:
            holding = tasks.create_task(self._look_after_held())
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
                else:
                    await self._take(received)
            holding.cancel()
        await self._release_held(list(self.held))

    # -- receiving

    async def _wait_for_room(self) -> int:
        config, roster = self._services.config.admission, self._services.roster
        while not self._stop.is_set():
            roster.changed.clear()
            blocked = self.blocked_by()
            free = 0 if blocked else room(config, roster.taking_room, len(self.held))
            if free:
                self.waiting_for = ""
                if free < 10 and roster.taking_room:
                    await asyncio.sleep(GATHER_S)
                    free = room(config, roster.taking_room, len(self.held))
                return free
            self.waiting_for = blocked or "room"
            self.asking_since = None
            self.progress = time.monotonic()
            try:
                async with asyncio.timeout(1.0 if blocked else 10.0):
                    await roster.changed.wait()
            except TimeoutError:
                pass
        return 0

    async def _receive(self, asked: int) -> list[Received]:
        config = self._services.config.queue
        received: list[Received] = []
        try:
            async for attempt in retrying(stop=self._stop, on_failure=self._failed):
                with attempt:
                    self.progress = time.monotonic()
                    received = await self._queue.receive(asked, config.wait, config.visibility)
        except AwsUnavailable:
            return []  # asked to stop while AWS was away
        if self.failing_since is not None:
            log.warning("queue_available_again", seconds=round(time.monotonic() - self.failing_since, 1))
            self.failing_since = None
        self.last_receive = time.monotonic()
        return received

    def _failed(self, error: AwsUnavailable, wait: float) -> None:
        self.progress = time.monotonic()
        if self.failing_since is None:
            self.failing_since = time.monotonic()
        self.failing_by = str(error)
        log.warning("receive_failed", error=str(error), retry_in=round(wait, 1))

    # -- deciding

    async def _take(self, received: list[Received]) -> None:
        fresh: list[tuple[Job, Received]] = []
        for message in received:
            try:
                job = self._resolve(message)
            except InvalidMessage as error:
                self._services.spawn(self._answers.reject(message, error), f"reject {message.message_id}")
                continue
            known = self._services.roster.get(job.run_id)
            held = next((held for held in self.held if held.job.run_id == job.run_id), None)
            if known is not None:
                self._adopt(known, message)
            elif held is not None:
                held.lease.adopt(message, message.asked_at, self._services.config.queue.visibility)
            else:
                fresh.append((job, message))
        for job, message in await self._answers.unanswered(fresh):
            # Two copies may have come in one batch.
            known = self._services.roster.get(job.run_id)
            if known is not None:
                self._adopt(known, message)
            else:
                await self._admit(job, message, self._lease(message, job.run_id))

    def _resolve(self, message: Received) -> Job:
        config = self._services.config
        return resolve(
            parse_message(message.body),
            message_id=message.message_id,
            defaults=config.defaults(),
            declarations=config.jobs,
        )

    def _lease(self, message: Received, run_id: str) -> Lease:
        visibility = self._services.config.queue.visibility
        return Lease(
            message_id=message.message_id,
            run_id=run_id,
            receipt=message.receipt,
            delivery=message.delivery,
            taken=message.asked_at,
            until=message.asked_at + visibility,
            visibility=visibility,
        )

    def _adopt(self, run: Run, message: Received) -> None:
        """The run is active here: its lease goes on with the newest receipt."""
        services, execution = self._services, run.execution
        visibility = services.config.queue.visibility
        if execution.lease is None:
            # Taken over earlier, yet the message is back: this host answers for the run, so it goes.
            services.spawn(self._answers.delete(message), f"delete {message.message_id}")
            return
        log.info("message_redelivered", run_id=execution.run_id, delivery=message.delivery)
        execution.lease.adopt(message, message.asked_at, visibility)
        services.keeper.hold(execution.lease)
        services.journal.renewed([execution.lease])

    def _decide(self, job: Job) -> Decision:
        active = [Active(run.execution.run_id, run.execution.job.job) for run in self._services.roster.active()]
        return decide(self._services.config.admission, job, active, self._services.now())

    async def _admit(self, job: Job, message: Received, lease: Lease) -> bool:
        """Act on the decision; False when the message is held."""
        decision = self._decide(job)
        if isinstance(decision, Hold):
            self._hold(job, message, lease, decision.reason)
            return False
        if isinstance(decision, Skip):
            self._services.spawn(self._answers.skip(job, message, decision), f"skip {job.run_id}")
            return True
        await self._start(job, message, lease, decision)
        return True

    async def _start(self, job: Job, message: Received, lease: Lease, decision: Admit) -> None:
        services = self._services
        for run_id in decision.replaces:
            old = services.roster.get(run_id)
            if old is not None and old.stopped is None:
                services.spawn(old.stop("replace", f"by run {job.run_id}"), f"replace {run_id}")
        if decision.replaces:
            # Held until the old run is gone; then it is admitted like any other.
            self._hold(job, message, lease, f"overlap: replaces run {decision.replaces[0]}")
            return
        execution = Execution(
            job=job,
            message_id=message.message_id,
            delivery=message.delivery,
            sent_at=message.sent_at,
            accepted_at=services.now(),
            boot_id=services.source.host.boot_id,
            owner=services.owner,
            supervisor=services.instance(),
            message=MessageState.LEASED,
            lease=lease,
        )
        lease.execution = execution.id
        run = Run(services, execution)
        services.roster.add(run)
        services.keeper.hold(lease)
        run.task = services.spawn(self._execute(run), f"run {job.run_id}")

    async def _execute(self, run: Run) -> None:
        await self._services.journal.accept(run.execution)
        await run.execute()

    # -- holding and handing back

    def _hold(self, job: Job, message: Received, lease: Lease, reason: str) -> None:
        self._services.keeper.hold(lease)
        self.held.append(Held(job, message, lease, reason))
        log.info("run_held", run_id=job.run_id, job=job.job, reason=reason)

    async def _look_after_held(self) -> None:
        """Admit what waits as soon as there is room, in order; hand back what waited too long."""
        changed = self._services.roster.changed
        while True:
            await pause(0.5 if self.held else 1.0, changed if self.held else None)
            if not self.held:
                continue
            for held in list(self.held):
                await self._again(held)
            await asyncio.sleep(0.05)

    async def _again(self, held: Held) -> None:
        decision = self._decide(held.job)
        if isinstance(decision, Admit) and decision.replaces:
            return
        if not isinstance(decision, Hold):
            self.held.remove(held)
            await self._admit(held.job, held.received, held.lease)
        elif time.monotonic() - held.since > self._services.config.admission.hold and hand_back(
            held.lease.delivery, self.max_receive_count
        ):
            log.info("run_handed_back", run_id=held.job.run_id, job=held.job.job, reason=decision.reason)
            await self._release_held([held], random.uniform(*HAND_BACK_DELAY_S))  # noqa: S311 - jitter
        elif decision.reason != held.reason:
            held.reason = decision.reason
            log.info("run_held", run_id=held.job.run_id, job=held.job.job, reason=decision.reason)

    async def _release_held(self, held: list[Held], delay: float = 0.0) -> None:
        for one in held:
            self.held.remove(one)
        if held:
            await self._services.keeper.release([one.lease for one in held], delay)

    async def _hand_back_all(self, received: list[Received]) -> None:
        if received:
            log.info("messages_handed_back", messages=len(received), reason="the agent is stopping")
            await self._services.keeper.release([self._lease(message, "") for message in received], 0)
