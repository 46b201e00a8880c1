"""The stand-in for SQS and Logs as the bench uses it: a plain client of its own, and the ceiling of the stand-in."""

from __future__ import annotations

import http.client
import json
import time
from collections import Counter
from typing import Any

_TARGETS = {"sqs": "AmazonSQS", "logs": "Logs_20140328"}


class Endpoint:
    """One kept connection; any number of calls, one after the other."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=60)

    def call(self, service: str, action: str, **parameters: Any) -> dict[str, Any]:
        """One call as any client of AWS would make it, unsigned; the stand-in checks no signature."""
        headers = {"X-Amz-Target": f"{_TARGETS[service]}.{action}", "Content-Type": "application/x-amz-json-1.0"}
        return self._ask("POST", "/", json.dumps(parameters), headers)

    def queue(self, name: str) -> str:
        """Make a queue; its URL."""
        return str(self.call("sqs", "CreateQueue", QueueName=name)["QueueUrl"])

    def depth(self, queue: str) -> int:
        """Messages that are there, in flight or not."""
        facts = self.call("sqs", "GetQueueAttributes", QueueUrl=queue, AttributeNames=["All"])["Attributes"]
        return sum(int(facts[f"ApproximateNumberOfMessages{name}"]) for name in ("", "NotVisible", "Delayed"))

    def fill(self, queue: str, bodies: list[str]) -> None:
        """Put many messages there, ten to a call."""
        for start in range(0, len(bodies), 10):
            entries = [{"Id": str(i), "MessageBody": body} for i, body in enumerate(bodies[start : start + 10])]
            self.call("sqs", "SendMessageBatch", QueueUrl=queue, Entries=entries)

    def move(self, source: str, target: str, count: int) -> float:
        """Let so many messages of one queue arrive at another all at once; the moment (CLOCK_REALTIME)."""
        asked = json.dumps({"from": source.rpartition("/")[2], "to": target.rpartition("/")[2], "count": count})
        return float(self._ask("POST", "/move", asked, {})["at"])

    def take_all(self, queue: str) -> list[str]:
        """Receive and delete all there is; the bodies."""
        bodies: list[str] = []
        while messages := self.call("sqs", "ReceiveMessage", QueueUrl=queue, MaxNumberOfMessages=10).get("Messages"):
            bodies += [message["Body"] for message in messages]
            entries = [{"Id": str(i), "ReceiptHandle": m["ReceiptHandle"]} for i, m in enumerate(messages)]
            self.call("sqs", "DeleteMessageBatch", QueueUrl=queue, Entries=entries)
        return bodies

    def report(self) -> dict[str, Any]:
        """What the stand-in has counted: calls by action, messages by queue, events of Logs."""
        return self._ask("GET", "/counts", None, {})

    def calls(self) -> Counter[str]:
        """Calls by action so far."""
        return Counter(self.report()["counts"])

    def _ask(self, method: str, path: str, body: str | None, headers: dict[str, str]) -> dict[str, Any]:
        self._connection.request(method, path, body, headers)
        answer = self._connection.getresponse()
        content = json.loads(answer.read() or b"{}")
        if answer.status != 200:
            raise RuntimeError(f"cannot call the stand-in: {content}")
        return dict(content)


def ceiling(endpoint: Endpoint, calls: int) -> dict[str, float]:
    """Calls a second that the stand-in answers to one client that waits for each: it must never be what limits."""
    queue = endpoint.queue("ceiling")
    body = json.dumps({"job": "bench", "command": "echo hello", "padding": "x" * 400})
    rates = {}

    def measured(name: str, count: int, call: Any) -> None:
        began = time.perf_counter()
        for _ in range(count):
            call()
        rates[name] = round(count / (time.perf_counter() - began))

    def receive_and_delete() -> None:
        messages = endpoint.call("sqs", "ReceiveMessage", QueueUrl=queue, MaxNumberOfMessages=10)["Messages"]
        entries = [{"Id": str(i), "ReceiptHandle": m["ReceiptHandle"]} for i, m in enumerate(messages)]
        endpoint.call("sqs", "DeleteMessageBatch", QueueUrl=queue, Entries=entries)

    measured("SendMessageBatch of 10", calls, lambda: endpoint.fill(queue, [body] * 10))
    measured("ReceiveMessage of 10 and DeleteMessageBatch", calls, receive_and_delete)
    return rates
