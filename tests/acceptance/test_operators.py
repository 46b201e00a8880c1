"""What people ask of a host about its runs: one in full, many by outcome, output from anywhere. One host for all."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from runner.cli.agent_socket import RefusedByAgent, ask

from aws import Aws
from fleet import Fleet
from waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from subprocess import CompletedProcess

    from fleet import Host

pytestmark = [
    pytest.mark.timeout(180),
    pytest.mark.parametrize("aws_server", ["standin"], indirect=True),
]
SECRET = "pa55-of-the-database"
SPOKEN = f"one\ntwo {SECRET} ü\nthree\n".encode()


@pytest.fixture(scope="module")
def fleet(aws_server: str) -> Iterator[Fleet]:
    directory = Path(tempfile.mkdtemp(prefix="crt-"))
    directory.chmod(0o755)
    aws = Aws(aws_server)
    made = Fleet(aws, directory, group="ops")
    try:
        yield made
    finally:
        made.remove()
        shutil.rmtree(directory, ignore_errors=True)
        aws.close()


@pytest.fixture(scope="module")
def host(fleet: Fleet) -> Host:
    """With a run of every kind: some that ended, one that runs and one that waits for it."""
    made = fleet.host(more='admission.hold = "10m"\n')
    made.start()
    wait_for(lambda: made.command("status").returncode == 0, "the agent answers", detail=made.log)
    fleet.send(
        {
            "job": "talk",
            "run_id": "spoke",
            "command": "printf 'one\\ntwo %s ü\\nthree\\n' \"$DB_PASSWORD\"",
            "env": {"DB_PASSWORD": SECRET, "PLAIN": "yes"},
            "labels": {"team": "a"},
        },
        {"job": "bad", "run_id": "twice", "command": "echo no; exit 3", "retries": {"max": 1, "backoff": "0.1s"}},
        {"job": "late", "run_id": "stale", "command": "true", "not_after": "2020-01-01T00:00:00Z"},
        {"job": "nope", "run_id": "wrong", "command": "true", "user": "nobody-of-that-name"},
        {"job": "hang", "run_id": "runs", "command": "exec sleep 2000", "retries": 2},
    )
    fleet.events.wait_ended(["spoke", "twice", "stale", "wrong"])
    fleet.events.wait("runs", "started")
    fleet.send({"job": "hang", "run_id": "waits", "command": "exec sleep 2000", "overlap": "wait"})
    wait_for(lambda: json.loads(made.command("status", "--json").stdout)["held"], "one waits", detail=made.log)
    return made


def told(host: Host, op: str, **fields: Any) -> dict[str, Any]:
    return ask(host.runtime / "agent.sock", op, **fields)


def document(done: CompletedProcess[str]) -> Any:
    assert done.stdout, done.stderr
    return json.loads(done.stdout)


def test_runs_come_in_pages_the_newest_first(host: Host) -> None:
    seen: list[dict[str, Any]] = []
    cursor = ""
    while cursor is not None:
        page = told(host, "runs", limit=1, cursor=cursor)
        cursor = page["cursor"]
        seen += page["runs"]
    assert [run["run_id"] for run in seen[:2]] == ["waits", "runs"]
    assert {run["run_id"] for run in seen[2:]} == {"spoke", "twice", "stale", "wrong"}
    assert [run["ended_at"] for run in seen[2:]] == sorted((run["ended_at"] for run in seen[2:]), reverse=True)
    assert seen[1:] == told(host, "runs")["runs"][1:]  # of what waits it is known to the microsecond since when
    by_id = {run["run_id"]: run for run in seen}
    assert by_id["waits"]["state"] == "held"
    assert by_id["waits"]["reason"] == "overlap: waits for run runs of hang"
    assert by_id["runs"]["state"] == "running"
    assert (by_id["twice"]["state"], by_id["twice"]["exit_code"], by_id["twice"]["attempts"]) == ("failed", 3, 2)
    assert by_id["spoke"]["labels"] == {"team": "a"}
    assert by_id["spoke"]["usage"]["max_rss_bytes"] > 0
    ids = [run["run_id"] for run in told(host, "runs", outcomes=["failed", "rejected"])["runs"]]
    assert sorted(ids) == ["twice", "wrong"]
    assert [run["run_id"] for run in told(host, "runs", job="talk", state="ended")["runs"]] == ["spoke"]
    assert [run["run_id"] for run in told(host, "runs", state="open")["runs"]] == ["waits", "runs"]
    assert told(host, "runs", since=3e9)["runs"][2:] == []
    for wrong in ({"cursor": "nan~x"}, {"cursor": "x"}, {"state": "odd"}, {"outcomes": "failed"}, {"since": "now"}):
        with pytest.raises(RefusedByAgent, match="cannot"):
            told(host, "runs", **wrong)


def test_output_goes_on_from_any_byte_and_shows_no_part_of_a_secret(host: Host) -> None:
    masked = SPOKEN.replace(SECRET.encode(), b"***")
    part = told(host, "output", run_id="spoke")
    assert part["text"].encode() == masked
    assert (part["from"], part["next"], part["size"], part["end"]) == (0, len(SPOKEN), len(SPOKEN), True)
    for start in range(len(SPOKEN) + 2):
        rest = told(host, "output", run_id="spoke", **{"from": start})
        shown = rest["text"].encode("utf-8", "surrogateescape")
        assert SECRET[-6:].encode() not in shown
        assert masked.endswith(shown.removeprefix(b"***")), start
        assert rest["next"] == len(SPOKEN)
    # Both attempts, one after the other.
    first = told(host, "output", run_id="twice")
    second = told(host, "output", run_id="twice", **{"from": first["next"]})
    assert [(part["text"], part["attempt"], part["end"]) for part in (first, second)] == [
        ("no\n", 1, False),
        ("no\n", 2, True),
    ]
    assert told(host, "output", run_id="runs") | {"text": "", "end": False} == told(host, "output", run_id="runs")
    assert told(host, "output", run_id="nowhere") == {"run_id": "nowhere", "state": "unknown"}
    with pytest.raises(RefusedByAgent, match="from"):
        told(host, "output", run_id="spoke", **{"from": -1})
