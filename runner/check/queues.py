"""The queues: every action that the agent will use, in a way that takes nothing and sends nothing.

How a permission is learned without using it:

- deletion and visibility: a batch of one receipt that never was. SQS refuses the entry, or the caller.
- sending: a batch of one message with a delay that SQS does not allow (0 to 900 s). It refuses the entry, or the
  caller. A body with forbidden characters would not do: SQS mends and takes it.
- receiving: from a queue that says it is empty, for real, without a wait and with a visibility of 0. Should a message
  come just then it is visible again at once, and has been delivered once more. While messages wait, or that may send
  one to the dead-letter queue, a receive of zero messages is asked for, which SQS refuses by its limits, or denies.

AWS does not document that it looks at the permission before the entries; so "refused for its content" is reported as
allowed, and what AWS denies is certain.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from runner.aws.sqs import Outgoing, Queue
from runner.check.finding import Finding, ok
from runner.check.refusals import OF_THE_PLACE, refusal
from runner.errors import AwsUnavailable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from runner.aws.sqs import QueueFacts

NO_RECEIPT = "cron-runner-check"
FORBIDDEN_DELAY_S = 901
# The whole call was refused for what is in it, not for who makes it: the permission is there.
_OF_CONTENT = frozenset(
    (
        "InvalidParameterValue",
        "InvalidParameterCombination",
        "MissingParameter",
        "ReadCountOutOfRange",
        "ReceiptHandleIsInvalid",
        "InvalidAddress",
        "ValidationError",
        "ValidationException",
    )
)


@dataclass(slots=True)
class Seen:
    """What became known of the job queue."""

    facts: QueueFacts | None = None
    url: str = ""
    findings: list[Finding] = field(default_factory=list)
    reached: bool = True


async def job_queue(queue: Queue) -> Seen:
    """GetQueueAttributes, and what the agent does with messages."""
    seen = Seen()
    try:
        seen.url = await queue.url("lease")
        seen.facts = facts = await queue.facts()
    except AwsUnavailable as error:
        permission = f"sqs:{error.call}"
        seen.findings.append(refusal("queue", error, permission=permission, where=queue.label))
        if error.kind in OF_THE_PLACE or not seen.url:
            seen.reached = False
            return seen
    else:
        key = f", encrypted with {facts.kms_key}, which needs kms:Decrypt" if facts.kms_key else ""
        seen.findings.append(ok("queue", f"GetQueueAttributes on {facts.arn} is allowed{key}"))
    seen.findings += await asyncio.gather(
        receiving(queue, seen.facts),
        _try(queue, "DeleteMessage", lambda: queue.delete([NO_RECEIPT])),
        _try(queue, "ChangeMessageVisibility", lambda: queue.extend([(NO_RECEIPT, 0)])),
    )
    return seen


async def receiving(queue: Queue, facts: QueueFacts | None) -> Finding:
    """May this host receive? See the module's docstring for what it takes, and what not."""
    fragile = facts is None or (facts.redrive is not None and facts.redrive.max_receive_count < 3)
    if facts is None or facts.waiting != 0 or fragile:
        waiting = f"{facts.waiting} wait" if facts is not None and facts.waiting else "one could be lost"
        return await _try(
            queue,
            "ReceiveMessage",
            queue.ask_for_nothing,
            f"asked for no message, as {waiting} and none is to be taken",
        )
    try:
        taken = await queue.receive(1, 0, 0)
    except AwsUnavailable as error:
        return refusal("queue", error, permission="sqs:ReceiveMessage", where=queue.label)
    what = f"took {taken[0].message_id} and gave it back at once: one more delivery" if taken else "took nothing"
    return ok("queue", f"ReceiveMessage on {queue.label} is allowed: {what}")


async def sending(name: str, queue: Queue) -> tuple[str, Finding]:
    """May this host send? And the queue's URL, "" where it is not known."""
    entry = Outgoing(
        id="0",
        body="cron-runner check: SQS takes no message with this delay",
        group_id="check" if queue.fifo else None,
        dedup_id="check" if queue.fifo else None,
        delay_s=FORBIDDEN_DELAY_S,
    )
    try:
        url = await queue.url("results")
    except AwsUnavailable as error:
        return "", refusal(name, error, permission="sqs:GetQueueUrl", where=queue.label)
    return url, await _try(queue, "SendMessage", lambda: queue.send([entry]), name=name)


async def _try(
    queue: Queue, action: str, call: Callable[[], Awaitable[object]], how: str = "", *, name: str = "queue"
) -> Finding:
    """A call that cannot succeed: what matters is whether AWS denies it."""
    try:
        await call()
    except AwsUnavailable as error:
        if error.code not in _OF_CONTENT:
            return refusal(name, error, permission=f"sqs:{action}", where=queue.label)
    return ok(name, f"{action} on {queue.label} is allowed{': ' if how else ''}{how}")
