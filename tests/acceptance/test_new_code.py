"""An agent and a run-once beside their supervisor's own changes: its new code, and a runtime directory that is gone."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from fleet import COMMAND
from waiting import wait_for

if TYPE_CHECKING:
    from fleet import Fleet, Host


def begun(starts: Path, count: int = 1) -> int:
    """The pid of the process that began last, once so many have."""

    def last() -> int | None:
        lines = starts.read_text().split() if starts.exists() else []
        return int(lines[-1]) if len(lines) == count else None

    return wait_for(last, "the job runs")


def test_a_runtime_directory_that_is_gone_over_a_restart_costs_no_run_and_starts_none_twice(fleet: Fleet) -> None:
    """And nobody is told that a living run is lost."""
    host = fleet.host(visibility="10s")
    host.start()
    go, starts = fleet.directory / "go", fleet.directory / "starts"
    wait = f"echo $$ >> {starts}; until [ -e {go} ]; do sleep 0.2; done; exit 3"
    fleet.send({"job": "a", "run_id": "r", "command": wait})
    job = begun(starts)
    before = wait_for(host.supervisor, "the supervisor listens")
    host.kill()
    shutil.rmtree(host.runtime)
    host.start()
    wait_for(lambda: host.log().count('"agent_started"') == 2, "the next agent is there", 90, detail=host.log)
    assert host.supervisor() == before
    assert psutil.pid_exists(job)
    go.touch()
    fleet.events.wait_ended(["r"])
    fleet.wait_empty(60)
    assert begun(starts) == job
    ends = {event["id"]: event["data"] for event in fleet.events.seen if event["type"].endswith(".finished")}
    assert [(end["outcome"], end["exit_code"]) for end in ends.values()] == [("failed", 3)]


def test_a_run_once_and_its_job_stay_tied_over_new_code_of_the_supervisor(fleet: Fleet) -> None:
    """One goes on and ends as its job; of one that is killed afterwards the job ends too."""
    host = fleet.host()
    go, starts = fleet.directory / "go", fleet.directory / "starts"
    message = fleet.directory / "message.json"
    wait = f"echo $$ >> {starts}; until [ -e {go} ]; do sleep 0.2; done; exit 5"
    message.write_text(json.dumps({"job": "a", "command": wait}))
    words = [COMMAND, "--config", str(host.config), "run-once", "--message", str(message)]
    processes = []
    try:
        for count in (1, 2):
            with (fleet.directory / f"said-{count}").open("wb") as said:
                processes.append(subprocess.Popen(words, env=host.environment, stdin=subprocess.DEVNULL, stderr=said))
            begun(starts, count)
        first, second = (int(line) for line in starts.read_text().split())
        take_new_code(host)
        processes[1].kill()
        wait_for(lambda: not psutil.pid_exists(second), "the job ends with whom it is tied to", 30)
        assert psutil.pid_exists(first)
        go.touch()
        assert processes[0].wait(60) == 5
    finally:
        go.touch()
        for process in processes:
            process.kill()
            process.wait()


def take_new_code(host: Host) -> None:
    """As an upgrade makes it do; it is the same process all the same."""
    pid = wait_for(host.supervisor, "the supervisor listens")
    os.kill(pid, signal.SIGHUP)
    wait_for(lambda: b"--state-fd" in Path(f"/proc/{pid}/cmdline").read_bytes(), "it has taken new code", 30)
    wait_for(lambda: host.supervisor() == pid, "it listens", 30)
