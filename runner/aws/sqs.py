"""One SQS queue: receive, delete, extend, send; in batches, with the failures of a batch entry by entry."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, TypeVar

from runner.aws.messages import (
    BATCH_BYTES,
    BATCH_ENTRIES,
    LONGEST_VISIBILITY,
    LONGEST_WAIT,
    MESSAGE_BYTES,
    Failed,
    Outgoing,
    QueueFacts,
    Received,
    Redrive,
    batches,
    read_facts,
    read_failed,
    read_message,
    whole_seconds,
    wire_entry,
)
from runner.errors import AwsUnavailable, NoSuchQueue

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from mypy_boto3_sqs import SQSClient

    from runner.aws.calls import Purpose
    from runner.aws.session import Session

__all__ = [
    "BATCH_BYTES",
    "BATCH_ENTRIES",
    "LONGEST_VISIBILITY",
    "LONGEST_WAIT",
    "MESSAGE_BYTES",
    "Failed",
    "Outgoing",
    "Queue",
    "QueueFacts",
    "Received",
    "Redrive",
    "batches",
]

T = TypeVar("T")

_SYSTEM_ATTRIBUTES: Any = ["ApproximateReceiveCount", "SentTimestamp", "MessageGroupId", "AWSTraceHeader"]
_TOO_LARGE = frozenset(("BatchRequestTooLong", "RequestEntityTooLarge"))


class Queue:
    """A queue by URL, or by name that is looked up at the first call (it need not exist yet).

    All methods raise `AwsUnavailable` where the call as a whole failed (`NoSuchQueue` where there is none);
    a batch that AWS took returns the entries that it refused. No method retries or waits by itself.
    """

    def __init__(self, session: Session, *, url: str = "", name: str = "", sends_as: Purpose = "results") -> None:
        if bool(url) == bool(name):
            msg = "a queue needs either a url or a name"
            raise ValueError(msg)
        self._session = session
        self._given_url = url
        self._name = name
        self._url = url
        self._sends_as: Purpose = sends_as
        self._receiving: asyncio.Task[list[Received]] | None = None

    @property
    def fifo(self) -> bool:
        """SQS requires the suffix of a FIFO queue and refuses it for any other."""
        return (self._given_url or self._name).endswith(".fifo")

    @property
    def label(self) -> str:
        """The queue as it was configured, for people."""
        return self._given_url or self._name

    async def url(self, purpose: Purpose = "results") -> str:
        """The queue's URL; looked up by name once, with the client of ``purpose``."""
        if not self._url:
            self._url = await self._call(
                purpose,
                "GetQueueUrl",
                lambda sqs: sqs.get_queue_url(QueueName=self._name),
                lambda answer: str(answer["QueueUrl"]),
            )
        return self._url

    async def receive(self, max_messages: int, wait_s: float, visibility_s: float) -> list[Received]:
        """Long-poll for up to ``wait_s`` (at most 20 s, whole seconds) for up to ten messages.

        One receive at a time. Cancelling the caller loses nothing: the poll goes on, and what it brings is
        returned by `receive_in_flight`, or else by the next `receive`, which then makes no request of its
        own.
        """
        if self._receiving is None:
            self._receiving = asyncio.create_task(self._receive(max_messages, wait_s, visibility_s))
        return await self.receive_in_flight()

    async def receive_in_flight(self) -> list[Received]:
        """What a cancelled `receive` has brought or is about to bring; [] where there is none.

        For stopping: cancel the poll loop, await this (at most the rest of the poll), hand back what it
        brought.
        """
        receiving = self._receiving
        if receiving is None:
            return []
        try:
            received = await asyncio.shield(receiving)
        except asyncio.CancelledError:
            if receiving.cancelled():  # with all tasks, by the end of the loop; else the caller alone was
                self._receiving = None
            raise
        except BaseException:
            self._receiving = None
            raise
        self._receiving = None
        return received

    async def delete(self, receipts: Sequence[str]) -> list[Failed]:
        """Delete up to ten messages."""
        entries: Any = [{"Id": str(index), "ReceiptHandle": receipt} for index, receipt in enumerate(receipts)]
        return await self._batch(
            "lease",
            "DeleteMessageBatch",
            lambda sqs, url: sqs.delete_message_batch(QueueUrl=url, Entries=entries),
            entries,
        )

    async def extend(self, entries: Sequence[tuple[str, float]]) -> list[Failed]:
        """Let the leases of up to ten (receipt, seconds) end that many seconds from now; 0 hands back at
        once."""
        wire: Any = [
            {"Id": str(index), "ReceiptHandle": receipt, "VisibilityTimeout": whole_seconds(seconds)}
            for index, (receipt, seconds) in enumerate(entries)
        ]
        return await self._batch(
            "lease",
            "ChangeMessageVisibilityBatch",
            lambda sqs, url: sqs.change_message_visibility_batch(QueueUrl=url, Entries=wire),
            wire,
        )

    async def send(self, entries: Sequence[Outgoing]) -> list[Failed]:
        """Send up to ten messages, in order. Where SQS finds them too large together they go in halves."""
        wire: Any = [wire_entry(index, entry) for index, entry in enumerate(entries)]
        return await self._send(wire)

    async def facts(self) -> QueueFacts:
        """The queue's attributes (GetQueueAttributes)."""
        url = await self.url("lease")
        return await self._call(
            "lease",
            "GetQueueAttributes",
            lambda sqs: sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"]),
            lambda answer: read_facts(answer["Attributes"]),
        )

    async def ask_for_nothing(self) -> None:
        """A receive of zero messages, which SQS refuses by its limits: it takes nothing.

        Raises `AwsUnavailable` with code ``AccessDenied`` where this host may not receive at all.
        """
        url = await self.url("receive")
        await self._call(
            "receive",
            "ReceiveMessage",
            lambda sqs: sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=0, WaitTimeSeconds=0),
            lambda _answer: None,
        )

    async def url_of_arn(self, arn: str) -> str:
        """The URL of another queue in this one's region, where the target of its redrive policy has to be."""
        account, _, name = arn.partition(":sqs:")[2].partition(":")[2].partition(":")
        return await self._call(
            "lease",
            "GetQueueUrl",
            lambda sqs: sqs.get_queue_url(QueueName=name, QueueOwnerAWSAccountId=account),
            lambda answer: str(answer["QueueUrl"]),
        )

    async def _receive(self, max_messages: int, wait_s: float, visibility_s: float) -> list[Received]:
        url = await self.url("receive")
        wait = min(LONGEST_WAIT, max(0, round(wait_s)))
        most = min(BATCH_ENTRIES, max(1, max_messages))
        asked_at = time.clock_gettime(time.CLOCK_BOOTTIME)

        def read(answer: Mapping[str, Any]) -> list[Received]:
            arrived_at = time.clock_gettime(time.CLOCK_BOOTTIME)
            messages = answer.get("Messages") or ()
            if len(messages) > most:
                msg = f"{len(messages)} messages, {most} were asked for"
                raise ValueError(msg)
            return [read_message(message, asked_at, arrived_at) for message in messages]

        return await self._call(
            "receive",
            "ReceiveMessage",
            lambda sqs: sqs.receive_message(
                QueueUrl=url,
                MaxNumberOfMessages=most,
                WaitTimeSeconds=wait,
                VisibilityTimeout=whole_seconds(visibility_s),
                MessageSystemAttributeNames=_SYSTEM_ATTRIBUTES,
                MessageAttributeNames=["All"],
            ),
            read,
            poll_wait=wait,
        )

    async def _send(self, wire: list[Any]) -> list[Failed]:
        try:
            return await self._batch(
                self._sends_as,
                "SendMessageBatch",
                lambda sqs, url: sqs.send_message_batch(QueueUrl=url, Entries=wire),
                wire,
            )
        except AwsUnavailable as error:
            if error.code not in _TOO_LARGE:
                raise
            if len(wire) == 1:
                return [Failed(int(wire[0]["Id"]), error.code, sender_fault=True, detail=error.detail)]
        half = len(wire) // 2
        first = await self._send(wire[:half])
        return first + await self._send(wire[half:])

    async def _batch(
        self,
        purpose: Purpose,
        action: str,
        do: Callable[[SQSClient, str], Mapping[str, Any]],
        entries: Sequence[Mapping[str, Any]],
    ) -> list[Failed]:
        if not entries:
            return []
        url = await self.url(purpose)
        expected = sorted(int(entry["Id"]) for entry in entries)

        def read(answer: Mapping[str, Any]) -> list[Failed]:
            failed = [read_failed(entry) for entry in answer.get("Failed") or ()]
            # AWS names every entry. One that it does not name was not taken, whatever the status says.
            named = [failure.index for failure in failed]
            named += [int(entry["Id"]) for entry in answer.get("Successful") or ()]
            if sorted(named) != expected:
                msg = f"entries {named} of {len(entries)} are answered for"
                raise ValueError(msg)
            return failed

        return await self._call(purpose, action, lambda sqs: do(sqs, url), read)

    async def _call(
        self,
        purpose: Purpose,
        action: str,
        do: Callable[[SQSClient], Mapping[str, Any]],
        read: Callable[[Mapping[str, Any]], T],
        *,
        poll_wait: float = 0.0,
    ) -> T:
        try:
            return await self._session.call(purpose, action, do, read, queue_url=self._given_url, poll_wait=poll_wait)
        except NoSuchQueue:
            self._url = self._given_url  # a queue made anew under the name may have another URL
            raise
