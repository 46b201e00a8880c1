"""The fleet's page on a real table and real queues: what it shows of them, and what its buttons do."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from serving_web import TOKEN, asked

from runner.agent.fleet.report import HostReports
from runner.aws import directives
from runner.cli.demos.stand_in import aws_environment
from runner.config.model import Config
from runner.config.web import Web
from runner.control import store
from runner.control.applying.apply import Who, apply
from runner.control.applying.files import Wanted
from runner.control.applying.plan import plan
from runner.control.definition import GroupDefinition, JobDefinition
from runner.control.hosts import host_of, reported
from runner.control.recording.recorder import Recorder
from runner.protocol import signed
from runner.protocol import table as keys
from runner.protocol.event import HostFacts, RunFacts, Source, run_event
from runner.protocol.params import parse
from runner.protocol.units import format_time, parse_time
from runner.web.app import Application
from runner.web.sources import fleet_runs
from runner.web.sources.fleet import FleetSource
from runner.web.sources.source import Asker, Change, Filter, NotPossible, Unknown
from runner.web.tokens import Token, Tokens, hash_of

from fleet import COMMAND
from signers import pair

if TYPE_CHECKING:
    from runner.aws.session import Session
    from runner.aws.table import Table

    from aws import Aws

NOW = time.time()
HOST = Source("web", HostFacts("web-1", None, "boot", "Debian", "1"))
ALICE = Asker("alice", "operate", "page, 10.0.0.9")


def told(run_id: str, kind: str, at: float, job: str = "nightly", **data: Any) -> tuple[str, str]:
    facts = RunFacts(f"x{run_id}", job, run_id, 1, None, at - 1, {"team": "<b>web</b>"})
    event = run_event(HOST, facts, kind=kind, attempt=1, sequence=1 if kind == "started" else 2, time=at, data=data)
    return event.id, event.body


async def recorded(table: Table, count: int) -> None:
    """So many runs that ended well or badly, and one that goes on."""
    events = []
    for n in range(count):
        at = NOW - 60 * (count - n)
        log = {"group": "/cron-runner/web", "stream": f"nightly/n{n}", "url": ""}
        bad = n % 4 == 3
        end = {"outcome": "failed" if bad else "succeeded", "reason": f"exit code {int(bad)}", "exit_code": int(bad)}
        times = {"started_at": at, "finished_at": at + 5, "duration_s": 5.0, "log": log, "will_retry": False}
        events.append(told(f"n{n}", "finished", at + 5, **end, **times))
    events.append(
        told("going", "started", NOW - 30, job="long", started_at=NOW - 30, pid=7, timeout_s=3600.0, log=None)
    )
    assert await Recorder(table).record(events, now=NOW) == []


@pytest.mark.parametrize("aws_server", ["standin"], indirect=True)
async def test_a_host_reports_itself_and_that_it_stopped(table: Table) -> None:
    status = {
        "group": "web",
        "host": "web-9",
        "state": "full",
        "waiting_for": "max_jobs: 1 of 1",
        "instance_id": None,
        "agent": {"version": "1", "since": format_time(NOW)},
        "runs": [{}],
        "held": [],
        "admission": {
            "policy": "resources",
            "offered": {"cpu": 3.5, "memory": 1 << 33},
            "used": {"cpu": 0.5, "memory": 0},
        },
    }

    async def told() -> dict[str, Any]:
        return status

    reports = HostReports(table, 300.0, told)
    await reports.report()
    (item,) = await reported(table, "web")
    one = host_of(item, NOW)
    assert (one["host"], one["state"], one["running"], one["why"]) == ("web-9", "full", 1, "max_jobs: 1 of 1")
    assert one["offered"] == {"cpu": 3.5, "memory": 1 << 33}
    later = host_of(item, time.time() + 901)
    assert (later["state"], later["running"]) == ("silent", None)
    await reports.report("stopped")
    (item,) = await reported(table, "web")
    assert host_of(item, time.time() + 86_400)["state"] == "stopped"


@pytest.mark.parametrize("aws_server", ["standin", "moto"], indirect=True)
async def test_the_fleet_is_shown_and_switched(
    aws: Aws, table: Table, cloud: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = aws.queue("web-jobs")
    nightly = JobDefinition("web", "nightly", message={"command": "true"}, schedule="*/10 * * * *")
    group = GroupDefinition("web", queue)
    planned = plan(Wanted((nightly,), (group,)), [], {}, prune=True)
    await apply(cloud, table, planned, [], {}, Who("ann", NOW))
    await recorded(table, 8)
    report = {
        "state": "polling",
        "version": "1",
        "running": 1,
        "report_s": 300,
        "offered": {"jobs": 4},
        "used": {"jobs": 1},
    }
    await table.put({**keys.host("web", "web-1").attributes(), **report, "seen_at": format_time(NOW)})
    await table.put({**keys.host("web", "web-2").attributes(), **report, "seen_at": format_time(NOW - 3600)})
    source = FleetSource(Config(), table.name)
    try:
        await _shown(source)
        await _found_bit_by_bit(source, monkeypatch)
        await _switched(aws, table, source, queue)
        tokens = Tokens(None, Token("reader", "read", hash_of(TOKEN)))
        app = Application(source, Web(), tokens, frozenset({"localhost"}))
        pages = (
            "/",
            "/jobs",
            "/jobs/web/nightly",
            "/runs",
            "/runs/n3",
            "/runs/going",
            "/timeline",
            "/hosts",
            "/queues",
            "/audit",
        )
        for path in (*pages, "/runs?bad=1", "/timeline?by=host", "/api/v1/status", "/api/v1/jobs/web/nightly/next?n=3"):
            status, text = await asked(app, path)
            assert status == 200, (path, text)
            assert "<b>web</b>" not in text or path.startswith("/api/")
    finally:
        source.close()


async def _shown(source: FleetSource) -> None:
    overview = await source.overview()
    assert [(one["state"], one.get("run_id")) for one in overview["wrong"]] == [("silent", None), ("failed", "n7")]
    assert [run["run_id"] for run in overview["running"]] == ["going"]
    assert overview["due"][0]["job"] == "nightly"
    assert overview["hosts"] == (1, 2)
    assert overview["ended_24h"] == (8, 2)
    found = await source.runs(Filter(outcomes=("failed",), limit=1))
    assert [run["run_id"] for run in found["runs"]] == ["n7"]
    assert found["cursor"]
    after = await source.runs(Filter(outcomes=("failed",), limit=5, cursor=found["cursor"]))
    assert [run["run_id"] for run in after["runs"]] == ["n3"]
    seen: list[str] = []
    cursor = ""
    while True:
        page = await source.runs(Filter(job="web/nightly", limit=3, cursor=cursor))
        seen += [run["run_id"] for run in page["runs"]]
        cursor = page["cursor"] or ""
        if not cursor:
            break
    assert seen == [f"n{n}" for n in reversed(range(8))]
    assert [run["run_id"] for run in (await source.runs(Filter(state="running")))["runs"]] == ["going"]
    run = await source.run("n3")
    assert (run["outcome"], run["attempts"][0]["exit_code"]) == ("failed", 1)
    with pytest.raises(Unknown):
        await source.run("none")
    assert len(await source.next("web", "nightly", 3)) == 3
    (queue,) = await source.queues()
    assert (queue["group"], queue["counts"]["waiting"]) == ("web", 0)
    assert {one["host"]: one["state"] for one in await source.hosts()} == {"web-1": "polling", "web-2": "silent"}


async def _found_bit_by_bit(source: FleetSource, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is rare is looked for a bounded way back at a time; nothing is lost or doubled where that ends."""
    for wanted in (Filter(text="n", state="ended"), Filter(outcomes=("failed",)), Filter(text="n5"), Filter(text="x")):
        whole = [run["run_id"] for run in (await source.runs(wanted))["runs"]]
        for most in (1, 2, 3):
            found, cursor, asked_for = [], "", 0
            with monkeypatch.context() as patch:
                patch.setattr(fleet_runs, "_LOOKED_AT", most)
                while cursor is not None:
                    page = await source.runs(replace(wanted, cursor=cursor))
                    found += [run["run_id"] for run in page["runs"]]
                    cursor, asked_for = page["cursor"], asked_for + 1
                    assert asked_for < 200
            assert found == whole


