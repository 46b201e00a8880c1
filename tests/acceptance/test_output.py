"""Output is complete, in order and bounded, whatever the jobs print and whatever becomes of Logs and the agent.

CI prints 10,000 lines a job; `tests/output.sh` 100,000, with Logs away for a minute.
"""

from __future__ import annotations

import os
import random
import time
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from standin import counts
from waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from faults import Proxy
    from fleet import Fleet, Host

LINES = int(os.environ.get("OUTPUT_LINES", "10000"))
AWAY_S = float(os.environ.get("OUTPUT_AWAY_S", "3"))
SEED = int(os.environ.get("OUTPUT_SEED", "7"))
JOBS = 10
KILLS = 3
MOST_EVENTS = 10_000  # of a batch
MIB = 1 << 20

pytestmark = [
    pytest.mark.timeout(900),
    pytest.mark.parametrize("aws_server", ["standin"], indirect=True),
]


@pytest.fixture
def host(fleet: Fleet) -> Iterator[Host]:
    """Every batch is held to the limits of PutLogEvents by the stand-in, which remembers each break."""
    yield fleet.host(more='output.max_bytes = "64M"\n', max_jobs=20)
    assert counts(fleet.aws.endpoint)["violations"] == []


def numbered(run: int) -> str:
    """Ten parts with pauses, so that kills and outage find the job printing."""
    part = LINES // 10
    one = f"seq -f 'run {run} line %.0f' $((n*{part}+1)) $(((n+1)*{part}))"
    return f"for n in 0 1 2 3 4 5 6 7 8 9; do {one}; sleep 0.3; done"


def steps_back(sent: Sequence[str], run: int) -> list[int]:
    """How many lines were repeated each time that lines were; asserts that none is missing and none out of order."""
    numbers = [int(line.removeprefix(f"run {run} line ")) for line in sent]
    assert sorted(set(numbers)) == list(range(1, LINES + 1))
    assert (numbers[0], numbers[-1]) == (1, LINES)
    steps = [b - a for a, b in pairwise(numbers)]
    assert all(step <= 1 for step in steps), "a line came too early"
    return [1 - step for step in steps if step != 1]


def test_every_line_arrives_in_order_through_outage_throttling_and_kills(fleet: Fleet, proxy: Proxy) -> None:
    draw = random.Random(SEED)
    fleet.endpoint = proxy.endpoint
    host = fleet.host(max_jobs=JOBS)
    runs = [f"run-{n}" for n in range(JOBS)]
    proxy.fail(0.3, "PutLogEvents")
    host.start()
    fleet.send(*({"job": "count", "run_id": run_id, "command": numbered(n)} for n, run_id in enumerate(runs)))
    fleet.events.wait(runs[-1], "started")
    for kill in range(KILLS):
        if kill == 1:
            proxy.fail(1.0, "PutLogEvents")
            time.sleep(AWAY_S)
            proxy.fail(0.3, "PutLogEvents")
        time.sleep(draw.uniform(0.2, 1.0))
        host.kill()
        host.start()
    ended = fleet.events.wait_ended(runs, 120)
    for n, run_id in enumerate(runs):
        wait_for(
            lambda r=run_id: fleet.lines("count", r)[-1:] == [f"run {r[4:]} line {LINES}"], f"{run_id} is out", 120
        )
        back = steps_back(fleet.lines("count", run_id), n)
        assert len(back) <= KILLS
        assert all(repeated <= MOST_EVENTS for repeated in back)
    size = sum(len(f"run 0 line {n}\n") for n in range(1, LINES + 1))
    assert {event["data"]["output"]["bytes"] for event in ended} == {size}
    assert {event["data"]["output"]["lines"] for event in ended} == {LINES}
    assert counts(fleet.aws.endpoint)["violations"] == []
    assert host.stop() == 0


def memory(host: Host) -> dict[str, int]:
    """Fields of the agent's /proc status, in bytes: VmRSS, and VmHWM, the most it has ever been."""
    status = Path(f"/proc/{host.agent.pid}/status").read_text().splitlines()
    pairs = (line.split(":", 1) for line in status if line.startswith("Vm"))
    return {name: int(value.split()[0]) * 1024 for name, value in pairs}


