"""A full disk: nothing new is accepted, what runs ends and is told, and it goes on by itself when there is room."""

from __future__ import annotations

import shutil
import subprocess
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from fleet import Fleet, Host


@pytest.fixture
def small(fleet: Fleet) -> Iterator[Host]:
    """A host whose state directory is a file system of 48 MiB."""
    host = fleet.host()
    host.state.mkdir(mode=0o700)
    command = ["mount", "-t", "tmpfs", "-o", "size=48m,mode=0700", "tmpfs", str(host.state)]
    mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    if mounted.returncode != 0:
        pytest.skip(f"only root can make a small file system here: {mounted.stderr.strip()}")
    try:
        yield host
    finally:
        host.remove()
        subprocess.run(["umount", "-l", str(host.state)], check=True)


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
