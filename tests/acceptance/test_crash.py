"""Nothing accepted is forgotten: the agent is killed again and again, and every job still ends as it should.

Seeded and repeatable. CI runs the short version; `tests/crash.sh` the full one (200 jobs, 50 kills).
"""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from faults import Proxy
    from fleet import Fleet, Host

JOBS = int(os.environ.get("CRASH_JOBS", "40"))
KILLS = int(os.environ.get("CRASH_KILLS", "8"))
SEED = int(os.environ.get("CRASH_SEED", "7"))
WITHIN = 120.0 + 4 * JOBS
EXIT_CODES = (0, 0, 3, 7)


class Load:
    """Jobs of four kinds; each writes one line to a shared file when it starts, and numbered lines as output."""

    def __init__(self, directory: Path, seed: int) -> None:
        self.ran = directory / "ran"
        self.ran.touch()
        self.ran.chmod(0o666)
        draw = random.Random(seed)
        self.jobs = {f"crash-{index:03}": self._kind(draw, index) for index in range(JOBS)}

    def _kind(self, draw: random.Random, index: int) -> tuple[int, float, int]:
        """Lines, seconds, exit code: short, long, chatty or failing."""
        lines, seconds = ((3, 0.0), (5, draw.uniform(0.5, 3.0)), (3000, 0.2), (1, 0.1))[index % 4]
        return lines, seconds, EXIT_CODES[draw.randrange(4)]

    def messages(self) -> list[dict[str, Any]]:
        return [
            {
                "job": "crash",
                "run_id": run_id,
                "command": f"echo $CRON_RUNNER_RUN_ID >> {self.ran}; i=0; while [ $i -lt {lines} ]; do "
                f"echo line $i; i=$((i+1)); done; sleep {seconds:.2f}; echo end; exit {code}",
            }
            for run_id, (lines, seconds, code) in self.jobs.items()
        ]

    def check(self, fleet: Fleet) -> None:
        """What every user relies on, whatever was done to the agent."""
        for run_id, (lines, _, code) in self.jobs.items():
            finished = {event["id"]: event for event in fleet.events.of(run_id, "finished")}
            assert len(finished) == 1, f"{run_id} has {list(finished)}"
            assert len({event["id"] for event in fleet.events.of(run_id, "started")}) == 1, run_id
            (event,) = finished.values()
            assert event["data"]["exit_code"] == code, event
            assert event["data"]["outcome"] == ("succeeded" if code == 0 else "failed"), event
            expected = [f"line {number}" for number in range(lines)] + ["end"]
            fleet_lines = output(fleet, run_id)
            assert first_of_each(fleet_lines) == expected, f"{run_id}: {len(fleet_lines)} lines"
        times = Counter(self.ran.read_text().split())
        assert {run_id: count for run_id, count in times.items() if count != 1} == {}
        assert set(times) == set(self.jobs)


def output(fleet: Fleet, run_id: str) -> list[str]:
    """A run's output where its finished event says that it is: its own stream, or one that it shares."""
    ended = fleet.events.ended(run_id)
    stream = ended["data"]["log"]["stream"] if ended else f"crash/{run_id}"
    if stream == f"crash/{run_id}":
        return fleet.lines("crash", run_id)
    mark = f"{run_id} "
    lines = fleet.aws.lines(fleet.log_group, stream)
    return [line.removeprefix(mark) for line in lines if line.startswith(mark)]


def first_of_each(lines: list[str]) -> list[str]:
    """The lines without repeats: after a crash a batch may have been sent twice."""
    return list(dict.fromkeys(lines))


def kill_often(host: Host, seed: int) -> None:
    """Kill the agent at random instants of its life, its start among them, and start it again each time."""
    draw = random.Random(seed)
    for _ in range(KILLS):
        host.start()
        time.sleep(draw.choice((draw.uniform(0.0, 0.6), draw.uniform(0.6, 2.5))))
        host.kill()
    host.start()


def await_ends(fleet: Fleet, load: Load) -> None:
    fleet.events.wait_ended(list(load.jobs), WITHIN)
    fleet.wait_empty(WITHIN)
    for run_id, (lines, _, _) in load.jobs.items():
        expected = [f"line {number}" for number in range(lines)] + ["end"]
        deadline = time.monotonic() + 60
        while first_of_each(output(fleet, run_id)) != expected and time.monotonic() < deadline:
            time.sleep(0.1)


@pytest.mark.timeout(900)
def test_agent_killed_at_random_instants(fleet: Fleet) -> None:
    load = Load(fleet.directory, SEED)
    host = fleet.host(visibility="10s", max_jobs=12)
    fleet.send(*load.messages())
    kill_often(host, SEED)
    await_ends(fleet, load)
    load.check(fleet)
    assert host.stop() == 0, host.log()


@pytest.mark.timeout(900)
def test_agent_killed_while_aws_fails(fleet: Fleet, proxy: Proxy) -> None:
    """The same with three in ten calls failing, messages delivered twice and receipts that expire."""
    fleet.endpoint = proxy.endpoint
    load = Load(fleet.directory, SEED + 1)
    host = fleet.host(visibility="10s", max_jobs=12)
    fleet.send(*load.messages())
    proxy.fail(0.3)
    proxy.redeliver(0.1)
    proxy.expire(0.05)
    kill_often(host, SEED + 1)
    proxy.heal()
    await_ends(fleet, load)
    load.check(fleet)
    assert host.stop() == 0, host.log()
