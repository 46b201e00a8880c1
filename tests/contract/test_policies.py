"""The IAM policies that `check --iam-policy` prints, word for word, and that they name just what the agent calls."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from runner.aws.permissions import (
    DEAD_LETTER_PLACEHOLDER,
    agent_policy,
    partition_of,
    queue_arn,
    reader_policy,
    sender_policy,
    web_policy,
)
from runner.config import Agent, CloudWatch, Config, Output, Queue, Results
from runner.config.sections import Fleet, Run
from runner.protocol.message import parse_declaration

GOLDEN = Path(__file__).parent / "policies"
BASE = "https://sqs.eu-west-1.amazonaws.com/123456789012"
SMALLEST = Config(group="web", queue=Queue(url=f"{BASE}/cron-web"))
EVERYTHING = Config(
    group="web",
    queue=Queue(name="cron-web.fifo", dead_letter_url=f"{BASE}/cron-dead"),
    results=Results(name="cron-results"),
    output=Output(sinks=("cloudwatch", "journald"), cloudwatch=CloudWatch(log_group="/jobs/{group}/all")),
    agent=Agent(cloudwatch_log_group="/agents"),
    fleet=Fleet(table="cron-fleet", notices=True, lifecycle_hook="web/drain"),
)
LOCAL = replace(SMALLEST, results=Results(url=f"{BASE}/cron-results"), output=Output(sinks=("journald",)))
KEY = "arn:aws:kms:eu-west-1:123456789012:key/0123"
ARN = "arn:aws:secretsmanager:eu-west-1:123456789012:secret"
NAMED = {
    "A": "ssm:/prod/db:3",
    "B": "ssm:plain",
    "C": "ssm:arn:aws:ssm:eu-west-1:210987654321:parameter/shared/x:2",
    "D": "secretsmanager:prod/api#key",
    "E": f"secretsmanager:{ARN}:prod/other-AbCdEf#a",
    "F": f"secretsmanager:{ARN}:prod/short",
}
SECRETS = replace(
    LOCAL,
    jobs={"report": parse_declaration("report", {"command": "true", "secrets": NAMED})},
    run=Run(allowed_secrets=("ssm:/web/[ab]*", "secretsmanager:web/*")),
)

POLICIES: dict[str, dict[str, Any]] = {
    "agent_smallest": agent_policy(SMALLEST),
    "agent_everything": agent_policy(EVERYTHING, region="eu-west-1", kms_keys=[KEY]),
    "agent_secrets": agent_policy(SECRETS),
    "agent_secrets_key": agent_policy(SECRETS, secret_keys=[KEY]),
    "agent_local": agent_policy(LOCAL, dead_letter_arn="arn:aws:sqs:eu-west-1:123456789012:cron-dead"),
    "sender": sender_policy(SMALLEST),
    "sender_by_name": sender_policy(EVERYTHING, region="eu-west-1", account="123456789012", kms_keys=[KEY]),
    "web": web_policy(EVERYTHING, region="eu-west-1", account="123456789012"),
    "reader": reader_policy(EVERYTHING, region="eu-west-1"),
}


@pytest.mark.parametrize("name", POLICIES)
def test_policies(name: str) -> None:
    golden = GOLDEN / f"{name}.json"
    assert POLICIES[name] == json.loads(golden.read_text())


def test_every_golden_policy_is_tested() -> None:
    assert {path.stem for path in GOLDEN.glob("*.json")} == set(POLICIES)


def actions(document: dict[str, Any]) -> set[str]:
    return {action for statement in document["Statement"] for action in statement["Action"]}


def test_a_policy_allows_nothing_by_pattern_and_no_resource_is_everything() -> None:
    for document in POLICIES.values():
        assert not [action for action in actions(document) if "*" in action]
        for statement in document["Statement"]:
            resources = statement["Resource"]
            for arn in [resources] if isinstance(resources, str) else resources:
                assert arn.split(":", 5)[5] not in ("", "*")


def test_the_target_of_the_redrive_policy_is_asked_for_where_it_is_not_known() -> None:
    assert DEAD_LETTER_PLACEHOLDER in json.dumps(POLICIES["agent_smallest"])
    for name in ("agent_everything", "agent_local"):
        assert DEAD_LETTER_PLACEHOLDER not in json.dumps(POLICIES[name])


@pytest.mark.parametrize(
    ("url", "name", "arn"),
    [
        (f"{BASE}/cron-web", "", "arn:aws:sqs:eu-west-1:123456789012:cron-web"),
        ("", "cron-web", "arn:aws:sqs:*:*:cron-web"),
        ("https://sqs.cn-north-1.amazonaws.com.cn/1/q", "", "arn:aws-cn:sqs:cn-north-1:1:q"),
        ("https://vpce-1.sqs.us-gov-west-1.vpce.amazonaws.com/1/q", "", "arn:aws-us-gov:sqs:us-gov-west-1:1:q"),
        ("http://127.0.0.1:5000/1/q.fifo", "", "arn:aws:sqs:*:1:q.fifo"),
        ("https://queue.example/q", "", "arn:aws:sqs:*:*:q"),
    ],
)
def test_the_arn_of_a_queue(url: str, name: str, arn: str) -> None:
    assert queue_arn(url, name) == arn


def test_partitions() -> None:
    assert [partition_of(region) for region in ("eu-west-1", "cn-north-1", "us-gov-east-1", "eusc-de-east-1", "*")] == [
        "aws",
        "aws-cn",
        "aws-us-gov",
        "aws-eusc",
        "aws",
    ]
