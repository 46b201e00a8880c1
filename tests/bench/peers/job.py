"""What every peer does for one message: run the command, send one result. Also: the clients and queues they use."""

from __future__ import annotations

import json
import os
import subprocess

import boto3

JOBS = os.environ.get("BENCH_JOBS", "")
RESULTS = os.environ.get("BENCH_RESULTS", "")


def client(service: str = "sqs"):
    """Retries are left as they are; the endpoint comes from the environment."""
    return boto3.client(service)


def run(sqs, command: list[str], user: str | None = None) -> None:
    """Run it to its end, as another user where one is named, and tell the results queue."""
    done = subprocess.run(command, capture_output=True, check=False, user=user)
    body = json.dumps({"exit": done.returncode, "output": done.stdout.decode()})
    sqs.send_message(QueueUrl=RESULTS, MessageBody=body)
