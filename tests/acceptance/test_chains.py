"""Jobs that run after others, from the job file to the page: real agents, one of which runs declared jobs alone."""

from __future__ import annotations

import json
import re
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from fleet import COMMAND, host_environment
from waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fleet import Fleet, Host

pytestmark = [pytest.mark.parametrize("aws_server", ["standin"], indirect=True), pytest.mark.timeout(240)]
TABLE = "chains"
DECLARED = """
[jobs.extract]
command = "true"
[jobs.load]
command = "echo after $CRON_RUNNER_AFTER; exit 3"
[jobs.report]
command = "true"
[jobs.call]
command = "echo called after $CRON_RUNNER_AFTER"
"""
JOBS = """
[groups.test]
queue = "{queue}"
[defaults]
group = "test"
[jobs.extract]
[jobs.load]
after = "extract"
[jobs.report]
after = ["load", "extract"]
[jobs.call]
after = ["load"]
after_when = "failure"
"""


@pytest.fixture
def control(fleet: Fleet) -> Iterator[None]:
    process = subprocess.Popen(
        [COMMAND, "control", "--local", "--make", "--every", "0.5s", "--table", TABLE, "--results", fleet.results],
        env=host_environment(fleet.endpoint),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    yield
    process.terminate()
    process.wait(30)


def ours(host: Host, *words: str) -> str:
    done = host.command(*words, CRON_RUNNER_FLEET__TABLE=TABLE)
    assert done.returncode == 0, done.stderr
    return done.stdout


def runs(host: Host, job: str) -> list[dict[str, Any]]:
    return list(json.loads(ours(host, "history", job, "--json")))


@pytest.mark.usefixtures("control")
def test_a_chain_from_the_job_file_to_history(fleet: Fleet) -> None:
    host = fleet.host("host-a", more=DECLARED, CRON_RUNNER_RUN__COMMANDS="declared")
    host.start()
    file = fleet.directory / "jobs.toml"
    file.write_text(JOBS.format(queue=fleet.queue))
    wait_for(lambda: host.command("jobs", "list", "--table", TABLE).returncode == 0, "the table is there")
    file.write_text(file.read_text().replace('after = "extract"', 'after = "report"'))
    refused = host.command("jobs", "apply", "--yes", str(file), CRON_RUNNER_FLEET__TABLE=TABLE)
    assert "goes round in a circle: load after report after load" in refused.stderr
    file.write_text(file.read_text().replace('after = "report"', 'after = "extract"'))
    ours(host, "jobs", "apply", "--yes", str(file))
    assert "after load, when it does not succeed" in ours(host, "jobs", "list")
    assert "after load and extract" in ours(host, "jobs", "next", "report")
    assert "extract" in next(line for line in ours(host, "jobs", "show", "load").splitlines() if "after" in line)

    extract = ours(host, "jobs", "trigger", "extract").strip()
    load, call, report = (f"{name}{extract.removeprefix('extract')}" for name in ("load", "call", "report"))
    wait_for(lambda: [run["state"] for run in runs(host, "call")] == ["succeeded"], "the last one has run", 90)
    assert [(run["run_id"], run["state"], run["after"]) for run in runs(host, "load")] == [(load, "failed", [extract])]
    assert ours(host, "logs", load) == f"after {extract}\n"
    assert ours(host, "logs", call) == f"called after {load}\n"
    (skipped,) = runs(host, "report")
    assert (skipped["state"], skipped["reason"]) == ("skipped", f"upstream: load failed ({load})")
    (head,) = runs(host, "extract")
    said = {one["job"]: one["said"] for one in head["children"]}
    assert said == {"load": "fired", "report": "skipped"}
    assert "load; skipped: report" in ours(host, "history", "extract")
    laptop = fleet.host("laptop")  # an agent tells what its host knows alone
    assert re.search(rf"^ +fired +{load}$", ours(laptop, "show", extract), re.MULTILINE)
    assert re.search(rf"^ +after +{extract}$", ours(laptop, "show", load), re.MULTILINE)
    assert report != skipped["run_id"], "it is of several parents: by the run at their head"
