"""Stop, restart, shutdown and reload: who asks, what becomes of the jobs, and that no message is stranded."""

from __future__ import annotations

import json
import signal
import sqlite3
import time
import uuid
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from runner.agent.host.stopping import own_unit

from fleet import processes_of
from waiting import wait_for

if TYPE_CHECKING:
    from pathlib import Path

    from faults import Proxy
    from fleet import Fleet, Host


def running(fleet: Fleet, host: Host, run_id: str = "r", **more: Any) -> str:
    """A job that hangs; returns the mark of its process."""
    mark = f"20{uuid.uuid4().int % 10**9}"
    fleet.send({"job": "hang", "run_id": run_id, "command": f"exec sleep {mark}", **more})
    fleet.events.wait(run_id, "started")
    wait_for(lambda: processes_of(mark), "the job runs", detail=host.log)
    return mark


def handed_back(fleet: Fleet, most_deliveries: int = 3) -> dict[str, Any]:
    """The one message of the job queue, visible now; gone afterwards."""
    names = ["ApproximateReceiveCount"]
    answer = fleet.aws.sqs.receive_message(
        QueueUrl=fleet.queue, MaxNumberOfMessages=10, MessageSystemAttributeNames=names, VisibilityTimeout=60
    )
    [message] = answer["Messages"]
    assert int(message["Attributes"]["ApproximateReceiveCount"]) <= most_deliveries
    fleet.aws.sqs.delete_message(QueueUrl=fleet.queue, ReceiptHandle=message["ReceiptHandle"])
    return dict(json.loads(message["Body"]))


def outcomes(fleet: Fleet, run_id: str = "r") -> list[tuple[str, str]]:
    fleet.events.collect()
    return [(e["data"]["outcome"], e["data"]["reason"]) for e in fleet.events.of(run_id, "finished")]


@pytest.mark.parametrize("aws_server", ["standin"], indirect=True)
def test_a_receive_under_way_is_finished_and_handed_back(fleet: Fleet, proxy: Proxy) -> None:
    """The answer is on its way for a second; the agent is told to stop meanwhile."""
    fleet.endpoint = proxy.endpoint
    host = fleet.host()
    host.start()
    wait_for(lambda: proxy.count("ReceiveMessage") >= 1, "the agent polls", detail=host.log)
    proxy.slow(1.0, "ReceiveMessage")
    polls = proxy.count("ReceiveMessage")
    wait_for(lambda: proxy.count("ReceiveMessage") > polls, "the next poll is under way")
    fleet.send({"job": "late", "run_id": "late", "command": "true"})
    host.signal(signal.SIGTERM)
    assert host.wait() == 0
    assert handed_back(fleet, most_deliveries=2)["run_id"] == "late"
    fleet.events.collect()
    assert not fleet.events.of("late")


def test_a_drain_ends_by_its_timeout(fleet: Fleet) -> None:
    host = fleet.host(more='agent.drain_timeout = "1s"\n')
    host.start()
    mark = running(fleet, host)
    began = time.monotonic()
    assert host.stop() == 0, host.log()
    assert 1 <= time.monotonic() - began < 15
    assert not processes_of(mark)
    assert [outcome for outcome, _ in outcomes(fleet)] == ["interrupted"]
    assert handed_back(fleet)["run_id"] == "r"


def test_the_message_waits_for_the_last_process(fleet: Fleet) -> None:
    """A job that does not hear, and what it left in the background, are killed before anybody else gets the message."""
    host = fleet.host(more='agent.on_stop = "kill"\n')
    host.start()
    mark = f"20{uuid.uuid4().int % 10**9}"
    deaf = f"trap '' TERM; (trap '' TERM; sleep {mark} & wait) & sleep {mark} & while :; do wait; done"
    fleet.send({"job": "deaf", "run_id": "r", "command": deaf, "grace": "2s"})
    fleet.events.wait("r", "started")
    wait_for(lambda: len(processes_of(mark)) >= 2, "the job runs")
    host.signal(signal.SIGTERM)
    seen: list[int] = []

    def visible() -> bool:
        names = ["ApproximateNumberOfMessages"]
        answer = fleet.aws.sqs.get_queue_attributes(QueueUrl=fleet.queue, AttributeNames=names)
        seen.append(int(answer["Attributes"][names[0]]))
        return seen[-1] > 0 or host.agent.poll() is not None

    wait_for(visible, "the message is handed back", detail=host.log)
    assert not processes_of(mark)
    assert host.wait() == 0
    assert [outcome for outcome, _ in outcomes(fleet)] == ["interrupted"]
    assert handed_back(fleet)["run_id"] == "r"


