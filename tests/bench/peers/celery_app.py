"""Celery on SQS: the worker's application, and with (count, command as JSON) the producer of its messages."""

from __future__ import annotations

import json
import os
import sys
from urllib.parse import urlsplit

from celery import Celery

from job import JOBS, client, run

_endpoint = urlsplit(os.environ["AWS_ENDPOINT_URL"])
app = Celery("bench", broker=f"sqs://demo:demo@{_endpoint.netloc}")
app.conf.update(
    broker_transport_options={
        "region": os.environ["AWS_REGION"],
        "is_secure": False,
        "predefined_queues": {"jobs": {"url": JOBS}},
        "wait_time_seconds": 20,
        "polling_interval": 0,  # the default pauses for a second after each empty poll
        "visibility_timeout": 120,
    },
    task_default_queue="jobs",
    task_ignore_result=True,
    task_acks_late=True,
    worker_send_task_events=False,
    worker_enable_remote_control=False,
    broker_connection_retry_on_startup=True,
)
_clients: dict[int, object] = {}


@app.task(name="execute")
def execute(command: list[str]) -> None:
    # One to each process; a client may be shared by threads.
    sqs = _clients.get(os.getpid()) or _clients.setdefault(os.getpid(), client())
    run(sqs, command)


if __name__ == "__main__":
    for _ in range(int(sys.argv[1])):
        execute.delay(json.loads(sys.argv[2]))
