"""The fleet's stack in the stand-in, and its functions run as Lambda would run them."""

from __future__ import annotations

import json
import subprocess
import sys
import sysconfig
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from aws import client
from fleet import host_environment
from stacks import Stack
from templates import PACKAGING

if TYPE_CHECKING:
    from aws import Aws

BUILD = PACKAGING / "lambda" / "build"
# What Lambda's Python brings, of what is installed here.
BROUGHT = ("boto3", "botocore", "dateutil", "jmespath", "s3transfer", "six.py", "urllib3")

CALL = """\
import importlib, json, sys
sys.path[:0] = sys.argv[1:3]
module, _, name = sys.argv[3].rpartition(".")
handler = getattr(importlib.import_module(module), name)
print(json.dumps(handler(json.load(sys.stdin), None)))
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
    metrics: list[str] = field(default_factory=list)

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
        *logged, answer = done.stdout.splitlines()
        for line in logged:  # CloudWatch's queries read JSON
            if "_aws" in (told := json.loads(line)):
                self.metrics.append(line)
            else:
                assert told["event"]
        return json.loads(answer)


@pytest.fixture
def control(aws: Aws, code: Path) -> Stack:
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
    environment["CRON_RUNNER_AGENT__METRICS"] = "emf"
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
