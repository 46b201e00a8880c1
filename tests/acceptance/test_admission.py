"""When runs start, wait, go back or do not happen: real agents, real processes, each policy."""

from __future__ import annotations

import json
import shutil
import signal
import tempfile
import time
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from runner.agent.operator.pause_file import Pausing

import admission_trace
from fleet import Fleet, python
from waiting import wait_for

if TYPE_CHECKING:
    from aws import Aws
    from fleet import Host

pytestmark = pytest.mark.parametrize("aws_server", ["standin"], indirect=True)

# What the machine of the tests is busy with is not what is looked at.
RESOURCES = {
    "CRON_RUNNER_ADMISSION__POLICY": "resources",
    "CRON_RUNNER_ADMISSION__MAX_JOBS": "0",
    "CRON_RUNNER_ADMISSION__RESOURCES__MAX_LOAD": "1.0",
    "CRON_RUNNER_ADMISSION__RESOURCES__CPU": "2",
    "CRON_RUNNER_ADMISSION__RESOURCES__MEMORY": "512M",
    "CRON_RUNNER_ADMISSION__RESOURCES__DEFAULT_CPU": "0.1",
    "CRON_RUNNER_ADMISSION__RESOURCES__DEFAULT_MEMORY": "16M",
}


def started(fleet: Fleet, **environment: str) -> Host:
    host = fleet.host(f"host-{len(fleet.hosts)}")
    host.start(**environment)
    return host


def logged(host: Host, event: str, run_id: str = "") -> list[dict[str, Any]]:
    """The lines of the agent's log with this event, about this run where one is named."""
    lines = [json.loads(line) for line in host.log().splitlines() if line.startswith("{")]
    return [line for line in lines if line["event"] == event and (not run_id or line.get("run_id") == run_id)]


def wait_logged(host: Host, event: str, run_id: str = "", within: float = 30.0) -> dict[str, Any]:
    return wait_for(lambda: logged(host, event, run_id), f"{event} of {run_id}", within, host.log)[0]


def span(event: dict[str, Any]) -> tuple[datetime, datetime]:
    data = event["data"]
    return datetime.fromisoformat(data["started_at"]), datetime.fromisoformat(data["finished_at"])


# -- what is offered


@pytest.mark.parametrize("policy", list(admission_trace.POLICIES))
def test_never_more_than_is_offered(fleet: Fleet, policy: str) -> None:
    moments = admission_trace.trace(fleet, policy)
    shown = admission_trace.table(policy, moments)
    peak, offered = admission_trace.most(moments), admission_trace.OFFERED[policy]
    assert all(peak[name] <= amount for name, amount in offered.items()), shown
    # And it is used: at some moment there was no room for a default job.
    assert any(peak[name] >= amount * 0.75 for name, amount in offered.items()), shown
    assert len(moments) == 2 * admission_trace.JOBS
    assert fleet.aws.depth(fleet.dead) == 0


def test_a_run_too_large_for_one_host_ends_on_the_other(fleet: Fleet) -> None:
    small = started(fleet, **RESOURCES)
    fleet.send({"job": "large", "run_id": "large", "command": "true", "resources": {"memory": "600M"}})
    back = wait_logged(small, "run_handed_back", "large")
    assert back["reason"] == "it does not fit this host: memory 600M asked, this host offers 512M"
    large = started(fleet, **RESOURCES | {"CRON_RUNNER_ADMISSION__RESOURCES__MEMORY": "700M"})
    [event] = fleet.events.wait_ended(["large"], within=60)
    assert event["data"]["outcome"] == "succeeded"
    # The small one looked away when it came back, although it had nothing else to do.
    assert event["data"]["delivery"] == 2
    assert logged(large, "run_started", "large")
    fleet.wait_empty()
    assert fleet.aws.depth(fleet.dead) == 0
    assert len(logged(small, "run_handed_back")) == 1


