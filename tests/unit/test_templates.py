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

from template_pairs import CONTROL, GROUP, Pair
from templates import PACKAGING, CloudFormation, Terraform, alike, camel, cloudformation

SCHEDULE = PACKAGING / "cloudformation" / "schedule.yaml"

PAIRS = pytest.mark.parametrize("pair", [GROUP, CONTROL], ids=["group", "control"])


@pytest.mark.parametrize(
    ("pair", "true"),
    [(pair, true) for pair in (GROUP, CONTROL) for true in pair.choices()],
    ids=lambda value: value.module.name if isinstance(value, Pair) else "+".join(sorted(value)) or "defaults",
)
def test_both_make_the_same_resources(pair: Pair, true: frozenset[str]) -> None:
    theirs, ours = pair.of_terraform(true), pair.of_cloudformation(true)
    assert set(theirs) == set(ours)
    for name, resource in ours.items():
        assert theirs[name] == resource, name


@PAIRS
def test_both_take_the_same_parameters(pair: Pair) -> None:
    variables = pair.terraform().named("variable")
    parameters = pair.written()["Parameters"]
    ours = set(parameters) - pair.only_cloudformation
    assert {camel(name) for name in variables} - pair.only_terraform == ours
    for name, variable in variables.items():
        if parameter := parameters.get(camel(name)):
            described = str(variable["description"]).strip('"').replace("$${", "${")
            assert described == parameter["Description"], name
            default = variable.get("default")
            written = "" if default == [] else str(default).strip('"') if default is not None else None
            written = written.lower() if isinstance(default, bool) and written is not None else written
            assert written == (str(parameter["Default"]) if "Default" in parameter else None), name


@PAIRS
def test_limits_of_parameters_are_the_same(pair: Pair) -> None:
    variables = pair.terraform().named("variable")
    for name, parameter in pair.written()["Parameters"].items():
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


@PAIRS
@pytest.mark.parametrize("every", [False, True], ids=["defaults", "everything"])
def test_both_give_the_same_outputs(pair: Pair, *, every: bool) -> None:
    true = frozenset(pair.conditions.values()) if every else frozenset()
    module = pair.terraform(true)
    template = CloudFormation({"Resources": {}}, true)
    given = {
        name: output
        for name, output in pair.written()["Outputs"].items()
        if name not in pair.only_cloudformation and output.get("Condition") in {None, *true}
    }
    for name, output in module.named("output").items():
        if (other := given.pop(camel(name), None)) is None:
            assert "one(" in str(output["value"]), name  # null where its resource is not made
            continue
        assert str(output["description"]).strip('"') == other["Description"]
        if name == "config_toml":
            assert text_of(module, module.value(output["value"])) == template.value(other["Value"])
        else:
            value = str(output["value"]).replace("one(", "").replace("[*]", "").replace(")", "")
            assert module.value(value) == self_of(template, other["Value"]), name
    assert not given


def self_of(template: CloudFormation, value: Any) -> str:
    """A value's reference; the Ref of a managed policy is its ARN."""
    found = str(template.value(value))
    policies = {f"<{name}>": f"<{name}.Arn>" for name in ("Host", "HostTable", "HostScaling", "HostSecrets", "Sender")}
    return policies.get(found, found)


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


@pytest.mark.parametrize("path", sorted(GROUP.module.rglob("*.tf")), ids=lambda path: str(path.relative_to(PACKAGING)))
def test_terraform_is_parsed_by_hashicorps_own_parser(path: Path) -> None:
    assert pygohcl.loads(path.read_text())


@PAIRS
def test_every_variable_is_described_and_every_choice_is_checked(pair: Pair) -> None:
    module = pair.terraform()
    free = {
        "tags",
        "fifo",
        "make_log_group",
        "sender_topics",
        "sender_rules",
        "host_roles",
        "sender_roles",
        "alarm_topics",
    }
    free |= {"notify_topics", "notify_secrets", "deletion_protection"}
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
    conditions = dict.fromkeys(GROUP.conditions, True)
    conditions |= {"each.value.enabled": "IsEnabled" in true, "var.fifo": "IsFifo" in true}
    module = Terraform(GROUP.module, conditions, GROUP.names, EACH)
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
