"""SQS in memory: what the agent and its tests use of it, as strict as the SQS API reference says.

Unlike moto it costs the same at any depth, and it keeps the rules that tests are about: receipts that end with
their lease, FIFO groups that wait for the message in flight, redrive, the characters and sizes of bodies.
"""

from __future__ import annotations

import asyncio
import hashlib
import heapq
import itertools
import json
import re
import time
import uuid
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

ACCOUNT = "123456789012"
REGION = "eu-west-1"
MAX_BODY = 1024 * 1024
MAX_HOLD_S = 43_200
_DEDUPLICATION_S = 300.0
# "A message can include only XML, JSON, and unformatted text": these, and nothing below U+0020 but three.
_REFUSED = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class Refused(Exception):
    """An answer with an error code: ``code`` as the JSON protocol names it, ``query`` as the old protocol did."""

    def __init__(self, code: str, detail: str, query: str = "") -> None:
        super().__init__(detail)
        self.code = code
        self.query = query or code


def _no_queue() -> Refused:
    return Refused(
        "QueueDoesNotExist",
        "The specified queue does not exist.",
        "AWS.SimpleQueueService.NonExistentQueue",
    )


def _bad(detail: str) -> Refused:
    return Refused("InvalidParameterValue", detail)


@dataclass(slots=True, eq=False)
class Message:
    """A message and where it stands; ``receipt`` is the newest one, the only one that still does anything."""

    id: str
    body: str
    sent_ms: int
    number: int
    group: str | None
    dedup: str | None
    visible_at: float = 0.0
    receives: int = 0
    first_ms: int = 0
    receipt: str = ""
    received_at: float = 0.0
    gone: bool = False

    @property
    def in_flight(self) -> bool:
        return bool(self.receipt) and self.visible_at > time.monotonic()


@dataclass(slots=True, eq=False)
class Queue:
    """One queue: messages that may be received, in order, and a heap of those that come back by time."""

    name: str
    url: str
    attributes: dict[str, str]
    ready: deque[Message] = field(default_factory=deque)
    later: list[tuple[float, int, Message]] = field(default_factory=list)
    receipts: dict[str, Message] = field(default_factory=dict)
    busy_groups: Counter[str] = field(default_factory=Counter)
    sent_before: dict[str, tuple[float, str]] = field(default_factory=dict)
    waiters: deque[asyncio.Future[None]] = field(default_factory=deque)
    ticket: Any = field(default_factory=itertools.count)
    held: int = 0
    deleted: int = 0
    deleted_last: float = 0.0

    @property
    def fifo(self) -> bool:
        return self.name.endswith(".fifo")

    @property
    def arn(self) -> str:
        return f"arn:aws:sqs:{REGION}:{ACCOUNT}:{self.name}"

    @property
    def redrive(self) -> tuple[str, int] | None:
        """The dead-letter queue's name and maxReceiveCount."""
        policy = self.attributes.get("RedrivePolicy")
        if not policy:
            return None
        said = json.loads(policy)
        return str(said["deadLetterTargetArn"]).rpartition(":")[2], int(said["maxReceiveCount"])

    def schedule(self, message: Message, seconds: float) -> None:
        """Let the message be received in so many seconds, and not before."""
        message.visible_at = time.monotonic() + seconds
        heapq.heappush(self.later, (message.visible_at, next(self.ticket), message))
        if seconds <= 0:
            self.come_back()

    def come_back(self) -> None:
        """Move what has become visible to where it can be received."""
        now = time.monotonic()
        back = []
        while self.later and self.later[0][0] <= now:
            at, _, message = heapq.heappop(self.later)
            # An entry that a later change of visibility has made old says nothing.
            if not message.gone and at == message.visible_at:
                self._leave_flight(message)
                back.append(message)
        # In the order of sending, which is what a FIFO queue promises and a standard queue mostly does.
        for message in sorted(back, key=lambda found: -found.number):
            if message.receives and self.fifo:
                self.ready.appendleft(message)
            else:
                self.ready.append(message)
        self.wake(len(back))

    def _leave_flight(self, message: Message) -> None:
        if message.receipt and message.received_at:
            message.received_at = 0.0
            self.held -= 1
            if message.group is not None:
                self.busy_groups[message.group] -= 1

    def wake(self, count: int) -> None:
        """Let so many of those who wait look again."""
        while count and self.waiters:
            waiter = self.waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                count -= 1

    def take(self, most: int, hold_s: float, dead_letter: Callable[[str, Message], None]) -> list[Message]:
        """Receive what there is, up to ``most``; what was received too often goes to the dead-letter queue."""
        self.come_back()
        taken: list[Message] = []
        skipped: list[Message] = []
        started: set[str] = set()
        while self.ready and len(taken) < most:
            message = self.ready.popleft()
            if message.gone:
                continue
            if self.fifo and message.group is not None:
                if self.busy_groups[message.group] and message.group not in started:
                    skipped.append(message)
                    continue
                started.add(message.group)
            redrive = self.redrive
            if redrive is not None and message.receives >= redrive[1]:
                dead_letter(redrive[0], message)
                continue
            self._deliver(message, hold_s)
            taken.append(message)
        self.ready.extendleft(reversed(skipped))
        return taken

    def _deliver(self, message: Message, hold_s: float) -> None:
        message.receives += 1
        message.first_ms = message.first_ms or int(time.time() * 1000)
        self.receipts.pop(message.receipt, None)
        message.receipt = f"{message.id}:{uuid.uuid4()}"
        self.receipts[message.receipt] = message
        message.received_at = time.monotonic()
        self.held += 1
        if message.group is not None:
            self.busy_groups[message.group] += 1
        self.schedule(message, hold_s)

    def remove(self, message: Message) -> None:
        """Delete it for good."""
        self._leave_flight(message)
        if not message.gone:
            self.deleted += 1
            self.deleted_last = time.time()
        message.gone = True
        self.receipts.pop(message.receipt, None)
        if message.group is not None:
            self.wake(1)  # the group's next message can be had now

    def depth(self) -> dict[str, int]:
        """The three approximate numbers, exact."""
        self.come_back()
        visible = sum(1 for message in self.ready if not message.gone)
        waiting = sum(1 for at, _, m in self.later if not m.gone and at == m.visible_at)
        delayed = waiting - self.held
        names = ("", "NotVisible", "Delayed")
        return dict(
            zip((f"ApproximateNumberOfMessages{name}" for name in names), (visible, self.held, delayed), strict=True)
        )


