"""`cron-runner check` as an operator types it: what it says, what it leaves behind, and what it leaves alone."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from runner.check.finding import Finding
from runner.protocol import table as keys

from aws import client
from faults import Proxy
from fleet import COMMAND
from waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from fleet import Fleet, Host

pytestmark = pytest.mark.timeout(120)
standin = pytest.mark.parametrize("aws_server", ["standin"], indirect=True)

AWS_LINES = ("credentials", "queue", "redrive", "retention", "dead-letter", "results", "output", "agent-log", "clock")
LOCAL_LINES = {"supervisor", "cgroup", "user", "state", "runtime", "disk", "journal", "agent", "files"}

ALL_WELL = """\
ok       credentials   arn:aws:sts::123456789012:user/moto, from env
ok       queue         GetQueueAttributes on arn:aws:sqs:eu-west-1:123456789012:test-jobs is allowed
ok       queue         ReceiveMessage on AWS/123456789012/test-jobs is allowed: took nothing
ok       queue         DeleteMessage on AWS/123456789012/test-jobs is allowed
ok       queue         ChangeMessageVisibility on AWS/123456789012/test-jobs is allowed
ok       redrive       to test-dead after maxReceiveCount 5, up to 3 hand-backs to other hosts
ok       retention     the queue keeps messages for 4d
ok       dead-letter   SendMessage on AWS/123456789012/test-dead is allowed
ok       results       SendMessage on AWS/123456789012/test-results is allowed
ok       output        CreateLogGroup is allowed: /cron-runner/test was missing and is there now
ok       output        PutRetentionPolicy on /cron-runner/test is allowed: 30 days
ok       output        CreateLogStream in /cron-runner/test is allowed
ok       output        PutLogEvents to /cron-runner/test is allowed: one line in its stream ~check/HOST
ok       agent-log     CreateLogGroup is allowed: /agents was missing and is there now
ok       agent-log     CreateLogStream in /agents is allowed
ok       agent-log     PutLogEvents to /agents is allowed: one line in its stream ~check/HOST
ok       clock         within 5 s of AWS's
"""


def check(host: Host, *words: str, **environment: str) -> tuple[list[Finding], int]:
    """The findings, by way of --json, and the exit status."""
    done = host.command("check", "--json", *words, **environment)
    assert done.stderr == ""
    findings = [Finding(**entry) for entry in json.loads(done.stdout)]
    for finding in findings:
        assert finding.status in ("ok", "warning", "failed")
        assert finding.detail
        assert bool(finding.remedy) == (finding.status != "ok"), finding
    assert done.returncode == int(any(finding.status == "failed" for finding in findings))
    return findings, done.returncode


def of(findings: list[Finding], *names: str) -> list[Finding]:
    return [finding for finding in findings if finding.name in names]


def failed(findings: list[Finding]) -> list[Finding]:
    return [finding for finding in findings if finding.status == "failed"]


@pytest.fixture
def host(fleet: Fleet) -> Host:
    return fleet.host(visibility="2m")


@pytest.fixture
def faulty(fleet: Fleet) -> Iterator[tuple[Proxy, Host]]:
    """A proxy with dated answers, and a host behind it."""
    with Proxy(fleet.aws.endpoint) as proxy:
        proxy.clock(0.0)
        fleet.endpoint = proxy.endpoint
        yield proxy, fleet.host(visibility="2m")


def test_all_well_in_text_and_json_and_nothing_is_taken_or_sent(fleet: Fleet) -> None:
    host = fleet.host(visibility="2m", more='agent.cloudwatch_log_group = "/agents"\n')
    done = host.command("check")
    assert (done.returncode, done.stderr) == (0, "")
    text = done.stdout.replace(fleet.aws.endpoint, "AWS").replace(f"~check/{socket.gethostname()}", "~check/HOST")
    *lines, summary = text.splitlines()
    assert [line for line in lines if line.split()[1] in AWS_LINES] == ALL_WELL.splitlines()
    assert {line.split()[1] for line in lines} >= LOCAL_LINES
    assert summary.endswith(", 0 failed")
    assert {queue: fleet.aws.depth(queue) for queue in (fleet.queue, fleet.results, fleet.dead)} == {
        fleet.queue: 0,
        fleet.results: 0,
        fleet.dead: 0,
    }
    stream = f"~check/{socket.gethostname()}"
    assert fleet.aws.streams(fleet.log_group) == [stream]
    assert fleet.aws.lines(fleet.log_group, stream) == [f"cron-runner check on {socket.gethostname()}"]
    [group] = fleet.aws.logs.describe_log_groups(logGroupNamePrefix=fleet.log_group)["logGroups"]
    assert group["retentionInDays"] == 30
    findings, status = check(host)
    assert status == 0
    again = host.command("check").stdout
    assert [finding.line() for finding in of(findings, *AWS_LINES)] == [
        line for line in again.splitlines() if line.split()[1] in AWS_LINES
    ]
    assert "CreateLogGroup" not in again


@standin
def test_messages_that_wait_are_left_alone(fleet: Fleet, faulty: tuple[Proxy, Host]) -> None:
    proxy, host = faulty
    fleet.send({"job": "a", "run_id": "r1", "command": "true"})
    findings, status = check(host)
    assert status == 0
    [receive] = [finding for finding in findings if "ReceiveMessage" in finding.detail]
    assert "asked for no message, as 1 wait and none is to be taken" in receive.detail
    answer = fleet.aws.sqs.receive_message(
        QueueUrl=fleet.queue, MessageSystemAttributeNames=["ApproximateReceiveCount"]
    )
    assert [message["Attributes"] for message in answer["Messages"]] == [{"ApproximateReceiveCount": "1"}]
    assert proxy.count("ReceiveMessage") == 1


@standin
def test_a_closed_port_is_said_once_for_each_place_and_the_rest_is_checked(host: Host) -> None:
    started = time.monotonic()
    findings, status = check(host, AWS_ENDPOINT_URL="http://127.0.0.1:1")
    assert status == 1
    assert [finding.name for finding in failed(findings)] == ["queue", "results", "output"]
    for finding in failed(findings):
        assert "ConnectFailed" in finding.detail
        assert "check network, DNS, proxy and AWS_ENDPOINT_URL" in finding.remedy
    assert {finding.name for finding in findings} >= LOCAL_LINES
    assert not of(findings, "clock")
    assert time.monotonic() - started < 30


@standin
def test_an_aws_that_never_answers_is_given_up(faulty: tuple[Proxy, Host]) -> None:
    proxy, host = faulty
    proxy.swallow()
    started = time.monotonic()
    findings, status = check(host)
    assert status == 1
    assert {finding.name for finding in failed(findings)} == {"queue", "results", "output"}
    assert all("ReadTimeout" in finding.detail for finding in failed(findings))
    assert {finding.name for finding in findings} >= LOCAL_LINES
    assert time.monotonic() - started < 45


@standin
def test_no_credentials_are_one_line(host: Host) -> None:
    host.environment.pop("AWS_ACCESS_KEY_ID")
    host.environment.pop("AWS_SECRET_ACCESS_KEY")
    findings, status = check(host)
    assert status == 1
    [finding] = failed(findings)
    assert (finding.name, "no AWS credentials were found" in finding.detail) == ("credentials", True)
    assert finding.line() == (
        "failed   credentials   no AWS credentials were found (Unable to locate credentials); attach an instance role, "
        "or set AWS_PROFILE or AWS_ACCESS_KEY_ID"
    )
    assert not of(findings, "queue", "results", "output", "clock")
    assert {finding.name for finding in findings} >= LOCAL_LINES


DENIED = [
    ("GetQueueAttributes", "queue", "sqs:GetQueueAttributes"),
    ("ReceiveMessage", "queue", "sqs:ReceiveMessage"),
    ("DeleteMessageBatch", "queue", "sqs:DeleteMessage"),
    ("ChangeMessageVisibilityBatch", "queue", "sqs:ChangeMessageVisibility"),
    ("GetQueueUrl", "dead-letter", "sqs:GetQueueUrl"),
    ("CreateLogGroup", "output", "logs:CreateLogGroup"),
    ("CreateLogStream", "output", "logs:CreateLogStream"),
    ("PutLogEvents", "output", "logs:PutLogEvents"),
]


@standin
@pytest.mark.parametrize(("action", "name", "permission"), DENIED)
def test_a_permission_that_is_missing_is_named(
    faulty: tuple[Proxy, Host], action: str, name: str, permission: str
) -> None:
    proxy, host = faulty
    proxy.deny(action)
    findings, status = check(host)
    found = failed(findings)
    assert status == 1
    # Without a stream nothing can be put into it either.
    assert (found[0].name, len(found)) == (name, 2 if action == "CreateLogStream" else 1), found
    assert f"allow {permission} there in the host's IAM policy: `cron-runner check --iam-policy`" in found[0].remedy
    assert of(findings, "clock")[0].status == "ok"


@standin
def test_sending_is_denied_to_both_queues(faulty: tuple[Proxy, Host]) -> None:
    proxy, host = faulty
    proxy.deny("SendMessageBatch")
    findings, _ = check(host)
    assert [finding.name for finding in failed(findings)] == ["dead-letter", "results"]
    proxy.heal()
    proxy.deny("SendMessageBatch", code="KmsAccessDenied")
    findings, _ = check(host)
    assert all("kms:GenerateDataKey" in finding.remedy for finding in failed(findings))
    assert len(failed(findings)) == 2


@standin
def test_a_retention_that_cannot_be_set_is_no_failure(faulty: tuple[Proxy, Host]) -> None:
    proxy, host = faulty
    proxy.deny("PutRetentionPolicy")
    findings, status = check(host)
    assert status == 0
    assert any(f.status == "warning" and "logs:PutRetentionPolicy" in f.remedy for f in of(findings, "output"))


@standin
@pytest.mark.parametrize(
    ("aws_ahead", "status", "words"), [(-90.0, "warning", "ahead of AWS's"), (900.0, "failed", "behind AWS's")]
)
def test_a_clock_that_is_off(faulty: tuple[Proxy, Host], aws_ahead: float, status: str, words: str) -> None:
    proxy, host = faulty
    proxy.clock(aws_ahead)
    findings, _ = check(host)
    [clock] = of(findings, "clock")
    assert (clock.status, words in clock.detail) == (status, True), clock
    assert "chrony" in clock.remedy


def test_the_fleets_table(fleet: Fleet) -> None:
    with Proxy(fleet.aws.endpoint) as proxy:
        fleet.endpoint = proxy.endpoint
        host = fleet.host(visibility="2m", more='fleet.table = "cron-fleet"\n')
        findings, status = check(host)
        [missing] = of(findings, "fleet")
        assert (status, missing.status, "create the table" in missing.remedy) == (1, "failed", True)
        dynamodb = client("dynamodb", fleet.aws.endpoint)
        dynamodb.create_table(**keys.definition("cron-fleet"))
        findings, status = check(host)
        assert status == 0
        assert [finding.line() for finding in of(findings, "fleet")] == [
            "ok       fleet         Query on table cron-fleet is allowed",
            "ok       fleet         UpdateItem on table cron-fleet is allowed",
        ]
        assert dynamodb.scan(TableName="cron-fleet")["Items"] == []
        proxy.deny("UpdateItem")
        findings, _ = check(host)
        [denied] = failed(findings)
        assert "allow dynamodb:UpdateItem there" in denied.remedy
        dynamodb.close()


@standin
def test_a_queue_that_is_missing(fleet: Fleet, host: Host) -> None:
    fleet.aws.sqs.delete_queue(QueueUrl=fleet.queue)
    findings, status = check(host)
    assert status == 1
    [finding] = failed(findings)
    assert (finding.name, "QueueDoesNotExist" in finding.detail) == ("queue", True)
    assert "create the queue" in finding.remedy


@standin
def test_a_redrive_policy_that_gives_one_chance(fleet: Fleet, host: Host) -> None:
    policy = {"deadLetterTargetArn": fleet.aws.arn(fleet.dead), "maxReceiveCount": 1}
    fleet.aws.sqs.set_queue_attributes(QueueUrl=fleet.queue, Attributes={"RedrivePolicy": json.dumps(policy)})
    findings, status = check(host)
    assert status == 0
    [finding] = of(findings, "redrive")
    assert (finding.status, "maxReceiveCount 1" in finding.detail) == ("warning", True)
    # One more delivery would be one too many: nothing is received for real.
    assert any("asked for no message" in finding.detail for finding in of(findings, "queue"))


@standin
def test_results_that_come_back_as_jobs(fleet: Fleet) -> None:
    host = fleet.host(visibility="2m")
    name = fleet.queue.rpartition("/")[2]
    text = host.config.read_text()
    host.config.write_text("\n".join(
        f'results.name = "{name}"' if line.startswith("results.url") else line for line in text.splitlines()
    ))  # fmt: skip
    findings, status = check(host)
    assert status == 1
    [finding] = failed(findings)
    assert (finding.name, "events come back as jobs" in finding.detail) == ("results", True)


MISTAKES = [
    ('grup = "web"', "grup", 'did you mean "group"?'),
    ('queue.wait = "30s"', "queue.wait", "choose 0s to 20s"),
    ('queue.visibility = "five"', "queue.visibility", ""),
    ('results.url = "cron-results"', "results.url", "is not a queue URL"),
    ("admission.policy = 'fifo'", "admission.policy", "one-at-a-time"),
    ('admission.max_jobs = "4"', "admission.max_jobs", ""),
    ("run.timeout = 0", "run.timeout", "more than 0s"),
    ("output.sinks = ['cloudwach']", "output.sinks", 'did you mean "cloudwatch"?'),
    ("output.cloudwatch.retention_days = 31", "output.cloudwatch.retention_days", "the nearest is 30"),
    ('jobs.a.command = ["true"]\njobs.a.user = "app"', "jobs.a.user", "add it to allowed_users"),
]


@standin
def test_ten_typical_mistakes_are_ten_lines(fleet: Fleet, host: Host) -> None:
    host.config.write_text(f'queue.url = "{fleet.queue}"\n' + "\n".join(line for line, _, _ in MISTAKES))
    findings, status = check(host)
    assert status == 1
    faults = failed(findings)
    # `group` is not set either, as it is spelt wrong.
    assert len(faults) == len(MISTAKES) + 1
    for _, key, words in MISTAKES:
        [fault] = [fault for fault in faults if f"{host.config}: {key}: " in fault.detail]
        assert words in fault.detail
    assert {finding.name for finding in findings} == {"version", "config"}
    text = host.command("check")
    assert (text.returncode, text.stderr) == (1, "")
    assert text.stdout.splitlines()[-1] == f"1 ok, 0 warnings, {len(faults)} failed"


def test_no_configuration_at_all() -> None:
    done = subprocess.run(
        [COMMAND, "--config", "/no/such/config.toml", "check"], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stderr) == (1, "")
    assert "failed   config        /no/such/config.toml: no such file; " in done.stdout


@standin
def test_what_jobs_need_of_the_host(fleet: Fleet) -> None:
    directory = fleet.directory
    script = directory / "not-executable"
    script.write_text("#!/bin/sh\n")
    script.chmod(0o644)
    broken = directory / "broken.env"
    broken.write_text("no equals sign\n")
    host = fleet.host(
        visibility="2m",
        more=f"""\
