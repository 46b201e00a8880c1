"""A journal that is lost or damaged, anywhere: it is put aside, and what the supervisor knows is adopted."""

from __future__ import annotations

import sqlite3
import uuid
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from damage import overwrite, overwrite_under, roots

from fleet import processes_of
from waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from fleet import Fleet, Host


@pytest.fixture
def host(fleet: Fleet) -> Host:
    """A host whose agent runs, and whose messages come again soon after it is gone."""
    made = fleet.host(visibility="10s")
    made.start()
    return made


def first_page(path: Path) -> None:
    roots(path)
    overwrite(path, 1)


def root_pages(path: Path) -> None:
    overwrite(path, *roots(path, "runs", "events"))


def one_index(path: Path) -> None:
    overwrite(path, *roots(path, "runs_owed"))


def schema_gone(path: Path) -> None:
    """A database that is whole, and has nothing in it."""
    roots(path)
    path.unlink()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 2")


def in_the_log(path: Path) -> None:
    log = path.with_name(path.name + "-wal")
    data = bytearray(log.read_bytes())
    data[:] = b"\xa5" * len(data)
    log.write_bytes(data)


def emptied(path: Path) -> None:
    roots(path)
    path.write_bytes(b"")


def removed(path: Path) -> None:
    for part in path.parent.glob(path.name + "*"):
        part.unlink()


DAMAGES = (first_page, root_pages, one_index, schema_gone, in_the_log, emptied, removed)
UNSEEN = (in_the_log, emptied, removed)
"""Nothing tells these from a journal that is a little older, or new."""


@pytest.mark.parametrize("damage", DAMAGES, ids=[damage.__name__ for damage in DAMAGES])
def test_what_the_supervisor_knows_is_adopted(fleet: Fleet, host: Host, damage: Callable[[Path], None]) -> None:
    """What lives goes on, what has ended meanwhile is told, and neither runs a second time."""
    go, starts = fleet.directory / "go", fleet.directory / "starts"
    mark = f"20{uuid.uuid4().int % 10**9}"
    begin = f"echo $$ >> {starts}; echo begin $DB_PASSWORD"
    fleet.send(
        {
            "job": "lives",
            "run_id": "lives",
            "command": f": {mark}; {begin}; until [ -e {go} ]; do sleep 0.1; done; echo end; exit 3",
            "env": {"DB_PASSWORD": "no-one-may-see-this"},
            "labels": {"team": "ops"},
        },
        {"job": "ends", "run_id": "ends", "command": f"{begin}; until [ -e {go}.ends ]; do sleep 0.1; done; exit 4"},
    )
    started = {run_id: fleet.events.wait(run_id, "started") for run_id in ("lives", "ends")}
    wait_for(lambda: len(processes_of(mark)) == 1, "the job runs")
    host.kill()
    go.with_name("go.ends").touch()
    damage(host.state / "journal.db")
    host.start()
    ended = fleet.events.wait("ends", "finished", within=60)
    # The leases of before are over by now: both messages come again, to a host that has the one run and had the other.
    wait_for(lambda: fleet.aws.depth(fleet.queue) == 1, "the message of what has ended is deleted", detail=host.log)
    assert len(processes_of(mark)) == 1
    go.touch()
    lived = fleet.events.wait("lives", "finished", within=60)
    for run_id, event, code in (("lives", lived, 3), ("ends", ended, 4)):
        data = event["data"]
        assert data["execution"] == started[run_id]["data"]["execution"], host.log()
        assert (data["outcome"], data["exit_code"]) == ("failed", code)
        assert data["sequence"] > started[run_id]["data"]["sequence"]
        assert data["started_at"] == started[run_id]["data"]["started_at"]
    assert lived["data"]["labels"] == {"team": "ops"}
    assert lived["data"]["output"]["tail"] == "begin ***\nend\n"
    fleet.wait_empty()
    assert len(starts.read_text().split()) == 2
    wait_for(lambda: "end" in fleet.lines("lives", "lives"), "the rest of the output is there", detail=host.log)
    assert not [line for line in fleet.lines("lives", "lives") if "no-one" in line]
    if damage not in UNSEEN:
        assert "journal_put_aside" in host.log()
        assert list(host.state.glob("journal.db.corrupt-*"))
    # And neither again.
    fleet.send(*({"job": run_id, "run_id": run_id, "command": f"echo again >> {starts}"} for run_id in started))
    fleet.wait_empty()
    assert "again" not in starts.read_text()
    assert host.stop() == 0, host.log()


