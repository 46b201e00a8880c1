"""A full disk: nothing new is accepted, what runs ends and is told, and it goes on by itself when there is room."""

from __future__ import annotations

import os
import shutil
import subprocess
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import pytest

from fleet import python
from waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from faults import Proxy
    from fleet import Fleet, Host


@contextmanager
def on_small_disk(host: Host, size: str, options: str = "") -> Iterator[Host]:
    """Its state directory is a file system of this size, such as "48m"."""
    host.state.mkdir(mode=0o700)
    command = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=0700{options}", "tmpfs", str(host.state)]
    mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    if mounted.returncode != 0:
        pytest.skip(f"only root can make a small file system here: {mounted.stderr.strip()}")
    try:
        yield host
    finally:
        host.remove()
        subprocess.run(["umount", "-l", str(host.state)], check=True)


@pytest.fixture
def small(fleet: Fleet) -> Iterator[Host]:
    """A host whose state directory is a file system of 48 MiB."""
    with on_small_disk(fleet.host(), "48m") as host:
        yield host


def fill(directory: Path) -> Path:
    """Take the last byte of the file system."""
    ballast = directory / "ballast"
    with suppress(OSError), ballast.open("wb", buffering=0) as file:
        for size in (1 << 20, 4096, 1):
            with suppress(OSError):
                while file.write(b"\1" * size):
                    pass
    return ballast


def test_a_full_disk_stops_admission_and_nothing_else(fleet: Fleet, small: Host) -> None:
    small.start()
    go, went = fleet.directory / "go", fleet.directory / "went"
    script = f"echo begin; while [ ! -e {go} ]; do sleep 0.1; done; seq 100000; touch {went}; exit 3"
    ids = [f"before-{number}" for number in range(5)]
    fleet.send(*({"job": "before", "run_id": run_id, "command": script} for run_id in ids))
    for run_id in ids:
        fleet.events.wait(run_id, "started")
    ballast = fill(small.state)
    wait_for(lambda: "disk_full" in small.log(), "admission stops", detail=small.log)
    fleet.send({"job": "after", "run_id": "after", "command": "echo after"})
    go.touch()
    # The disk is still full: the ends are told all the same, and say what could not be kept.
    ends = fleet.events.wait_ended(ids)
    assert ballast.exists()
    assert shutil.disk_usage(small.state).free < 1 << 20
    for event in ends:
        data = event["data"]
        assert (data["outcome"], data["exit_code"]) == ("failed", 3)
        assert data["output"]["dropped_bytes"] > 0
        assert data["output"]["bytes"] == 6 + 588895
    assert went.exists()
    wait_for(lambda: fleet.aws.depth(fleet.queue) == 1, "only the new message is left", detail=small.log)
    fleet.events.collect()
    assert not fleet.events.of("after")
    ballast.unlink()
    [event] = fleet.events.wait_ended(["after"])
    assert event["data"]["outcome"] == "succeeded"
    fleet.wait_empty()
    fleet.wait_lines("after", "after", ["after"])
    assert small.agent.poll() is None
    assert small.stop() == 0, small.log()


def test_a_disk_that_is_full_when_the_agent_is_killed(fleet: Fleet, small: Host) -> None:
    """The next agent cannot open its journal, says so and ends; with room it finds everything."""
    small.start()
    go = fleet.directory / "go"
    fleet.send({"job": "kept", "run_id": "r", "command": f"echo a; while [ ! -e {go} ]; do sleep 0.1; done; exit 3"})
    fleet.events.wait("r", "started")
    ballast = fill(small.state)
    small.kill()
    go.touch()
    small.start()
    wait_for(
        lambda: small.agent.poll() is not None or "agent_started" in small.log().partition("agent_started")[2],
        "the next agent starts, or says why not",
        detail=small.log,
    )
    if small.agent.poll() is not None:
        assert "cannot open the journal" in small.log()
        ballast.unlink()
        small.start()
    [event] = fleet.events.wait_ended(["r"])
    assert (event["data"]["outcome"], event["data"]["exit_code"]) == ("failed", 3)
    ballast.unlink(missing_ok=True)
    fleet.wait_empty()


