"""A supervisor that stands still keeps its connections: only asking tells, and nothing is received meanwhile."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from asking import health, listen
from fleet import COMMAND
from waiting import wait_for

if TYPE_CHECKING:
    from fleet import Fleet

pytestmark = [pytest.mark.parametrize("aws_server", ["standin"], indirect=True), pytest.mark.timeout(200)]

TOLD_WITHIN_S = 10.0
# The agent gives up a connection that has not answered for a minute. Shortened, so that it happens here too.
HASTY = """
import sys
from runner.agent.supervision import connection as supervision
supervision._ANSWER_WITHIN = 8.0
from runner.cli.main import entry
entry()
"""


@pytest.mark.parametrize("given_up", [False, True], ids=["before", "after the connection was given up"])
def test_a_supervisor_that_stands_still_is_told_and_nothing_is_received(fleet: Fleet, *, given_up: bool) -> None:
    host = fleet.host()
    address = listen(host)
    host.start(program=[sys.executable, "-c", HASTY])
    fleet.send({"job": "a", "run_id": "before", "command": "sleep 4; echo x"})
    fleet.events.wait("before", "started")
    wait_for(lambda: health(address)[0] == 200, "a healthy agent", 30, host.log)
    pid = host.supervisor()
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        begun = time.monotonic()
        wait_for(lambda: health(address)[0] == 503, "a page that says so", TOLD_WITHIN_S, host.log)
        assert time.monotonic() - begun < TOLD_WITHIN_S
        _, said = health(address)
        assert any("supervisor" in reason for reason in said["reasons"]), said
        fleet.send({"job": "a", "run_id": "meanwhile", "command": "echo y"})
        until = time.monotonic() + (15 if given_up else 5)
        while time.monotonic() < until:
            assert health(address)[0] == 503
            time.sleep(0.5)
        fleet.events.collect()
        assert fleet.events.of("meanwhile") == []
        assert '"meanwhile"' not in host.log()
        visible = fleet.aws.sqs.get_queue_attributes(QueueUrl=fleet.queue, AttributeNames=["All"])["Attributes"]
        assert visible["ApproximateNumberOfMessages"] == "1", "it was received"
    finally:
        os.kill(pid, signal.SIGCONT)
    for end in fleet.events.wait_ended(["before", "meanwhile"], within=40):
        assert end["data"]["outcome"] == "succeeded"
    wait_for(lambda: health(address)[0] == 200, "a healthy agent again", 30, host.log)
    assert len(fleet.events.of("before", "started")) == 1


def test_who_comes_to_one_that_stands_still_is_told_too(fleet: Fleet) -> None:
    """`check` and a starting agent do not wait a minute for what will not come."""
    host = fleet.host()
    host.start()
    wait_for(host.supervisor, "the supervisor", 30, host.log)
    pid = host.supervisor()
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        host.kill()
        begun = time.monotonic()
        host.start()
        assert host.wait(20) not in (0, 78)
        assert time.monotonic() - begun < 2 * TOLD_WITHIN_S
        assert "does not answer" in host.log()
        done = subprocess.run(
            [COMMAND, "--config", str(host.config), "run-once", "--offline", "--message", "-"],
            input='{"job": "a", "command": "true"}', env=host.environment, capture_output=True, text=True,
            timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 125
        assert "does not answer" in done.stderr
    finally:
        os.kill(pid, signal.SIGCONT)
