"""The main job, end to end, with the installed command: a message becomes a process, output and events.

One agent and one stand-in; the test is the sender, the reader of the results queue and the reader of the logs,
all with plain boto3.
"""

from __future__ import annotations

import json
import signal
import time
import uuid
from datetime import datetime
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

from embedded import all_points
from fleet import processes_of, python
from waiting import wait_for

if TYPE_CHECKING:
    from fleet import Fleet, Host


@pytest.fixture
def host(fleet: Fleet) -> Host:
    """A host whose agent runs."""
    made = fleet.host()
    made.start()
    return made


def sns(body: dict[str, Any]) -> dict[str, Any]:
    """What SNS puts on a queue without raw delivery."""
    return {
        "Type": "Notification",
        "MessageId": str(uuid.uuid4()),
        "TopicArn": "arn:aws:sns:eu-west-1:123456789012:jobs",
        "Message": json.dumps(body),
        "Timestamp": "2030-01-31T04:00:00.000Z",
        "SignatureVersion": "1",
    }


def eventbridge(body: dict[str, Any]) -> dict[str, Any]:
    """What a rule of EventBridge puts on a queue."""
    return {
        "version": "0",
        "id": str(uuid.uuid4()),
        "detail-type": "job",
        "source": "test",
        "account": "123456789012",
        "time": "2030-01-31T04:00:00Z",
        "region": "eu-west-1",
        "resources": [],
        "detail": body,
    }


def scheduler(body: dict[str, Any]) -> dict[str, Any]:
    """What EventBridge Scheduler puts on a queue: its input, with ``<aws.scheduler.*>`` filled in."""
    return body | {"scheduled_at": "2030-01-31T04:00:00Z", "labels": {"execution": str(uuid.uuid4())}}


def seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


@pytest.mark.parametrize("aws_server", ["moto", "standin"], indirect=True)
def test_a_hundred_messages_of_every_kind(fleet: Fleet, host: Host) -> None:
    wraps = [dict, sns, eventbridge, scheduler]
    sent: dict[str, tuple[str, int, list[str]]] = {}
    bodies = []
    for number in range(100):
        run_id, status = f"run-{number}", 0 if number % 5 else number % 7
        job = f"job-{number % 10}"
        lines = [f"{run_id} line {line}" for line in range(number % 4 + 1)]
        script = "; ".join([*(f"echo '{line}'" for line in lines), f"exit {status}"])
        command: Any = script if number % 2 else ["sh", "-c", script]
        bodies.append(wraps[number % len(wraps)]({"job": job, "run_id": run_id, "command": command}))
        sent[run_id] = (job, status, lines)
    fleet.send(*bodies)

    fleet.events.wait_ended(list(sent), within=90)
    for run_id, (job, status, _) in sent.items():
        events = fleet.events.of(run_id)
        assert [event["type"] for event in events] == ["cron-runner.run.started", "cron-runner.run.finished"]
        check_events(events, run_id, job, status, host, fleet)
    fleet.wait_empty()
    for run_id, (job, _, lines) in sent.items():
        fleet.wait_lines(job, run_id, lines)
    assert fleet.aws.depth(fleet.dead) == 0


