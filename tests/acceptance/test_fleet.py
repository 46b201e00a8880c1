"""The whole circle: job file → schedule → queue → two agents → results → history, as an operator types it."""

from __future__ import annotations

import asyncio
import json
import os
import random
import subprocess
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from runner.control import store
from runner.control.recording.recorder import Recorder
from runner.control.scheduler import minute

from fleet import COMMAND, Fleet, Host, host_environment
from waiting import wait_for

if TYPE_CHECKING:
    from pathlib import Path

    from runner.aws.session import Session
    from runner.aws.table import Table

TABLE = "cron"


def ours(host: Host, *words: str, status: int = 0) -> str:
    """What a command of cron-runner prints on a host, with the fleet's table."""
    done = host.command(*words, CRON_RUNNER_FLEET__TABLE=TABLE)
    assert done.returncode == status, done.stderr
    return done.stdout


def shown(host: Host, *words: str) -> Any:
    return json.loads(ours(host, *words, "--json"))


# -- three days, minute by minute

JOBS = """
[groups.test]
queue = "{queue}"

[defaults]
group = "test"
command = "echo $CRON_RUNNER_RUN_ID >> {ran}"

[jobs.each-hour]
schedule = "0 * * * *"
timezone = "Europe/Berlin"

[jobs.at-night]
schedule = "30 2 * * *"
timezone = "Europe/Berlin"

[jobs.aws-at-night]
schedule = "cron(30 2 * * ? *)"
timezone = "Europe/Berlin"

[jobs.weekdays]
schedule = "cron(15 9 ? * MON-FRI *)"
timezone = "America/New_York"

[jobs.every-four-hours]
schedule = "rate(4 hours)"

[jobs.off]
schedule = "* * * * *"
enabled = false

[jobs.by-hand]
"""


def hours(first: str, count: int, step: int = 1) -> list[str]:
    start = datetime.fromisoformat(first)
    return [(start + timedelta(hours=step * n)).strftime("%Y-%m-%dT%H-%M-%SZ") for n in range(count)]


# The clocks of Berlin go back on 25 October 2026 at 01:00Z; written down by hand, and not by the code that is tested.
START = datetime(2026, 10, 24, tzinfo=UTC)
EXPECTED = {
    "each-hour": hours("2026-10-24T01:00:00", 72),
    "at-night": ["2026-10-24T00-30-00Z", "2026-10-25T00-30-00Z", "2026-10-26T01-30-00Z"],
    "aws-at-night": ["2026-10-24T00-30-00Z", "2026-10-25T00-30-00Z", "2026-10-26T01-30-00Z"],
    "weekdays": ["2026-10-26T13-15-00Z"],
    "every-four-hours": hours("2026-10-24T04:00:00", 18, 4),
}
NAMES = sorted(f"{job}-{at}" for job, times in EXPECTED.items() for at in times)


def within(names: list[str], first: datetime, last: datetime) -> list[str]:
    """The runs that are due after ``first`` and up to ``last``."""
    lower, upper = (moment.strftime("%Y-%m-%dT%H-%M-%SZ") for moment in (first, last))
    return [name for name in names if lower < name[-20:] <= upper]