def shipped(path: Path, size: int) -> int:
    """How many outputs have come to this place in the sink, as the journal has it on disk."""
    with closing(sqlite3.connect(path, timeout=10)) as connection:
        [(count,)] = connection.execute(
            "SELECT count(*) FROM offsets WHERE sink = 'cloudwatch' AND offset = ?", (size,)
        ).fetchall()
    return int(count)


@pytest.mark.parametrize("names", [(), ("runs", "events"), ("spools",)], ids=["header", "runs", "spools"])
def test_damage_under_a_running_agent(fleet: Fleet, host: Host, names: tuple[str, ...]) -> None:
    """It goes on with a new journal, which has what it answers for: so does the next agent."""
    go, starts = fleet.directory / "go", fleet.directory / "starts"
    command = f"echo $$ >> {starts}; echo begin; until [ -e {go} ]; do sleep 0.1; done; echo end; exit 3"
    fleet.send(*({"job": "lives", "run_id": run_id, "command": command, "overlap": "allow"} for run_id in ("a", "b")))
    started = {run_id: fleet.events.wait(run_id, "started") for run_id in ("a", "b")}
    # An agent that is killed between a batch and its commit sends that batch again, whatever becomes of the journal.
    wait_for(lambda: shipped(host.state / "journal.db", len("begin\n")) == 2, "both are committed", detail=host.log)
    overwrite_under(host.state / "journal.db", *names)
    fleet.send({"job": "later", "run_id": "later", "command": "echo later"})
    [later] = fleet.events.wait_ended(["later"])
    assert later["data"]["outcome"] == "succeeded"
    wait_for(lambda: "journal_put_aside" in host.log(), "it is put aside", detail=host.log)
    assert host.agent.poll() is None
    host.kill()
    host.start()
    wait_for(lambda: host.log().count('"run_resumed"') + host.log().count("run_resumed") >= 2, "both go on")
    go.touch()
    for run_id, event in zip(("a", "b"), fleet.events.wait_ended(["a", "b"]), strict=True):
        assert event["data"]["execution"] == started[run_id]["data"]["execution"]
        assert (event["data"]["outcome"], event["data"]["exit_code"]) == ("failed", 3)
        fleet.wait_lines("lives", run_id, ["begin", "end"])
    fleet.wait_empty()
    assert "run_adopted" not in host.log()
    assert len(starts.read_text().split()) == 2
    assert "begin" in host.command("logs", "a").stdout
    assert host.stop() == 0, host.log()


def test_a_journal_that_is_removed_under_a_running_agent(fleet: Fleet, host: Host) -> None:
    go = fleet.directory / "go"
    fleet.send({"job": "lives", "run_id": "r", "command": f"until [ -e {go} ]; do sleep 0.1; done"})
    fleet.events.wait("r", "started")
    removed(host.state / "journal.db")
    wait_for((host.state / "journal.db").exists, "a new one is begun", detail=host.log)
    wait_for(lambda: "journal_lost" in host.log(), "that is told", detail=host.log)
    host.kill()
    host.start()
    wait_for(lambda: "run_resumed" in host.log(), "it goes on", detail=host.log)
    go.touch()
    [event] = fleet.events.wait_ended(["r"])
    assert event["data"]["outcome"] == "succeeded"
    fleet.wait_empty()
    assert host.stop() == 0, host.log()
