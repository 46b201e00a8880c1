"""The main job while the wire misbehaves: nothing is lost, nothing runs twice on the host, nothing spins."""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fleet import Fleet
from standin import counts
from waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aws import Aws
    from faults import Proxy
    from fleet import Host

pytestmark = pytest.mark.parametrize("aws_server", ["standin"], indirect=True)


@pytest.fixture
def far(aws: Aws, proxy: Proxy) -> Iterator[Fleet]:
    """A group whose hosts reach AWS by way of the proxy."""
    directory = Path(tempfile.mkdtemp(prefix="crt-"))
    directory.chmod(0o755)
    made = Fleet(aws, directory, endpoint=proxy.endpoint)
    try:
        yield made
    finally:
        made.remove()
        shutil.rmtree(directory, ignore_errors=True)


def start(far: Fleet, **settings: str) -> Host:
    host = far.host(**settings)
    host.start()
    return host


def send(far: Fleet, count: int) -> list[str]:
    """Jobs that print numbered lines, and note in the host's own file that they ran."""
    ran = far.directory / "ran"
    ids = [f"r{number}" for number in range(count)]
    script = f'echo "$CRON_RUNNER_RUN_ID" >> {ran}; for i in 1 2 3 4 5; do echo "line $i"; done; exit $1'
    far.send(
        *(
            {"job": "counted", "run_id": run_id, "command": ["sh", "-c", script, "sh", str(number % 3)]}
            for number, run_id in enumerate(ids)
        )
    )
    return ids


def check(far: Fleet, ids: list[str]) -> None:
    """Every run ended once and right, its output is whole and in order, and no run ran twice."""
    far.wait_empty(within=60)
    for number, run_id in enumerate(ids):
        finished = far.events.of(run_id, "finished")
        assert len(finished) == 1, run_id
        assert finished[0]["data"]["exit_code"] == number % 3
        wait_for(lambda run_id=run_id: len(far.lines("counted", run_id)) >= 5, f"the output of {run_id}", 90)
        # A batch whose answer was lost may be repeated; the order of what is new is the order of the job.
        seen = list(dict.fromkeys(far.lines("counted", run_id)))
        assert seen == [f"line {line}" for line in range(1, 6)]
    assert sorted((far.directory / "ran").read_text().split()) == sorted(ids)
    assert counts(far.aws.endpoint)["violations"] == []
    assert far.aws.depth(far.dead) == 0


def test_three_in_ten_calls_fail(far: Fleet, proxy: Proxy) -> None:
    proxy.fail(0.3)
    host = start(far)
    ids = send(far, 40)
    far.events.wait_ended(ids, within=110)
    check(far, ids)
    assert host.agent.poll() is None


def test_messages_come_twice_and_receipts_expire(far: Fleet, proxy: Proxy) -> None:
    # Of 40 messages that come again with such odds, one comes six times now and then: the queue is to bear it.
    policy = {"deadLetterTargetArn": far.aws.arn(far.dead), "maxReceiveCount": 50}
    far.aws.sqs.set_queue_attributes(QueueUrl=far.queue, Attributes={"RedrivePolicy": json.dumps(policy)})
    proxy.redeliver(0.2)
    proxy.expire(0.2)
    host = start(far, visibility="10s")
    ids = send(far, 40)
    far.events.wait_ended(ids, within=60)
    proxy.heal()
    check(far, ids)
    assert host.agent.poll() is None


@pytest.mark.parametrize("how", ["refused", "reset", "swallowed"])
def test_an_outage_is_waited_out(far: Fleet, proxy: Proxy, how: str) -> None:
    host = start(far)
    ids = send(far, 20)
    wait_for(lambda: proxy.count("ReceiveMessage") >= 2, "the agent has begun")
    began = time.monotonic()
    {"refused": proxy.refuse, "reset": proxy.reset, "swallowed": proxy.swallow}[how]()
    more = [f"late-{number}" for number in range(3)]
    far.send(*({"job": "late", "run_id": run_id, "command": "true"} for run_id in more))
    wait_for(lambda: time.monotonic() - began > 8, "the outage has lasted")
    # The first second holds what was on its way; after it each client asks at most once a second.
    for action in proxy.counts():
        assert proxy.busiest_second(action, since=began + 1) <= 2, action
    assert host.agent.poll() is None
    proxy.heal()
    far.events.wait_ended([*ids, *more], within=90)
    check(far, ids)


def test_a_slow_wire(far: Fleet, proxy: Proxy) -> None:
    proxy.slow(2.0)
    start(far)
    ids = send(far, 10)
    far.events.wait_ended(ids, within=60)
    check(far, ids)


def test_an_empty_queue_is_asked_once_a_second_by_polls_that_do_not_wait(far: Fleet, proxy: Proxy) -> None:
    """A bill is made of such polls."""
    host = far.host()
    host.config.write_text(host.config.read_text().replace('queue.wait = "2s"', 'queue.wait = "0s"'))
    host.start()

    def five() -> list[float] | None:
        times = [call.at for call in proxy.calls if call.action == "ReceiveMessage"]
        return times[:5] if len(times) >= 5 else None

    times = wait_for(five, "five polls", 30, host.log)
    assert times[-1] - times[0] > 3.0, "four seconds, less what the first one was on its way"
    far.send({"job": "quick", "run_id": "r", "command": "true"})
    far.events.wait_ended(["r"])
    assert host.stop() == 0