def test_what_never_fits_is_rejected_when_it_may_not_go_back(fleet: Fleet) -> None:
    policy = {"deadLetterTargetArn": fleet.aws.arn(fleet.dead), "maxReceiveCount": "1"}
    fleet.aws.sqs.set_queue_attributes(QueueUrl=fleet.queue, Attributes={"RedrivePolicy": json.dumps(policy)})
    started(fleet, **RESOURCES)
    body = {"job": "large", "run_id": "large", "command": "true", "resources": {"licences": 1}, "env": {"KEY": "hush"}}
    fleet.send(body)
    [event] = fleet.events.wait_ended(["large"])
    data = event["data"]
    assert event["type"] == "cron-runner.run.rejected"
    assert (data["reason"], data["job"]) == ("does_not_fit", "large")
    assert data["detail"] == 'unknown resource "licences" (this host does not offer it)'
    assert "hush" not in json.dumps(event)
    fleet.wait_empty()
    [dead] = wait_for(lambda: fleet.aws.take(fleet.dead), "the dead letter")
    assert json.loads(dead) == body


def test_a_wait_is_explained_bounded_and_does_not_keep_others_out(fleet: Fleet) -> None:
    host = started(fleet, **RESOURCES, CRON_RUNNER_ADMISSION__HOLD="1s")
    fleet.send({"job": "first", "run_id": "first", "command": "sleep 60", "resources": {"memory": "300M"}})
    fleet.events.wait("first", "started")
    fleet.send({"job": "big", "run_id": "big", "command": "true", "resources": {"memory": "400M", "cpu": 0.5}})
    held = wait_logged(host, "run_held", "big")
    assert held["reason"] == "memory 400M asked, 212M free"
    # Its memory is kept for it; a run that needs none passes it.
    fleet.send({"job": "small", "run_id": "small", "command": "true", "resources": {"memory": 0, "cpu": 1}})
    back = wait_logged(host, "run_handed_back", "big")
    assert (back["reason"], back["delivery"]) == ("memory 400M asked, 212M free", 1)
    assert 5 <= back["seconds"] <= 15
    assert len(logged(host, "run_held", "big")) == 1
    fleet.events.wait_ended(["small"])
    fleet.send({"job": "first", "run_id": "turn", "command": "true", "overlap": "wait"})
    assert wait_logged(host, "run_held", "turn")["reason"] == "overlap: waits for run first of first"
    # A drain waits for the first one, and not for those that have not begun: they are on the queue again at once.
    host.signal(signal.SIGTERM)
    wait_logged(host, "agent_stopping")
    back_again = wait_for(
        lambda: [body for body in fleet.aws.take(fleet.queue) if "turn" in body], "the message is back"
    )
    assert len(back_again) == 1
    host.signal(signal.SIGTERM)
    assert host.wait() == 0


def test_a_held_message_that_is_no_longer_ours_is_dropped(fleet: Fleet) -> None:
    host = fleet.host(visibility="10s")
    host.start()
    job = {"job": "a", "overlap": "wait", "command": "sleep 60"}
    fleet.send(job | {"run_id": "first"})
    fleet.events.wait("first", "started")
    fleet.send(job | {"run_id": "second"})
    wait_logged(host, "run_held", "second")
    fleet.aws.sqs.purge_queue(QueueUrl=fleet.queue)
    wait_logged(host, "held_lease_lost", "second")
    assert not fleet.events.of("second")


# -- other runs of the job


def test_overlap_on_one_host(fleet: Fleet) -> None:
    started(fleet)
    job = {"job": "backup", "command": "sleep 1"}
    fleet.send(job | {"run_id": "first", "command": "sleep 2"})
    fleet.events.wait("first", "started")
    fleet.send(job | {"run_id": "beside", "overlap": "allow"}, job | {"run_id": "not-now", "overlap": "skip"})
    [skipped] = fleet.events.wait_ended(["not-now"])
    assert skipped["type"] == "cron-runner.run.skipped"
    assert skipped["data"]["reason"] == "overlap"
    assert skipped["data"]["detail"] == "run first of backup is active"

    turns = [f"turn-{number}" for number in range(3)]
    for run_id in turns:
        fleet.send(job | {"run_id": run_id, "overlap": "wait", "command": "sleep 0.2"})
    # Others are received and run while those wait.
    fleet.send({"job": "other", "run_id": "other", "command": "true"})
    [other] = fleet.events.wait_ended(["other"])
    ends = fleet.events.wait_ended(["first", "beside", *turns])
    spans = {event["data"]["run_id"]: span(event) for event in ends}
    assert span(other)[1] < spans["turn-0"][0]
    assert max(spans["first"][1], spans["beside"][1]) <= min(spans[run_id][0] for run_id in turns)
    in_order = sorted(spans[run_id] for run_id in turns)
    assert all(end <= start for (_, end), (start, _) in pairwise(in_order))
    fleet.wait_empty()