run.cwd = "{directory}/nowhere"
run.env_files = ["{directory}/missing.env", "{broken}"]
[jobs.good]
command = ["sh", "-c", "true"]
[jobs.missing]
command = ["/no/such/program"]
cwd = "/"
[jobs.unfound]
command = ["no-such-program"]
[jobs.closed]
command = ["{script}"]
[jobs.folder]
command = ["{directory}"]
[jobs.astray]
command = "true"
cwd = "{directory}/astray"
""",
    )
    findings, status = check(host, "--offline")
    assert status == 1
    details = [finding.detail for finding in failed(findings)]
    for words in (
        f"[run] cwd: {directory}/nowhere is no directory",
        f"{directory}/missing.env is missing: no job can start",
        f"{broken}, line 1: is not NAME=VALUE",
        "missing: command: /no/such/program does not exist",
        "unfound: command: no-such-program is not in /usr/local/",
        f"closed: command: {script} cannot be executed by ",
        f"folder: command: {directory} is a directory",
        f"astray: cwd: {directory}/astray is no directory",
    ):
        assert [detail for detail in details if detail.startswith(words)], (words, details)
    assert len(details) == 8
    assert any(finding.detail.startswith("good: can start as ") for finding in of(findings, "job"))


@standin
def test_offline_asks_nothing_of_aws(faulty: tuple[Proxy, Host]) -> None:
    proxy, host = faulty
    findings, status = check(host, "--offline")
    assert (status, proxy.calls) == (0, [])
    assert not of(findings, *AWS_LINES)
    assert {finding.name for finding in findings} >= LOCAL_LINES


@standin
def test_what_the_units_take_from_the_file_beside_the_configuration_is_taken_here_too(
    faulty: tuple[Proxy, Host],
) -> None:
    proxy, host = faulty
    endpoint = host.environment.pop("AWS_ENDPOINT_URL")
    path = host.directory / "environment"
    path.write_text(f'# as systemd reads it\nAWS_ENDPOINT_URL="{endpoint}"\nCRON_RUNNER_OUTPUT__SINKS=stdout\n')
    findings, status = check(host)
    assert (status, proxy.count("ReceiveMessage")) == (0, 1)
    [environment] = of(findings, "environment")
    assert environment.detail.startswith("AWS_ENDPOINT_URL, CRON_RUNNER_OUTPUT__SINKS taken from ")
    assert not of(findings, "output")


@standin
def test_beside_a_running_agent(fleet: Fleet) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    host = fleet.host(visibility="2m", CRON_RUNNER_AGENT__LISTEN=f"127.0.0.1:{port}")
    before, _ = check(host)
    assert "is free" in of(before, "listen")[0].detail
    host.start()
    go = fleet.directory / "go"
    fleet.send({"job": "long", "run_id": "r1", "command": f"while [ ! -e {go} ]; do sleep 0.1; done; echo done"})
    fleet.events.wait("r1", "started")
    for _ in range(3):
        findings, status = check(host)
        assert status == 0, failed(findings)
    assert of(findings, "agent")[0].detail == f"runs with pid {host.agent.pid}"
    assert of(findings, "supervisor")[0].detail.startswith(f"pid {host.supervisor()}: version ")
    assert of(findings, "listen")[0].detail == f"the running agent serves 127.0.0.1:{port}/healthz and is well"
    assert "is sound" in of(findings, "journal")[0].detail
    go.touch()
    [ended] = fleet.events.wait_ended(["r1"])
    assert ended["data"]["outcome"] == "succeeded"
    assert "error" not in {json.loads(line)["level"] for line in host.log().splitlines() if line.startswith("{")}


@standin
def test_a_port_that_is_taken(fleet: Fleet) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        host = fleet.host(visibility="2m", CRON_RUNNER_AGENT__LISTEN=f"127.0.0.1:{taken.getsockname()[1]}")
        findings, _ = check(host, "--offline")
    [finding] = of(findings, "listen")
    assert (finding.status, "in use by another program" in finding.detail) == ("failed", True)


@standin
def test_the_supervisor_that_is_tried_leaves_nothing(host: Host) -> None:
    findings, _ = check(host, "--offline")
    [supervisor] = of(findings, "supervisor")
    assert supervisor.detail.startswith("none runs; one that the agent would start says: version ")
    assert not host.runtime.exists()
    assert not host.state.exists()


# The interpreter of the tests may be closed to others, so the check is run once by root, which loads what it needs.
AS_NOBODY = """
import os, sys
from runner.cli.main import main
main(sys.argv[1:])
print("---", flush=True)
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
print("status", main(sys.argv[1:]))
"""


@standin
@pytest.mark.skipif(os.geteuid() != 0, reason="an ordinary user runs all of these tests as that user")
def test_an_ordinary_user_is_told_what_it_cannot_see(host: Host) -> None:
    host.start()
    wait_for(lambda: "agent_started" in host.log(), "the agent is up")
    done = subprocess.run(
        [sys.executable, "-c", AS_NOBODY, "--config", str(host.config), "check"],
        env=host.environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=90,
    )
    as_root, as_nobody = done.stdout.split("---\n")
    assert "Traceback" not in done.stderr
    assert ", 0 failed" in as_root
    for words in (
        "warning  supervisor    cannot look for it: ",
        "warning  agent         cannot look at ",
        "warning  journal       ",
        f"warning  state         {host.state} belongs to root: ",
    ):
        assert words in as_nobody, as_nobody
    assert "this check failed itself" not in as_nobody
    assert as_nobody.rstrip().endswith("status 0")


def policy(host: Host, *words: str, **environment: str) -> tuple[dict[str, Any], str]:
    done = host.command("check", "--iam-policy", *words, AWS_ENDPOINT_URL="http://127.0.0.1:1", **environment)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), done.stderr


@standin
def test_the_iam_policies_need_no_aws(fleet: Fleet, host: Host) -> None:
    agent, notes = policy(host)
    assert [statement["Sid"] for statement in agent["Statement"]] == ["JobQueue", "Results", "DeadLetters", "Output"]
    assert agent["Statement"][0]["Resource"] == "arn:aws:sqs:eu-west-1:123456789012:test-jobs"
    assert "--dead-letter ARN" in notes
    assert "--kms-key ARN" in notes
    dead, key = fleet.aws.arn(fleet.dead), "arn:aws:kms:eu-west-1:123456789012:key/1"
    agent, notes = policy(host, "--dead-letter", dead, "--kms-key", key)
    assert (agent["Statement"][2]["Resource"], agent["Statement"][4]["Resource"], notes) == (dead, key, "")
    sender, _ = policy(host, "sender")
    assert [statement["Action"] for statement in sender["Statement"]] == [["sqs:SendMessage"]]
    reader, notes = policy(host, "reader")
    assert ([statement["Sid"] for statement in reader["Statement"]], notes) == (["ReadOutput"], "")
    wrong: Path = host.directory / "wrong.toml"
    wrong.write_text('group = ""\n')
    done = host.command("--config", str(wrong), "check", "--iam-policy")
    assert (done.returncode, done.stdout) == (78, "")