def check_events(events: list[dict[str, Any]], run_id: str, job: str, status: int, host: Host, fleet: Fleet) -> None:
    """The envelope and the facts of a run's started and finished event."""
    started, finished = events
    execution = started["data"]["execution"]
    assert started["id"] == f"{execution}/1/cron-runner.run.started"
    assert finished["id"] == f"{execution}/1/cron-runner.run.finished"
    name = started["data"]["host"]["name"]
    for event in events:
        assert event["specversion"] == "1.0"
        assert event["source"] == f"cron-runner/{fleet.group}/{name}"
        assert event["subject"] == run_id
        data = event["data"]
        assert (data["job"], data["run_id"], data["attempt"], data["group"]) == (job, run_id, 1, fleet.group)
        assert set(data["host"]) == {"name", "instance_id", "boot_id", "os", "agent_version"}
        assert data["log"]["stream"] == f"{job}/{run_id}"
        assert data["sent_at"] is not None
    assert started["data"]["sequence"] < finished["data"]["sequence"]
    assert started["data"]["pid"] > 0
    assert started["data"]["queue_latency_s"] >= 0
    data = finished["data"]
    assert (data["exit_code"], data["signal"]) == (status, None)
    assert data["outcome"] == ("succeeded" if status == 0 else "failed")
    assert data["reason"] == f"exit code {status}"
    assert data["will_retry"] is False
    took = seconds(data["finished_at"]) - seconds(data["started_at"])
    assert data["duration_s"] == pytest.approx(took, abs=0.05)
    assert data["usage"]["max_rss_bytes"] > 0
    assert data["output"]["bytes"] == data["output"]["shipped_bytes"] > 0
    assert host.name  # the name in the events is the machine's; a test's hosts share it


def test_a_line_is_in_cloudwatch_while_the_job_runs(fleet: Fleet, host: Host) -> None:
    mark = str(uuid.uuid4())
    fleet.send({"job": "live", "run_id": "r", "command": f"echo {mark}; sleep 30; echo never"})
    fleet.events.wait("r", "started")
    began = time.monotonic()
    fleet.wait_lines("live", "r", [mark], within=10)
    # The contract's two seconds, and what a loaded machine may add.
    assert time.monotonic() - began < 4
    assert host.agent.poll() is None


def test_the_environment_is_what_the_contract_says(fleet: Fleet) -> None:
    host = fleet.host(more='[run.env]\nFROM_CONFIG = "yes"\n')
    host.start(SOMETHING_OF_THE_AGENT="x", AWS_SESSION_TOKEN="y")
    dump = python("import json, os; print(json.dumps(dict(os.environ)))")
    fleet.send(
        {
            "job": "env",
            "run_id": "nightly:2030",
            "command": dump,
            "env": {"FROM_MESSAGE": "ü"},
            "scheduled_at": "2030-01-31T05:00:00+01:00",
        }
    )
    [event] = fleet.events.wait_ended(["nightly-2030"])
    assert event["data"]["outcome"] == "succeeded"
    fleet.wait_empty()
    [line] = wait_for(lambda: fleet.lines("env", "nightly-2030"), "the output")
    environment = json.loads(line)
    assert {"PATH", "HOME", "SHELL", "USER", "LOGNAME", "LANG"} <= set(environment)
    assert environment["FROM_CONFIG"] == "yes"
    assert environment["FROM_MESSAGE"] == "ü"
    assert environment["CRON_RUNNER_JOB"] == "env"
    assert environment["CRON_RUNNER_RUN_ID"] == "nightly-2030"
    assert environment["CRON_RUNNER_ATTEMPT"] == "1"
    assert environment["CRON_RUNNER_GROUP"] == fleet.group
    assert seconds(environment["CRON_RUNNER_SCHEDULED_AT"]) == seconds("2030-01-31T04:00:00Z")
    assert not [name for name in environment if name.startswith("AWS_") or name == "SOMETHING_OF_THE_AGENT"]


@pytest.mark.parametrize("stubborn", [False, True], ids=["obedient", "stubborn"])
def test_a_timeout_leaves_no_process(fleet: Fleet, host: Host, *, stubborn: bool) -> None:
    mark = f"10{uuid.uuid4().int % 10**9}"  # a sleep that no other test sleeps
    trap = "trap '' TERM; " if stubborn else ""
    command = f"{trap}setsid sleep {mark} & sleep {mark}; sleep {mark}"
    fleet.send({"job": "slow", "run_id": "r", "command": command, "timeout": 1, "grace": "2s"})
    [event] = fleet.events.wait_ended(["r"])
    data = event["data"]
    assert data["outcome"] == "timed_out"
    assert data["reason"] == "timed out after 1s"
    assert 1.0 <= data["duration_s"] <= (3.5 if stubborn else 2.5)
    assert not processes_of(mark)
    fleet.wait_empty()
    assert host.agent.poll() is None