def test_a_fifo_queue_orders_the_runs_of_a_group(aws: Aws) -> None:
    # A unix socket's address is short, so not tmp_path.
    directory = Path(tempfile.mkdtemp(prefix="crt-"))
    directory.chmod(0o755)
    fleet = Fleet(aws, directory, suffix=".fifo")
    try:
        started(fleet)
        ids = [f"r{number}" for number in range(4)]
        for run_id in ids:
            body = {"job": "ledger", "run_id": run_id, "command": "sleep 0.2"}
            aws.send(fleet.queue, body, MessageGroupId="ledger", MessageDeduplicationId=run_id)
        spans = [span(event) for event in fleet.events.wait_ended(ids)]
        assert all(end <= start for (_, end), (start, _) in pairwise(spans))
        fleet.wait_empty()
    finally:
        fleet.remove()
        shutil.rmtree(directory, ignore_errors=True)


def test_a_run_that_replaces_another(fleet: Fleet) -> None:
    started(fleet, CRON_RUNNER_ADMISSION__POLICY="free-for-all", CRON_RUNNER_ADMISSION__MAX_JOBS="2")
    job = {"job": "sync", "command": "sleep 60", "overlap": "replace"}
    fleet.send(job | {"run_id": "old"})
    fleet.events.wait("old", "started")
    fleet.send(job | {"run_id": "new", "command": "true"})
    old, new = fleet.events.wait_ended(["old", "new"])
    assert old["data"]["outcome"] == "cancelled"
    assert "by run new" in old["data"]["reason"]
    assert new["data"]["outcome"] == "succeeded"
    assert span(old)[1] <= span(new)[0]
    fleet.wait_empty()


def test_a_stale_run_is_skipped_also_while_it_waits(fleet: Fleet) -> None:
    host = started(fleet)
    past = (datetime.now(UTC) - timedelta(seconds=1)).isoformat()
    fleet.send(
        {"job": "late", "run_id": "late", "command": "true", "not_after": past},
        {"job": "a", "run_id": "first", "command": "sleep 60"},
    )
    fleet.events.wait("first", "started")
    soon = (datetime.now(UTC) + timedelta(seconds=1)).isoformat()
    fleet.send({"job": "a", "run_id": "waits", "command": "true", "overlap": "wait", "not_after": soon})
    wait_logged(host, "run_held", "waits")
    for event in fleet.events.wait_ended(["late", "waits"]):
        assert (event["type"], event["data"]["reason"]) == ("cron-runner.run.skipped", "stale")
    wait_for(lambda: fleet.aws.depth(fleet.queue) == 1, "both messages are gone")


# -- attempts


def test_attempts_are_told_one_by_one(fleet: Fleet) -> None:
    host = started(fleet)
    # Fails as often as the file has not been written to.
    counted = f"{fleet.directory}/count"
    script = f"echo x >> {counted}; test $(wc -l < {counted}) -ge 3"
    retries = {"max": 4, "backoff": "0.2s", "factor": 2, "max_backoff": "0.3s"}
    fleet.send({"job": "flaky", "run_id": "r", "command": script, "retries": retries})
    [event] = fleet.events.wait_ended(["r"])
    begun, ended = fleet.events.of("r", "started"), fleet.events.of("r", "finished")
    assert [e["data"]["attempt"] for e in begun] == [e["data"]["attempt"] for e in ended] == [1, 2, 3]
    assert [e["data"]["outcome"] for e in ended] == ["failed", "failed", "succeeded"]
    assert [e["data"]["will_retry"] for e in ended] == [True, True, False]
    assert {e["data"]["execution"] for e in (*begun, *ended)} == {event["data"]["execution"]}
    assert {e["data"]["delivery"] for e in ended} == {1}
    gaps = [(span(after)[0] - span(before)[1]).total_seconds() for before, after in pairwise(ended)]
    assert gaps[0] >= 0.19
    assert gaps[1] >= 0.29
    fleet.wait_empty()
    assert host.agent.poll() is None


