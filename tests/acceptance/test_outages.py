"""AWS is away: how long that is borne, what health says meanwhile, and that nothing is owed afterwards.

What the wire does on a bad day, call by call, is in `test_bad_days`. OUTAGE_S makes the outages here longer, and of
every kind (tests/crash.sh); CI has one kind, kept short by shortening the agent's own patience, which is a minute.
"""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from asking import health, listen
from waiting import wait_for

if TYPE_CHECKING:
    from aws import Aws
    from faults import Proxy
    from fleet import Fleet, Host

pytestmark = pytest.mark.parametrize("aws_server", ["standin"], indirect=True)

OUTAGE_S = float(os.environ.get("OUTAGE_S", "0"))
PATIENCE_S = 60.0 if OUTAGE_S else 3.0
# The same agent, whose limits of a minute are three seconds and whose calls are given up in two.
HASTY = f"""
import sys
import runner.aws.session as session
from runner.agent.operator import health
from runner.agent.reporting import outbox
outbox.PATIENCE_S = health.DEAF_AFTER_S = {PATIENCE_S}
if not {OUTAGE_S}:
    whole = session.Timeouts
    session.Timeouts = lambda: whole(connect=1.0, answer=1.0, slack=1.0)
from runner.cli.main import entry
sys.exit(entry())
"""
PROGRAM = (sys.executable, "-c", HASTY)
PURPOSES = {
    "receive": ("ReceiveMessage",),
    "results": ("SendMessageBatch",),
    "lease": ("ChangeMessageVisibilityBatch", "DeleteMessageBatch", "GetQueueAttributes"),
    "logs": ("PutLogEvents", "CreateLogStream", "CreateLogGroup"),
}


def hasty(fleet: Fleet, proxy: Proxy, **settings: str) -> tuple[Host, str]:
    """A host behind the proxy with little patience, and where its health is asked for."""
    fleet.endpoint = proxy.endpoint
    host = fleet.host(**settings)
    address = listen(host)
    host.start(program=PROGRAM)
    return host, address


def wait_health(address: str, status: int, word: str, host: Host) -> dict[str, Any]:
    """The page, as soon as it has this status and a reason with this word."""

    def found() -> dict[str, Any] | None:
        code, page = health(address)
        return page if code == status and word in " ".join(page["reasons"]) else None

    return wait_for(found, f"health is {status}", PATIENCE_S + 40, lambda: f"{health(address)}\n{host.log()}")


def calls_in(proxy: Proxy, actions: tuple[str, ...], began: float, ended: float) -> list[float]:
    return sorted(call.at for call in proxy.calls if call.action in actions and began <= call.at <= ended)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("how", ["reset", "refused", "swallowed", "throttled"] if OUTAGE_S else ["reset"])
def test_health_says_since_when_and_nothing_spins(fleet: Fleet, proxy: Proxy, how: str) -> None:
    host, address = hasty(fleet, proxy)
    go = fleet.directory / "go"
    script = f"echo begin; while [ ! -e {go} ]; do sleep 0.1; echo more; done; echo end"
    ids = [f"r{number}" for number in range(4)]
    fleet.send(*({"job": "through", "run_id": run_id, "command": script} for run_id in ids))
    for run_id in ids:
        fleet.events.wait(run_id, "started")
    wait_health(address, 200, "", host)
    began = time.monotonic()
    match how:
        case "refused":
            proxy.refuse()
        case "reset":
            proxy.reset()
        case "swallowed":
            proxy.swallow()
        case "throttled":
            proxy.fail(1.0)
    page = wait_health(address, 503, "no answer to a receive", host)
    outage = time.monotonic() - began
    # Since when: not less than the patience, and not since before the outage but for the last answered poll.
    assert PATIENCE_S <= page["receive_age_s"] <= outage + 3
    assert page["receive_error"] or how == "swallowed"
    wait_for(lambda: time.monotonic() - began > OUTAGE_S, "the outage has lasted", OUTAGE_S + 1)
    ended = time.monotonic()
    go.touch()  # the jobs end while nobody can be told
    wait_for(lambda: host.log().count("run_finished") == len(ids), "the jobs have ended", detail=host.log)
    assert host.agent.poll() is None
    proxy.heal()
    wait_health(address, 200, "", host)
    for event in fleet.events.wait_ended(ids, within=120):
        assert event["data"]["outcome"] == "succeeded"
    fleet.wait_empty(60)
    for run_id in ids:
        wait_for(lambda run_id=run_id: fleet.lines("through", run_id)[-1:] == ["end"], f"the output of {run_id}", 60)
    for purpose, actions in PURPOSES.items():
        # What was under way when it began may end in the same second as the first try.
        calls = calls_in(proxy, actions, began + 1, ended)
        assert len(calls) <= ended - began + 1, (purpose, calls)


