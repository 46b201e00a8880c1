"""AWS for a test: plain boto3 clients against a stand-in, and a reader of what arrives there.

Nothing here comes from the product but the stand-in's launcher: a test sees what any client of SQS and
CloudWatch Logs would see.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config

from waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

REGION = "eu-west-1"
ENDED = ("cron-runner.run.finished", "cron-runner.run.skipped", "cron-runner.run.rejected")


def client(service: str, endpoint: str, read_timeout: float = 60.0) -> Any:
    """A boto3 client that retries nothing and needs no settings of the machine."""
    return boto3.client(
        service,
        endpoint_url=endpoint,
        region_name=REGION,
        aws_access_key_id="test",
        aws_secret_access_key="test",
        # What is wrong with a call is the other side's to say.
        config=Config(
            retries={"total_max_attempts": 1}, proxies={}, read_timeout=read_timeout, parameter_validation=False
        ),
    )


@dataclass(slots=True)
class Aws:
    """The stand-in at ``endpoint``, with the queues and log groups that a test makes there."""

    endpoint: str
    read_timeout: float = 60.0
    sqs: Any = field(init=False)
    logs: Any = field(init=False)

    def __post_init__(self) -> None:
        self.sqs = client("sqs", self.endpoint, self.read_timeout)
        self.logs = client("logs", self.endpoint, self.read_timeout)

    def close(self) -> None:
        """Close the clients' connections, or the test's end warns of open sockets."""
        self.sqs.close()
        self.logs.close()

    def queue(self, name: str, *, dead_letter: str | None = None, max_receive_count: int = 5, **attributes: str) -> str:
        """Make a queue (FIFO where its name says so), with a redrive policy to ``dead_letter``."""
        if name.endswith(".fifo"):
            attributes["FifoQueue"] = "true"
        if dead_letter is not None:
            policy = {"deadLetterTargetArn": self.arn(dead_letter), "maxReceiveCount": max_receive_count}
            attributes["RedrivePolicy"] = json.dumps(policy)
        return str(self.sqs.create_queue(QueueName=name, Attributes=attributes)["QueueUrl"])

    def arn(self, queue: str) -> str:
        """The queue's ARN."""
        answer = self.sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])
        return str(answer["Attributes"]["QueueArn"])

    def depth(self, queue: str) -> int:
        """All messages of the queue: visible, in flight and delayed."""
        names = ["", "NotVisible", "Delayed"]
        answer = self.sqs.get_queue_attributes(
            QueueUrl=queue, AttributeNames=[f"ApproximateNumberOfMessages{name}" for name in names]
        )
        return sum(int(count) for count in answer["Attributes"].values())

    def send(self, queue: str, body: Mapping[str, Any] | str, **fifo: str) -> str:
        """Send one message, and return its MessageId."""
        text = body if isinstance(body, str) else json.dumps(body)
        return str(self.sqs.send_message(QueueUrl=queue, MessageBody=text, **fifo)["MessageId"])

    def send_all(self, queue: str, bodies: Iterable[Mapping[str, Any] | str]) -> None:
        """Send many messages, ten to a call."""
        texts = [body if isinstance(body, str) else json.dumps(body) for body in bodies]
        for start in range(0, len(texts), 10):
            entries = [{"Id": str(i), "MessageBody": text} for i, text in enumerate(texts[start : start + 10])]
            answer = self.sqs.send_message_batch(QueueUrl=queue, Entries=entries)
            assert not answer.get("Failed")

    def take(self, queue: str, wait_s: int = 0) -> list[str]:
        """Receive and delete up to ten messages, and return their bodies."""
        answer = self.sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10, WaitTimeSeconds=wait_s)
        received = answer.get("Messages", [])
        if received:
            entries = [{"Id": str(i), "ReceiptHandle": m["ReceiptHandle"]} for i, m in enumerate(received)]
            self.sqs.delete_message_batch(QueueUrl=queue, Entries=entries)
        return [str(message["Body"]) for message in received]

    def streams(self, group: str) -> list[str]:
        """The names of the group's log streams; none where there is no group."""
        try:
            pages = self.logs.get_paginator("describe_log_streams").paginate(logGroupName=group)
            return [str(stream["logStreamName"]) for page in pages for stream in page["logStreams"]]
        except self.logs.exceptions.ResourceNotFoundException:
            return []

    def lines(self, group: str, stream: str) -> list[str]:
        """The messages of a log stream, in the order in which it holds them; none where it does not exist."""
        found: list[str] = []
        position: dict[str, str] = {}
        while True:
            try:
                page = self.logs.get_log_events(
                    logGroupName=group, logStreamName=stream, startFromHead=True, **position
                )
            except self.logs.exceptions.ResourceNotFoundException:
                return found
            if not page["events"]:
                return found
            found += [str(event["message"]) for event in page["events"]]
            position = {"nextToken": page["nextForwardToken"]}


@dataclass(slots=True)
class Events:
    """The CloudEvents of a results queue, collected as they arrive."""

    aws: Aws
    queue: str
    seen: list[dict[str, Any]] = field(default_factory=list)

    def collect(self) -> None:
        """Take what has arrived."""
        while bodies := self.aws.take(self.queue):
            self.seen += [json.loads(body) for body in bodies]

    def of(self, run_id: str, kind: str = "") -> list[dict[str, Any]]:
        """The events of a run in their sequence, without repeats (the same id), of one kind or of all."""
        by_id = {event["id"]: event for event in self.seen if event.get("subject") == run_id}
        ordered = sorted(by_id.values(), key=lambda event: int(event["data"]["sequence"]))
        return [event for event in ordered if event["type"].endswith(f".{kind}")] if kind else ordered

    def ended(self, run_id: str) -> dict[str, Any] | None:
        """The run's terminal event, when it is here."""
        ends = [event for event in self.of(run_id) if event["type"] in ENDED and not event["data"].get("will_retry")]
        return ends[-1] if ends else None

    def wait_ended(self, run_ids: Sequence[str], within: float = 30.0) -> list[dict[str, Any]]:
        """The terminal event of each run, as soon as all are here."""

        def all_ended() -> bool:
            self.collect()
            return all(self.ended(run_id) for run_id in run_ids)

        def missing() -> str:
            return f"without an end: {[run_id for run_id in run_ids if not self.ended(run_id)]}"

        wait_for(all_ended, "every run has ended", within, missing)
        return [event for run_id in run_ids if (event := self.ended(run_id)) is not None]

    def wait(self, run_id: str, kind: str, within: float = 30.0) -> dict[str, Any]:
        """The run's first event of a kind (``started``, ``finished``…), as soon as it is here."""

        def found() -> dict[str, Any] | None:
            self.collect()
            return next(iter(self.of(run_id, kind)), None)

        return wait_for(found, f"a {kind} event of {run_id}", within, lambda: f"seen: {self.summary()}")

    def wait_rejected(self, message_id: str, within: float = 30.0) -> dict[str, Any]:
        """The rejected event of a message, by its MessageId."""

        def found() -> dict[str, Any] | None:
            self.collect()
            rejected = (event for event in self.seen if event["type"] == "cron-runner.run.rejected")
            return next((event for event in rejected if event["data"]["message_id"] == message_id), None)

        return wait_for(found, f"the rejection of {message_id}", within, lambda: f"seen: {self.summary()}")

    def summary(self) -> list[str]:
        """All that was seen, a few words each."""
        return [f"{event.get('subject', '-')} {event['type'].rpartition('.')[2]}" for event in self.seen]