@pytest.mark.usefixtures("host")
def test_what_cannot_be_a_run_is_rejected_and_the_agent_goes_on(fleet: Fleet) -> None:
    bad = {
        "not JSON": "what is this?",
        "unknown field": json.dumps({"job": "a", "command": "true", "timout": 5, "env": {"TOKEN": "hush-hush"}}),
        "no job": json.dumps({"command": "true"}),
        "wrong type": json.dumps({"job": "a", "command": 7}),
        "not declared": json.dumps({"job": "a"}),
        "a user": json.dumps({"job": "a", "command": "true", "user": "nobody-allowed-this"}),
    }
    ids = {what: fleet.aws.send(fleet.queue, body) for what, body in bad.items()}
    rejected = {what: fleet.events.wait_rejected(message_id)["data"] for what, message_id in ids.items()}
    for what, data in rejected.items():
        assert data["reason"] == ("not_allowed" if what in {"a user"} else "invalid"), what
        assert data["detail"], what
        assert len(data["body_sha256"]) == 64, what
    assert 'unknown field "timout", did you mean "timeout"?' in rejected["unknown field"]["detail"]
    assert "hush-hush" not in json.dumps(rejected)

    fleet.send({"job": "good", "run_id": "after", "command": "true"})
    [event] = fleet.events.wait_ended(["after"])
    assert event["data"]["outcome"] == "succeeded"
    fleet.wait_empty()
    # Each went to the queue's own dead-letter queue, by the agent and at once.
    dead: list[str] = []
    wait_for(lambda: dead.extend(fleet.aws.take(fleet.dead)) or len(dead) >= len(bad), "the dead letters")
    assert sorted(dead) == sorted(bad.values())


@pytest.mark.usefixtures("host")
def test_how_a_run_can_end(fleet: Fleet) -> None:
    fleet.send(
        {"job": "missing", "run_id": "missing", "command": ["/no/such/program"]},
        {"job": "directory", "run_id": "directory", "command": ["/etc"]},
        {"job": "no-cwd", "run_id": "no-cwd", "command": "true", "cwd": "/no/such/directory"},
        {"job": "segv", "run_id": "segv", "command": "kill -SEGV $$"},
        {"job": "codes", "run_id": "codes", "command": "exit 3", "success": {"exit_codes": [0, 3]}},
        {"job": "rule", "run_id": "rule", "command": "echo ERROR", "success": {"fail_on": ["^ERR"]}},
        {"job": "lacks", "run_id": "lacks", "command": "echo hm", "success": {"require": ["done"]}},
        {"job": "stdin", "run_id": "stdin", "command": 'read line; test "$line" = hello', "stdin": "hello\n"},
        {"job": "quiet", "run_id": "quiet", "command": "true"},
        {"job": "background", "run_id": "background", "command": "sleep 60 & echo main is done"},
    )
    expected = {
        "missing": ("start_failed", 127, None, ""),
        "directory": ("start_failed", 126, None, ""),
        "no-cwd": ("start_failed", 126, None, "/no/such/directory"),
        "segv": ("killed", None, "SIGSEGV", "SIGSEGV"),
        "codes": ("succeeded", 3, None, "exit code 3"),
        "rule": ("failed", 0, None, "output matched fail_on /^ERR/"),
        "lacks": ("failed", 0, None, "output did not match require /done/"),
        "stdin": ("succeeded", 0, None, "exit code 0"),
        "quiet": ("succeeded", 0, None, "exit code 0"),
        "background": ("succeeded", 0, None, "exit code 0"),
    }
    for event in fleet.events.wait_ended(list(expected)):
        data = event["data"]
        outcome, exit_code, number, reason = expected[data["run_id"]]
        assert (data["outcome"], data["exit_code"], data["signal"]) == (outcome, exit_code, number), data
        assert reason in data["reason"]
        assert data["duration_s"] < 30
    fleet.wait_empty()
    fleet.wait_lines("background", "background", ["main is done"])
    assert "quiet/quiet" not in fleet.aws.streams(fleet.log_group)


