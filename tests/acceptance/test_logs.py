"""`cron-runner logs`: from the spool while it is there, from CloudWatch otherwise, masked either way."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from faults import Proxy
from fleet import COMMAND
from waiting import wait_for

if TYPE_CHECKING:
    from pathlib import Path

    from fleet import Fleet, Host

pytestmark = [
    pytest.mark.timeout(120),
    pytest.mark.parametrize("aws_server", ["standin"], indirect=True),
]
SECRET = "s3cret-of-the-message"


def stranger(fleet: Fleet, host: Host) -> Host:
    """Another machine: the same configuration, and nothing in its state directory."""
    other = fleet.host("stranger")
    assert other.state != host.state
    return other


def follow(host: Host, run_id: str, to: Path) -> subprocess.Popen[bytes]:
    with to.open("wb") as file:
        return subprocess.Popen(
            [COMMAND, "--config", str(host.config), "logs", "-f", run_id],
            env=host.environment,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.PIPE,
        )


def test_a_run_is_shown_from_the_spool_and_from_cloudwatch(fleet: Fleet) -> None:
    host = fleet.host()
    env_file = fleet.directory / "job.env"
    env_file.write_text("FILE_TOKEN=t0ken-of-the-file\n")
    env_file.chmod(0o644)
    with host.config.open("a") as config:
        config.write(f'run.env_files = ["{env_file}"]\n')
    host.start()
    command = (
        "echo first; echo; printf 'é %s %s\\n' $DB_PASSWORD $FILE_TOKEN; echo attempt $CRON_RUNNER_ATTEMPT; exit 3"
    )
    env = {"DB_PASSWORD": SECRET, "SHORT_KEY": "abc"}
    fleet.send({"job": "show", "run_id": "r1", "command": command, "env": env, "retries": {"max": 1, "backoff": 0}})
    fleet.events.wait_ended(["r1"])
    once = "first\n\né *** ***\nattempt {}\n"
    expected = once.format(1) + once.format(2)
    here = host.command("logs", "r1")
    assert (here.stdout, here.stderr, here.returncode) == (expected, "", 0)
    as_json = [json.loads(line) for line in host.command("logs", "r1", "--json").stdout.splitlines()]
    assert [(line["attempt"], line["message"]) for line in as_json][:4] == [
        (1, "first"),
        (1, " "),
        (1, "é *** ***"),
        (1, "attempt 1"),
    ]
    assert (as_json[0]["run_id"], as_json[0]["job"], len(as_json)) == ("r1", "show", 8)
    times = [line["time"] for line in as_json]
    assert None not in times
    assert times == sorted(times)
    other = stranger(fleet, host)
    for words in ([], ["--job", "show"], ["--stream", "show/r1"]):
        there = other.command("logs", "r1", *words)
        assert (there.stdout, there.stderr, there.returncode) == (expected, "", 0)
    shutil.rmtree(host.state / "spool")
    assert host.command("logs", "r1").stdout == expected
    line = json.loads(other.command("logs", "r1", "--json").stdout.splitlines()[0])
    assert line.keys() == {"time", "run_id", "message"}
    assert line["time"].endswith("Z")
    assert "t0ken" not in host.log() + json.dumps(fleet.events.seen)
    warned = [json.loads(line) for line in host.log().splitlines() if "secret_not_masked" in line]
    assert [line["names"] for line in warned] == [["SHORT_KEY"]]
    missing = other.command("logs", "nothing")
    assert missing.returncode == 1
    assert missing.stdout == ""
    assert missing.stderr.startswith("cron-runner: cannot find the output of run nothing: ")


def test_logs_follow_a_run_to_its_end(fleet: Fleet, tmp_path: Path) -> None:
    host = fleet.host()
    host.start()
    go = fleet.directory / "go"
    command = f"echo one; while [ ! -e {go} ]; do sleep 0.05; done; echo two; printf end"
    fleet.send({"job": "slow", "run_id": "r1", "command": command})
    fleet.events.wait("r1", "started")
    with follow(host, "r1", tmp_path / "out") as following:
        wait_for(lambda: (tmp_path / "out").read_bytes() == b"one\n", "the first line")
        assert following.poll() is None
        go.touch()
        assert following.wait(30) == 0
        assert following.stderr is not None
        assert following.stderr.read() == b""
    assert (tmp_path / "out").read_bytes() == b"one\ntwo\nend"


def test_a_large_run_whose_beginning_was_shipped_comes_from_cloudwatch(fleet: Fleet) -> None:
    host = fleet.host()
    host.start()
    fleet.send({"job": "large", "run_id": "r1", "command": "seq -f 'line %08.0f of many' 150000"})
    fleet.events.wait_ended(["r1"])
    path = host.state / "spool" / "r1.out"
    wait_for(lambda: path.stat().st_blocks * 512 < path.stat().st_size / 2, "the disk is given back")
    expected = [f"line {number:08} of many" for number in range(1, 150_001)]
    fleet.wait_lines("large", "r1", expected)
    assert host.command("logs", "r1").stdout.splitlines() == expected


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_state_directory_of_somebody_else_is_no_obstacle(fleet: Fleet) -> None:
    host = fleet.host()
    host.start()
    fleet.send({"job": "show", "run_id": "r1", "command": "echo hello"})
    fleet.events.wait_ended(["r1"])
    host.state.chmod(0)
    try:
        assert host.command("logs", "r1").stdout == "hello\n"
        assert "root and cron-runner may" in host.command("logs", "r2").stderr
    finally:
        host.state.chmod(0o700)


def test_runs_that_share_a_stream_are_told_apart(fleet: Fleet) -> None:
    host = fleet.host(more='output.cloudwatch.log_stream = "all/{host}"\n')
    host.start()
    fleet.send(*({"job": "small", "run_id": f"r{n}", "command": f"echo number {n}"} for n in range(3)))
    fleet.events.wait_ended(["r0", "r1", "r2"])
    other = fleet.host("stranger", more='output.cloudwatch.log_stream = "all/{host}"\n')
    assert other.command("logs", "r1").stdout == "number 1\n"
    (stream,) = {event["data"]["log"]["stream"] for event in fleet.events.seen if event.get("subject")}
    assert other.command("logs", "r1", "--stream", stream).stdout == "number 1\n"
    assert host.command("logs", "-f", "r2").stdout == "number 2\n"


def test_a_run_id_is_mapped_as_runs_map_it(fleet: Fleet) -> None:
    host = fleet.host()
    host.start()
    fleet.send({"job": "show", "run_id": "nightly-2030-01-31T04:00:00Z", "command": "echo hello"})
    fleet.events.wait_ended(["nightly-2030-01-31T04-00-00Z"])
    for machine in (host, stranger(fleet, host)):
        done = machine.command("logs", "nightly-2030-01-31T04:00:00Z")
        assert (done.stdout, done.stderr, done.returncode) == ("hello\n", "", 0)
    for wrong in ("", "x" * 129):
        refused = host.command("logs", wrong)
        assert (refused.returncode, refused.stdout, len(refused.stderr.splitlines())) == (2, "", 1)
        assert refused.stderr.startswith("cron-runner: cannot show the output of a run")


def test_logs_without_cloudwatch_says_where_to_look(fleet: Fleet) -> None:
    host = fleet.host(more='output.sinks = ["stdout"]\n')
    host.start()
    fleet.send({"job": "show", "run_id": "r1", "command": "echo hello"})
    fleet.events.wait_ended(["r1"])
    assert host.command("logs", "r1").stdout == "hello\n"
    missing = host.command("logs", "r2")
    assert (missing.returncode, "its output goes to stdout: look there" in missing.stderr) == (1, True)


def test_a_full_spool_stops_admission_until_it_is_shipped(fleet: Fleet) -> None:
    """While Logs is away a job fills the spool; the next one waits on the queue until the output is out."""
    with Proxy(fleet.aws.endpoint) as proxy:
        fleet.endpoint = proxy.endpoint
        host = fleet.host(more="output.spool_max_bytes = 100000\n")
        proxy.fail(1.0, "PutLogEvents")
        host.start()
        fleet.send({"job": "fill", "run_id": "full", "command": "head -c 200000 /dev/zero | tr '\\0' x"})
        fleet.events.wait_ended(["full"])
        # A poll lasts two seconds: when none has begun for longer, none is under way.
        wait_for(lambda: time.monotonic() - last_poll(proxy) > 3.0, "polling stops")
        polls, puts = proxy.count("ReceiveMessage"), proxy.count("PutLogEvents")
        fleet.send({"job": "next", "run_id": "next", "command": "echo hi"})
        wait_for(lambda: proxy.count("PutLogEvents") >= puts + 2, "Logs is tried again")
        assert proxy.count("ReceiveMessage") == polls
        proxy.heal()
        fleet.events.wait_ended(["next"], 60)
        fleet.wait_lines("fill", "full", ["x" * 200_000])


def last_poll(proxy: Proxy) -> float:
    return max(call.at for call in proxy.calls if call.action == "ReceiveMessage")
