"""The job in a message that a command was given, or the message's refusal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runner.agent.answers import unreadable
from runner.agent.runs.events import rejected_event
from runner.agent.runs.run import Execution, MessageState, State
from runner.errors import MessageRejected
from runner.protocol.message import InvalidMessage, read_job, rejected_body
from runner.signing.load import trust_of

if TYPE_CHECKING:
    from runner.agent.answers import Answers
    from runner.agent.services import Services
    from runner.agent.wiring import Parts
    from runner.aws.sqs import Received
    from runner.config import Config
    from runner.protocol.job import Job


def job_of(config: Config, body: str, message_id: str, trace: str = "") -> Job:
    """The job as this host would run it; `trace` is the X-Ray header that came with it.

    Raises MessageRejected, and ConfigError for keys that cannot be read.
    """
    try:
        return read_job(
            body,
            message_id=message_id,
            defaults=config.defaults(),
            declarations=config.jobs,
            trust=trust_of(config),
            trace=trace,
        )
    except InvalidMessage as error:
        raise MessageRejected(error) from error


async def settle(parts: Parts) -> None:
    """Ask where dead letters go, once there is one."""
    redrive = (await parts.queue.facts()).redrive
    parts.dead_letters.settle(await parts.queue.url_of_arn(redrive.target_arn) if redrive else None)


async def reject(parts: Parts, answers: Answers, message: Received, fault: InvalidMessage) -> None:
    """The queue's message can never be a run: as the agent does it."""
    await settle(parts)
    await answers.reject(message, fault)


async def tell_rejected(services: Services, body: str, message_id: str, fault: InvalidMessage) -> None:
    """A message without a queue: its rejection is an event, and there is nothing to delete or to bury."""
    now = services.now()
    shown, sha256 = rejected_body(body)
    execution = Execution(
        job=unreadable(fault, message_id),
        message_id=message_id,
        delivery=1,
        sent_at=None,
        accepted_at=now,
        ended_at=now,
        boot_id=services.source.host.boot_id,
        owner=services.owner,
        state=State.ENDED,
        message=MessageState.NONE,
        outcome="rejected",
        reason=fault.detail,
    )
    event = rejected_event(
        services.source, execution, reason=fault.reason, detail=fault.detail, body=shown, body_sha256=sha256, now=now
    )
    await services.journal.accept(execution, event, terminal=True)
    services.outbox.committed()
