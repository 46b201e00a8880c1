"""`cron-runner history JOB` begins with how the job stands, as an operator at night wants to know it."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from runner.aws import directives
from runner.control.definition import GroupDefinition, JobDefinition
from runner.control.recording.recorder import Recorder
from runner.protocol.event import HostFacts, RunFacts, Source, run_event
from runner.protocol.units import format_time

from fleet import COMMAND

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from runner.aws.table import Table

    from fleet import Host

pytestmark = pytest.mark.parametrize("aws_server", ["standin"], indirect=True)


@pytest.fixture
def typed(fleet: Any, table: Table) -> Callable[..., Awaitable[str]]:
    """Types a command on a host, and gives what it printed."""
    host: Host = fleet.host("laptop")

    async def command(*words: str) -> str:
        done = await asyncio.to_thread(host.command, *words, CRON_RUNNER_FLEET__TABLE=table.name)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    return command


NOT_FOR_A_LOOK = {
    # A client of botocore's and the whole of the configuration each take as long as all the rest of the command.
    *("botocore.args", "botocore.signers", "jmespath.parser", "runner.config.model", "runner.protocol.message"),
    *("structlog", "runner.control.definition", "zoneinfo"),
}


async def test_a_look_at_the_table_loads_only_what_it_uses(fleet: Any, table: Table) -> None:
    host: Host = fleet.host("laptop", more=f'\n[fleet]\ntable = "{table.name}"\n')
    await table.put(GroupDefinition("web", "https://queue").item())

    def looked() -> subprocess.CompletedProcess[str]:
        program = [sys.executable, "-X", "importtime", COMMAND, "--config", str(host.config), "history"]
        return subprocess.run(program, env=host.environment, capture_output=True, text=True, check=False)

    done = await asyncio.to_thread(looked)
    assert done.returncode == 0, done.stderr
    loaded = set(re.findall(r"^import time:\s+\d+ \|\s+\d+ \|\s+(\S+)$", done.stderr, re.MULTILINE))
    assert {"runner.aws.table", "botocore.credentials"} <= loaded, "the list itself is read well"
    assert sorted(loaded & NOT_FOR_A_LOOK) == []


async def ended(table: Table, run_id: str, outcome: str, at: float, group: str = "web") -> None:
    source = Source(group, HostFacts("host-a", None, "boot", "linux", "1"))
    data: dict[str, Any] = {
        "outcome": outcome,
        "reason": "exit code 3" if outcome == "failed" else None,
        "started_at": at - 5,
        "finished_at": at,
        "duration_s": 5.0,
        "will_retry": False,
    }
    facts = RunFacts(f"e-{run_id}", "nightly", run_id, 1)
    event = run_event(source, facts, kind="finished", attempt=1, sequence=1, time=at, data=data)
    assert await Recorder(table).record([("m", event.body)], now=at) == []


def second(at: float) -> str:
    text = format_time(at)
    return f"{text[:10]} {text[11:19]}Z"


async def test_a_job_that_is_well_then_fails_then_is_paused_then_gone(
    table: Table, typed: Callable[..., Awaitable[str]]
) -> None:
    now = time.time()
    job = JobDefinition("web", "nightly", schedule="0 3 * * *", timezone="Europe/Berlin")
    await table.put(GroupDefinition("web", "https://queue").item())
    await table.put(job.item())
    await ended(table, "n-1", "succeeded", now - 300)
    lines = (await typed("history", "nightly")).splitlines()
    assert lines[:3] == [
        "Job       nightly, of group web",
        "Status    enabled",
        "Schedule  0 3 * * *: 03:00 Europe/Berlin every day",
    ]
    assert lines[3].startswith("Next      ")
    assert " 03:00 CE" in lines[3]
    assert lines[4:6] == [f"Last      succeeded at {second(now - 300)} (n-1)", ""]
    assert lines[6].split() == ["STARTED", "TOOK", "OUTCOME", "EXIT", "COST", "HOST", "RUN", "REASON"]
    assert len(lines) == 8

    await ended(table, "n-2", "failed", now - 200)
    await ended(table, "n-3", "failed", now - 100)
    lines = (await typed("history", "nightly")).splitlines()
    assert lines[4:6] == [
        f"Last      failed at {second(now - 100)} (n-3)",
        f"Failing   since {second(now - 200)}",
    ]

    await directives.pause(table, "web", on=True, by="ann@laptop", why="new disk", now=now)
    await directives.maintenance(table, "web", "nightly", on=True, by="bob@laptop", why="", now=now)
    await table.put({**job.item(), "enabled": False})
    lines = (await typed("history", "nightly")).splitlines()
    assert lines[1] == (
        "Status    disabled: cron-runner jobs enable nightly"
        f"; paused with its whole group by ann@laptop since {second(now)} (new disk): cron-runner resume web"
        f"; under maintenance by bob@laptop since {second(now)}: cron-runner maintenance nightly off"
    )
    assert [line.split()[0] for line in lines[2:5]] == ["Schedule", "Last", "Failing"], "it is not due"

    await table.delete(job.key)
    assert "group web is paused until 20" in await typed("pause", "web", "--for", "2h")
    assert (await directives.read(table, "web")).paused.until >= now + 7200  # type: ignore[union-attr, operator]
    await directives.pause(table, "web", on=True, by="ann@laptop", why="", now=now, until=now - 1)
    assert "paused" not in (await typed("history", "nightly")).splitlines()[1], "its time is over"
    await table.put(job.item())
    [row] = json.loads(await typed("jobs", "list", "--json"))
    assert (row["paused"], row["maintenance"]["by"], row["last"]["state"]) == (None, "bob@laptop", "failed")
    lines = (await typed("jobs", "list")).splitlines()
    assert re.search(r" +skipped: maintenance +failed \d\S* ago", lines[1]), lines
    trail = json.loads(await typed("history", "--audit", "--json"))
    assert trail[0]["op"] == "pause on"
    [upkeep] = [one for one in trail if one["op"] == "maintenance on"]
    assert {"who": "bob@laptop", "subject": "web/nightly"}.items() <= upkeep.items()
    assert len((await typed("history", "--audit", "--limit", "2")).splitlines()) == 3
    await table.delete(job.key)

    shown = json.loads(await typed("show", "n-3", "--json"))
    assert (shown["outcome"], [one["reason"] for one in shown["attempts"]]) == ("failed", ["exit code 3"])
    assert (await typed("show", "n-3")).startswith("run n-3 of nightly\n  outcome ")

    await directives.pause(table, "web", on=False, by="ann@laptop", why="", now=now)
    await directives.maintenance(table, "web", "nightly", on=False, by="bob@laptop", why="", now=now)
    lines = (await typed("history", "nightly")).splitlines()
    assert lines[1] == "Status   in no job file that was applied: deleted, or sent by hand"
    assert [run["run_id"] for run in json.loads(await typed("history", "nightly", "--json"))] == ["n-3", "n-2", "n-1"]


async def test_a_job_of_two_groups_has_a_head_for_each(table: Table, typed: Callable[..., Awaitable[str]]) -> None:
    now = time.time()
    for group in ("db", "web"):
        await table.put(GroupDefinition(group, "https://queue").item())
        await table.put(JobDefinition(group, "nightly").item())
        await ended(table, f"{group}-1", "succeeded", now - 10, group)
    heads = [line for line in (await typed("history", "nightly")).splitlines() if line.startswith("Job")]
    assert heads == ["Job     nightly, of group db", "Job     nightly, of group web"]
    one = await typed("history", "nightly", "--group", "db")
    assert "of group web" not in one
    assert "db-1" in one


async def test_what_is_said_again_keeps_its_note(table: Table, typed: Callable[..., Awaitable[str]]) -> None:
    await table.put(GroupDefinition("web", "https://queue").item())
    await table.put(JobDefinition("web", "nightly").item())
    for words in (("maintenance", "nightly", "on"), ("pause", "web")):
        assert "the note stays" not in await typed(*words, "--note", "new disk")
        assert (await typed(*words)).endswith("; the note stays: new disk\n")
        assert "the note stays" not in await typed(*words, "--note", "newer disk")
    said = await directives.read(table, "web")
    assert said.paused is not None
    assert (said.paused.why, said.maintenance["nightly"].why) == ("newer disk", "newer disk")


async def test_a_job_that_never_ran_shows_what_it_is(fleet: Any, table: Table) -> None:
    await table.put(GroupDefinition("web", "https://queue").item())
    await table.put(JobDefinition("web", "nightly", schedule="rate(1 hour)").item())
    host: Host = fleet.host("laptop")
    done = await asyncio.to_thread(host.command, "history", "nightly", CRON_RUNNER_FLEET__TABLE=table.name)
    assert done.stdout.splitlines()[:3] == [
        "Job       nightly, of group web",
        "Status    enabled",
        "Schedule  rate(1 hour): every 1 hour",
    ]
    assert done.stderr == "no run of nightly is known\n"