def test_a_stop_says_what_it_waits_for_and_how_to_end_that(fleet: Fleet) -> None:
    host = fleet.host()
    host.start()
    mark = running(fleet, host)
    host.signal(signal.SIGINT)
    wait_for(lambda: "waits for 1 job, up to 10m; a second signal (Ctrl-C) stops them" in host.log(), "it says so")
    assert processes_of(mark)
    host.signal(signal.SIGINT)
    assert host.wait(30) == 0
    assert "their processes are stopped with their grace" in host.log()
    assert not processes_of(mark)


def test_a_third_signal_waits_for_no_grace(fleet: Fleet) -> None:
    host = fleet.host()
    host.start()
    mark = f"20{uuid.uuid4().int % 10**9}"
    fleet.send({"job": "deaf", "run_id": "r", "command": f"trap '' TERM; sleep {mark}; sleep {mark}", "grace": "1h"})
    fleet.events.wait("r", "started")
    wait_for(lambda: processes_of(mark), "the job runs")
    for _ in range(3):
        host.signal(signal.SIGTERM)
        time.sleep(0.3)  # one signal that is pending swallows the next
    assert host.wait(15) == 0
    assert not processes_of(mark)
    assert [outcome for outcome, _ in outcomes(fleet)] == ["interrupted"]
    assert handed_back(fleet)["run_id"] == "r"


def test_a_drain_leaves_the_next_attempt_to_another_host(fleet: Fleet) -> None:
    host = fleet.host()
    host.start()
    fleet.send({"job": "again", "run_id": "r", "command": "exit 1", "retries": {"max": 3, "backoff": "10m"}})
    fleet.events.wait("r", "finished")
    began = time.monotonic()
    assert host.stop() == 0, host.log()
    assert time.monotonic() - began < 15
    assert handed_back(fleet)["run_id"] == "r"
    assert outcomes(fleet) == [("failed", "exit code 1"), ("interrupted", "the agent was told to stop")]
    last = fleet.events.of("r", "finished")[-1]["data"]
    assert (last["attempt"], last["will_retry"], last["exit_code"]) == (2, False, None)


def test_a_retry_that_only_this_host_can_make_is_kept(fleet: Fleet) -> None:
    """Its message is deleted (`ack = "on-start"`): the journal keeps the run for the next agent."""
    host = fleet.host()
    host.start()
    first = fleet.directory / "first"
    fleet.send(
        {
            "job": "again",
            "run_id": "r",
            "command": f"if [ ! -e {first} ]; then touch {first}; exit 1; fi",
            "retries": {"max": 1, "backoff": "4s"},
            "ack": "on-start",
        }
    )
    fleet.events.wait("r", "finished")
    assert host.stop() == 0, host.log()
    host.start()
    [event] = fleet.events.wait_ended(["r"])
    assert (event["data"]["outcome"], event["data"]["attempt"]) == ("succeeded", 2)


@pytest.mark.parametrize("aws_server", ["standin"], indirect=True)
def test_a_stop_while_aws_is_away(fleet: Fleet, proxy: Proxy) -> None:
    """Nothing can be told and nothing deleted: that is the next agent's, and this one goes."""
    fleet.endpoint = proxy.endpoint
    host = fleet.host()
    host.start()
    go = fleet.directory / "go"
    fleet.send({"job": "cut-off", "run_id": "r", "command": f"while [ ! -e {go} ]; do sleep 0.1; done; echo done"})
    fleet.events.wait("r", "started")
    proxy.reset()
    go.touch()
    wait_for(lambda: "run_finished" in host.log(), "the run has ended", detail=host.log)
    assert host.stop(60) == 0, host.log()
    proxy.heal()
    host.start()
    [event] = fleet.events.wait_ended(["r"])
    assert event["data"]["outcome"] == "succeeded"
    fleet.wait_empty()
    fleet.wait_lines("cut-off", "r", ["done"])
    assert len(fleet.events.of("r", "started")) == 1