async def _switched(aws: Aws, table: Table, source: FleetSource, queue: str) -> None:
    await source.change(Change("pause", group="web", note="moves"), ALICE)
    on = await directives.read(table, "web")
    assert on.paused is not None
    assert (on.paused.by, on.paused.why) == ("alice (page, 10.0.0.9)", "moves")
    assert (await source.overview())["groups"][0]["state"] == "paused"
    await source.change(Change("resume", group="web", note="done"), ALICE)
    await source.change(Change("maintenance", group="web", job="nightly", note="m", more={"on": True}), ALICE)
    assert (await source.job("web", "nightly"))["maintenance"]["note"] == "m"
    for more in ({"on": True, "for_s": 7200.0}, {"on": True, "until": format_time(time.time() + 7200)}):
        await source.change(Change("maintenance", group="web", job="nightly", note="m", more=more), ALICE)
        until = parse_time((await source.job("web", "nightly"))["maintenance"]["until"])
        assert abs(until - time.time() - 7200) < 60
    for more in ({"on": False, "for_s": 60.0}, {"on": True, "until": "soon"}, {"on": True, "for_s": 1e12}):
        with pytest.raises(NotPossible):
            await source.change(Change("maintenance", group="web", job="nightly", note="m", more=more), ALICE)
    await source.change(Change("maintenance", group="web", job="nightly", note="m", more={"on": False}), ALICE)
    await source.change(Change("disable", group="web", job="nightly", note="d"), ALICE)
    assert not (await store.job(table, "nightly", "web")).enabled
    assert await source.next("web", "nightly", 3) == []
    await source.change(Change("cancel", group="web", run_id="going", note="c"), ALICE)
    assert "going" in (await directives.read(table, "web")).cancelled
    with pytest.raises(NotPossible, match="has ended"):
        await source.change(Change("cancel", group="web", run_id="n3", note="c"), ALICE)
    done = await source.change(Change("rerun", group="web", job="nightly", run_id="n3", note="r"), ALICE)
    (body,) = aws.take(queue)
    message = json.loads(body)
    assert (message["run_id"], message["labels"]["rerun_of"]) == (done["run_id"], "n3")
    await source.refused(Change("cancel", group="web", job="long", run_id="going", note="mine"), ALICE)
    trail = (await source.audit("", 100))["changes"]
    assert {(one["op"], one["subject"], one["result"]) for one in trail} >= {
        ("pause", "web", "done"),
        ("resume", "web", "done"),
        ("cancel", "going", "done"),
        ("cancel", "going", "refused"),
        ("rerun", "n3", f"done: {done['run_id']}"),
    }
    assert {one["who"] for one in trail} >= {"alice", "ann"}
    with pytest.raises(NotPossible):
        await source.change(Change("drain", host=True, note="x"), ALICE)