def test_two_messages_with_one_run_id_are_one_run(fleet: Fleet) -> None:
    # A lease that ends soon: of two messages of one active run, one may be left to come again and be answered then.
    host = fleet.host(visibility="10s")
    host.start()
    body = {"job": "once", "run_id": "same", "command": "echo ran; sleep 1"}
    fleet.send(body, body)
    fleet.events.wait_ended(["same"])
    fleet.send(body)
    fleet.wait_empty(within=60)
    fleet.events.collect()
    assert len({event["data"]["execution"] for event in fleet.events.of("same")}) == 1
    fleet.wait_lines("once", "same", ["ran"])
    assert host.agent.poll() is None


def test_one_at_a_time_runs_one_at_a_time(fleet: Fleet) -> None:
    host = fleet.host()
    host.start(CRON_RUNNER_ADMISSION__POLICY="one-at-a-time")
    ids = [f"r{number}" for number in range(4)]
    fleet.send(*({"job": "turn", "run_id": run_id, "command": "sleep 0.2"} for run_id in ids))
    ends = fleet.events.wait_ended(ids)
    spans = sorted((seconds(e["data"]["started_at"]), seconds(e["data"]["finished_at"])) for e in ends)
    assert all(end <= start for (_, end), (start, _) in pairwise(spans))


def test_sigterm_drains(fleet: Fleet, host: Host) -> None:
    fleet.send({"job": "long", "run_id": "r", "command": "echo begin; sleep 2; echo end"})
    fleet.events.wait("r", "started")
    assert host.stop() == 0
    fleet.events.collect()
    assert fleet.events.ended("r") is not None
    [finished] = fleet.events.of("r", "finished")
    assert finished["data"]["outcome"] == "succeeded"
    assert fleet.lines("long", "r") == ["begin", "end"]
    assert fleet.aws.depth(fleet.queue) == 0
    kinds = [event["type"] for event in fleet.events.seen if ".agent." in event["type"]]
    assert kinds == ["cron-runner.agent.started", "cron-runner.agent.stopped"]


def test_a_drain_takes_nothing_new(fleet: Fleet, host: Host) -> None:
    fleet.send({"job": "long", "run_id": "r", "command": "sleep 2"})
    fleet.events.wait("r", "started")
    host.signal(signal.SIGTERM)
    wait_for(lambda: "drain" in host.log().lower() or host.agent.poll() is not None, "the drain has begun")
    fleet.send({"job": "late", "run_id": "late", "command": "true"})
    assert host.wait() == 0
    fleet.events.collect()
    assert not fleet.events.of("late")
    # Whoever received it in the last moment has handed it back; nobody holds it.
    [body] = wait_for(lambda: fleet.aws.take(fleet.queue), "the late message is visible")
    assert json.loads(body)["job"] == "late"


def test_a_second_sigterm_stops_the_jobs(fleet: Fleet, host: Host) -> None:
    mark = f"20{uuid.uuid4().int % 10**9}"
    fleet.send({"job": "long", "run_id": "r", "command": f"sleep {mark}", "grace": "1s"})
    fleet.events.wait("r", "started")
    host.signal(signal.SIGTERM)
    wait_for(lambda: "drain" in host.log().lower(), "the drain has begun", detail=host.log)
    began = time.monotonic()
    host.signal(signal.SIGTERM)
    assert host.wait(15) == 0
    assert time.monotonic() - began < 12
    assert not processes_of(mark)
    fleet.events.collect()
    [finished] = fleet.events.of("r", "finished")
    assert finished["data"]["outcome"] in {"interrupted", "cancelled"}


