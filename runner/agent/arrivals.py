"""What was received becomes a run that waits at the door (held.py), one more receipt of a run that is here, or an
answer."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from runner.agent.runs.lease import Lease
from runner.agent.runs.run import MessageState
from runner.log import traces
from runner.protocol.message import InvalidMessage, read_job

if TYPE_CHECKING:
    from runner.agent.answers import Answers
    from runner.agent.held import Door
    from runner.agent.runs.table import Run
    from runner.agent.services import Services
    from runner.aws.sqs import Received
    from runner.protocol.job import Job

log = structlog.get_logger()

# Characters of a message that is read without letting others have their turn before.
AT_ONCE = 2048


class Arrivals:
    """`door` decides on those that are new here."""

    def __init__(self, services: Services, door: Door, answers: Answers) -> None:
        self._services = services
        self._door = door
        self._answers = answers

    async def take(self, received: list[Received], stopping: asyncio.Event) -> None:
        """Bring each to what becomes of it; where the agent stops they are put back."""
        self._services.counts.received += len(received)
        if stopping.is_set():
            await self._hand_back_all(received)
            return
        unanswered = await self._answers.unanswered(await self._fresh(received))
        if stopping.is_set():
            await self._hand_back_all([message for _, message in unanswered])
            return
        arrivals: dict[str, tuple[Job, Received, Lease]] = {}
        for job, message in unanswered:
            # Two copies may have come in one batch.
            if (first := arrivals.get(job.run_id)) is not None:
                if self._of_run(job, message, first[0], first[1].message_id):
                    self._again(first[2], message)
            elif not self._here(job, message):
                arrivals[job.run_id] = job, message, self._lease(message, job.run_id)
        self._door.enter(list(arrivals.values()))

    async def _fresh(self, received: list[Received]) -> list[tuple[Job, Received]]:
        """Those of runs that are not here."""
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
                traces.note(job.run_id, job.traceparent)
                fresh.append((job, message))
        return fresh

    def _here(self, job: Job, message: Received) -> bool:
        """Whether its run is active, waits, or is being skipped here: then that one's lease goes on with the newest
        receipt."""
        run, held = self._services.roster.get(job.run_id), self._door.find(job.run_id)
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
            trace=message.trace,
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
