"""The consumer that one writes first: receive ten, and for each run, send a result, delete."""

from __future__ import annotations

import json
import sys

from job import JOBS, client, run


def main() -> None:
    sqs = client()
    user = sys.argv[1] if len(sys.argv) > 1 and sys.argv[1] else None
    while True:
        answer = sqs.receive_message(QueueUrl=JOBS, MaxNumberOfMessages=10, WaitTimeSeconds=20)
        for message in answer.get("Messages", ()):
            run(sqs, json.loads(message["Body"])["command"], user)
            sqs.delete_message(QueueUrl=JOBS, ReceiptHandle=message["ReceiptHandle"])


main()
