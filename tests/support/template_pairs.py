"""What each resource of packaging/terraform is in the words of packaging/cloudformation."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from templates import PACKAGING, CloudFormation, Terraform, alike, camel, cloudformation

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

Properties = dict[str, Any]

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
    "aws_iam_role_policy": "AWS::IAM::Policy",
    "aws_cloudwatch_metric_alarm": "AWS::CloudWatch::Alarm",
    "aws_scheduler_schedule_group": "AWS::Scheduler::ScheduleGroup",
    "aws_dynamodb_table": "AWS::DynamoDB::Table",
    "aws_lambda_function": "AWS::Lambda::Function",
    "aws_lambda_permission": "AWS::Lambda::Permission",
    "aws_lambda_event_source_mapping": "AWS::Lambda::EventSourceMapping",
    "aws_lambda_function_event_invoke_config": "AWS::Lambda::EventInvokeConfig",
    "aws_cloudwatch_event_rule": "AWS::Events::Rule",
}
# Properties whose names differ by more than their spelling; None are those that only one of them has, and blocks.
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
    "aws_iam_role_policy": {"name": "PolicyName", "role": "Roles", "policy": "PolicyDocument"},
    "aws_cloudwatch_metric_alarm": {"ok_actions": "OKActions", "metric_query": None},
    "aws_dynamodb_table": {
        "name": "TableName",
        **dict.fromkeys(("hash_key", "range_key", "attribute", "global_secondary_index", "ttl"), None),
        "point_in_time_recovery": None,
    },
    "aws_lambda_function": dict.fromkeys(("filename", "source_code_hash", "environment")),
}


@dataclass(frozen=True, slots=True)
class Pair:
    """A module of Terraform, the template that makes the same, and what is called how in them.

    ``conditions`` are CloudFormation's by what Terraform writes, ``names`` the logical ids by Terraform's addresses.
    What begins with one of ``parts`` belongs to another resource there.
    """

    module: Path
    template: Path
    conditions: Mapping[str, str]
    names: Mapping[str, str]
    parts: tuple[str, ...]
    # Parameters and outputs that only one of them has.
    only_terraform: frozenset[str] = frozenset({"Tags"})
    only_cloudformation: frozenset[str] = frozenset()

    def choices(self) -> list[frozenset[str]]:
        """The conditions that are tried: none, all, and each alone."""
        every = frozenset(self.conditions.values())
        return [
            frozenset(),
            every,
            *(frozenset({name}) for name in sorted(every)),
            *(every - {name} for name in sorted(every)),
        ]

    def terraform(self, true: frozenset[str] = frozenset()) -> Terraform:
        held = {text: name in true for text, name in self.conditions.items()}
        return Terraform(self.module, held, self.names, REFS)

    def written(self) -> dict[str, Any]:
        return cloudformation(self.template)

    def of_cloudformation(self, true: frozenset[str]) -> dict[str, Any]:
        """Type and properties by logical id."""
        found = CloudFormation(self.written(), true).resources()
        return {name: alike((kind, _without_code(properties))) for name, (kind, properties) in found.items()}

    def of_terraform(self, true: frozenset[str]) -> dict[str, Any]:
        """The same of Terraform's resources."""
        module = self.terraform(true)
        return {
            self.names[address]: alike(_plain_arns(self._resource(module, address, body)))
            for address, body in module.addressed("resource").items()
            if not address.startswith(self.parts)
        }

    def _resource(self, module: Terraform, address: str, body: Properties) -> tuple[str, Properties]:
        kind, _, name = address.partition(".")
        names = PROPERTIES.get(kind, {})
        made = {
            mapped: known
            for key, raw in body.items()
            if key not in ("count", "tags", "depends_on")
            and (mapped := names.get(key, camel(key))) is not None
            and (known := module.value(raw)) is not None
        }
        if more := _MORE.get(kind):
            more(module, name, body, made)
        if kind == "aws_iam_policy" and (roles := self._roles(module, name)) is not None:
            made["Roles"] = roles
        return TYPES[kind], made

    def _roles(self, module: Terraform, name: str) -> Any:
        """The roles that a policy is attached to, by a resource of its own in Terraform."""
        attached = module.addressed("resource")[f"aws_iam_role_policy_attachment.{name}"]
        assert module.value(attached["policy_arn"]) == f"<{self.names[f'aws_iam_policy.{name}']}.Arn>"
        roles = re.fullmatch(r"\$\{(var\.\w+)\[count\.index\]\}", attached["role"])
        assert roles is not None
        assert f"length({roles.group(1)})" in attached["count"]
        return module.value(f"${{{roles.group(1)}}}")


