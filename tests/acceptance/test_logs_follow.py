"""`cron-runner logs -f` ends when the run has, wherever it was as the command began; and runs without any output."""

from __future__ import annotations

import asyncio
import subprocess
import time
from typing import TYPE_CHECKING, Any

import pytest

from runner.control.definition import GroupDefinition
from runner.control.recording.recorder import Recorder
from runner.protocol.event import HostFacts, RunFacts, Source, run_event

from fleet import COMMAND
from waiting import wait_for

if TYPE_CHECKING:
    from pathlib import Path

    from runner.aws.table import Table

    from fleet import Fleet, Host

pytestmark = [pytest.mark.timeout(120), pytest.mark.parametrize("aws_server", ["standin"], indirect=True)]
GROUP = "/runs"


def following(host: Host, to: Path, *words: str, **environment: str) -> subprocess.Popen[str]:
    with to.open("wb") as file:
        return subprocess.Popen(
            [COMMAND, "--config", str(host.config), "logs", "-f", *words],
            env=host.environment | environment,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.PIPE,
            text=True,
        )


def test_a_run_that_is_on_the_queue_still_is_followed_to_its_end(fleet: Fleet, tmp_path: Path) -> None:
    """`R=$(cron-runner send …); cron-runner logs -f $R`, of a job with a retry."""
    host = fleet.host()
    run_id = "queued"
    retries = {"max": 1, "backoff": 0}
    fleet.send({"job": "a", "run_id": run_id, "command": "echo $CRON_RUNNER_ATTEMPT; exit 3", "retries": retries})
    with following(host, tmp_path / "out", run_id) as process:
        assert process.stderr is not None
        assert f"waiting for run {run_id}: " in process.stderr.readline()
        host.start()
        assert process.wait(60) == 0
    assert (tmp_path / "out").read_text() == "1\n2\n"


async def test_the_table_tells_the_end_and_the_streams_of_retries(fleet: Any, table: Table, tmp_path: Path) -> None:
    await table.put(GroupDefinition("web", "https://queue").item())
    logs = fleet.aws.logs
    logs.create_log_group(logGroupName=GROUP)
    stranger = fleet.host("laptop")

    async def write(stream: str, text: str) -> None:
        if text == "one":
            logs.create_log_stream(logGroupName=GROUP, logStreamName=stream)
        event = {"timestamp": int(time.time() * 1000), "message": text}
        logs.put_log_events(logGroupName=GROUP, logStreamName=stream, logEvents=[event])

    async def told(kind: str, attempt: int, sequence: int, **data: Any) -> None:
        source = Source("web", HostFacts("host-a", None, "boot", "linux", "1"))
        now = time.time()
        log = {"group": GROUP, "stream": f"a/r/{attempt}"}
        said = {"started_at": now, "timeout_s": 600, "heartbeat_s": 60, "log": log} | data
        event = run_event(
            source, RunFacts("e", "a", "r", 2), kind=kind, attempt=attempt, sequence=sequence, time=now, data=said
        )
        assert await Recorder(table).record([("m", event.body)], now=now) == []

    out = tmp_path / "out"
    with following(stranger, out, "r", CRON_RUNNER_FLEET__TABLE=table.name) as process:
        assert process.stderr is not None
        assert "the table has not heard of it yet" in process.stderr.readline()
        for attempt in (1, 2):
            await write(f"a/r/{attempt}", "one")
            await told("started", attempt, attempt * 2)
            await asyncio.to_thread(
                wait_for, lambda had=attempt: out.read_text() == "one\ntwo\n" * (had - 1) + "one\n", "the first line"
            )
            await write(f"a/r/{attempt}", "two")
            end = {"finished_at": time.time(), "duration_s": 1.0, "exit_code": 3, "reason": "exit code 3"}
            await told("finished", attempt, attempt * 2 + 1, outcome="failed", will_retry=attempt == 1, **end)
        assert await asyncio.to_thread(process.wait, 60) == 0
    assert out.read_text() == "one\ntwo\n" * 2


def test_a_run_that_never_ran_says_how_it_ended(fleet: Fleet) -> None:
    host = fleet.host()
    host.start()
    fleet.send({"job": "a", "run_id": "late", "command": "true", "not_after": "2020-01-01T00:00:00Z"})
    fleet.events.wait("late", "skipped")
    for words in (["late"], ["-f", "late"]):
        done = host.command("logs", *words)
        assert (done.returncode, done.stdout) == (0, "")
        [line] = done.stderr.splitlines()
        assert line.startswith("cron-runner: run late has no output: it never ran, and ended skipped: ")
