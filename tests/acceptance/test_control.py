"""status, cancel, pause, resume and drain as an operator types them: what they print, and what then is so."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import select
import signal
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from runner.cli.main import COMMANDS

from fleet import COMMAND, processes_of
from waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Sequence
    from subprocess import CompletedProcess

    from fleet import Fleet, Host

pytestmark = [
    pytest.mark.timeout(180),
    pytest.mark.parametrize("aws_server", ["standin"], indirect=True),
]
WHO = "root" if os.geteuid() == 0 else os.environ.get("USER", "")
CONTROL = ("status", "cancel r1", "pause", "resume", "drain")
MASKS = (
    (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", "TIME"),
    (r"http://\S+", "QUEUE"),
    (r" on \S+, group", " on HOST, group"),
    (r"pid \d+", "pid PID"),
    (r"\b\d+(\.\d)?[KMG]\b", "SIZE"),
    (r"\b(\d+d\d+h|\d+h\d\dm|\d+m\d\ds|\d+m|\d+(\.\d)?s)(?=[ ,;:\n]|$)", "SPAN"),
    (r"\b\d+%", "SHARE"),
)


def masked(text: str) -> str:
    """Without what differs each time; runs of blanks, whose number follows from that, are one."""
    for pattern, word in MASKS:
        text = re.sub(pattern, word, text, flags=re.MULTILINE)
    return re.sub(r" {2,}", "  ", text)


def said(done: CompletedProcess[str]) -> tuple[int, str, str]:
    return done.returncode, masked(done.stdout), masked(done.stderr)


def status(host: Host) -> dict[str, Any]:
    done = host.command("status", "--json")
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return dict(json.loads(done.stdout))


def wait_state(host: Host, *states: str) -> dict[str, Any]:
    def reached() -> dict[str, Any] | None:
        seen = status(host)
        return seen if seen["state"] in states else None

    return wait_for(reached, f"the agent is {states}", detail=host.log)


def wait_held(host: Host, run_id: str) -> dict[str, Any]:
    """The held run, as soon as it is."""

    def found() -> dict[str, Any] | None:
        return next((run for run in status(host)["held"] if run["run_id"] == run_id), None)

    return wait_for(found, f"{run_id} is held", detail=host.log)


def up(host: Host) -> Host:
    """Start the agent, and wait until it polls."""
    host.start()
    wait_for(lambda: host.command("status").returncode == 0, "the agent answers", detail=host.log)
    wait_state(host, "polling")
    return host


def outcome(fleet: Fleet, run_id: str) -> tuple[str, str, int]:
    [event] = fleet.events.wait_ended([run_id])
    return event["data"]["outcome"], event["data"]["reason"], event["data"]["attempt"]


def hang(run_id: str, **more: Any) -> dict[str, Any]:
    return {"job": "hang", "run_id": run_id, "command": "exec sleep 2000", **more}


def running(fleet: Fleet, *run_ids: str) -> None:
    for run_id in run_ids:
        fleet.events.wait(run_id, "started")


# -- status


def test_status_as_text_and_as_json(fleet: Fleet) -> None:
    host = up(fleet.host(max_jobs=2))
    fleet.send({"job": "report", "run_id": "r0", "command": "exit 3"})
    fleet.events.wait_ended(["r0"])
    fleet.send(hang("r1", retries=2, timeout="2h"))
    running(fleet, "r1")
    wait_for(lambda: not status(host)["backlog"]["ended_runs"], "nothing is owed for r0")
    assert said(host.command("status")) == (
        0,
        f"""\
cron-runner 0.1.0 on HOST, group test, up SPAN, pid PID
queue  QUEUE
aws  answering for SPAN; last receive SPAN ago
state  polling
policy  free-for-all: jobs 1 of 2

RUNNING 1
RUN  JOB  USER  STATE  FOR  LEFT  TRY  CPU  MEM
r1  hang  {WHO}  running  SPAN  SPAN  1/3  SHARE  SIZE