@pytest.mark.parametrize("aws_server", ["standin"], indirect=True)
async def test_the_page_of_a_run_shows_its_chain(aws: Aws, table: Table, cloud: Session) -> None:
    jobs = (
        JobDefinition("web", "nightly", message={"command": "true"}),
        JobDefinition("web", "load", message={"command": "true"}, after=("nightly",)),
        JobDefinition("web", "call", message={"command": "true"}, after=("nightly",), after_when="failure"),
        JobDefinition("web", "both", message={"command": "true"}, after=("nightly", "load")),
    )
    planned = plan(Wanted(jobs, (GroupDefinition("web", aws.queue("web-jobs")),)), [], {}, prune=True)
    await apply(cloud, table, planned, [], {}, Who("ann", NOW))
    ended = {"outcome": "succeeded", "started_at": NOW, "finished_at": NOW, "duration_s": 1.0, "will_retry": False}
    recorder = Recorder(table, session=cloud)
    assert await recorder.record([told("nightly-1", "finished", NOW, **ended)], now=NOW) == []
    source = FleetSource(Config(), table.name)
    run = await source.run("nightly-1")
    assert {one["job"]: one["said"] for one in run["children"]} == {"load": "fired", "call": "skipped", "both": "waits"}
    [row] = [job for job in await source.jobs() if job["job"] == "both"]
    assert row["words"] == "after nightly and load"
    tokens = Tokens(None, Token("alice", "read", hash_of(TOKEN)))
    app = Application(source, Web(), tokens, frozenset({"localhost"}))
    status, page = await asked(app, "/runs/nightly-1")
    assert status == 200
    chain = page[page.index('id="chain"') :]
    assert all(
        text in chain for text in ("/runs/load-1", "/runs/call-1", "upstream: nightly succeeded", "/jobs/web/both")
    )
    assert "nightly-1" in (await asked(app, "/runs/call-1"))[1].partition('id="chain"')[2]
    assert (await asked(app, "/jobs/web/both"))[0] == 200