def test_a_run_that_gets_no_spool_file_waits(fleet: Fleet) -> None:
    """Whatever is wrong with the directory: the run waits, no more are received, and the agent goes on."""
    host = fleet.host()
    host.start()
    fleet.send({"job": "first", "run_id": "first", "command": "true"})
    fleet.events.wait_ended(["first"])
    spool = host.state / "spool"
    shutil.rmtree(spool)
    spool.touch()
    fleet.send({"job": "waits", "run_id": "waits", "command": "echo at last"})
    wait_for(lambda: "spool_not_made" in host.log(), "the run waits", detail=host.log)
    polls = host.log().count("spool_not_made")
    fleet.send({"job": "later", "run_id": "later", "command": "true"})
    wait_for(lambda: host.log().count("spool_not_made") > polls, "it tries again", detail=host.log)
    assert host.agent.poll() is None
    spool.unlink()
    ends = fleet.events.wait_ended(["waits", "later"])
    assert [event["data"]["outcome"] for event in ends] == ["succeeded", "succeeded"]
    fleet.wait_lines("waits", "waits", ["at last"])
    fleet.wait_empty()


def test_a_run_that_waits_for_the_disk_can_be_stopped(fleet: Fleet) -> None:
    host = fleet.host(more='agent.on_stop = "kill"\n')
    host.start()
    wait_for(lambda: "agent_started" in host.log(), "the agent is there", detail=host.log)
    (host.state / "spool").touch()
    fleet.send({"job": "waits", "run_id": "waits", "command": "true"})
    wait_for(lambda: "spool_not_made" in host.log(), "the run waits", detail=host.log)
    assert host.stop() == 0, host.log()
    [event] = fleet.events.wait_ended(["waits"])
    assert (event["data"]["outcome"], event["data"]["exit_code"]) == ("interrupted", None)
    assert fleet.aws.depth(fleet.queue) == 1


LINE = "x" * 99


@pytest.mark.parametrize(("size", "ballast"), [("12m", 0), ("48m", 30)], ids=["small", "filled-before"])
def test_a_disk_that_the_spool_filled_empties_itself(fleet: Fleet, proxy: Proxy, size: str, ballast: int) -> None:
    """Output stops before what the journal needs; what CloudWatch takes is given back, and everything goes on."""
    fleet.endpoint = proxy.endpoint
    with on_small_disk(fleet.host(), size) as host:
        (host.state / "ballast").write_bytes(bytes(ballast << 20))
        host.start()
        go = fleet.directory / "go"
        code = (
            f"import os, time\nfor _ in range(400): os.write(1, b'{LINE}\\n' * 1000)\n"
            f"while not os.path.exists({str(go)!r}): time.sleep(0.1)\n"
            "os.write(1, b'the last words\\n')"
        )
        proxy.deny("PutLogEvents", code="ServiceUnavailableException")
        fleet.send({"job": "loud", "run_id": "loud", "command": python(code), "env": {"A_TOKEN": "the last"}})
        fleet.events.wait("loud", "started")
        wait_for(lambda: "disk_full" in host.log() or "spool" in host.log(), "the disk fills up", detail=host.log)
        size_then = 0

        def written() -> bool:
            nonlocal size_then
            before, size_then = size_then, (host.state / "spool" / "loud.out").stat().st_size
            return 0 < size_then == before

        wait_for(written, "no more is written", detail=host.log)
        assert shutil.disk_usage(host.state).free > 100_000
        # While it is full the journal goes on: an end is told.
        proxy.heal()
        fleet.send({"job": "next", "run_id": "next", "command": "echo next"})
        [event] = fleet.events.wait_ended(["next"])
        assert event["data"]["outcome"] == "succeeded"
        go.touch()
        [event] = fleet.events.wait_ended(["loud"])
        output = event["data"]["output"]
        assert output["bytes"] == 400 * 1000 * 100 + 15
        assert output["dropped_bytes"] > 0
        assert output["truncated"]
        assert output["tail"].endswith(" words\n")
        wait_for(lambda: any("bytes dropped here" in line for line in fleet.lines("loud", "loud")[-3:]), "the mark")
        kept = sum(line == LINE for line in fleet.lines("loud", "loud"))
        assert kept * 100 + output["dropped_bytes"] == pytest.approx(output["bytes"], abs=200)
        fleet.wait_empty()
        assert "journal_blocked" not in host.log()
        assert host.stop() == 0, host.log()


