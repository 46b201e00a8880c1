"""What AWS announces of an instance's end, by stubs of its metadata and of Auto Scaling, and the installed agent."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from instances import INSTANCE, NO_ACTION, Instance, instance
from waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from fleet import Fleet, Host

pytestmark = pytest.mark.parametrize("aws_server", ["standin"], indirect=True)

NOTICES = "\nfleet.notices = true\n"
HOOK = f'{NOTICES}fleet.lifecycle_hook = "web/drain"\n'


@pytest.fixture
def ec2() -> Iterator[Instance]:
    with instance() as made:
        yield made


def pause(host: Host) -> dict[str, Any]:
    answer = host.command("status", "--json")
    return (json.loads(answer.stdout)["pause"] or {}) if answer.returncode == 0 else {}


def test_a_recommendation_drains_only_who_asked_for_it(fleet: Fleet, ec2: Instance) -> None:
    ec2.metadata["events/recommendations/rebalance"] = json.dumps({"noticeTime": "2030-01-31T04:00:00Z"})
    unmoved = fleet.host("unmoved", more=NOTICES, **ec2.environment)
    unmoved.start()
    fleet.send({"job": "x", "run_id": "x-1", "command": "true"})
    fleet.events.wait_ended(["x-1"])
    assert unmoved.stop() == 0
    host = fleet.host("moved", more=f"{NOTICES}fleet.rebalance = true\n", **ec2.environment)
    host.start()
    wait_for(lambda: pause(host).get("kind") == "drain", "the host drains", 30, host.log)
    assert pause(host)["note"] == "rebalance recommendation of 2030-01-31T04:00:00Z"
    # What follows is what people are told.
    ec2.metadata["spot/instance-action"] = json.dumps({"action": "terminate", "time": "2030-01-31T04:02:00Z"})
    wait_for(lambda: "spot interruption" in pause(host).get("note", ""), "the interruption is told", 30, host.log)
    del ec2.metadata["spot/instance-action"], ec2.metadata["events/recommendations/rebalance"]
    wait_for(lambda: not pause(host), "the drain is over", 30, host.log)
    assert ec2.calls == []


def test_auto_scaling_waits_while_a_job_runs_and_no_longer(fleet: Fleet, ec2: Instance, tmp_path: Path) -> None:
    host = fleet.host("leaver", more=HOOK, **ec2.environment)
    host.start()
    gate = tmp_path / "gate"
    gate.touch()
    fleet.send({"job": "x", "run_id": "x-1", "command": f"while [ -e {gate} ]; do sleep 0.1; done; echo done"})
    fleet.events.wait("x-1", "started")
    assert ec2.calls == []
    ec2.metadata["autoscaling/target-lifecycle-state"] = "Terminated"
    wait_for(lambda: ec2.calls, "auto scaling is held", 30, host.log)
    assert pause(host)["note"] == "auto scaling: Terminated"
    assert ec2.actions() == ["RecordLifecycleActionHeartbeat"]
    of = {key: ec2.calls[0][key] for key in ("AutoScalingGroupName", "LifecycleHookName", "InstanceId")}
    assert of == {"AutoScalingGroupName": "web", "LifecycleHookName": "drain", "InstanceId": INSTANCE}
    gate.unlink()
    wait_for(lambda: "CompleteLifecycleAction" in ec2.actions(), "auto scaling may go on", 30, host.log)
    assert ec2.calls[-1]["LifecycleActionResult"] == "CONTINUE"
    # All that the host alone knew is told before.
    fleet.events.collect()
    assert fleet.events.of("x-1", "finished")
    assert fleet.lines("x", "x-1") == ["done"]
    assert host.stop() == 0
    assert ec2.actions().count("CompleteLifecycleAction") == 1


def test_check_says_whether_the_heartbeat_is_allowed(fleet: Fleet, ec2: Instance) -> None:
    host = fleet.host("checked", more=HOOK, **ec2.environment)

    def line() -> str:
        (found,) = [line for line in host.command("check").stdout.splitlines() if " lifecycle " in f"{line} "]
        return " ".join(found.split())

    ec2.refusals = [("ValidationError", NO_ACTION)]
    assert line() == "ok lifecycle RecordLifecycleActionHeartbeat for web/drain is allowed"
    ec2.refusals = [("ValidationError", "AutoScalingGroup name not found - AutoScalingGroup web not found")]
    assert "failed lifecycle web/drain: AutoScalingGroup name not found" in line()
    ec2.refusals = [("AccessDenied", "User is not authorized")]
    assert "allow autoscaling:RecordLifecycleActionHeartbeat" in line()