RECENT
RUN  JOB  OUTCOME  AGO  TOOK  REASON
r0  report  failed  SPAN  SPAN  exit code 3
""",
        "",
    )
    seen = status(host)
    [run] = seen["runs"]
    [ended] = seen["recent"]
    assert list(seen) == [
        *("schema", "time", "agent", "host", "instance_id", "group", "queue", "state", "waiting_for", "health"),
        *("aws", "pause", "admission", "runs", "held", "recent", "backlog"),
    ]
    assert seen["agent"]["pid"] == host.agent.pid
    assert seen["health"] == {"ok": True, "reasons": [], "notes": []}
    assert (seen["aws"]["reachable"], seen["aws"]["error"]) == (True, None)
    assert seen["admission"] | {"load": None} == {
        **{"policy": "free-for-all", "offered": {"jobs": 2}, "used": {"jobs": 1}, "max_load": None, "load": None}
    }
    shown = {"run_id": "r1", "job": "hang", "state": "running", "user": WHO, "attempt": 1, "attempts": 3}
    assert run | shown == run
    assert run["processes"] == 1
    assert run["memory_bytes"] > 0
    since, deadline = (_unix(run[key]) for key in ("since", "deadline"))
    assert abs(deadline - since - 7200) < 1
    assert ended | {"run_id": "r0", "outcome": "failed", "reason": "exit code 3", "exit_code": 3} == ended
    assert 0 <= ended["duration_s"] < 30
    assert host.stop_all() == 0 if hasattr(host, "stop_all") else True


def _unix(moment: str) -> float:
    from runner.protocol.units import parse_time

    return parse_time(moment)


def test_what_is_held_says_why(fleet: Fleet) -> None:
    host = up(fleet.host(more='admission.hold = "10m"\n'))
    fleet.send(hang("r1"), hang("r2", overlap="wait"))
    running(fleet, "r1")
    held = wait_held(host, "r2")
    assert held["reason"] == "overlap: waits for run r1 of hang"
    assert (held["kind"], held["job"], held["delivery"]) == ("overlap", "hang", 1)
    shown = masked(host.command("status").stdout)
    assert "HELD 1\nRUN  JOB  FOR  WAITS FOR\nr2  hang  SPAN  overlap: waits for run r1 of hang\n" in shown


def test_resources_on_offer_and_in_use(fleet: Fleet) -> None:
    more = 'admission.policy = "resources"\nadmission.max_jobs = 4\n'
    config = fleet.host("host")
    text = config.config.read_text().replace('admission.policy = "free-for-all"\nadmission.max_jobs = 8\n', more)
    limits = "cpu = 8.0\nmemory = '64G'\nmax_load = 1.0\n[admission.resources.named]\nslots = 3\n"
    config.config.write_text(f"{text}[admission.resources]\n{limits}")
    host = up(config)
    fleet.send(hang("r1", resources={"cpu": 0.5, "memory": "32M", "slots": 2}))
    running(fleet, "r1")
    wait_for(lambda: status(host)["admission"]["used"].get("slots") == 2, "its slots are taken")
    admission = status(host)["admission"]
    assert admission["offered"] == {"cpu": 8, "memory": 64 << 30, "slots": 3, "jobs": 4}
    assert (admission["used"]["cpu"], admission["used"]["memory"]) == (0.5, 32 << 20)
    assert admission["load"]["cores"] > 0
    line = next(line for line in host.command("status").stdout.splitlines() if line.startswith("policy"))
    assert "resources: cpu 0.5 of 8, memory 32M of 64G, slots 2 of 3, jobs 1 of 4" in line


def test_an_outage_is_shown_with_since_when_and_why(fleet: Fleet, proxy: Any) -> None:
    fleet.endpoint = proxy.endpoint
    host = up(fleet.host())
    proxy.fail(503, "ServiceUnavailable", "ReceiveMessage") if hasattr(proxy, "fail") else proxy.outage()
    seen = wait_state(host, "away")
    assert seen["aws"]["reachable"] is False
    assert "ReceiveMessage" in seen["aws"]["error"]
    shown = host.command("status").stdout
    assert re.search(r"^aws        AWAY since \S+: cannot call ReceiveMessage: ", shown, re.MULTILINE)
    assert "state      away" in shown
