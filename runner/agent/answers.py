"""Answers to messages that start nothing: rejected, skipped, or already answered by an earlier execution here."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import structlog

from runner.agent.journal.outgoing import Unsent, unsent
from runner.agent.runs.events import rejected_event, skipped_event
from runner.agent.runs.lease import Lease
from runner.agent.runs.run import Execution, MessageState, State
from runner.agent.runs.step import HANDED_BACK
from runner.protocol.job import Job
from runner.protocol.message import InvalidMessage, rejected_body

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from runner.agent.intake.dead_letters import DeadLetters
    from runner.agent.journal.runs import RunRow
    from runner.agent.runs.admission.policy import Skip
    from runner.agent.services import Services
    from runner.aws.sqs import Received
    from runner.protocol.event import Event

log = structlog.get_logger()

# It was told; what is left to do is no hurry, and each delivery of it costs a receive.
PUT_OFF_S = 900.0
_PUT_OFF = "the dead-letter queue takes none, and too many wait for it; see why: they are received again"
_WITHOUT_END = "its row says that it has ended, and nothing tells how; it is run again"


class Answers:
    """Each answer is in the journal before the message goes; the message is held meanwhile.

    `answering` has the messages that are being answered, by their ids; `skipping` those of runs that are being skipped,
    by run id. Both know of an answer from the moment it is asked for.
    """

    def __init__(self, services: Services, dead_letters: DeadLetters) -> None:
        self._services = services
        self._dead_letters = dead_letters
        self._put_off: list[Lease] = []
        self.answering: dict[str, Lease] = {}
        self.skipping: dict[str, tuple[Job, str]] = {}

    def again(self, message: Received) -> bool:
        """Whether a message is delivered again while it is being answered: then its newest receipt is the valid one."""
        lease = self.answering.get(message.message_id)
        if lease is None:
            return False
        lease.adopt(message, message.asked_at, self._services.config.queue.visibility)
        self._services.keeper.hold(lease)
        return True

    # -- already answered

    async def unanswered(self, messages: list[tuple[Job, Received]]) -> list[tuple[Job, Received]]:
        """Those that this host has not run yet; the others are answered from the journal, in the background."""
        messages = await self._not_rejected(messages)
        asked = [job.run_id for job, message in messages if _may_be_known(job, message)]
        if not asked:
            return messages
        known = {row.run_id: row for row in await self._services.journal.latest(asked)}
        fresh = []
        for job, message in messages:
            row = known.get(job.run_id)
            if row is None:
                fresh.append((job, message))
            elif row.message_id != message.message_id and not job.same_run(kept := Job.from_json(json.loads(row.spec))):
                self._services.answer(message, self.refuse(job, message, kept), f"reject {message.message_id}")
            elif _runs_again(row) or (row.state == State.ENDED and not await self._has_end(row)):
                fresh.append((job, message))
            elif row.state != State.ENDED:
                # A run-once beside us has it; its lease decides, so this delivery is left to time out.
                log.info("message_of_other_process", run_id=job.run_id, owner=row.owner)
            else:
                self._services.answer(message, self._repeat(row, message), f"repeat {job.run_id}")
        return fresh

    async def _not_rejected(self, messages: list[tuple[Job, Received]]) -> list[tuple[Job, Received]]:
        """Those that were not rejected here. What has been told stands, whatever has changed since of its ground: the
        configuration, the host's size, the run that had its run id."""
        came_again = [message.message_id for _, message in messages if message.delivery > 1]
        told = {row.message_id: row for row in await self._services.journal.rejected(came_again)} if came_again else {}
        for _, message in messages:
            if (row := told.get(message.message_id)) is not None:
                ending = self._guarded(self._bury_again(row, message, self._begin(message)), message)
                self._services.answer(message, ending, f"reject {message.message_id}")
        return [(job, message) for job, message in messages if message.message_id not in told]

    async def _has_end(self, row: RunRow) -> bool:
        """Whether there is an end to answer with. Without one nothing was ever said of it, whatever else its row says,
        and nothing would be: such a message is no repeat."""
        if await self._services.journal.final_event(row.execution) is not None:
            return True
        log.error("run_without_end", run_id=row.run_id, execution=row.execution, detail=_WITHOUT_END)
        return False

    def _repeat(self, row: RunRow, message: Received) -> Coroutine[None, None, None]:
        return self._guarded(self._repeated(row, message, self._begin(message)), message)

    async def _repeated(self, row: RunRow, message: Received, lease: Lease) -> None:
        log.info("message_answered_before", run_id=row.run_id, outcome=row.outcome, delivery=message.delivery)
        recorded = await self._services.journal.final_event(row.execution)
        accepted = None
        if recorded is not None and recorded[1]:
            accepted = self._services.outbox.again(Unsent(0, recorded[0], row.execution, row.run_id, recorded[1]))
        await self._delete_after(accepted, lease)

    # -- while it is answered

    def _begin(self, message: Received, lease: Lease | None = None) -> Lease:
        """Hold a message until it is answered."""
        lease = lease or Lease.of(message, self._services.config.queue.visibility)
        self.answering[message.message_id] = lease
        self._services.keeper.hold(lease)
        return lease

    async def _guarded(self, answer: Coroutine[None, None, None], message: Received, run_id: str | None = None) -> None:
        try:
            await answer
        finally:
            self.answering.pop(message.message_id, None)
            if run_id is not None:
                self.skipping.pop(run_id, None)

    # -- skipped and rejected

    def skip(self, job: Job, message: Received, skip: Skip, lease: Lease | None = None) -> Coroutine[None, None, None]:
        """Admission decided against the run: one skipped event, and the message goes. `lease`: of a held message."""
        lease = self._begin(message, lease)
        self.skipping[job.run_id] = job, message.message_id
        return self._guarded(self._skip(job, message, skip, lease), message, job.run_id)

    async def _skip(self, job: Job, message: Received, skip: Skip, lease: Lease) -> None:
        execution = self._ended(job, message, "skipped", skip.detail)
        event = skipped_event(self._services.source, execution, skip.reason, skip.detail, self._services.now())
        self._services.counts.skipped[skip.reason] += 1
        log.info("run_skipped", run_id=job.run_id, job=job.job, reason=skip.reason, detail=skip.detail)
        await self._tell(execution, event, lease)

    def refuse(self, job: Job, message: Received, taken: Job) -> Coroutine[None, None, None]:
        """Reject the message of another run than the one that has its run id here."""
        return self.reject(message, taken_by_another(job, taken.job))

    def reject(
        self, message: Received, error: InvalidMessage, lease: Lease | None = None
    ) -> Coroutine[None, None, None]:
        """The message can never be a run: one rejected event, the dead-letter queue, and deletion."""
        return self._guarded(self._reject(message, error, self._begin(message, lease)), message)

    async def _reject(self, message: Received, error: InvalidMessage, lease: Lease) -> None:
        before = await self._services.journal.rejected([message.message_id]) if message.delivery > 1 else []
        if before:
            await self._bury_again(before[0], message, lease)
            return
        job = unreadable(error, message.message_id)
        execution = self._ended(job, message, "rejected", error.detail)
        body, sha256 = rejected_body(message.body)
        event = rejected_event(
            self._services.source,
            execution,
            reason=error.reason,
            detail=error.detail,
            body=body,
            body_sha256=sha256,
            now=self._services.now(),
        )
        self._services.counts.rejected[error.reason] += 1
        trace = {"traceparent": error.traceparent} if error.traceparent else {}
        log.warning(
            "message_rejected", message_id=message.message_id, reason=error.reason, detail=error.detail, **trace
        )
        await self._tell(execution, event, lease, bury=message)

    async def _bury_again(self, row: RunRow, message: Received, lease: Lease) -> None:
        """It is rejected in the journal already; only the rest is to be done again."""
        lease.execution = row.execution
        if await self._buried(message, lease):
            await self._services.outbox.delivered(row.execution)
            await self._delete_after(None, lease)

    async def delete(self, message: Received) -> None:
        """A message that needs no answer."""
        await self._services.keeper.delete(message.receipt)

    async def delete_held(self, lease: Lease) -> None:
        """A message that waited here and needs no answer any more."""
        await self._services.keeper.delete_held(lease)

    def _ended(self, job: Job, message: Received, outcome: str, reason: str) -> Execution:
        now = self._services.now()
        return Execution(
            job=job,
            message_id=message.message_id,
            delivery=message.delivery,
            sent_at=message.sent_at,
            accepted_at=now,
            ended_at=now,
            boot_id=self._services.source.host.boot_id,
            owner=self._services.owner,
            state=State.ENDED,
            message=MessageState.GONE,
            outcome=outcome,
            reason=reason,
        )

    async def _tell(self, execution: Execution, event: Event, lease: Lease, *, bury: Received | None = None) -> None:
        services = self._services
        lease.execution = execution.id
        accepted = services.outbox.accepted(event.id, unsent(execution, event))
        await services.journal.accept(execution, event, terminal=True)
        services.outbox.committed()
        if bury is None or await self._buried(bury, lease):
            await self._delete_after(accepted, lease)

    async def _buried(self, message: Received, lease: Lease) -> bool:
        """Whether its copy is where it goes. Else it is on the job queue again, and comes back in a while."""
        if await self._dead_letters.send(message, crowded=lambda: self._services.burden.heavy):
            return True
        # All that are given up are so together, and go back together.
        self._put_off.append(lease)
        await asyncio.sleep(0)
        leases, self._put_off = self._put_off, []
        if leases:
            log.warning("dead_letters_put_off", messages=len(leases), seconds=PUT_OFF_S, detail=_PUT_OFF)
            await self._services.keeper.release(leases, PUT_OFF_S)
        return False

    async def _delete_after(self, accepted: asyncio.Future[None] | None, lease: Lease) -> None:
        if accepted is not None:
            await accepted
        await self._services.keeper.delete_held(lease)


def _may_be_known(job: Job, message: Received) -> bool:
    """A first delivery whose run id is its own message id cannot have been here before."""
    return message.delivery > 1 or job.run_id != message.message_id


def _runs_again(row: RunRow) -> bool:
    if row.message == MessageState.TAKEN_OVER:
        return False  # this host answers for it alone, and has; the deletion of its message came to nothing
    return row.state == State.ENDED and (row.outcome is None or row.outcome in HANDED_BACK)


def taken_by_another(job: Job, taken: str, where: str = "here") -> InvalidMessage:
    """The fault of a message whose run id is that of another run, of the job `taken`."""
    other = f'job "{job.job}"' if job.job != taken else "another command"
    detail = (
        f'run_id: "{job.run_id}" is that of a run of job "{taken}" {where}, and this message names {other};'
        " give each run an id of its own"
    )
    return InvalidMessage(detail).of(job)


def unreadable(error: InvalidMessage, message_id: str) -> Job:
    """What stands in the journal, and is told, of a message that is no job: what could be read of it."""
    return Job(
        job=error.job or "",
        run_id=error.run_id or message_id,
        argv=(),
        command="",
        labels=error.labels,
        scheduled_at=error.scheduled_at,
        traceparent=error.traceparent,
    )