def _alarm(module: Terraform, _name: str, body: Properties, made: Properties) -> None:
    if "Dimensions" in made:
        made["Dimensions"] = _dimensions(made["Dimensions"])
    if queries := body.get("metric_query"):
        made["Metrics"] = [_metric(module, query) for query in queries]


def _metric(module: Terraform, query: Properties) -> Properties:
    made = {camel(key): module.value(value) for key, value in query.items() if key != "metric"}
    for inner in query.get("metric", []):
        of = {camel(key): module.value(value) for key, value in inner.items()}
        period, stat = of.pop("Period"), of.pop("Stat")
        metric = of | {"Dimensions": _dimensions(of["Dimensions"])}
        made["MetricStat"] = {"Metric": metric, "Period": period, "Stat": stat}
    return made


def _dimensions(found: Properties) -> list[Properties]:
    return [{"Name": name, "Value": value} for name, value in found.items()]


def _role(module: Terraform, name: str, _body: Properties, made: Properties) -> None:
    inline = module.addressed("resource")[f"aws_iam_role_policy.{name}"]
    document = module.value(inline["policy"])
    made["Policies"] = [{"PolicyName": module.value(inline["name"]), "PolicyDocument": document}]


def _table(module: Terraform, _name: str, body: Properties, made: Properties) -> None:
    def schema(of: Properties) -> list[Properties]:
        return [
            {"AttributeName": module.value(of[key]), "KeyType": kind}
            for key, kind in (("hash_key", "HASH"), ("range_key", "RANGE"))
        ]

    made["AttributeDefinitions"] = [
        {"AttributeName": module.value(one["name"]), "AttributeType": module.value(one["type"])}
        for one in body["attribute"]
    ]
    made["KeySchema"] = schema(body)
    made["GlobalSecondaryIndexes"] = [
        {
            "IndexName": module.value(one["name"]),
            "KeySchema": schema(one),
            "Projection": {"ProjectionType": module.value(one["projection_type"])},
        }
        for one in body["global_secondary_index"]
    ]
    (ttl,), (recovery,) = body["ttl"], body["point_in_time_recovery"]
    made["TimeToLiveSpecification"] = {camel(key): module.value(value) for key, value in ttl.items()}
    made["PointInTimeRecoverySpecification"] = {"PointInTimeRecoveryEnabled": module.value(recovery["enabled"])}


def _function(module: Terraform, _name: str, body: Properties, made: Properties) -> None:
    made["Environment"] = {"Variables": module.value(body["environment"][0]["variables"])}


def _rule(module: Terraform, name: str, _body: Properties, made: Properties) -> None:
    target = module.addressed("resource")[f"aws_cloudwatch_event_target.{name}"]
    made["Targets"] = [{"Id": module.value(target["target_id"]), "Arn": module.value(target["arn"])}]


def _source(_module: Terraform, _name: str, _body: Properties, made: Properties) -> None:
    made["ScalingConfig"] = {camel(key): value for one in made["ScalingConfig"] for key, value in one.items()}


_MORE: dict[str, Callable[[Terraform, str, Properties, Properties], None]] = {
    "aws_cloudwatch_metric_alarm": _alarm,
    "aws_iam_role": _role,
    "aws_dynamodb_table": _table,
    "aws_lambda_function": _function,
    "aws_lambda_event_source_mapping": _source,
    "aws_cloudwatch_event_rule": _rule,
}


def _without_code(properties: Properties) -> Properties:
    """The code comes from a bucket here and from a file there."""
    return {key: value for key, value in properties.items() if key != "Code"}


def _plain_arns(value: tuple[str, Properties]) -> tuple[str, Properties]:
    """CloudFormation's ARN of a log group ends in :*, Terraform's does not."""
    kind, properties = value
    return kind, json.loads(json.dumps(properties).replace("Log.Arn>:*", "Log.Arn>"))


