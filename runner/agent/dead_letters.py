"""Where messages go that can never be a run."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from runner.aws.backoff import retrying
from runner.aws.messages import NEVER_TAKEN
from runner.aws.sqs import Outgoing, Queue
from runner.errors import AwsUnavailable
from runner.protocol.message import rejected_body

if TYPE_CHECKING:
    from runner.aws.session import Session
    from runner.aws.sqs import Received

log = structlog.get_logger()


class DeadLetters:
    """The configured dead-letter queue, else the target of the job queue's redrive policy, else nowhere.

    The policy is learned from SQS; until `settle` has said what it is, `send` waits.
    """

    def __init__(self, session: Session, configured_url: str) -> None:
        self._session = session
        self._configured = bool(configured_url)
        self._queue = Queue(session, url=configured_url) if configured_url else None
        self._settled = asyncio.Event()
        if configured_url:
            self._settled.set()

    @property
    def configured(self) -> bool:
        return self._configured

    def settle(self, redrive_url: str | None) -> None:
        """The redrive policy is known: its target, or None where there is no policy."""
        if not self._configured:
            self._queue = Queue(self._session, url=redrive_url) if redrive_url else None
        self._settled.set()

    async def send(self, message: Received) -> None:
        """Send a copy, retried for ever. One that the queue will never take is logged, masked as its event is."""
        await self._settled.wait()
        if self._queue is None:
            return
        fifo = self._queue.fifo
        entry = Outgoing(
            id="0",
            body=message.body,
            group_id=(message.group_id or "rejected") if fifo else None,
            dedup_id=message.message_id if fifo else None,
        )
        async for attempt in retrying(on_failure=_failed):
            with attempt:
                refused = await self._queue.send([entry])
                if refused and refused[0].code not in NEVER_TAKEN:
                    raise AwsUnavailable("SendMessageBatch", refused[0].code, refused[0].detail or "not taken")
                if refused:
                    body, _ = rejected_body(message.body)
                    log.error(
                        "dead_letter_refused",
                        message_id=message.message_id,
                        code=refused[0].code,
                        body=body,
                        detail="the dead-letter queue never takes it: only its rejected event is left",
                    )


def _failed(error: AwsUnavailable, wait: float) -> None:
    log.warning("dead_letter_failed", error=str(error), retry_in=round(wait, 1))
