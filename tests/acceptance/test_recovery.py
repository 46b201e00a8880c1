"""What the next agent makes of what it finds: runs that ended meanwhile, runs that were lost, runs that go on."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import time
import uuid
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from fleet import COMMAND, processes_of
from waiting import wait_for

if TYPE_CHECKING:
    from fleet import Fleet, Host


@pytest.fixture
def host(fleet: Fleet) -> Host:
    """A host whose agent runs. A message that SQS gives to the poll of a killed one is back after ten seconds."""
    made = fleet.host(visibility="10s")
    made.start()
    return made


def journal(host: Host, sql: str, *values: Any) -> list[tuple[Any, ...]]:
    """Ask or change the host's journal, as nobody but a test does."""
    with closing(sqlite3.connect(host.state / "journal.db", timeout=10)) as connection, connection:
        return connection.execute(sql, values).fetchall()


def seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def kill_supervisor(host: Host) -> int:
    pid = wait_for(host.supervisor, "the supervisor listens")
    os.kill(pid, signal.SIGKILL)
    return pid


def twice(fleet: Fleet, mark: str) -> str:
    """A job that hangs the first time, and the second time says whether its first process is still there."""
    pid = fleet.directory / "pid"
    return (
        f"if [ ! -e {pid} ]; then echo $$ > {pid}; exec sleep {mark}; fi; "
        f"if [ -n \"$(cat /proc/$(cat {pid})/cmdline 2>/dev/null | tr -d '\\0')\" ]; "
        "then echo beside; else echo alone; fi"
    )


def test_a_job_that_ends_while_the_agent_is_down(fleet: Fleet, host: Host) -> None:
    ended = fleet.directory / "ended"
    fleet.send(
        {
            "job": "alone",
            "run_id": "r",
            "command": f"for i in 1 2 3; do echo line $i; sleep 0.3; done; date +%s.%N > {ended}.new; "
            f"mv {ended}.new {ended}; exit 3",
        }
    )
    started = fleet.events.wait("r", "started")
    host.kill()
    wait_for(ended.exists, "the job has ended")
    true_end = float(ended.read_text())
    wait_for(lambda: time.time() > true_end + 2, "the agent is down for two more seconds")
    host.start()
    [event] = fleet.events.wait_ended(["r"])
    data = event["data"]
    assert (data["outcome"], data["exit_code"], data["reason"]) == ("failed", 3, "exit code 3")
    assert abs(seconds(data["finished_at"]) - true_end) < 1
    assert data["started_at"] == started["data"]["started_at"]
    assert abs(data["duration_s"] - (true_end - seconds(data["started_at"]))) < 1
    fleet.wait_lines("alone", "r", ["line 1", "line 2", "line 3"])
    fleet.wait_empty()
    assert len(fleet.events.of("r", "started")) == 1


def test_a_supervisor_that_is_killed_under_the_agent(fleet: Fleet, host: Host) -> None:
    mark = f"20{uuid.uuid4().int % 10**9}"
    fleet.send({"job": "lost", "run_id": "r", "command": twice(fleet, mark), "retries": 3})
    fleet.events.wait("r", "started")
    wait_for(lambda: processes_of(mark), "the job hangs")
    kill_supervisor(host)
    wait_for(lambda: len(ends(fleet, "r")) == 2, "the run was lost and ran again", detail=host.log)
    lost, again = ends(fleet, "r")
    assert (lost["outcome"], lost["reason"]) == ("lost", "the supervisor went away under it")
    assert (lost["exit_code"], lost["will_retry"]) == (None, False)
    assert (again["outcome"], again["delivery"]) == ("succeeded", 2)
    assert lost["execution"] != again["execution"]
    # What a dead supervisor leaves behind is killed before its successor starts anything.
    fleet.wait_lines("lost", "r", ["alone"])
    assert not processes_of(mark)
    fleet.wait_empty()
    assert host.agent.poll() is None


def ends(fleet: Fleet, run_id: str) -> list[dict[str, Any]]:
    """The data of all finished events of a run, over its executions, in the order of their times."""
    fleet.events.collect()
    finished = sorted(fleet.events.of(run_id, "finished"), key=lambda event: str(event["time"]))
    return [event["data"] for event in finished]


