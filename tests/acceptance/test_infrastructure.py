"""The CloudFormation template, deployed, is all that a host needs: its configuration is one of the outputs."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import pytest

from runner.aws.permissions import agent_policy, sender_policy
from runner.config import load

from aws import REGION, Events
from fleet import Host, host_environment
from stacks import Stack

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from aws import Aws


@pytest.fixture
def host(aws: Aws, tmp_path: Path) -> Iterator[tuple[Stack, Host]]:
    """A host whose configuration is the stack's output, and where it may write in a test."""
    stack = Stack(aws, "group", "cron-runner-web", Group="web")
    config = tmp_path / "config.toml"
    config.write_text(stack.outputs["ConfigToml"])
    places = {
        "CRON_RUNNER_PATHS__STATE": str(tmp_path / "state"),
        "CRON_RUNNER_PATHS__RUNTIME": str(tmp_path / "run"),
        "CRON_RUNNER_AGENT__LISTEN": "",
    }
    if os.geteuid() == 0:
        places |= {"CRON_RUNNER_RUN__USER": "root", "CRON_RUNNER_RUN__ALLOWED_USERS": "root"}
    made = Host("host", tmp_path, config, host_environment(aws.endpoint) | places)
    yield stack, made
    made.remove()


def test_a_host_runs_jobs_with_the_configuration_that_the_stack_gives(aws: Aws, host: tuple[Stack, Host]) -> None:
    stack, machine = host
    machine.start()
    events = Events(aws, stack.outputs["ResultsUrl"])
    aws.send(stack.outputs["JobsUrl"], {"job": "hello", "run_id": "r1", "command": "echo from the stack"})
    (ended,) = events.wait_ended(["r1"])
    assert ended["data"]["outcome"] == "succeeded"
    assert ended["data"]["log"]["group"] == stack.outputs["LogGroup"]
    assert aws.lines("/cron-runner/web", "hello/r1") == ["from the stack"]

    # What can never be a run goes to the stack's own dead-letter queue.
    rejected = aws.send(stack.outputs["JobsUrl"], {"job": "hello", "timout": 3})
    events.wait_rejected(rejected)
    assert machine.stop() == 0
    assert [json.loads(body)["timout"] for body in aws.take(stack.outputs["DeadLettersUrl"], 5)] == [3]


def test_queues_are_made_as_the_agent_wants_them(aws: Aws) -> None:
    stack = Stack(aws, "group", "cron-runner-web", Group="web")
    jobs = stack.attributes("JobsUrl")
    redrive = json.loads(jobs["RedrivePolicy"])
    assert redrive["deadLetterTargetArn"] == stack.outputs["DeadLettersArn"]
    assert int(redrive["maxReceiveCount"]) == 10
    assert jobs["MessageRetentionPeriod"] == "604800"
    assert jobs["VisibilityTimeout"] == "120"
    for queue in ("DeadLettersUrl", "ResultsUrl"):
        assert stack.attributes(queue)["MessageRetentionPeriod"] == "1209600"


def test_the_log_group_may_be_a_part_of_the_stack(aws: Aws) -> None:
    Stack(aws, "group", "cron-runner-web", Group="web", MakeLogGroup="true")
    group = aws.logs.describe_log_groups(logGroupNamePrefix="/cron-runner/web")["logGroups"][0]
    assert group["retentionInDays"] == 30


def test_a_group_that_was_tried_by_hand_gets_its_stack(aws: Aws) -> None:
    """`check`, or one job, has made the log group: it stays as it is."""
    aws.logs.create_log_group(logGroupName="/cron-runner/tried")
    aws.logs.put_retention_policy(logGroupName="/cron-runner/tried", retentionInDays=7)
    stack = Stack(aws, "group", "cron-runner-tried", Group="tried")
    assert stack.outputs["LogGroup"] == "/cron-runner/tried"
    assert 'log_group = "/cron-runner/tried"' in stack.outputs["ConfigToml"]
    group = aws.logs.describe_log_groups(logGroupNamePrefix="/cron-runner/tried")["logGroups"][0]
    assert group["retentionInDays"] == 7


