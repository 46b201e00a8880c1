"""Where messages go that can never be a run."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from runner.aws.backoff import delay
from runner.aws.messages import BATCH_ENTRIES, NEVER_TAKEN, batches
from runner.aws.sqs import Outgoing, Queue
from runner.errors import AwsUnavailable
from runner.protocol.jsontext import utf8
from runner.protocol.message import rejected_body

if TYPE_CHECKING:
    from collections.abc import Callable

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
        self._letters: list[_Letter] = []  # oldest first
        self._sending: asyncio.Task[None] | None = None
        self._failures = 0  # in a row
        if configured_url:
            self._settled.set()

    @property
    def configured(self) -> bool:
        return self._configured

    @property
    def queue(self) -> Queue | None:
        """Where they go; None for nowhere, or while that is not known."""
        return self._queue

    def settle(self, redrive_url: str | None) -> None:
        """The redrive policy is known: its target, or None where there is no policy."""
        if not self._configured:
            self._queue = Queue(self._session, url=redrive_url) if redrive_url else None
        self._settled.set()

    async def send(self, message: Received, *, crowded: Callable[[], bool] = lambda: False) -> bool:
        """Send a copy, retried for as long as it takes: True. One that the queue will never take is logged, masked as
        its event is. False: none was taken while the queue failed and `crowded` said that too much waits for it.

        What waits together goes together.
        """
        await self._settled.wait()
        if self._queue is None:
            return True
        letter = _Letter(message, asyncio.get_running_loop().create_future())
        self._letters.append(letter)
        if self._failures and crowded():
            self._give_up()
        if self._sending is None or self._sending.done():
            self._sending = asyncio.create_task(self._send_all(self._queue, crowded), name="dead letters")
        try:
            return await letter.sent
        finally:
            if letter in self._letters:
                self._letters.remove(letter)

    def _give_up(self) -> None:
        given_up, self._letters = self._letters, []
        for letter in given_up:
            letter.settle(sent=False)

    async def _send_all(self, queue: Queue, crowded: Callable[[], bool]) -> None:
        try:
            while self._letters:
                failure = await self._send(queue)
                if failure is None:
                    self._failures = 0
                    continue
                self._failures += 1
                if crowded():
                    self._give_up()
                wait = delay(self._failures, random.random())  # noqa: S311 - jitter
                log.warning(
                    "dead_letter_failed", error=str(failure), retry_in=round(wait, 1), waiting=len(self._letters)
                )
                await asyncio.sleep(wait)
        except BaseException as error:
            # A fault of ours is for those who wait to raise: this task has nobody who looks at it.
            for letter in self._letters:
                if not letter.sent.done():
                    letter.sent.set_exception(error)
            raise

    async def _send(self, queue: Queue) -> AwsUnavailable | None:
        """Send the oldest ones, once; why it or one of them failed."""
        batch = batches(self._letters[:BATCH_ENTRIES], lambda letter: letter.size)[0]
        try:
            refused = await queue.send([letter.outgoing(str(at), queue.fifo) for at, letter in enumerate(batch)])
        except AwsUnavailable as error:
            return error
        later = {failed.index: failed for failed in refused if failed.code not in NEVER_TAKEN}
        for failed in refused:
            letter = batch[failed.index]
            if failed.index not in later and letter.bare:
                _log_refused(letter.message, failed.code)
            elif failed.index not in later:
                letter.bare, later[failed.index] = True, failed
        for at, letter in enumerate(batch):
            if at not in later:
                letter.settle(sent=True)
        # Behind the others: what is wrong may be wrong with these alone.
        taken = set(map(id, batch))
        waiting = [letter for letter in self._letters if id(letter) not in taken]
        self._letters = [*waiting, *(batch[at] for at in later if not batch[at].sent.done())]
        if not later:
            return None
        first = next(iter(later.values()))
        return AwsUnavailable("SendMessageBatch", first.code, first.detail or "not taken")


@dataclass(slots=True, eq=False)
class _Letter:
    message: Received
    sent: asyncio.Future[bool]
    bare: bool = False  # without its attributes, since it was not taken with them

    def __post_init__(self) -> None:
        self.bare = not self.message.attributes and not self.message.trace

    def settle(self, *, sent: bool) -> None:
        if not self.sent.done():
            self.sent.set_result(sent)

    @property
    def size(self) -> int:
        """Bytes of its body and attributes."""
        body = self.message.body
        attributes = sum(len(name) + len(str(said)) for name, said in self.message.attributes.items())
        return attributes + (len(body) if body.isascii() else sum(map(len, utf8(body))))

    def outgoing(self, id_: str, fifo: bool) -> Outgoing:
        message = self.message
        return Outgoing(
            id=id_,
            body=message.body,
            # Of a standard queue it is kept as SQS's own move keeps it, with all else that came along.
            group_id=message.group_id or ("rejected" if fifo else None),
            dedup_id=message.message_id if fifo else None,
            attributes={} if self.bare else message.attributes,
            trace="" if self.bare else message.trace,
        )


def _log_refused(message: Received, code: str) -> None:
    body, _ = rejected_body(message.body)
    log.error(
        "dead_letter_refused",
        message_id=message.message_id,
        code=code,
        body=body,
        detail="the dead-letter queue never takes it: only its rejected event is left",
    )
