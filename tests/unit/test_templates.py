"""Terraform and CloudFormation describe the same infrastructure, and CloudFormation's is valid."""

from __future__ import annotations

import json
import re
import subprocess
import sysconfig
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pygohcl
import pytest

from runner.protocol import parse_message

from templates import PACKAGING, CloudFormation, Terraform, alike, camel, cloudformation

MODULE = PACKAGING / "terraform"
GROUP = PACKAGING / "cloudformation" / "group.yaml"
SCHEDULE = PACKAGING / "cloudformation" / "schedule.yaml"

# The conditions of both, as Terraform writes them.
CONDITIONS = {
    "var.fifo": "IsFifo",
    "length(var.sender_principals) > 0": "HasSenderPrincipals",
    'var.sender_organization != ""': "HasSenderOrganization",
    "length(var.sender_topics) > 0": "HasSenderTopics",
    "length(var.sender_rules) > 0": "HasSenderRules",
    "length(var.schedules) > 0": "HasScheduler",
    "length(var.host_roles) > 0": "HasHostRoles",
    "length(var.sender_roles) > 0": "HasSenderRoles",
    "length(var.alarm_topics) > 0": "HasAlarmTopics",
    "var.max_results_age > 0": "WatchesResults",
}
CHOICES = [
    frozenset(),
    frozenset(CONDITIONS.values()),
    frozenset(CONDITIONS.values()) - {"HasSenderOrganization"},
    *(frozenset({name}) for name in CONDITIONS.values()),
]
NAMES = {
    "aws_sqs_queue.jobs": "Jobs",
    "aws_sqs_queue.dead_letters": "DeadLetters",
    "aws_sqs_queue.results": "Results",
    "aws_sqs_queue.schedule_dead_letters": "ScheduleDeadLetters",
    "aws_sqs_queue_policy.jobs": "JobsPolicy",
    "aws_sqs_queue_policy.dead_letters": "DeadLettersPolicy",
    "aws_sqs_queue_policy.results": "ResultsPolicy",
    "aws_sqs_queue_policy.schedule_dead_letters": "ScheduleDeadLettersPolicy",
    "aws_cloudwatch_log_group.output": "Output",
    "aws_iam_policy.host": "Host",
    "aws_iam_policy.sender": "Sender",
    "aws_iam_role.scheduler": "SchedulerRole",
    "aws_cloudwatch_metric_alarm.jobs_wait_too_long": "JobsWaitTooLong",
    "aws_cloudwatch_metric_alarm.dead_letters_arrived": "DeadLettersArrived",
    "aws_cloudwatch_metric_alarm.results_wait_too_long": "ResultsWaitTooLong",
    "aws_cloudwatch_metric_alarm.schedules_failed": "SchedulesFailed",
    "aws_scheduler_schedule_group.schedules": "Schedules",
}
# What belongs to another resource there.
PARTS = ("aws_iam_role_policy.", "aws_iam_role_policy_attachment.", "aws_scheduler_schedule.")
REFS = {
    "data.aws_partition.here.partition": "<AWS::Partition>",
    "data.aws_region.here.id": "<AWS::Region>",
    "data.aws_caller_identity.here.account_id": "<AWS::AccountId>",
}
TYPES = {
    "aws_sqs_queue": "AWS::SQS::Queue",
    "aws_sqs_queue_policy": "AWS::SQS::QueuePolicy",
    "aws_cloudwatch_log_group": "AWS::Logs::LogGroup",
    "aws_iam_policy": "AWS::IAM::ManagedPolicy",
    "aws_iam_role": "AWS::IAM::Role",
    "aws_cloudwatch_metric_alarm": "AWS::CloudWatch::Alarm",
    "aws_scheduler_schedule_group": "AWS::Scheduler::ScheduleGroup",
}
# Properties whose names differ by more than their spelling; None are those that only one of them has.
PROPERTIES: dict[str, dict[str, str | None]] = {
    "aws_sqs_queue": {
        "name": "QueueName",
        "visibility_timeout_seconds": "VisibilityTimeout",
        "message_retention_seconds": "MessageRetentionPeriod",
        "receive_wait_time_seconds": "ReceiveMessageWaitTimeSeconds",
        "sqs_managed_sse_enabled": "SqsManagedSseEnabled",
    },
    "aws_sqs_queue_policy": {"queue_url": "Queues", "policy": "PolicyDocument"},
    "aws_cloudwatch_log_group": {"name": "LogGroupName"},
    "aws_iam_policy": {"name_prefix": None, "policy": "PolicyDocument"},
    "aws_iam_role": {"name_prefix": None, "assume_role_policy": "AssumeRolePolicyDocument"},
    "aws_cloudwatch_metric_alarm": {"ok_actions": "OKActions", "metric_query": None},
}


def terraform(true: frozenset[str]) -> Terraform:
    return Terraform(MODULE, {text: name in true for text, name in CONDITIONS.items()}, NAMES, REFS)