GROUP = Pair(
    PACKAGING / "terraform",
    PACKAGING / "cloudformation" / "group.yaml",
    conditions={
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
        "var.make_log_group": "MakesLogGroup",
        'var.table != ""': "HasTable",
        'var.auto_scaling_group != ""': "HasAutoScalingGroup",
        'var.secrets_path != ""': "HasSecretsPath",
        'var.recorder != ""': "HasRecorder",
    },
    names={
        "aws_sqs_queue.jobs": "Jobs",
        "aws_sqs_queue.dead_letters": "DeadLetters",
        "aws_sqs_queue.results": "Results",
        "aws_sqs_queue.results_dead_letters": "ResultsDeadLetters",
        "aws_sqs_queue.schedule_dead_letters": "ScheduleDeadLetters",
        "aws_sqs_queue_policy.jobs": "JobsPolicy",
        "aws_sqs_queue_policy.dead_letters": "DeadLettersPolicy",
        "aws_sqs_queue_policy.results": "ResultsPolicy",
        "aws_sqs_queue_policy.results_dead_letters": "ResultsDeadLettersPolicy",
        "aws_sqs_queue_policy.schedule_dead_letters": "ScheduleDeadLettersPolicy",
        "aws_cloudwatch_log_group.output": "Output",
        "aws_iam_policy.host": "Host",
        "aws_iam_policy.host_table": "HostTable",
        "aws_iam_policy.host_scaling": "HostScaling",
        "aws_iam_policy.host_secrets": "HostSecrets",
        "aws_iam_policy.sender": "Sender",
        "aws_iam_role.scheduler": "SchedulerRole",
        "aws_lambda_event_source_mapping.recorder_source": "RecorderSource",
        "aws_cloudwatch_metric_alarm.jobs_wait_too_long": "JobsWaitTooLong",
        "aws_cloudwatch_metric_alarm.dead_letters_arrived": "DeadLettersArrived",
        "aws_cloudwatch_metric_alarm.results_not_taken": "ResultsNotTaken",
        "aws_cloudwatch_metric_alarm.results_wait_too_long": "ResultsWaitTooLong",
        "aws_cloudwatch_metric_alarm.schedules_failed": "SchedulesFailed",
        "aws_scheduler_schedule_group.schedules": "Schedules",
    },
    parts=("aws_iam_role_policy.", "aws_iam_role_policy_attachment.", "aws_scheduler_schedule."),
    # Terraform can repeat a resource; CloudFormation has a template for one schedule. Tags are the stack's there.
    only_terraform=frozenset({"Schedules", "Tags"}),
    only_cloudformation=frozenset({"Scheduler", "ScheduleGroup", "SchedulerRoleArn", "ScheduleDeadLettersArn"}),
)
CONTROL = Pair(
    PACKAGING / "terraform" / "control",
    PACKAGING / "cloudformation" / "control.yaml",
    conditions={
        "length(var.notify_topics) > 0": "HasNotifyTopics",
        "length(var.notify_secrets) > 0": "HasNotifySecrets",
        "length(var.alarm_topics) > 0": "HasAlarmTopics",
    },
    names={
        "aws_dynamodb_table.table": "Table",
        "aws_cloudwatch_log_group.scheduler_log": "SchedulerLog",
        "aws_cloudwatch_log_group.recorder_log": "RecorderLog",
        "aws_iam_role.scheduler_role": "SchedulerRole",
        "aws_iam_role.recorder_role": "RecorderRole",
        "aws_iam_role_policy.scheduler_topics": "SchedulerTopics",
        "aws_iam_role_policy.scheduler_secrets": "SchedulerSecrets",
        "aws_lambda_function.scheduler": "Scheduler",
        "aws_lambda_function.recorder": "Recorder",
        "aws_cloudwatch_event_rule.every_minute": "EveryMinute",
        "aws_lambda_permission.every_minute_permission": "EveryMinutePermission",
        "aws_lambda_function_event_invoke_config.scheduler_tries": "SchedulerTries",
        "aws_cloudwatch_metric_alarm.scheduler_fails": "SchedulerFails",
        "aws_cloudwatch_metric_alarm.scheduler_sleeps": "SchedulerSleeps",
        "aws_cloudwatch_metric_alarm.recorder_fails": "RecorderFails",
    },
    parts=("aws_iam_role_policy.scheduler_role", "aws_iam_role_policy.recorder_role", "aws_cloudwatch_event_target."),
    only_terraform=frozenset({"Code", "Tags"}),
    only_cloudformation=frozenset({"CodeBucket", "CodeKey"}),
)
