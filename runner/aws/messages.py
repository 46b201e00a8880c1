"""What is said to SQS and what it answers, as values; and how a list is cut into batches. Pure.

Outside facts are from the SQS API reference: at most 10 entries and 1 MiB (1,048,576 bytes) of bodies in a
batch, ids of entries unique in their batch, a lease (visibility) of at most 12 hours from the receive.
"""

from __future__ import annotations

import base64
import json
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self, TypeVar

from runner.aws.failures import plain_code

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

T = TypeVar("T")

BATCH_ENTRIES = 10
BATCH_BYTES = 256 * 1024
"""Bytes of bodies that `batches` puts together. SQS takes 1 MiB today; 256 KiB was the limit until 2025 and
still is that of older stand-ins and regions. Ten ordinary events are far below either."""
MESSAGE_BYTES = 1024 * 1024
LONGEST_WAIT = 20
"""Seconds: the longest poll that SQS allows."""
LONGEST_VISIBILITY = 43_200
"""Seconds: SQS holds a message for at most 12 hours."""


@dataclass(frozen=True, slots=True)
class Received:
    """A message in our lease.

    ``delivery`` is ApproximateReceiveCount (1 at the first), ``sent_at`` unix seconds. The lease began
    between ``asked_at`` (the request was handed to its thread) and ``arrived_at`` (the answer was here), both
    CLOCK_BOOTTIME seconds: counting from ``asked_at`` is always safe.
    """

    message_id: str
    receipt: str
    body: str
    delivery: int
    sent_at: float
    group_id: str | None
    asked_at: float
    arrived_at: float
    attributes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """As SQS has them: name → DataType and StringValue, or BinaryValue in bytes."""
    trace: str = ""
    """The X-Ray trace header that its sender gave along."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message to send. ``group_id`` and ``dedup_id`` are for FIFO queues and left out where None."""

    id: str
    body: str
    group_id: str | None = None
    dedup_id: str | None = None
    delay_s: int | None = None
    attributes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    trace: str = ""

    @classmethod
    def of_run(cls, body: str, job: str, run_id: str, *, fifo: bool) -> Self:
        """A run's message, alone in its batch; on a FIFO queue in the order of its job, and once per run id within
        SQS's five minutes."""
        return cls("0", body, job if fifo else None, run_id if fifo else None)


@dataclass(frozen=True, slots=True)
class Failed:
    """An entry of a batch that SQS did not take; ``index`` is its place in the list that was given.

    ``sender_fault``: the same entry will fail again. ``gone``: the receipt holds no lease any more (expired,
    message deleted or visible again), so neither delete nor extend can ever succeed with it.
    """

    index: int
    code: str
    sender_fault: bool
    detail: str = ""
    gone: bool = False


@dataclass(frozen=True, slots=True)
class Redrive:
    """A queue's redrive policy: after ``max_receive_count`` receives SQS moves a message to
    ``target_arn``."""

    target_arn: str
    max_receive_count: int


@dataclass(frozen=True, slots=True)
class QueueFacts:
    """What the queue says of itself; seconds and bytes."""

    arn: str
    visibility: float
    retention: float
    max_message_bytes: int
    redrive: Redrive | None
    fifo: bool
    waiting: int | None = None
    """Messages that a receive could take, about; None where the queue does not say."""
    kms_key: str = ""
    """The customer's key that encrypts the queue; empty for none, or for the key of SQS itself."""
    in_flight: int | None = None
    delayed: int | None = None
    """Received and not deleted yet, and not to be received yet; about, as `waiting`."""
    by_content: bool = False
    """Of a FIFO queue: what is sent without a deduplication id is taken, its content's hash being one."""


def batches(
    entries: Iterable[T],
    size_of: Callable[[T], int],
    *,
    max_bytes: int = BATCH_BYTES,
    max_entries: int = BATCH_ENTRIES,
) -> list[list[T]]:
    """Cut ``entries``, in order, into lists of at most ten and ``max_bytes``; a larger one travels alone."""
    cut: list[list[T]] = []
    room = 0
    for entry in entries:
        size = size_of(entry)
        if not cut or len(cut[-1]) >= max_entries or size > room:
            cut.append([])
            room = max_bytes
        cut[-1].append(entry)
        room -= size
    return cut


NEVER_TAKEN = frozenset(
    (
        "BatchRequestTooLong",
        "RequestEntityTooLarge",
        "InvalidMessageContents",
        "MessageTooLong",
        "InvalidParameterValue",
    )
)
"""Codes of a refusal that is about the body itself: no waiting helps, a shorter one may. Any other, such as those
of KMS, may pass."""
_GONE = frozenset(("ReceiptHandleIsInvalid", "MessageNotInflight"))