def test_a_lease_is_renewed_for_as_long_as_the_job_runs(fleet: Fleet) -> None:
    host = fleet.host(visibility="10s")
    host.start()
    fleet.send({"job": "long", "run_id": "r", "command": "sleep 14"})
    [event] = fleet.events.wait_ended(["r"])
    assert (event["data"]["outcome"], event["data"]["delivery"]) == ("succeeded", 1)
    fleet.wait_empty()
    assert len(fleet.events.of("r", "started")) == 1


def test_a_run_without_an_id_is_named_by_its_message(fleet: Fleet, host: Host) -> None:
    message_id = fleet.aws.send(fleet.queue, {"job": "nameless", "command": "true"})
    [event] = fleet.events.wait_ended([message_id])
    assert event["data"]["outcome"] == "succeeded"
    assert host.agent.poll() is None


def test_a_configuration_with_faults_is_refused(fleet: Fleet) -> None:
    host = fleet.host(more="[queu]\nurl = 'x'\n[admission]\nmax_job = 3\n")
    host.config.write_text('grup = "x"\n[queue]\nwiat = "5s"\n')
    done = host.command("run")
    assert done.returncode == 78
    assert "grup" in done.stderr
    assert "wiat" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_agents_own_log_is_copied_to_cloudwatch_where_that_is_asked_for(fleet: Fleet) -> None:
    host = fleet.host(more='agent.cloudwatch_log_group = "/ops/agents"\n')
    host.start()
    fleet.send({"job": "hello", "run_id": "copied", "command": "true"})
    fleet.events.wait_ended(["copied"])
    assert host.stop() == 0, host.log()
    (stream,) = fleet.aws.streams("/ops/agents")
    events = [json.loads(line)["event"] for line in fleet.aws.lines("/ops/agents", stream)]
    assert "agent_started" in events
    assert "run_finished" in events


def test_metrics_without_prometheus_are_in_the_agents_own_log_stream(fleet: Fleet) -> None:
    host = fleet.host(more='agent.cloudwatch_log_group = "/ops/agents"\nagent.metrics = "emf"\n')
    host.start()
    fleet.send(
        {"job": "hello", "run_id": "good", "command": "true"},
        {"job": "hello", "run_id": "bad", "command": "exit 3"},
        {"job": "odd", "run_id": "odd", "command": "true", "colour": "red"},
    )
    fleet.wait_empty(60)
    fleet.events.wait_ended(["good", "bad"])
    assert host.stop() == 0, host.log()
    (stream,) = fleet.aws.streams("/ops/agents")
    points = all_points([line for line in fleet.aws.lines("/ops/agents", stream) if line.startswith('{"_aws"')])
    of_group = (("group", fleet.group),)
    assert sum(points["messages_received", of_group]) == 3
    assert sum(points["messages_rejected", of_group]) == 1
    assert sum(points["attempts_started", of_group]) == 2
    assert len(points["queue_latency_seconds", of_group]) == 2
    assert set(points["healthy", of_group]) == {1}
    assert points["queue_messages", of_group][-1] == 0
    assert {key[1][1][1]: sum(some) for key, some in points.items() if key[0] == "runs"} == {
        "succeeded": 1,
        "failed": 1,
    }
    assert not [line for line in host.log().splitlines() if "_aws" in line]


def test_inherited_secrets_are_masked(fleet: Fleet) -> None:
    host = fleet.host(more='run.inherit_env = ["SHOP_TOKEN"]\n', SHOP_TOKEN="s3cret-of-the-shop")
    host.start()
    fleet.send({"job": "leaky", "run_id": "leaky", "command": "echo the token is $SHOP_TOKEN"})
    [event] = fleet.events.wait_ended(["leaky"])
    assert event["data"]["output"]["tail"] == "the token is ***\n"
    fleet.wait_lines("leaky", "leaky", ["the token is ***"])
    assert host.stop() == 0, host.log()