def dimensions(found: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"Name": name, "Value": value} for name, value in found.items()]


def metric(module: Terraform, query: dict[str, Any]) -> dict[str, Any]:
    made = {camel(key): module.value(value) for key, value in query.items() if key != "metric"}
    for inner in query.get("metric", []):
        of = {camel(key): module.value(value) for key, value in inner.items()}
        period, stat = of.pop("Period"), of.pop("Stat")
        made["MetricStat"] = {
            "Metric": of | {"Dimensions": dimensions(of["Dimensions"])},
            "Period": period,
            "Stat": stat,
        }
    return made


def in_cloudformations_words(module: Terraform, address: str, body: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """A resource of Terraform as CloudFormation would have it."""
    kind, _, name = address.partition(".")
    names = PROPERTIES.get(kind, {})
    made = {
        mapped: known
        for key, raw in body.items()
        if key not in ("count", "tags")
        and (mapped := names.get(key, camel(key))) is not None
        and (known := module.value(raw)) is not None
    }
    if "Dimensions" in made:
        made["Dimensions"] = dimensions(made["Dimensions"])
    if queries := body.get("metric_query"):
        made["Metrics"] = [metric(module, query) for query in queries]
    if kind == "aws_iam_role":
        inline = module.addressed("resource")[f"aws_iam_role_policy.{name}"]
        made["Policies"] = [
            {"PolicyName": module.value(inline["name"]), "PolicyDocument": module.value(inline["policy"])}
        ]
    if kind == "aws_iam_policy":
        attached = module.addressed("resource")[f"aws_iam_role_policy_attachment.{name}"]
        assert module.value(attached["policy_arn"]) == f"<{NAMES[address]}.Arn>"
        roles = re.fullmatch(r"\$\{(var\.\w+)\[count\.index\]\}", attached["role"])
        assert roles is not None
        assert attached["count"] == f"${{length({roles.group(1)})}}"
        if (known := module.value(f"${{{roles.group(1)}}}")) is not None:
            made["Roles"] = known
    return TYPES[kind], made


@pytest.mark.parametrize("true", CHOICES, ids=lambda true: "+".join(sorted(true)) or "defaults")
def test_both_make_the_same_resources(true: frozenset[str]) -> None:
    module = terraform(true)
    theirs = {
        NAMES[address]: alike(in_cloudformations_words(module, address, body))
        for address, body in module.addressed("resource").items()
        if not address.startswith(PARTS)
    }
    ours = {name: alike(found) for name, found in CloudFormation(cloudformation(GROUP), true).resources().items()}
    assert set(theirs) == set(ours)
    for name, resource in ours.items():
        assert theirs[name] == resource, name


def test_both_take_the_same_parameters() -> None:
    variables = terraform(frozenset()).named("variable")
    parameters = cloudformation(GROUP)["Parameters"]
    # Terraform can repeat a resource; CloudFormation has a template for one schedule. Tags are the stack's there.
    assert {camel(name) for name in variables} - {"Schedules", "Tags"} == set(parameters) - {"Scheduler"}
    for name, variable in variables.items():
        if parameter := parameters.get(camel(name)):
            described = str(variable["description"]).strip('"')
            assert described == parameter["Description"], name
            default = variable.get("default")
            written = "" if default in ([], '""') else str(default).lower() if default is not None else None
            assert written == (str(parameter["Default"]) if "Default" in parameter else None), name


def test_limits_of_parameters_are_the_same() -> None:
    variables = terraform(frozenset()).named("variable")
    for name, parameter in cloudformation(GROUP)["Parameters"].items():
        rules = " ".join(
            str(rule["condition"])
            for variable, body in variables.items()
            if camel(variable) == name
            for rule in body.get("validation", [])
        )
        for limit in ("MinValue", "MaxValue"):
            assert str(parameter.get(limit, "")) in rules, (name, limit)
        for allowed in parameter.get("AllowedValues", []):
            assert allowed in ("true", "false") or re.search(rf"\b{allowed}\b", rules), (name, allowed)
        if pattern := parameter.get("AllowedPattern"):
            assert pattern in rules, name


def test_both_give_the_same_outputs() -> None:
    module = terraform(frozenset())
    given = cloudformation(GROUP)["Outputs"]
    template = CloudFormation({"Resources": {}})
    for name, output in module.named("output").items():
        other = given.pop(camel(name))
        assert str(output["description"]).strip('"') == other["Description"]
        if name != "config_toml":
            assert module.value(output["value"]) == self_of(template, other["Value"])
        else:
            assert text_of(module, str(output["value"])) == template.value(other["Value"])
    # What schedule.yaml takes; Terraform makes the schedules itself.
    assert all(output.get("Condition") == "HasScheduler" for output in given.values())


def self_of(template: CloudFormation, value: Any) -> str:
    """A value's reference; the Ref of a managed policy is its ARN."""
    found = str(template.value(value))
    return {"<Host>": "<Host.Arn>", "<Sender>": "<Sender.Arn>"}.get(found, found)


def text_of(module: Terraform, heredoc: str) -> str:
    """An indented heredoc's text."""
    lines = heredoc.strip('"').split("\n")[1:-1]
    indent = min(len(line) - len(line.lstrip()) for line in lines if line.strip())
    text = "\n".join(line[indent:] for line in lines) + "\n"
    return re.sub(r"\$\{([^}]+)\}", lambda found: str(module.value(found.group(0))), text)


@pytest.mark.parametrize("path", sorted(PACKAGING.glob("cloudformation/*.yaml")), ids=lambda path: path.name)
def test_cloudformation_is_valid(path: Path) -> None:
    lint = Path(sysconfig.get_path("scripts")) / "cfn-lint"
    done = subprocess.run([str(lint), "--", str(path)], capture_output=True, text=True, check=False, timeout=110)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", sorted(MODULE.rglob("*.tf")), ids=lambda path: str(path.relative_to(MODULE)))
def test_terraform_is_parsed_by_hashicorps_own_parser(path: Path) -> None:
    assert pygohcl.loads(path.read_text())


def test_every_variable_is_described_and_every_choice_is_checked() -> None:
    module = terraform(frozenset())
    free = {"tags", "fifo", "sender_topics", "sender_rules", "host_roles", "sender_roles", "alarm_topics"}
    for name, variable in module.named("variable").items():
        assert variable.get("description"), name
        assert variable.get("type"), name
        assert name in free or variable.get("validation"), name


EACH = {
    "each.key": "<Job>",
    "each.value.schedule": "<Schedule>",
    "each.value.timezone": "<Timezone>",
    "aws_sqs_queue.jobs.arn": "<JobsArn>",
    "aws_sqs_queue.schedule_dead_letters.arn": "<ScheduleDeadLettersArn>",
    "aws_iam_role.scheduler.arn": "<SchedulerRoleArn>",
    "aws_scheduler_schedule_group.schedules.name": "<ScheduleGroup>",
}


@pytest.mark.parametrize("true", [frozenset(), frozenset({"IsEnabled", "IsFifo"})], ids=["off", "on, FIFO"])
def test_both_make_the_same_schedule(true: frozenset[str]) -> None:
    ours = CloudFormation(cloudformation(SCHEDULE), true).resources()["JobSchedule"][1]
    conditions = dict.fromkeys(CONDITIONS, True)
    conditions |= {"each.value.enabled": "IsEnabled" in true, "var.fifo": "IsFifo" in true}
    module = Terraform(MODULE, conditions, NAMES, EACH)
    body = dict(module.addressed("resource")["aws_scheduler_schedule.job"])
    target = dict(body.pop("target")[0])
    sent = json.loads(ours["Target"].pop("Input"))
    encoded = re.search(r"merge\(jsondecode\(each\.value\.message\), (\{.*?\n?\})\)", target.pop("input"), re.DOTALL)
    assert encoded is not None
    assert module.value(f"${{jsonencode({encoded.group(1)})}}") == sent

    theirs = {camel(key): module.value(value) for key, value in body.items() if key not in ("for_each", "depends_on")}
    theirs["Target"] = {camel(key): module.value(value) for key, value in target.items() if key != "dynamic"}
    if fifo := module.repeated(target, "sqs_parameters"):
        theirs["Target"]["SqsParameters"] = module.value(fifo)
    assert alike(capitalised(theirs)) == alike(ours)


def capitalised(value: Any) -> Any:
    """Every name in a value as CloudFormation writes it."""
    if isinstance(value, dict):
        return {camel(key) if "_" in key or key.islower() else key: capitalised(item) for key, item in value.items()}
    return [capitalised(item) for item in value] if isinstance(value, list) else value


@pytest.mark.parametrize("fields", ["", '"command": ["/srv/app/bin/nightly", "<a>"], "timeout": "2h"'])
def test_a_schedule_sends_a_job_message_that_names_its_run(fields: str) -> None:
    template = CloudFormation(cloudformation(SCHEDULE), frozenset({"HasFields"} if fields else ()))
    written = template.resources()["JobSchedule"][1]["Target"]["Input"]
    body = written.replace("<Job>", "nightly").replace("<Fields>", fields)
    body = body.replace("<aws.scheduler.scheduled-time>", "2030-01-01T03:00:00Z")
    message = parse_message(body)
    assert (message.job, message.run_id) == ("nightly", "nightly-2030-01-01T03-00-00Z")
    assert message.scheduled_at == datetime(2030, 1, 1, 3, tzinfo=UTC).timestamp()
    if fields:
        assert (message.command, message.timeout) == (("/srv/app/bin/nightly", "<a>"), 7200.0)