class Days:
    """Simulated minutes of the scheduler beside real agents, and a recorder that gets events in any order."""

    def __init__(self, fleet: Fleet, session: Session, table: Table, ran: Path) -> None:
        self.fleet = fleet
        self.session = session
        self.table = table
        self.ran = ran
        self.chance = random.Random(25)
        self.recorders = [Recorder(table), Recorder(table)]
        self.waiting: list[str] = []
        self.enqueued = 0

    async def minutes(self, first: datetime, last: datetime) -> None:
        """Every minute behind ``first`` up to ``last``; now and then a second scheduler beside it, or a retry."""
        now = first
        while now < last:
            now += timedelta(minutes=1)
            beside = 3 if self.chance.random() < 0.05 else 1
            seconds = self.chance.uniform(0, 3)
            reports = await asyncio.gather(
                *(minute(self.session, self.table, now=now.timestamp() + seconds) for _ in range(beside))
            )
            assert not any(report.failed for report in reports)
            self.enqueued += sum(report.enqueued for report in reports)

    async def record(self) -> None:
        """Record what has arrived: three of ten events twice, shuffled, some held back until later."""
        while bodies := await asyncio.to_thread(self.fleet.aws.take, self.fleet.results):
            self.waiting += bodies
        self.waiting += self.chance.sample(self.waiting, len(self.waiting) * 3 // 10)
        self.chance.shuffle(self.waiting)
        later = len(self.waiting) // 5
        await self._deliver(self.waiting[later:])
        self.waiting = self.waiting[:later]

    async def last(self) -> None:
        """Record all there is."""
        await self.record()
        await self._deliver(self.waiting)
        self.waiting = []

    async def _deliver(self, bodies: list[str]) -> None:
        batches = [bodies[at : at + 10] for at in range(0, len(bodies), 10)]
        for one, two in zip(batches[::2], [*batches[1::2], []], strict=False):
            answers = await asyncio.gather(
                self.recorders[0].record([(f"a{n}", body) for n, body in enumerate(one)], now=time.time()),
                self.recorders[1].record([(f"b{n}", body) for n, body in enumerate(two)], now=time.time()),
            )
            # What both changed at once at every try is delivered again, as SQS would.
            again = [one[int(failed[1:])] for failed in answers[0]] + [two[int(failed[1:])] for failed in answers[1]]
            self.waiting += again

    def done(self) -> Counter[str]:
        """How often each run's command ran."""
        return Counter(self.ran.read_text().split()) if self.ran.exists() else Counter()


async def _days(
    fleet: Fleet, table: Table, cloud: Session, first: datetime, last: datetime, *, at_a_time: timedelta
) -> None:
    expected = within(NAMES, first, last)
    hosts = [fleet.host(name) for name in ("one", "two")]
    for host in hosts:
        host.start()
    ran = fleet.directory / "ran"
    file = fleet.directory / "jobs.toml"
    file.write_text(JOBS.format(queue=fleet.queue, ran=ran))
    ours(hosts[0], "jobs", "apply", "--yes", str(file))
    # As if they had been applied before those days.
    for job in await store.jobs(table):
        await table.put({**job.item(), "since": "2026-01-01T00:00:00.000000Z"})

    days = Days(fleet, cloud, table, ran)
    until = first.strftime("%Y-%m-%dT%H:%M:%S.000000Z")
    await table.put({"pk": "test#SCHEDULER", "sk": "TICK", "until": until, "number": 0})
    now = first
    while now < last:
        await days.minutes(now, min(now + at_a_time, last))
        now = min(now + at_a_time, last)
        await days.record()
    assert days.enqueued == len(expected)
    wait_for(lambda: sum(days.done().values()) >= len(expected), "every due run has run", 60)
    assert days.done() == Counter(expected)

    async def recorded() -> dict[str, str]:
        await days.last()
        runs = [run for job in EXPECTED for run in await store.history(table, job, limit=200)]
        return {run["run_id"]: run["state"] for run in runs}

    deadline = time.monotonic() + 60
    while (states := await recorded()) != dict.fromkeys(expected, "succeeded"):
        assert time.monotonic() < deadline, {run: state for run, state in states.items() if state != "succeeded"}
        await asyncio.sleep(0.2)
    fleet.wait_empty()
    assert days.done() == Counter(expected)  # none extra


# On moto it takes minutes: DAYS_ON=moto pytest -k three_days
@pytest.mark.timeout(900)
@pytest.mark.parametrize("aws_server", [os.environ.get("DAYS_ON", "standin")], indirect=True)
async def test_three_days_with_a_change_of_the_clock(fleet: Fleet, table: Table, cloud: Session) -> None:
    await _days(fleet, table, cloud, START, START + timedelta(days=3), at_a_time=timedelta(hours=6))


@pytest.mark.timeout(300)
async def test_the_night_of_the_change_on_moto(fleet: Fleet, table: Table, cloud: Session) -> None:
    first = START + timedelta(days=1)
    await _days(fleet, table, cloud, first, first + timedelta(hours=2, minutes=10), at_a_time=timedelta(hours=1))


# -- as an operator types it


CIRCLE = """\
groups:
  test: {{queue: "{queue}"}}
defaults: {{group: test}}
jobs:
  soon:
    schedule: at({soon})
    command: echo it is time
    owner: ann
  breaks:
    command: [sh, -c, "echo no disk; exit 3"]
  nightly:
    schedule: "0 3 * * *"
    timezone: Europe/Berlin
    command: "true"
"""


@pytest.fixture
def control(fleet: Fleet) -> Any:
    """`cron-runner control --local`, which ends with the test."""
    process = subprocess.Popen(
        [COMMAND, "control", "--local", "--make", "--every", "0.5s", "--table", TABLE, "--results", fleet.results],
        env=host_environment(fleet.endpoint),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    yield process
    process.terminate()
    said, _ = process.communicate(timeout=30)
    assert process.returncode == 0, said
    assert "Traceback" not in said, said


@pytest.mark.timeout(240)  # forty commands, of which each is a start of Python
def test_from_a_job_file_to_history_and_logs(fleet: Fleet, control: subprocess.Popen[str]) -> None:
    assert control.poll() is None
    host = fleet.host("host-a")
    host.start()
    file = fleet.directory / "jobs.yaml"

    def write(due_in_s: float) -> None:
        soon = datetime.now(UTC) + timedelta(seconds=due_in_s)
        file.write_text(CIRCLE.format(queue=fleet.queue, soon=f"{soon:%Y-%m-%dT%H:%M:%S}"))

    write(3600)
    wait_for(lambda: host.command("jobs", "list", "--table", TABLE).returncode == 0, "the table is there")
    looked = ours(host, "jobs", "apply", "--dry-run", str(file))
    assert "+ group test" in looked
    assert "+ job test/breaks" in looked
    assert "4 to create, 0 to change, 0 to delete" in looked
    assert shown(host, "jobs", "list") == []

    refused = host.command("jobs", "apply", str(file), CRON_RUNNER_FLEET__TABLE=TABLE)
    assert (refused.returncode, "--yes" in refused.stderr) == (125, True)
    write(15)  # long enough to be applied before, on a machine that is busy
    assert "applied" in ours(host, "jobs", "apply", "--yes", str(file))
    assert "nothing to do" in ours(host, "jobs", "apply", "--yes", str(file))
    assert [job["job"] for job in shown(host, "jobs", "list")] == ["breaks", "nightly", "soon"]
    assert shown(host, "jobs", "show", "soon")["owner"] == "ann"
    coming = ours(host, "jobs", "next", "nightly", "-n", "3").splitlines()
    assert len(coming) == 5
    assert all(" 03:00 CE" in line and ", in " in line for line in coming[1:4])

    run_id = ours(host, "jobs", "trigger", "breaks").strip()
    assert ours(host, "jobs", "trigger", "breaks", "--run-id", run_id).strip() == run_id  # nobody can tell: one run
    wait_for(lambda: len(shown(host, "history", "soon")) == 1, "the run that was due is in history", 60)
    wait_for(lambda: shown(host, "history", "soon")[0]["state"] == "succeeded", "it has succeeded", 60)
    wait_for(lambda: [run["state"] for run in shown(host, "history", "breaks")] == ["failed"], "the other failed", 60)
    (run,) = shown(host, "history", "--failed", "--since", "1h")
    assert (run["run_id"], run["outcome"], run["exit_code"], run["reason"]) == (run_id, "failed", 3, "exit code 3")
    assert run["duration_s"] is not None
    lines = ours(host, "history", "breaks").splitlines()
    assert lines[:2] == [
        "Job      breaks, of group test",
        "Status   enabled, without a schedule: cron-runner jobs trigger breaks",
    ]
    assert "failed" in lines[-1]
    assert run_id in lines[-1]

    # From a machine that knows nothing but the table.
    elsewhere = subprocess.run(
        [COMMAND, "logs", run_id, "--table", TABLE],
        env=host_environment(fleet.endpoint),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (elsewhere.returncode, elsewhere.stdout) == (0, "no disk\n"), elsewhere.stderr

    assert " jobs of 1 groups, " in ours(host, "jobs", "cost", "--hosts", "40")
    assert shown(host, "jobs", "cost")["usd"] > 0
    assert "disabled" in ours(host, "jobs", "disable", "nightly", "--note", "moved")
    assert "disabled" in ours(host, "jobs", "next", "nightly")
    assert "enabled: false -> true" in ours(host, "jobs", "apply", "--dry", str(file))
    assert "next" in ours(host, "jobs", "enable", "nightly")

    assert "paused" in ours(host, "pause", "test", "--note", "deploy")
    assert "resumed" in ours(host, "resume", "test")
    assert "under maintenance" in ours(host, "maintenance", "nightly", "on")
    ended = host.command("cancel", "--fleet", run_id, CRON_RUNNER_FLEET__TABLE=TABLE)
    assert "it has ended failed" in ended.stderr
    assert shown(host, "cancel", "--fleet", "nightly-x", "--group", "test") == {"run_id": "nightly-x", "group": "test"}

    file.write_text(f'groups:\n  test: {{queue: "{fleet.queue}"}}\n')
    assert "in no file, and left: test/breaks" in ours(host, "jobs", "apply", "--yes", str(file))
    assert "3 to delete" in ours(host, "jobs", "apply", "--prune", "--yes", str(file))
    assert shown(host, "jobs", "list") == []
    unknown = host.command("jobs", "show", "nightly", CRON_RUNNER_FLEET__TABLE=TABLE)
    assert unknown.stderr.startswith('cron-runner: cannot find job "nightly"')
