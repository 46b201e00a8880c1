"""The stand-in for AWS seen by a test: called directly, or from inside the host under test where it runs there.

Also a program, for inside: ``cloud.py ENDPOINT TARGET JSON`` prints the answer.
"""

from __future__ import annotations

import json
import shlex
import sys
import time
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError
from urllib.request import ProxyHandler, Request, build_opener

if TYPE_CHECKING:
    from collections.abc import Callable

    from guest import Guest

PREFIXES = {"sqs": "AmazonSQS", "logs": "Logs_20140328"}


def call(endpoint: str, target: str, parameters: dict[str, Any]) -> dict[str, Any]:
    """One action of AWS's JSON protocols."""
    service = "sqs" if target.startswith("AmazonSQS") else "logs"
    headers = {
        "X-Amz-Target": target,
        "Content-Type": "application/x-amz-json-1.1",
        "Authorization": f"AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/{service}/aws4_request",
    }
    request = Request(endpoint, data=json.dumps(parameters).encode(), headers=headers)  # noqa: S310 - loopback
    try:
        with build_opener(ProxyHandler({})).open(request, timeout=30) as answer:
            return dict(json.loads(answer.read() or b"{}"))
    except HTTPError as error:
        raise AssertionError(f"{target} was refused: {error.read().decode()}") from None


class Cloud:
    """Queues and events of one group."""

    def __init__(self, endpoint: str, ask: Callable[[str, dict[str, Any]], dict[str, Any]] | None = None) -> None:
        self.endpoint = endpoint
        self._ask = ask or (lambda target, parameters: call(endpoint, target, parameters))
        self.dead = self._queue("dead")
        redrive = {"deadLetterTargetArn": "arn:aws:sqs:us-east-1:123456789012:dead", "maxReceiveCount": "10"}
        self.jobs = self._queue("jobs", RedrivePolicy=json.dumps(redrive), VisibilityTimeout="20")
        self.results = self._queue("results")
        self.events: list[dict[str, Any]] = []

    @classmethod
    def inside(cls, guest: Guest, endpoint: str, program: str) -> Cloud:
        """The one that runs inside of a host."""

        def ask(target: str, parameters: dict[str, Any]) -> dict[str, Any]:
            words = ["python3", program, endpoint, target, json.dumps(parameters)]
            return dict(json.loads(guest.run(shlex.join(words))))

        return cls(endpoint, ask)

    def sqs(self, action: str, **parameters: Any) -> dict[str, Any]:
        """An action of SQS."""
        return self._ask(f"{PREFIXES['sqs']}.{action}", parameters)

    def _queue(self, name: str, **attributes: str) -> str:
        return str(self.sqs("CreateQueue", QueueName=name, Attributes=attributes)["QueueUrl"])

    def send(self, run_id: str, command: str | list[str], **more: Any) -> str:
        """Put a job on the queue; its run id."""
        body = {"job": run_id.rpartition("-")[0] or run_id, "run_id": run_id, "command": command, **more}
        self.sqs("SendMessage", QueueUrl=self.jobs, MessageBody=json.dumps(body))
        return run_id

    def _gather(self) -> None:
        got = self.sqs("ReceiveMessage", QueueUrl=self.results, MaxNumberOfMessages=10).get("Messages", [])
        for message in got:
            self.sqs("DeleteMessage", QueueUrl=self.results, ReceiptHandle=message["ReceiptHandle"])
            event = json.loads(message["Body"])
            if event["id"] not in [known["id"] for known in self.events]:
                self.events.append(event)

    def told(self, run_id: str, kind: str) -> list[dict[str, Any]]:
        """The data of the events of a run that have arrived."""
        return [
            event["data"]
            for event in self.events
            if event.get("subject") == run_id and event["type"] == f"cron-runner.run.{kind}"
        ]

    def wait(self, run_id: str, kind: str, count: int = 1, within: float = 60) -> dict[str, Any]:
        """The data of the ``count``-th event of this kind."""
        deadline = time.monotonic() + within
        while len(self.told(run_id, kind)) < count:
            if time.monotonic() > deadline:
                seen = [
                    (event["type"], event.get("subject"), event["data"].get("outcome")) for event in self.events[-8:]
                ]
                raise AssertionError(f"no {kind} event of {run_id} within {within:g} s; the last: {seen}")
            self._gather()
            time.sleep(0.1)
        return self.told(run_id, kind)[count - 1]

    def output(self, event: dict[str, Any]) -> str:
        """What CloudWatch Logs has of a run, by its finished event."""
        place = {"logGroupName": event["log"]["group"], "logStreamName": event["log"]["stream"]}
        lines: list[str] = []
        token = None
        while True:
            more = {"nextToken": token} if token else {}
            page = self._ask(f"{PREFIXES['logs']}.GetLogEvents", {**place, "startFromHead": True, **more})
            lines += [item["message"] for item in page["events"]]
            if page["nextForwardToken"] == token or not page["events"]:
                return "\n".join(lines)
            token = page["nextForwardToken"]

    def waiting(self) -> int:
        """Messages on the job queue, seen and unseen."""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        found = self.sqs("GetQueueAttributes", QueueUrl=self.jobs, AttributeNames=names)["Attributes"]
        return sum(int(found[name]) for name in names)


if __name__ == "__main__":
    sys.stdout.write(json.dumps(call(sys.argv[1], sys.argv[2], json.loads(sys.argv[3]))))
