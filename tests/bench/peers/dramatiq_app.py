"""dramatiq on SQS: the worker's application, and with (count, command as JSON) the producer of its messages."""

from __future__ import annotations

import json
import os
import sys
from base64 import b64encode

import dramatiq
from dramatiq_sqs import SQSBroker

from job import JOBS, client, run

dramatiq.set_broker(SQSBroker(endpoint_url=os.environ["AWS_ENDPOINT_URL"], visibility_timeout=120))
_sqs = client()


@dramatiq.actor(queue_name=os.environ["BENCH_QUEUE_NAME"])
def execute(command: list[str]) -> None:
    run(_sqs, command)


if __name__ == "__main__":
    for _ in range(int(sys.argv[1])):
        body = b64encode(execute.message(json.loads(sys.argv[2])).encode()).decode()
        _sqs.send_message(QueueUrl=JOBS, MessageBody=body)