def test_a_drain_in_the_backoff_hands_the_message_back(fleet: Fleet) -> None:
    host = started(fleet)
    fleet.send({"job": "flaky", "run_id": "r", "command": "exit 7", "retries": {"max": 3, "backoff": "10m"}})
    event = fleet.events.wait("r", "finished")
    assert event["data"]["will_retry"] is True
    began = time.monotonic()
    assert host.stop() == 0
    assert time.monotonic() - began < 20
    [body] = wait_for(lambda: fleet.aws.take(fleet.queue), "the message is on the queue again")
    assert json.loads(body)["run_id"] == "r"


# -- success


def test_rules_of_success(fleet: Fleet) -> None:
    started(fleet)
    rules: dict[str, tuple[dict[str, Any], str, str]] = {
        "fails": ({"command": "echo ok; echo 'ERROR: disk'; sleep 0.2", "success": {"fail_on": ["ERROR", "x"]}},
                  "failed", "output matched fail_on /ERROR/"),
        "no-nl": ({"command": "printf ERROR", "success": {"fail_on": ["^ERROR$"]}},
                  "failed", "output matched fail_on /^ERROR$/"),
        "long": ({"command": python("print('a' * 2_000_000 + '!')"), "success": {"fail_on": ["(a+)+b", "nope"]}},
                 "succeeded", "exit code 0"),
        "lacks": ({"command": "echo half", "success": {"require": ["half", "whole"]}},
                  "failed", "output did not match require /whole/"),
        "has": ({"command": "echo half; echo whole >&2", "success": {"require": ["half", "whole"]}},
                "succeeded", "exit code 0"),
        "code": ({"command": "exit 4", "success": {"exit_codes": [4, 5]}}, "succeeded", "exit code 4"),
        "other": ({"command": "exit 0", "success": {"exit_codes": [4, 5]}}, "failed", "exit code 0"),
        "fast": ({"command": "true", "min_duration": "30s"}, "failed", "sooner than min_duration 30s"),
        "silent": ({"command": "echo begin; sleep 60", "no_output_timeout": "1s", "grace": "1s"},
                   "failed", "silent for 1s"),
        "talks": ({"command": "for i in 1 2 3 4; do sleep 0.4; echo $i; done", "no_output_timeout": "1s"},
                  "succeeded", "exit code 0"),
    }  # fmt: skip
    fleet.send(*({"job": run_id, "run_id": run_id, **asked} for run_id, (asked, _, _) in rules.items()))
    for event in fleet.events.wait_ended(list(rules)):
        data = event["data"]
        _, outcome, reason = rules[data["run_id"]]
        assert data["outcome"] == outcome, data
        assert data["duration_s"] < 10
        assert reason in data["reason"], data
    fleet.wait_empty()


# -- maintenance


def test_a_pause_lasts_over_a_restart_and_ends_by_itself(fleet: Fleet) -> None:
    host = fleet.host()
    host.state.mkdir(parents=True)
    until = time.time() + 2.5
    Pausing(host.state).pause("root", "disk is exchanged", until)
    host.start()
    wait_logged(host, "agent_started")
    fleet.send({"job": "a", "run_id": "r", "command": "true"})
    [event] = fleet.events.wait_ended(["r"])
    assert datetime.fromisoformat(event["data"]["started_at"]).timestamp() >= until
    assert event["data"]["delivery"] == 1
    assert wait_logged(host, "resumed")["by"] == "its own end"
    assert not (host.state / "pause.json").exists()
