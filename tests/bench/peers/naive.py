"""The consumer that one writes first: receive ten, and for each run, send a result, delete."""

from __future__ import annotations

import json

from job import JOBS, client, run


def main() -> None:
    sqs = client()
    while True:
        answer = sqs.receive_message(QueueUrl=JOBS, MaxNumberOfMessages=10, WaitTimeSeconds=20)
        for message in answer.get("Messages", ()):
            run(sqs, json.loads(message["Body"])["command"])
            sqs.delete_message(QueueUrl=JOBS, ReceiptHandle=message["ReceiptHandle"])


main()