# -- systemd: a stand-in for systemctl says what it is about to do


def systemctl(fleet: Fleet, jobs: str) -> dict[str, str]:
    """The environment of an agent in a unit, where `systemctl list-jobs` prints these jobs."""
    directory: Path = fleet.directory / "bin"
    directory.mkdir()
    program = directory / "systemctl"
    program.write_text(f"#!/bin/sh\n[ \"$1\" = list-jobs ] && printf '{jobs}'\n")
    program.chmod(0o755)
    return {"PATH": f"{directory}:/usr/bin:/bin", "INVOCATION_ID": uuid.uuid4().hex}


def test_systemd_restarts_the_agent(fleet: Fleet) -> None:
    unit = own_unit({"INVOCATION_ID": "x"})
    host = fleet.host(more='agent.on_stop = "kill"\n')
    host.start(**systemctl(fleet, f"7 other.service start waiting\\n12 {unit} restart running\\n"))
    mark = running(fleet, host)
    assert host.stop() == 0, host.log()
    assert processes_of(mark)
    with closing(sqlite3.connect(host.state / "journal.db", timeout=10)) as connection:
        [(until,)] = connection.execute("SELECT lease_until FROM runs").fetchall()
    assert 800 < until - time.clock_gettime(time.CLOCK_BOOTTIME) <= 900
    assert outcomes(fleet) == []


def test_the_host_shuts_down(fleet: Fleet) -> None:
    host = fleet.host(more='agent.on_stop = "leave"\n')
    host.start(**systemctl(fleet, "3 reboot.target start waiting\\n4 shutdown.target start waiting\\n"))
    mark = running(fleet, host)
    assert host.stop() == 0, host.log()
    assert not processes_of(mark)
    assert outcomes(fleet) == [("interrupted", "the host is shutting down")]
    assert handed_back(fleet)["run_id"] == "r"


def test_systemd_stops_the_agent(fleet: Fleet) -> None:
    unit = own_unit({"INVOCATION_ID": "x"})
    host = fleet.host(more='agent.on_stop = "kill"\n')
    host.start(**systemctl(fleet, f"12 {unit} stop running\\n"))
    mark = running(fleet, host)
    assert host.stop() == 0, host.log()
    assert not processes_of(mark)
    assert outcomes(fleet) == [("interrupted", "the agent was told to stop")]


# -- reload


def test_a_reload_takes_what_can_change_and_refuses_a_bad_file(fleet: Fleet) -> None:
    host = fleet.host(max_jobs=1)
    host.start()
    mark = running(fleet, host)
    good = host.config.read_text()
    host.config.write_text(good + "agnet.on_stop = 1\n")
    host.signal(signal.SIGHUP)
    wait_for(lambda: "reload_refused" in host.log(), "the bad file is refused", detail=host.log)
    assert "agnet" in host.log()
    more = good.replace("max_jobs = 1", "max_jobs = 2") + 'agent.on_stop = "kill"\n'
    host.config.write_text(more.replace('group = "test"', 'group = "other"'))
    fleet.send({"job": "more", "run_id": "more", "command": "echo more"})
    host.signal(signal.SIGHUP)
    # Without the reload there would be no room for it.
    [event] = fleet.events.wait_ended(["more"])
    assert event["data"]["outcome"] == "succeeded"
    assert event["data"]["group"] == "test"
    assert '"keys": ["group"]' in host.log(), "what needs a restart is said"
    assert processes_of(mark)
    assert host.stop() == 0, host.log()
    assert [outcome for outcome, _ in outcomes(fleet)] == ["interrupted"]