def whole_seconds(seconds: float) -> int:
    """Whole seconds as SQS takes them; rounded up, so that a lease is never shorter than was asked."""
    return min(LONGEST_VISIBILITY, max(0, math.ceil(seconds)))


def read_message(message: Any, asked_at: float, arrived_at: float) -> Received:
    """Raises where it is not what SQS says it is: what is wrong here would go wrong anywhere else later."""
    attributes = message.get("Attributes", {})
    message_id, receipt, body = message["MessageId"], message["ReceiptHandle"], message.get("Body", "")
    group_id, trace = attributes.get("MessageGroupId"), attributes.get("AWSTraceHeader") or ""
    if not all(isinstance(text, str) for text in (message_id, receipt, body, group_id or "", trace)) or not receipt:
        msg = "a message's id, receipt, body or group is no text"
        raise TypeError(msg)
    return Received(
        message_id=message_id,
        receipt=receipt,
        body=body,
        delivery=_whole(attributes.get("ApproximateReceiveCount", 1), 1, 2**31),
        sent_at=_whole(attributes.get("SentTimestamp", 0), 0, 2**43) / 1000,
        group_id=group_id,
        asked_at=asked_at,
        arrived_at=arrived_at,
        attributes={name: _attribute(said) for name, said in (message.get("MessageAttributes") or {}).items()},
        trace=trace,
    )


def _attribute(said: Mapping[str, Any]) -> dict[str, Any]:
    """What a sender may give along; SQS knows no lists yet."""
    kept: dict[str, Any] = {"DataType": str(said["DataType"])}
    if (binary := said.get("BinaryValue")) is not None:
        kept["BinaryValue"] = binary if isinstance(binary, bytes) else base64.b64decode(binary)
    else:
        kept["StringValue"] = str(said["StringValue"])
    return kept


def _whole(said: Any, least: int, most: int) -> int:
    number = int(said)
    if not least <= number <= most:
        msg = f"{number} is outside {least} to {most}"
        raise ValueError(msg)
    return number


def wire_entry(index: int, entry: Outgoing) -> dict[str, object]:
    wire: dict[str, object] = {"Id": str(index), "MessageBody": entry.body}
    if entry.group_id is not None:
        wire["MessageGroupId"] = entry.group_id
    if entry.dedup_id is not None:
        wire["MessageDeduplicationId"] = entry.dedup_id
    if entry.delay_s is not None:
        wire["DelaySeconds"] = entry.delay_s
    if entry.attributes:
        wire["MessageAttributes"] = entry.attributes
    if entry.trace:
        wire["MessageSystemAttributes"] = {"AWSTraceHeader": {"DataType": "String", "StringValue": entry.trace}}
    return wire


def read_failed(entry: Any) -> Failed:
    code = plain_code(str(entry.get("Code", "")))
    detail = str(entry.get("Message") or "")
    # An expired receipt is told by its text alone: "…ReceiptHandle is invalid. Reason: The receipt handle has
    # expired", "…Reason: Message does not exist or is not available for visibility timeout change". The same code
    # stands for a visibility beyond the 12 hours, which leaves the lease as it is.
    about_receipt = "expired" in detail.lower() or "does not exist" in detail.lower()
    gone = code in _GONE or (code == "InvalidParameterValue" and about_receipt)
    return Failed(int(entry["Id"]), code, bool(entry.get("SenderFault")), detail, gone)


def read_facts(attributes: Mapping[Any, str]) -> QueueFacts:
    redrive = None
    if policy := json.loads(attributes.get("RedrivePolicy") or "null"):
        redrive = Redrive(policy["deadLetterTargetArn"], int(policy["maxReceiveCount"]))
    return QueueFacts(
        arn=attributes["QueueArn"],
        visibility=float(attributes.get("VisibilityTimeout", 30)),
        retention=float(attributes.get("MessageRetentionPeriod", 345_600)),
        max_message_bytes=int(attributes.get("MaximumMessageSize", MESSAGE_BYTES)),
        redrive=redrive,
        fifo=attributes.get("FifoQueue", "false") == "true",
        waiting=_count(attributes, "ApproximateNumberOfMessages"),
        in_flight=_count(attributes, "ApproximateNumberOfMessagesNotVisible"),
        delayed=_count(attributes, "ApproximateNumberOfMessagesDelayed"),
        kms_key=attributes.get("KmsMasterKeyId", ""),
        by_content=attributes.get("ContentBasedDeduplication", "false") == "true",
    )


def _count(attributes: Mapping[Any, str], name: str) -> int | None:
    found = attributes.get(name)
    return None if found is None else int(found)