@pytest.mark.parametrize("aws_server", ["standin", "moto"], indirect=True)
async def test_a_run_is_rerun_from_what_its_host_told_of_it(aws: Aws, table: Table, cloud: Session) -> None:
    """By the page and by the command: sent as it was, signed as it came, refused with a remedy where it is masked."""
    queue = aws.queue("web-jobs")
    planned = plan(Wanted((), (GroupDefinition("web", queue),)), [], {}, prune=True)
    await apply(cloud, table, planned, [], {}, Who("ann", NOW))
    said = {"job": "nightly", "command": ["load", "--all"], "timeout": 60.0}
    sealed = signed.sign({"job": "nightly", "group": "web", "command": "x", "labels": {"team": "<b>web</b>"}}, pair())
    hidden = {"message": {**said, "env": {"A": "***"}}, "masked": ["env.A"]}
    events = []
    for run_id, more in (("plain", {"message": said}), ("sealed", {"message": sealed}), ("hidden", hidden)):
        start = {"started_at": NOW - 60, "pid": 7, "timeout_s": 60.0, "log": None}
        events.append(told(run_id, "started", NOW - 60, **start, **more))
    assert await Recorder(table).record(events, now=NOW) == []
    source = FleetSource(Config(), table.name)
    try:
        done = await source.change(Change("rerun", group="web", job="nightly", run_id="plain", note="r"), ALICE)
        assert (done["from"], done["rerun_of"]) == ("table", "plain")
        sent = json.loads(aws.take(queue)[0])
        assert (sent.pop("run_id"), sent.pop("labels")["rerun_of"]) == (done["run_id"], "plain")
        assert sent == said
        with pytest.raises(NotPossible, match=r"env\.A masked; do it on web-1: cron-runner rerun hidden"):
            await source.change(Change("rerun", group="web", job="nightly", run_id="hidden", note="r"), ALICE)
    finally:
        source.close()

    def command(*words: str) -> subprocess.CompletedProcess[str]:
        environment = aws_environment(aws.endpoint) | {"CRON_RUNNER_FLEET__TABLE": table.name}
        return subprocess.run(
            [COMMAND, *words], env=environment, capture_output=True, text=True, check=False, timeout=60
        )

    ran = await asyncio.to_thread(command, "rerun", "--fleet", "--note", "n", "sealed")
    assert ran.returncode == 0, ran.stderr
    sent = json.loads(aws.take(queue)[0])
    assert {name: sent[name] for name in sealed} == sealed
    assert sent["run"]["run_id"] == ran.stdout.strip()
    assert sent["run"]["labels"]["rerun_of"] == "sealed"
    assert "its message as the table has it" in ran.stderr
    refused = await asyncio.to_thread(command, "rerun", "--fleet", "hidden")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "do it on web-1: cron-runner rerun hidden" in refused.stderr
    unknown = await asyncio.to_thread(command, "rerun", "--fleet", "nobody")
    assert unknown.returncode == 1
    assert "Traceback" not in unknown.stderr


@pytest.mark.parametrize("aws_server", ["standin"], indirect=True)
async def test_trigger_asks_on_a_terminal_and_takes_words_elsewhere(aws: Aws, table: Table, cloud: Session) -> None:
    queue = aws.queue("web-jobs")
    params = parse("params", {"day": {"type": "date"}, "table": {"to": "arg", "default": "all"}})
    job = JobDefinition("web", "load", message={"command": ["load"]}, params=params)
    planned = plan(Wanted((job,), (GroupDefinition("web", queue),)), [], {}, prune=True)
    await apply(cloud, table, planned, [], {}, Who("ann", NOW))
    environment = aws_environment(aws.endpoint) | {"CRON_RUNNER_FLEET__TABLE": table.name}

    def on_a_terminal(*lines: str) -> tuple[str, str]:
        """What it prints, and what stands on the terminal."""
        ours, its = os.openpty()
        with subprocess.Popen(
            [COMMAND, "jobs", "trigger", "load"],
            env=environment,
            stdin=its,
            stderr=its,
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            os.write(ours, "".join(f"{line}\n" for line in lines).encode())
            printed = process.communicate(timeout=60)[0]
        os.close(its)
        shown = os.read(ours, 65_536).decode()
        os.close(ours)
        return printed, shown

    printed, shown = await asyncio.to_thread(on_a_terminal, "yesterday", "2031-01-01", "users")
    sent = json.loads(aws.take(queue)[0])
    assert (sent["run_id"], sent["command"], sent["env"]) == (printed.strip(), ["load", "users"], {"DAY": "2031-01-01"})
    assert "day (a day as YYYY-MM-DD): " in shown
    assert "is no value of the parameter day" in shown
    assert "table (text without control characters) [all]: " in shown

    def elsewhere(*words: str) -> subprocess.CompletedProcess[str]:
        command = [COMMAND, "jobs", "trigger", "load", *words]
        return subprocess.run(
            command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=60
        )

    refused = await asyncio.to_thread(elsewhere, "--param", "table=-rf")
    assert refused.returncode != 0
    assert "params.day: is missing" in refused.stderr
    assert "params.table: begins with -" in refused.stderr
    assert (await asyncio.to_thread(elsewhere, "--param", "day=2031-02-01")).returncode == 0
    assert json.loads(aws.take(queue)[0])["command"] == ["load", "all"]