def test_another_boot(fleet: Fleet, host: Host) -> None:
    """The journal of a host that was restarted: nothing of what ran can still be alive."""
    mark = f"20{uuid.uuid4().int % 10**9}"
    fleet.send({"job": "boot", "run_id": "r", "command": twice(fleet, mark)})
    fleet.events.wait("r", "started")
    wait_for(lambda: processes_of(mark), "the job hangs")
    host.kill()
    kill_supervisor(host)
    # On the clock of that boot its lease would end in the far future.
    journal(
        host, "UPDATE runs SET boot_id = 'another', lease_taken = lease_taken + 1e6, lease_until = lease_until + 1e6"
    )
    host.start()
    wait_for(lambda: len(ends(fleet, "r")) == 2, "the run was lost and ran again", detail=host.log)
    lost, again = ends(fleet, "r")
    assert (lost["outcome"], lost["reason"]) == ("lost", "the host was restarted under it")
    assert again["outcome"] == "succeeded"
    fleet.wait_lines("boot", "r", ["alone"])
    fleet.wait_empty()


def test_a_restart_leaves_the_jobs(fleet: Fleet) -> None:
    host = fleet.host(more='agent.on_stop = "leave"\n')
    host.start()
    go = fleet.directory / "go"
    script = f"echo begin; while [ ! -e {go} ]; do sleep 0.1; done; echo end"
    fleet.send({"job": "left", "run_id": "r", "command": script})
    fleet.events.wait("r", "started")
    assert host.stop() == 0, host.log()
    [(until,)] = journal(host, "SELECT lease_until FROM runs")
    assert 800 < until - time.clock_gettime(time.CLOCK_BOOTTIME) <= 900
    assert host.supervisor() is not None
    host.start()
    wait_for(lambda: "run_resumed" in host.log(), "the run is taken over", detail=host.log)
    go.touch()
    [event] = fleet.events.wait_ended(["r"])
    assert (event["data"]["outcome"], event["data"]["delivery"]) == ("succeeded", 1)
    fleet.wait_lines("left", "r", ["begin", "end"])
    fleet.wait_empty()
    assert len(fleet.events.of("r", "started")) == 1


def test_a_retry_that_is_due_after_a_restart(fleet: Fleet, host: Host) -> None:
    first = fleet.directory / "first"
    script = f"echo $CRON_RUNNER_ATTEMPT; if [ ! -e {first} ]; then touch {first}; exit 1; fi"
    fleet.send({"job": "again", "run_id": "r", "command": script, "retries": {"max": 1, "backoff": "3s"}})
    failed = fleet.events.wait("r", "finished")
    assert failed["data"]["will_retry"] is True
    host.kill()
    host.start()
    [event] = fleet.events.wait_ended(["r"])
    data = event["data"]
    assert (data["outcome"], data["attempt"]) == ("succeeded", 2)
    assert data["execution"] == failed["data"]["execution"]
    assert seconds(data["started_at"]) - seconds(failed["data"]["finished_at"]) >= 2.9
    fleet.wait_lines("again", "r", ["1", "2"])
    fleet.wait_empty()
    # The order of all that was told survives the restart.
    sequences = [event["data"]["sequence"] for event in fleet.events.of("r")]
    assert sequences == list(range(1, len(sequences) + 1))


def test_at_most_once(fleet: Fleet, host: Host) -> None:
    """`ack = "on-start"`: the message goes before the command starts, so a run that is lost stays lost."""
    ran = fleet.directory / "ran"
    body = {"job": "once", "run_id": "r", "command": f"echo ran >> {ran}; exec sleep 1000", "ack": "on-start"}
    fleet.send(body)
    fleet.events.wait("r", "started")
    wait_for(ran.exists, "the job runs")
    assert fleet.aws.depth(fleet.queue) == 0
    kill_supervisor(host)
    [event] = fleet.events.wait_ended(["r"])
    assert event["data"]["outcome"] == "lost"
    # Even if the message comes back (its deletion was lost on the way), it is answered and not run.
    fleet.send(body)
    wait_for(lambda: "message_answered_before" in host.log(), "the second message is answered", detail=host.log)
    fleet.wait_empty()
    assert ran.read_text() == "ran\n"


