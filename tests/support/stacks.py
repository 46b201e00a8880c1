"""Stacks of the CloudFormation templates in the stand-in."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from aws import client
from templates import PACKAGING

if TYPE_CHECKING:
    from aws import Aws


class Stack:
    """A stack of `packaging/cloudformation/TEMPLATE.yaml`; ``outputs`` by their names."""

    def __init__(self, aws: Aws, template: str, name: str, **parameters: str) -> None:
        self.aws = aws
        self.name = name
        body = (PACKAGING / "cloudformation" / f"{template}.yaml").read_text()
        given = [{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()]
        made = client("cloudformation", aws.endpoint)
        made.create_stack(StackName=name, TemplateBody=body, Parameters=given, Capabilities=["CAPABILITY_IAM"])
        described = made.describe_stacks(StackName=name)["Stacks"][0]
        made.close()
        assert described["StackStatus"] == "CREATE_COMPLETE"
        # The stand-in names queues by AWS's own address, at which they are not.
        self.outputs: dict[str, str] = {
            output["OutputKey"]: re.sub(r"https://sqs\.[a-z0-9-]+\.amazonaws\.com", aws.endpoint, output["OutputValue"])
            for output in described["Outputs"]
        }

    def attributes(self, queue: str) -> dict[str, Any]:
        """All attributes of a queue, by the name of the output that has its URL."""
        answer = self.aws.sqs.get_queue_attributes(QueueUrl=self.outputs[queue], AttributeNames=["All"])
        return dict(answer["Attributes"])

    def policy(self, output: str) -> dict[str, Any]:
        """A managed policy's document, by the name of the output that has its ARN."""
        iam = client("iam", self.aws.endpoint)
        arn = self.outputs[output]
        version = iam.get_policy(PolicyArn=arn)["Policy"]["DefaultVersionId"]
        found = iam.get_policy_version(PolicyArn=arn, VersionId=version)["PolicyVersion"]["Document"]
        iam.close()
        return dict(found)