class Sqs:
    """The actions, each from its parameters to its answer."""

    def __init__(self, base: str) -> None:
        self._base = base
        self._queues: dict[str, Queue] = {}
        self._number = itertools.count(1)

    def reset(self) -> None:
        """Forget everything."""
        self._queues.clear()

    def move(self, source: str, target: str, count: int) -> float:
        """Let so many messages of one queue arrive at another, as if sent now; returns when that is (unix time)."""
        now = time.time()
        ready, moved = self._queues[source].ready, []
        while ready and len(moved) < count:
            message = ready.popleft()
            if not message.gone:
                message.sent_ms, message.number = int(now * 1000), next(self._number)
                moved.append(message)
        self._queues[target].ready += moved
        self._queues[target].wake(len(moved))
        return now

    def deletions(self) -> dict[str, dict[str, float]]:
        """How many messages of each queue were deleted, and when the last one was (unix time)."""
        return {name: {"deleted": q.deleted, "deleted_last": q.deleted_last} for name, q in self._queues.items()}

    async def call(self, action: str, asked: dict[str, Any]) -> dict[str, Any]:
        """Do one action.

        Raises:
            Refused: AWS would have answered with this error.
        """
        if action == "ReceiveMessage":
            return await self._receive(asked)
        does = getattr(self, f"_do_{action}", None)
        if does is None:
            raise Refused("UnsupportedOperation", f"the stand-in does not know {action}")
        answer: dict[str, Any] = does(asked)
        return answer

    def _queue(self, asked: dict[str, Any]) -> Queue:
        queue = self._queues.get(str(asked.get("QueueUrl", "")).rpartition("/")[2])
        if queue is None:
            raise _no_queue()
        return queue

    def _do_CreateQueue(self, asked: dict[str, Any]) -> dict[str, Any]:  # noqa: N802 - AWS's names
        name = asked["QueueName"]
        if not re.fullmatch(r"[A-Za-z0-9_-]{1,80}|[A-Za-z0-9_-]{1,75}\.fifo", name):
            raise _bad("Can only include alphanumeric characters, hyphens, or underscores. 1 to 80 in length")
        url = f"{self._base}/{ACCOUNT}/{name}"
        self._queues.setdefault(name, Queue(name, url, dict(asked.get("Attributes") or {})))
        return {"QueueUrl": url}

    def _do_DeleteQueue(self, asked: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        del self._queues[self._queue(asked).name]
        return {}

    def _do_ListQueues(self, asked: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        prefix = asked.get("QueueNamePrefix") or ""
        return {"QueueUrls": [queue.url for name, queue in self._queues.items() if name.startswith(prefix)]}

    def _do_GetQueueUrl(self, asked: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        if asked["QueueName"] not in self._queues:
            raise _no_queue()
        return {"QueueUrl": self._queues[asked["QueueName"]].url}

    def _do_GetQueueAttributes(self, asked: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        queue = self._queue(asked)
        facts = {
            "QueueArn": queue.arn,
            "VisibilityTimeout": "30",
            "MessageRetentionPeriod": "345600",
            "MaximumMessageSize": str(MAX_BODY),
            "DelaySeconds": "0",
            "ReceiveMessageWaitTimeSeconds": "0",
            **queue.attributes,
            **{name: str(count) for name, count in queue.depth().items()},
        }
        wanted = asked.get("AttributeNames") or []
        return {"Attributes": facts if "All" in wanted else {n: facts[n] for n in wanted if n in facts}}

    def _do_SetQueueAttributes(self, asked: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        self._queue(asked).attributes.update(asked["Attributes"])
        return {}

    def _do_PurgeQueue(self, asked: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        queue = self._queue(asked)
        for message in [*queue.ready, *(entry[2] for entry in queue.later)]:
            if not message.gone:
                queue.remove(message)
        return {}

    def _do_SendMessage(self, asked: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        return self._send(self._queue(asked), asked)

    def _do_SendMessageBatch(self, asked: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        queue = self._queue(asked)
        if sum(len(entry["MessageBody"].encode()) for entry in asked["Entries"]) > MAX_BODY:
            raise Refused("BatchRequestTooLong", "The messages put together are longer than the limit.")
        return self._each(asked["Entries"], lambda entry: self._send(queue, entry))

    def _send(self, queue: Queue, asked: dict[str, Any]) -> dict[str, Any]:
        body, dedup = asked["MessageBody"], asked.get("MessageDeduplicationId")
        if not body or len(body.encode()) > MAX_BODY:
            raise _bad(f"One or more parameters are invalid. Message must be 1 to {MAX_BODY} bytes")
        if _REFUSED.search(body):
            raise Refused("InvalidMessageContents", "Invalid characters found. Valid ones are #x9 | #xA …")
        if queue.fifo and not asked.get("MessageGroupId"):
            raise Refused("MissingParameter", "The request must contain the parameter MessageGroupId.")
        if queue.fifo and not dedup:
            raise _bad("The queue needs a MessageDeduplicationId")
        if not 0 <= int(asked.get("DelaySeconds") or 0) <= 900:
            raise _bad(f"Value {asked['DelaySeconds']} for parameter DelaySeconds is invalid. Reason: 0 to 900.")
        now = time.monotonic()
        message_id = str(uuid.uuid4())
        if queue.fifo:
            at, known = queue.sent_before.get(dedup, (-_DEDUPLICATION_S, ""))
            if now - at < _DEDUPLICATION_S:
                return _sent(known, body)
            queue.sent_before[dedup] = (now, message_id)
        number = next(self._number)
        group = asked.get("MessageGroupId")
        message = Message(message_id, body, int(time.time() * 1000), number, group, dedup)
        delay = float(asked.get("DelaySeconds") or queue.attributes.get("DelaySeconds") or 0)
        if delay:
            queue.schedule(message, delay)
        else:
            queue.ready.append(message)
            queue.wake(1)
        return _sent(message.id, body)

    async def _receive(self, asked: dict[str, Any]) -> dict[str, Any]:
        queue = self._queue(asked)
        most = int(asked.get("MaxNumberOfMessages", 1))
        wait_s = float(asked.get("WaitTimeSeconds") or 0)
        hold = asked.get("VisibilityTimeout")
        hold_s = float(queue.attributes.get("VisibilityTimeout", 30) if hold is None else hold)
        if not 1 <= most <= 10 or not 0 <= wait_s <= 20 or not 0 <= hold_s <= MAX_HOLD_S:
            raise _bad("Value for MaxNumberOfMessages, WaitTimeSeconds or VisibilityTimeout is out of range")
        deadline = time.monotonic() + wait_s
        while True:
            taken = queue.take(most, hold_s, self._dead_letter)
            left = deadline - time.monotonic()
            if taken or left <= 0:
                break
            await self._look_again(queue, left)
        wanted = {*(asked.get("AttributeNames") or []), *(asked.get("MessageSystemAttributeNames") or [])}
        return {"Messages": [_received(message, wanted) for message in taken]} if taken else {}

    @staticmethod
    async def _look_again(queue: Queue, within: float) -> None:
        waiter = asyncio.get_running_loop().create_future()
        queue.waiters.append(waiter)
        next_back = queue.later[0][0] - time.monotonic() if queue.later else within
        try:
            async with asyncio.timeout(max(0.001, min(within, next_back))):
                await waiter
        except TimeoutError:
            return

    def _dead_letter(self, name: str, message: Message) -> None:
        queue = self._queues.get(name)
        if queue is not None:
            message.receipt, message.received_at = "", 0.0
            queue.ready.append(message)
            queue.wake(1)

    def _do_DeleteMessage(self, asked: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        queue, message = self._by_receipt(asked)
        if message is not None and queue.fifo and not message.in_flight:
            raise _bad("Value for parameter ReceiptHandle is invalid. Reason: The receipt handle has expired.")
        # On a standard queue an old receipt is answered with success, and deletes nothing.
        if message is not None:
            queue.remove(message)
        return {}

    def _do_DeleteMessageBatch(self, asked: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        url = asked["QueueUrl"]
        return self._each(asked["Entries"], lambda entry: self._do_DeleteMessage(entry | {"QueueUrl": url}))

    def _do_ChangeMessageVisibility(self, asked: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        queue, message = self._by_receipt(asked)
        seconds = int(asked["VisibilityTimeout"])
        if message is None or message.gone:
            raise _bad("Value for parameter ReceiptHandle is invalid. Reason: Message does not exist")
        if not message.in_flight:
            raise Refused(
                "MessageNotInflight", "The message is not in flight.", "AWS.SimpleQueueService.MessageNotInflight"
            )
        held = time.monotonic() - message.received_at
        if not 0 <= seconds <= MAX_HOLD_S or held + seconds > MAX_HOLD_S:
            raise _bad(f"Value {seconds} for parameter VisibilityTimeout is invalid. Reason: Total is over 43200 s.")
        queue.schedule(message, seconds)
        return {}

    def _do_ChangeMessageVisibilityBatch(self, asked: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        url = asked["QueueUrl"]
        return self._each(asked["Entries"], lambda entry: self._do_ChangeMessageVisibility(entry | {"QueueUrl": url}))

    def _by_receipt(self, asked: dict[str, Any]) -> tuple[Queue, Message | None]:
        queue, receipt = self._queue(asked), str(asked.get("ReceiptHandle", ""))
        if not re.fullmatch(r"[0-9a-f-]{36}:[0-9a-f-]{36}", receipt):
            raise Refused("ReceiptHandleIsInvalid", f'The input receipt handle "{receipt}" is not valid.')
        return queue, queue.receipts.get(receipt)

    @staticmethod
    def _each(entries: list[dict[str, Any]], does: Callable[[dict[str, Any]], dict[str, Any]]) -> dict[str, Any]:
        ids = [entry["Id"] for entry in entries]
        if not entries:
            raise Refused("EmptyBatchRequest", "There should be at least one entry in the request.")
        if len(entries) > 10:
            raise Refused("TooManyEntriesInBatchRequest", "Maximum number of entries per request are 10.")
        if len(set(ids)) < len(ids):
            raise Refused("BatchEntryIdsNotDistinct", "Two or more batch entries have the same Id.")
        done: list[dict[str, Any]] = []
        failed: list[dict[str, Any]] = []
        for entry in entries:
            try:
                done.append({"Id": entry["Id"]} | does(entry))
            except Refused as error:
                failed.append({"Id": entry["Id"], "SenderFault": True, "Code": error.query, "Message": str(error)})
        return {"Successful": done, "Failed": failed}


def _sent(message_id: str, body: str) -> dict[str, Any]:
    return {"MessageId": message_id, "MD5OfMessageBody": hashlib.md5(body.encode(), usedforsecurity=False).hexdigest()}


def _received(message: Message, wanted: set[str]) -> dict[str, Any]:
    facts = {
        "SenderId": "AIDAEXAMPLE",
        "SentTimestamp": str(message.sent_ms),
        "ApproximateReceiveCount": str(message.receives),
        "ApproximateFirstReceiveTimestamp": str(message.first_ms),
    }
    if message.group is not None:
        facts |= {"MessageGroupId": message.group, "SequenceNumber": f"{message.number:020d}"}
        facts |= {"MessageDeduplicationId": message.dedup} if message.dedup else {}
    shown = facts if "All" in wanted else {name: facts[name] for name in wanted if name in facts}
    answer: dict[str, Any] = {"MessageId": message.id, "ReceiptHandle": message.receipt, "Body": message.body}
    answer["MD5OfBody"] = hashlib.md5(message.body.encode(), usedforsecurity=False).hexdigest()
    return answer | ({"Attributes": shown} if shown else {})