def test_agent_and_supervisor_killed_together(fleet: Fleet, host: Host) -> None:
    """As by the kernel's out-of-memory killer: the output that was written is shipped, the run is lost and repeated."""
    said = fleet.directory / "said"
    script = f"if [ -e {said} ]; then echo second; exit 0; fi; echo first; touch {said}; exec sleep 1000"
    fleet.send({"job": "both", "run_id": "r", "command": script})
    fleet.events.wait("r", "started")
    wait_for(said.exists, "the job has said something")
    host.kill()
    kill_supervisor(host)
    host.start()
    wait_for(lambda: len(ends(fleet, "r")) == 2, "the run was lost and ran again", detail=host.log)
    assert [data["outcome"] for data in ends(fleet, "r")] == ["lost", "succeeded"]
    wait_for(lambda: sorted(fleet.lines("both", "r")) == ["first", "second"], "the output of both")
    fleet.wait_empty()
    assert not list(Path(host.runtime).glob("*.records"))


def test_twelve_hours(fleet: Fleet, host: Host) -> None:
    """Before SQS would give the message away it is deleted, and this host answers for the run alone."""
    go = fleet.directory / "go"
    fleet.send({"job": "long", "run_id": "r", "command": f"while [ ! -e {go} ]; do sleep 0.1; done; echo done"})
    fleet.events.wait("r", "started")
    host.kill()
    journal(host, "UPDATE runs SET lease_taken = lease_taken - 41700")  # received 11 h 35 min ago
    host.start()
    wait_for(lambda: fleet.aws.depth(fleet.queue) == 0, "the message is deleted", detail=host.log)
    assert journal(host, "SELECT message, state FROM runs") == [("taken_over", "running")]
    assert not go.exists()
    host.kill()
    host.start()  # and so does the next agent
    go.touch()
    [event] = fleet.events.wait_ended(["r"])
    assert event["data"]["outcome"] == "succeeded"
    fleet.wait_lines("long", "r", ["done"])
    assert fleet.aws.depth(fleet.queue) == 0


@pytest.mark.parametrize("aws_server", ["standin"], indirect=True)
@pytest.mark.parametrize("policy", ["continue", "kill"])
def test_a_lost_lease_is_a_decision(fleet: Fleet, policy: str) -> None:
    host = fleet.host(visibility="10s", more=f'queue.on_lost_lease = "{policy}"\n')
    host.start()
    go = fleet.directory / "go"
    mark = f"20{uuid.uuid4().int % 10**9}"
    command = f"while [ ! -e {go} ]; do sleep 0.1; done" if policy == "continue" else f"sleep {mark}"
    fleet.send({"job": "held", "run_id": "r", "command": command})
    fleet.events.wait("r", "started")
    [(receipt,)] = journal(host, "SELECT receipt FROM runs")
    fleet.aws.sqs.delete_message(QueueUrl=fleet.queue, ReceiptHandle=receipt)
    wait_for(lambda: "lease_lost" in host.log(), "the lease is lost", detail=host.log)
    go.touch()
    [event] = fleet.events.wait_ended(["r"])
    data = event["data"]
    assert data["lease_lost"] is True
    if policy == "continue":
        assert (data["outcome"], data["exit_code"]) == ("succeeded", 0)
        assert data["reason"].startswith("exit code 0; its lease was lost")
    else:
        assert data["outcome"] == "interrupted"
        assert "SQS refused the renewal" in data["reason"]
        assert not processes_of(mark)


def test_what_a_killed_run_once_left_is_taken_over_by_the_agent_beside_it(fleet: Fleet) -> None:
    """Its job ends with it; the agent tells that it was lost, and runs it again."""
    host = fleet.host(max_jobs=1)
    host.start()
    release, first = fleet.directory / "release", fleet.directory / "first"
    # The agent is full, so the next message is the run-once's.
    fleet.send({"job": "busy", "run_id": "busy", "command": f"until [ -e {release} ]; do sleep 0.1; done"})
    fleet.events.wait("busy", "started")
    once = subprocess.Popen(
        [COMMAND, "--config", str(host.config), "run-once"],
        env=host.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    fleet.send(
        {"job": "left", "run_id": "left", "command": f"if [ ! -e {first} ]; then touch {first}; exec sleep 300; fi"}
    )
    wait_for(first.exists, "the run-once's job runs")
    once.kill()
    once.wait()
    lost = fleet.events.wait("left", "finished", within=60)
    assert (lost["data"]["outcome"], lost["data"]["reason"]) == ("lost", "the process that ran it went away")
    release.touch()

    def succeeded() -> bool:
        fleet.events.collect()
        return any(event["data"]["outcome"] == "succeeded" for event in fleet.events.of("left", "finished"))

    wait_for(succeeded, "it ran again", within=60, detail=host.log)
    fleet.wait_empty()
    assert host.stop() == 0, host.log()
