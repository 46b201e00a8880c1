"""A clock that jumps by an hour, forth or back, neither kills nor prolongs a job.

No test may set the machine's clock. What jumps here is what agent and supervisor are told of it: `time.time` in both
processes. Whatever they decide by CLOCK_MONOTONIC or CLOCK_BOOTTIME, which no setting of the clock moves, goes on.
"""

from __future__ import annotations

import subprocess
import sys
import time
import uuid
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import runner

from fleet import processes_of
from waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fleet import Fleet, Host

ROOT = str(Path(runner.__file__).resolve().parent.parent)
HOUR = 3600.0
# The shift is read from a file, so that the test can set it while the processes run.
SHIFTED = """
import os, sys, time
sys.path.insert(0, {root!r})
real = time.time
def shifted():
    try:
        with open({shift!r}) as file:
            return real() + float(file.read())
    except OSError:
        return real()
time.time = shifted
"""
AGENT = "from runner.cli.main import entry\nsys.exit(entry())\n"
SUPERVISOR = "from runner.supervisor.__main__ import main\nmain()\n"


@pytest.fixture
def shift(fleet: Fleet) -> Path:
    return fleet.directory / "shift"


@pytest.fixture
def host(fleet: Fleet, shift: Path) -> Iterator[Host]:
    """A host whose agent and supervisor both look at the test's clock."""
    made = fleet.host(more='results.heartbeat = "500ms"\n', visibility="10s")
    made.runtime.mkdir(mode=0o750)
    program = SHIFTED.format(root=ROOT, shift=str(shift))
    words = ["--socket", str(made.runtime / "supervisor.sock"), "--config", str(made.config), "--linger", "60"]
    command = [sys.executable, "-I", "-S", "-X", "utf8", "-c", program + SUPERVISOR, *words]
    supervisor = subprocess.Popen(command, stdin=subprocess.DEVNULL, cwd="/", start_new_session=True)
    try:
        wait_for(made.supervisor, "the supervisor listens")
        made.start(program=(sys.executable, "-c", program + AGENT))
        yield made
    finally:
        made.remove()
        supervisor.wait(30)


def seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


@pytest.mark.parametrize("jump", [HOUR, -HOUR], ids=["forth", "back"])
def test_a_clock_that_jumps(fleet: Fleet, host: Host, shift: Path, jump: float) -> None:
    mark = f"20{uuid.uuid4().int % 10**9}"
    first = fleet.directory / "first"
    once = f"if [ ! -e {first} ]; then touch {first}; exit 1; fi"
    fleet.send(
        {"job": "short", "run_id": "short", "command": "sleep 4", "timeout": "30m"},
        {"job": "hangs", "run_id": "hangs", "command": f"sleep {mark}", "timeout": "4s", "grace": "1s"},
        {"job": "silent", "run_id": "silent", "command": f"sleep {mark}", "no_output_timeout": "4s", "grace": "1s"},
        {"job": "again", "run_id": "again", "command": once, "retries": {"max": 1, "backoff": "3s"}},
        {"job": "held", "run_id": "held", "command": "sleep 8"},
    )
    for run_id in ("short", "hangs", "silent", "held"):
        fleet.events.wait(run_id, "started")
    failed = fleet.events.wait("again", "finished")
    began = time.monotonic()
    shift.with_suffix(".new").write_text(str(jump))
    shift.with_suffix(".new").rename(shift)
    ended = {
        event["subject"]: event["data"] for event in fleet.events.wait_ended(["short", "hangs", "silent", "again"])
    }
    assert time.monotonic() - began < 20
    assert (ended["short"]["outcome"], ended["hangs"]["outcome"]) == ("succeeded", "timed_out")
    assert (ended["silent"]["outcome"], ended["silent"]["reason"]) == ("failed", "silent for 4s")
    for run_id in ("short", "hangs", "silent"):
        data = ended[run_id]
        assert 3.9 <= data["duration_s"] < 12
        assert abs(seconds(data["finished_at"]) - seconds(data["started_at"]) - data["duration_s"]) < 0.01
    assert not processes_of(mark)
    # The retry comes when it was due, by the clock that did not jump.
    assert (ended["again"]["outcome"], ended["again"]["attempt"]) == ("succeeded", 2)
    waited = seconds(ended["again"]["started_at"]) - jump - seconds(failed["data"]["finished_at"])
    assert 2.9 <= waited < 12
    # A lease of ten seconds is renewed all the while, and a heartbeat says the true age.
    [held] = fleet.events.wait_ended(["held"])
    assert (held["data"]["outcome"], held["data"]["delivery"]) == ("succeeded", 1)
    assert "lease_lost" not in held["data"]
    ages = [event["data"]["running_s"] for event in fleet.events.of("held", "heartbeat")]
    assert ages == sorted(ages)
    assert max(ages) < 25
    fleet.wait_empty()
    assert len(fleet.events.of("held", "started")) == 1
    assert host.agent.poll() is None
