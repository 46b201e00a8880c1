"""The fleet's stack and the functions' code: deployed, and run as Lambda would run them."""

from __future__ import annotations

import json
import subprocess
import sys
import sysconfig
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from runner.config import load
from runner.protocol.table import EXPIRES, definition

from aws import client
from fleet import host_environment
from stacks import Stack
from templates import PACKAGING, cloudformation

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aws import Aws

BUILD = PACKAGING / "lambda" / "build"
# What Lambda's Python brings, of what is installed here.
BROUGHT = ("boto3", "botocore", "dateutil", "jmespath", "s3transfer", "six.py", "urllib3")

CALL = """\
import importlib, json, sys
sys.path[:0] = sys.argv[1:3]
module, _, name = sys.argv[3].rpartition(".")
handler = getattr(importlib.import_module(module), name)
json.dump(handler(json.load(sys.stdin), None), sys.stdout)
"""


@pytest.fixture(scope="session")
def code(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The functions' code as it is shipped."""
    made = tmp_path_factory.mktemp("lambda") / "control.zip"
    subprocess.run([sys.executable, str(BUILD), str(made)], check=True, capture_output=True, timeout=110)
    return made


@dataclass(slots=True)
class Lambda:
    """Calls the handlers of the code with nothing around them but what Lambda brings."""

    code: Path
    brought: Path
    environment: dict[str, str]

    def call(self, handler: str, event: object) -> Any:
        command = [sys.executable, "-I", "-S", "-W", "error::ImportWarning", "-c", CALL]
        done = subprocess.run(
            [*command, str(self.code), str(self.brought), handler],
            env=self.environment,
            input=json.dumps(event),
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)


@pytest.fixture
def control(aws: Aws, code: Path) -> Iterator[Stack]:
    """The fleet's stack."""
    store = client("s3", aws.endpoint)
    store.create_bucket(Bucket="code", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    store.put_object(Bucket="code", Key="control-1.zip", Body=code.read_bytes())
    store.close()
    return Stack(aws, "control", "cron-fleet", Name="cron-fleet", CodeBucket="code", CodeKey="control-1.zip")


@pytest.fixture
def functions(aws: Aws, control: Stack, code: Path, tmp_path: Path) -> Lambda:
    brought = tmp_path / "brought"
    brought.mkdir()
    installed = Path(sysconfig.get_path("purelib"))
    for name in BROUGHT:
        (brought / name).symlink_to(installed / name)
    environment = host_environment(aws.endpoint) | {"CRON_RUNNER_FLEET__TABLE": control.outputs["TableName"]}
    return Lambda(code, brought, environment)


def group(aws: Aws, control: Stack) -> Stack:
    """A group that is part of the fleet."""
    return Stack(
        aws,
        "group",
        "cron-runner-web",
        Group="web",
        Table=control.outputs["TableName"],
        Recorder=control.outputs["RecorderArn"],
    )


def test_the_code_is_the_same_bytes_each_time_and_holds_no_agent(code: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.zip"
    subprocess.run([sys.executable, str(BUILD), str(again)], check=True, capture_output=True, timeout=110)
    assert again.read_bytes() == code.read_bytes()
    assert code.stat().st_size < 3_000_000
    names = zipfile.ZipFile(code).namelist()
    rooms = {name.split("/")[1] for name in names if name.startswith("runner/")}
    assert rooms == {"__init__.py", "errors.py", "protocol", "aws", "control"}
    assert not [name for name in names if name.endswith((".so", ".pyc"))]


def test_the_table_is_the_one_that_the_product_defines(aws: Aws, control: Stack) -> None:
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
