"""A job goes round: file, scheduler, queue, agent, results, recorder, history, and somebody who is told."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from embedded import all_points
from fleet import Host, host_environment
from lambdas import group
from templates import PACKAGING, cloudformation
from waiting import wait_for

if TYPE_CHECKING:
    from pathlib import Path

    from aws import Aws
    from lambdas import Lambda
    from receiver import Receiver
    from stacks import Stack

HANDLERS = {
    name: resource["Properties"]["Handler"]
    for name, resource in cloudformation(PACKAGING / "cloudformation" / "control.yaml")["Resources"].items()
    if resource["Type"] == "AWS::Lambda::Function"
}
JOBS = """\
[groups.web]
queue = "{queue}"

[defaults]
group = "web"
notify = "{webhook}"

[jobs.nightly]
schedule = "at({due})"
missed = "last"
command = "echo no space left; exit 3"
"""


@pytest.mark.timeout(240)
def test_a_job_goes_round_by_the_functions_of_the_stack(
    aws: Aws, control: Stack, functions: Lambda, tmp_path: Path, receiver: Receiver
) -> None:
    """Job file → scheduler → queue → agent → results → recorder → table → scheduler → somebody who is told."""
    stack = group(aws, control)
    config = tmp_path / "config.toml"
    config.write_text(stack.outputs["ConfigToml"])
    jobs = tmp_path / "jobs.toml"
    due = datetime.now(UTC) + timedelta(seconds=12)  # later than they are applied, on a busy machine too
    text = JOBS.format(queue=stack.outputs["JobsUrl"], webhook=f"{receiver.url}/hook", due=f"{due:%Y-%m-%dT%H:%M:%S}")
    jobs.write_text(text)
    places = {
        "CRON_RUNNER_PATHS__STATE": str(tmp_path / "state"),
        "CRON_RUNNER_PATHS__RUNTIME": str(tmp_path / "run"),
        "CRON_RUNNER_AGENT__LISTEN": "",
    }
    if os.geteuid() == 0:
        places |= {"CRON_RUNNER_RUN__USER": "root", "CRON_RUNNER_RUN__ALLOWED_USERS": "root"}
    host = Host("host", tmp_path, config, host_environment(aws.endpoint) | places)
    try:
        applied = host.command("jobs", "apply", "--yes", str(jobs))
        assert applied.returncode == 0, applied.stderr

        def enqueued() -> bool:
            return bool(functions.call(HANDLERS["Scheduler"], {})["enqueued"])

        wait_for(enqueued, "the job's minute has come", within=60)
        host.start()
        events = wait_for(lambda: ended(aws, stack), "the run has ended", within=60)
        host.stop()
        assert functions.call(HANDLERS["Recorder"], {"Records": [*events, NOT_AN_EVENT]}) == {
            "batchItemFailures": [{"itemIdentifier": "no-event"}]
        }
        points = all_points(functions.metrics)
        assert points["job_runs", (("group", "web"), ("job", "nightly"), ("outcome", "failed"))] == [1]
        (late,) = points["job_lateness_seconds", (("group", "web"),)]
        assert 0 <= late < 120
        history = host.command("history", "nightly", "--json")
        (run,) = json.loads(history.stdout)
        assert (run["state"], run["exit_code"]) == ("failed", 3)
        assert functions.call(HANDLERS["Scheduler"], {})["told"]["told"] == 1
        (told,) = receiver.bodies()
        assert told["text"] == "[web] nightly failed: exit code 3"
        assert "no space left" in told["attachments"][0]["text"]
    finally:
        host.remove()


NOT_AN_EVENT = {"messageId": "no-event", "body": "hello"}


def ended(aws: Aws, stack: Stack) -> list[dict[str, str]]:
    """All results so far as Lambda's records, once a finished event is among them; they stay on the queue."""
    answer = aws.sqs.receive_message(
        QueueUrl=stack.outputs["ResultsUrl"], MaxNumberOfMessages=10, WaitTimeSeconds=1, VisibilityTimeout=1
    )
    records = [{"messageId": one["MessageId"], "body": one["Body"]} for one in answer.get("Messages", [])]
    return records if any("run.finished" in record["body"] for record in records) else []