def on_disk(host: Host) -> int:
    return sum(path.stat().st_blocks * 512 for path in (host.state / "spool").iterdir())


HOSTILE = {
    "garbage": "head -c 50000000 /dev/urandom",
    "long": "head -c 10000000 /dev/zero | tr '\\0' q; echo",
    "endless": "yes",
    "empty": "yes '' | head -n 1000000",
    "slow": "for i in 1 2 3 4 5; do printf x; sleep 1; done",
}


def test_hostile_output_is_counted_and_bounded_on_disk_and_in_memory(fleet: Fleet, host: Host) -> None:
    host.start()
    fleet.send({"job": "warm", "run_id": "warm", "command": "echo warm"})
    fleet.events.wait_ended(["warm"])
    idle = memory(host)["VmRSS"]
    bodies = [{"job": name, "run_id": name, "command": command} for name, command in HOSTILE.items()]
    fleet.send(*(body | ({"timeout": 5} if body["job"] == "endless" else {}) for body in bodies))
    fleet.events.wait_ended(list(HOSTILE), 120)
    output = {name: fleet.events.of(name, "finished")[0]["data"]["output"] for name in HOSTILE}
    assert {name: output[name]["bytes"] for name in ("garbage", "long", "empty", "slow")} == {
        "garbage": 50_000_000,
        "long": 10_000_001,
        "empty": 1_000_000,
        "slow": 5,
    }
    assert {name: output[name]["lines"] for name in ("long", "empty", "slow")} == {
        "long": 1,
        "empty": 1_000_000,
        "slow": 1,
    }
    endless = output["endless"]
    assert fleet.events.of("endless", "finished")[0]["data"]["outcome"] == "timed_out"
    assert endless["bytes"] > 64 * MIB
    assert endless["dropped_bytes"] == endless["bytes"] - 64 * MIB
    assert endless["truncated"]
    assert on_disk(host) < (64 + 50 + 10 + 1) * MIB
    wait_for(lambda: fleet.lines("slow", "slow") and "".join(fleet.lines("slow", "slow")) == "xxxxx", "every byte")
    wait_for(lambda: len(fleet.lines("empty", "empty")) >= 1_000_000, "the empty lines", 120)
    assert set(fleet.lines("empty", "empty")) == {" "}
    wait_for(lambda: long_line(fleet) == "q" * 10_000_000, "the long line", 60)
    # The garbage is out when its file is empty but for its end; the endless one takes minutes.
    path = host.state / "spool" / "garbage.out"
    wait_for(lambda: path.stat().st_blocks * 512 < 3 * MIB, "the garbage is shipped", 120)
    grown = memory(host)["VmHWM"] - idle
    assert grown <= 20 * MIB, f"the agent has grown by {grown / MIB:.1f} MiB over {idle / MIB:.1f}"


def long_line(fleet: Fleet) -> str:
    mark = " [cron-runner: line continues]"
    return "".join(line.removesuffix(mark) for line in fleet.lines("long", "long"))


def test_a_capped_run_says_exactly_what_was_dropped(fleet: Fleet) -> None:
    host = fleet.host(more='output.max_bytes = "256K"\n')
    host.start()
    fleet.send({"job": "yes", "run_id": "yes", "command": "yes", "timeout": 2})
    (event,) = fleet.events.wait_ended(["yes"])
    output: dict[str, Any] = event["data"]["output"]
    mark = f"[cron-runner: {output['bytes'] - 256 * 1024} bytes dropped here]"
    assert output["dropped_bytes"] == output["bytes"] - 256 * 1024
    half = 128 * 1024 // 2
    wait_for(lambda: len(fleet.lines("yes", "yes")) >= 2 * half, "all that was kept", 60)
    lines = fleet.lines("yes", "yes")
    at = lines.index(mark)
    assert set(lines[:at]) == {"y"}
    assert at == half
    # The tail begins wherever the last byte leaves it, which may be the end of a line.
    assert len(lines) - at - 1 in (half, half + 1)
    assert set(lines[at + 1 :]) <= {"y", " "}
    wait_for(lambda: on_disk(host) < 512 * 1024, "the disk is bounded")