def test_a_fifo_group_gets_fifo_queues(aws: Aws) -> None:
    stack = Stack(aws, "group", "cron-runner-db", Group="db", Fifo="true", LogRetentionDays="7", MaxReceiveCount="5")
    assert stack.outputs["JobsUrl"].endswith("/cron-runner-db-jobs.fifo")
    assert stack.outputs["DeadLettersUrl"].endswith("/cron-runner-db-dead-letters.fifo")
    assert stack.attributes("JobsUrl")["ContentBasedDeduplication"] == "true"
    redrive = json.loads(stack.attributes("JobsUrl")["RedrivePolicy"])
    assert int(redrive["maxReceiveCount"]) == 5


def test_the_configuration_of_the_stack_is_accepted_as_it_stands(aws: Aws, tmp_path: Path) -> None:
    stack = Stack(aws, "group", "cron-runner-web", Group="web", LogRetentionDays="90")
    path = tmp_path / "config.toml"
    path.write_text(stack.outputs["ConfigToml"])
    config = load(path, {})
    assert config.group == "web"
    assert config.queue.dead_letter_url == stack.outputs["DeadLettersUrl"]
    assert config.output.cloudwatch.retention_days == 90


def test_the_policies_name_the_stacks_own_queues_and_nothing_else(aws: Aws) -> None:
    stack = Stack(aws, "group", "cron-runner-web", Group="web")
    log_group = "arn:aws:logs:eu-west-1:123456789012:log-group:/cron-runner/web"
    host = {name: resources for name, (_, _, resources) in allowed(stack.policy("HostPolicyArn")).items()}
    assert host == {
        "JobQueue": {stack.outputs["JobsArn"]},
        "Results": {stack.outputs["ResultsArn"]},
        "DeadLetters": {stack.outputs["DeadLettersArn"]},
        "Output": {log_group, f"{log_group}:*"},
    }
    assert allowed(stack.policy("SenderPolicyArn")) == {
        "SendJobs": ("Allow", {"sqs:SendMessage"}, {stack.outputs["JobsArn"]})
    }


def as_set(value: str | list[str]) -> set[str]:
    return {value} if isinstance(value, str) else set(value)


def test_the_policies_are_those_that_check_prints_for_the_stacks_configuration(aws: Aws, tmp_path: Path) -> None:
    stack = Stack(aws, "group", "cron-runner-web", Group="web")
    path = tmp_path / "config.toml"
    path.write_text(stack.outputs["ConfigToml"])
    config = load(path, {})
    # The stand-in's addresses name no region.
    assert allowed(stack.policy("HostPolicyArn")) == allowed(agent_policy(config, region=REGION))
    assert allowed(stack.policy("SenderPolicyArn")) == allowed(sender_policy(config, region=REGION))


def test_the_policy_for_secrets_is_the_one_that_check_prints_for_their_path(aws: Aws, tmp_path: Path) -> None:
    stack = Stack(aws, "group", "cron-runner-web", Group="web", SecretsPath="prod/web")
    path = tmp_path / "config.toml"
    more = '\n[run]\nallowed_secrets = ["ssm:/prod/web/*", "secretsmanager:prod/web/*"]\n'
    path.write_text(stack.outputs["ConfigToml"] + more)
    printed = agent_policy(load(path, {}), region=REGION, account="123456789012")["Statement"]
    made = stack.policy("HostSecretsPolicyArn")["Statement"]
    assert len(made) == 4
    # A list of one and what stands in it are the same to IAM.
    assert [json.loads(json.dumps(one).replace("[", "").replace("]", "")) for one in made] == [
        json.loads(json.dumps(one).replace("[", "").replace("]", "")) for one in printed[-4:]
    ]


def allowed(document: dict[str, Any]) -> dict[str, tuple[str, set[str], set[str]]]:
    """A policy's statements: effect, actions and resources by their ids."""
    return {
        statement["Sid"]: (statement["Effect"], as_set(statement["Action"]), as_set(statement["Resource"]))
        for statement in document["Statement"]
    }