@pytest.mark.parametrize("killed", ["none", "while it runs", "after its end"])
def test_output_of_an_outage_has_the_times_at_which_it_was_written(
    fleet: Fleet, aws: Aws, proxy: Proxy, killed: str
) -> None:
    fleet.endpoint = proxy.endpoint
    host = fleet.host()
    host.start()
    proxy.fail(1.0, "PutLogEvents")
    script = "for n in $(seq 8); do date +%s.%N; sleep 0.7; done"
    fleet.send({"job": "clock", "run_id": "r", "command": script})
    fleet.events.wait("r", "started")
    if killed == "while it runs":
        time.sleep(2)
        host.kill()
        host.start()
    fleet.events.wait_ended(["r"], within=60)
    time.sleep(2)
    if killed == "after its end":
        host.kill()
        host.start()
        time.sleep(1)
    assert not fleet.lines("clock", "r")
    proxy.heal()
    wait_for(lambda: len(fleet.lines("clock", "r")) == 8, "the output", 60, host.log)
    found = aws.logs.get_log_events(logGroupName=fleet.log_group, logStreamName="clock/r", startFromHead=True)["events"]
    offsets = [event["timestamp"] / 1000 - float(event["message"]) for event in found]
    # To a second, and some more on a machine that has other things to do.
    assert all(-1.0 <= offset <= 1.5 for offset in offsets), offsets


def test_a_queue_that_does_not_exist_yet(fleet: Fleet, aws: Aws, proxy: Proxy) -> None:
    """Neither the job queue nor the results queue is there at the start: both are found when they are made."""
    jobs, results = fleet.queue, fleet.results
    for queue in (jobs, results):
        aws.sqs.delete_queue(QueueUrl=queue)
    host, address = hasty(fleet, proxy)
    page = wait_health(address, 503, "no answer to a receive", host)
    assert "QueueDoesNotExist" in page["receive_error"]
    assert "create the queue" in page["receive_error"]
    fleet.queue = aws.queue(jobs.rpartition("/")[2])
    fleet.results = aws.queue(results.rpartition("/")[2])
    fleet.send({"job": "first", "run_id": "r", "command": "true"})
    [event] = fleet.events.wait_ended(["r"], within=60)
    assert event["data"]["outcome"] == "succeeded"
    wait_health(address, 200, "", host)
    fleet.wait_empty()
    assert [e for e in fleet.events.seen if e["type"].endswith("agent.started")]


def test_a_results_queue_that_is_away_keeps_no_message(fleet: Fleet, aws: Aws, proxy: Proxy) -> None:
    """After the patience the journal is enough: the message goes, the event waits for the queue."""
    results = fleet.results
    host, _ = hasty(fleet, proxy)
    fleet.send({"job": "first", "run_id": "first", "command": "true"})
    fleet.events.wait_ended(["first"])
    fleet.wait_empty()
    aws.sqs.delete_queue(QueueUrl=results)
    fleet.send({"job": "untold", "run_id": "r", "command": "exit 3"})
    wait_for(lambda: "run_finished" in host.log().partition("run_finished")[2], "the run ended", detail=host.log)
    ended = time.monotonic()
    assert aws.depth(fleet.queue) == 1
    wait_for(lambda: aws.depth(fleet.queue) == 0, "the message is deleted", PATIENCE_S + 40, host.log)
    assert time.monotonic() - ended > PATIENCE_S - 2.5
    host.kill()
    aws.queue(results.rpartition("/")[2])
    host.start(program=PROGRAM)
    [event] = fleet.events.wait_ended(["r"], within=60)
    assert (event["data"]["outcome"], event["data"]["exit_code"]) == ("failed", 3)