def test_what_a_full_disk_dropped_at_the_end_is_marked_and_the_tail_is_the_runs_own(fleet: Fleet, small: Host) -> None:
    small.start()
    go = fleet.directory / "go"
    script = f"echo begin; until [ -e {go} ]; do sleep 0.1; done; seq 100000; echo error: $A_TOKEN is wrong; exit 3"
    fleet.send({"job": "r", "run_id": "r", "command": script, "env": {"A_TOKEN": "not-for-you"}})
    fleet.events.wait("r", "started")
    ballast = fill(small.state)
    go.touch()
    [event] = fleet.events.wait_ended(["r"])
    assert event["data"]["output"]["tail"].endswith("99999\n100000\nerror: *** is wrong\n")
    dropped = event["data"]["output"]["dropped_bytes"]
    ballast.unlink()
    wait_for(
        lambda: fleet.lines("r", "r")[-1:] == [f"[cron-runner: {dropped} bytes dropped here]"],
        "the mark of what is lost",
    )
    fleet.wait_empty()
    assert small.stop() == 0, small.log()


@pytest.mark.parametrize("lacking", ["bytes", "files"])
def test_copies_of_shipped_output_make_way_for_work(fleet: Fleet, lacking: str) -> None:
    size, options, output = ("60m", "", 900_000) if lacking == "bytes" else ("200m", ",nr_inodes=60", 10)
    host = fleet.host(more='output.spool_max_bytes = "30M"\n')
    with on_small_disk(host, size, options):
        host.start()
        ids = [f"r{number}" for number in range(90)]
        command = python(f"import os; [os.write(1, b'{LINE}\\n') for _ in range({output} // 100 or 1)]")
        fleet.send(*({"job": "copied", "run_id": run_id, "command": command} for run_id in ids))
        ends = fleet.events.wait_ended(ids, within=120)
        assert {event["data"]["outcome"] for event in ends} == {"succeeded"}
        assert all(event["data"]["output"]["dropped_bytes"] == 0 for event in ends)
        fleet.wait_empty()
        assert "disk_full" not in host.log()
        # The newest are still there to be read.
        assert list((host.state / "spool").iterdir())
        assert host.stop() == 0, host.log()


def test_copies_make_way_when_something_else_fills_the_disk(fleet: Fleet) -> None:
    with on_small_disk(fleet.host(), "60m") as host:
        host.start()
        ids = [f"r{number}" for number in range(12)]
        command = python(f"import os; [os.write(1, b'{LINE}\\n') for _ in range(9000)]")
        fleet.send(*({"job": "copied", "run_id": run_id, "command": command} for run_id in ids))
        fleet.events.wait_ended(ids)
        fleet.wait_empty()
        assert len(list((host.state / "spool").iterdir())) == len(ids)
        # Of one size, however much room the agent makes meanwhile.
        with (host.state / "ballast").open("wb") as ballast:
            os.posix_fallocate(ballast.fileno(), 0, shutil.disk_usage(host.state).free - (1 << 20))
        wait_for(lambda: len(list((host.state / "spool").iterdir())) < len(ids), "copies go", detail=host.log)
        fleet.send({"job": "after", "run_id": "after", "command": "echo after"})
        [event] = fleet.events.wait_ended(["after"])
        assert event["data"]["outcome"] == "succeeded"
        assert event["data"]["output"]["dropped_bytes"] == 0
        # They went before anything was put off for them.
        assert "disk_full" not in host.log()
        assert host.stop() == 0, host.log()
