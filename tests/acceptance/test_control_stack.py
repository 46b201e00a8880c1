"""The fleet's stack and the functions' code, deployed."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from typing import TYPE_CHECKING

import pytest

from runner.aws.permissions import agent_policy
from runner.config import load
from runner.protocol.table import EXPIRES, definition

from aws import REGION, client
from lambdas import BUILD, group
from templates import PACKAGING, cloudformation

if TYPE_CHECKING:
    from pathlib import Path

    from aws import Aws
    from stacks import Stack


def test_the_code_is_the_same_bytes_each_time_and_holds_no_agent(code: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.zip"
    subprocess.run([sys.executable, str(BUILD), str(again)], check=True, capture_output=True, timeout=110)
    assert again.read_bytes() == code.read_bytes()
    assert code.stat().st_size < 3_000_000
    names = zipfile.ZipFile(code).namelist()
    rooms = {name.split("/")[1] for name in names if name.startswith("runner/")}
    assert rooms == {"__init__.py", "deferred.py", "errors.py", "protocol", "aws", "control"}
    assert not [name for name in names if name.endswith((".so", ".pyc"))]


@pytest.mark.usefixtures("control")
def test_the_table_is_the_one_that_the_product_defines(aws: Aws) -> None:
    dynamo = client("dynamodb", aws.endpoint)
    table = dynamo.describe_table(TableName="cron-fleet")["Table"]
    wanted = definition("cron-fleet")
    assert table["KeySchema"] == wanted["KeySchema"]
    assert by_name(table["AttributeDefinitions"]) == by_name(wanted["AttributeDefinitions"])
    assert table["BillingModeSummary"]["BillingMode"] == wanted["BillingMode"]
    for there, here in zip(table["GlobalSecondaryIndexes"], wanted["GlobalSecondaryIndexes"], strict=True):
        assert {key: there[key] for key in here} == here
    dynamo.close()
    # The stand-in leaves this property out.
    template = cloudformation(PACKAGING / "cloudformation" / "control.yaml")
    ttl = template["Resources"]["Table"]["Properties"]["TimeToLiveSpecification"]
    assert ttl == {"AttributeName": EXPIRES, "Enabled": True}


def by_name(found: list[dict[str, str]]) -> list[dict[str, str]]:
    return sorted(found, key=lambda one: one["AttributeName"])


def test_the_results_of_a_group_go_to_the_recorder_by_the_message(aws: Aws, control: Stack) -> None:
    stack = group(aws, control)
    functions = client("lambda", aws.endpoint)
    (source,) = functions.list_event_source_mappings()["EventSourceMappings"]
    assert source["EventSourceArn"] == stack.outputs["ResultsArn"]
    assert source["FunctionArn"].startswith(control.outputs["RecorderArn"])
    # What fails of a batch comes again alone, where the function says which that was.
    template = (PACKAGING / "cloudformation" / "group.yaml").read_text()
    assert "FunctionResponseTypes: [ReportBatchItemFailures]" in template
    recorder = functions.get_function_configuration(FunctionName="cron-fleet-recorder")
    visibility = int(stack.attributes("ResultsUrl")["VisibilityTimeout"])
    assert visibility >= 6 * recorder["Timeout"]
    functions.close()


def test_a_minute_calls_the_scheduler(aws: Aws, control: Stack) -> None:
    events = client("events", aws.endpoint)
    (rule,) = events.list_rules()["Rules"]
    assert (rule["ScheduleExpression"], rule["State"]) == ("rate(1 minute)", "ENABLED")
    (target,) = events.list_targets_by_rule(Rule=rule["Name"])["Targets"]
    assert target["Arn"] == control.outputs["SchedulerArn"]
    events.close()


def test_hosts_of_a_fleet_get_the_table_and_a_heartbeat(aws: Aws, control: Stack, tmp_path: Path) -> None:
    stack = group(aws, control)
    path = tmp_path / "config.toml"
    path.write_text(stack.outputs["ConfigToml"])
    config = load(path, {})
    assert config.fleet.table == "cron-fleet"
    assert config.results.heartbeat == 60.0
    (statement,) = stack.policy("HostTablePolicyArn")["Statement"]
    assert statement["Resource"] == control.outputs["TableArn"]
    assert statement["Condition"] == {"ForAllValues:StringLike": {"dynamodb:LeadingKeys": "web#*"}}
    # The two policies of a host are together what check prints.
    printed = agent_policy(config, region=REGION)["Statement"]
    assert printed == [
        {**one, "Action": one["Action"] if isinstance(one["Action"], list) else [one["Action"]]}
        for one in [*stack.policy("HostPolicyArn")["Statement"], statement]
    ]
