"""What each page costs with many runs known: time until it is answered, CPU of the page's process and of the agent.

    .venv/bin/python tests/bench/pages.py                       a host with 100,000 runs in its journal
    .venv/bin/python tests/bench/pages.py --running 500         and 500 that run
    .venv/bin/python tests/bench/pages.py --fleet               a table with as many
    .venv/bin/python tests/bench/pages.py --runs 2000 --rounds 2    only to see that it works

A real agent and the real page's process (of a fleet: the page in this process, and a table in memory behind HTTP),
asked one page after the other. The least and the middle of the rounds, and the very first answer, which fills what is
kept.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))

from serving_web import TOKEN, asked, serving

from runner.agent.journal.journal_file import open_connection
from runner.aws.session import Session
from runner.aws.table import Table
from runner.cli.demos.stand_in import aws_environment
from runner.config.model import Config
from runner.config.web import Web
from runner.control.definition import GroupDefinition, JobDefinition
from runner.protocol import table as keys
from runner.protocol.units import format_time
from runner.web.app import Application
from runner.web.sources.fleet import FleetSource
from runner.web.tokens import Token, Tokens, hash_of

from aws import Aws
from fleet import Fleet
from standin import FastStandIn
from waiting import wait_for

JOBS = 200
DAYS = 14.0
PAGES = (
    *(
        "/",
        "/jobs",
        "/jobs/test/job-7",
        "/runs",
        "/runs?outcome=failed",
        "/runs?job=test/job-7",
        "/runs?q=nothing-has-this",
    ),
    *("/runs/{run}", "/timeline", "/timeline?day={day}", "/hosts", "/queues", "/audit", "/api"),
    *("/api/v1/runs?limit=500", "/api/v1/jobs", "/api/v1/status"),
)


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def fill_journal(state: Path, runs: int) -> None:
    """So many runs of many jobs, of fourteen days, some of them bad, each with its finished event."""
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    connection = open_connection(state / "journal.db")
    now = time.time()
    connection.execute("PRAGMA synchronous = OFF")
    connection.execute("BEGIN")
    each = DAYS * 86_400 / runs
    for n in range(runs):
        at, job, run_id = now - 60 - each * n, f"job-{n % JOBS}", f"old-{n}"
        outcome = "failed" if n % 50 == 3 else "succeeded"
        spec = json.dumps({"job": job, "run_id": run_id, "argv": ["/bin/sh", "-c", "echo hello"]})
        execution = f"{n:024x}"
        connection.execute(
            "INSERT INTO runs (execution, run_id, job, owner, state, attempt, sequence, spec, message_id, receipt, "
            "delivery, sent_at, message, lease_taken, lease_until, boot_id, accepted_at, started_at, ended_at, "
            "outcome, reason, exit_code) VALUES (?, ?, ?, 'agent', 'ended', 1, 2, ?, ?, 'r', 1, ?, 'gone', 0, 0, "
            "'boot', ?, ?, ?, ?, 'exit code 0', 0)",
            (execution, run_id, job, spec, f"m-{n}", at, at, at, at + 5, outcome),
        )
        data = {"attempt": 1, "outcome": outcome, "started_at": format_time(at), "finished_at": format_time(at + 5),
                "duration_s": 5.0, "output": {"bytes": 6, "tail": "hello\n"}, "usage": {"cpu_user_s": 0.1},
                "log": {"group": "g", "stream": run_id, "url": ""}, "exit_code": 0, "reason": "-"}  # fmt: skip
        connection.execute(
            "INSERT INTO events (id, execution, subject, owner, terminal, created_at, sent_at, body) "
            "VALUES (?, ?, ?, 'agent', 1, ?, ?, ?)",
            (f"{execution}/1/cron-runner.run.finished", execution, run_id, at, at, json.dumps({"data": data})),
        )
    connection.execute("COMMIT")
    connection.close()


def cpu_of(pid: int) -> float:
    """Seconds, to the nanosecond, of all its threads that are there still."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


def pss_of(pid: int) -> float:
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return int(next(line.split()[1] for line in rollup.splitlines() if line.startswith("Pss:"))) / 1024


def places() -> list[str]:
    day = format_time(time.time() - 2 * 86_400)[:10]
    return [page.format(run="old-77", day=day) for page in PAGES]


def of_host(runs: int, running: int, rounds: int) -> None:
    directory = Path(tempfile.mkdtemp(prefix="crt-"))
    directory.chmod(0o755)
    with FastStandIn() as stand_in:
        aws = Aws(stand_in.endpoint)
        fleet = Fleet(aws, directory, group="test")
        try:
            host = fleet.host(max_jobs=running + 8)
            fill_journal(Path(host.state), runs)
            host.start()
            wait_for(lambda: host.command("status").returncode == 0, "the agent answers", 60, host.log)
            for n in range(running):
                fleet.send({"job": f"job-{n % JOBS}", "run_id": f"now-{n}", "command": ["sleep", "3600"]})
            if running:
                wait_for(
                    lambda: len(json.loads(host.command("status", "--json").stdout)["runs"]) == running, "they run", 300
                )
            with serving(host, directory) as page:
                time.sleep(3)
                say(f"idle PSS of the page's process: {pss_of(page.process.pid):.1f} MB")
                say("| page | first, ms | least | middle | page's CPU, ms | agent's CPU, ms |")
                say("| --- | --- | --- | --- | --- | --- |")
                for place in places():
                    took, began = [], (cpu_of(page.process.pid), cpu_of(host.agent.pid))
                    for _ in range(rounds):
                        before = time.perf_counter()
                        said = page.ask(place)
                        took.append((time.perf_counter() - before) * 1e3)
                        assert said.status == 200, (place, said.status, said.text[:500])
                        time.sleep(0.6)  # nothing of the agent's is kept for longer
                    ended = (cpu_of(page.process.pid), cpu_of(host.agent.pid))
                    mine, agents = ((b - a) / rounds * 1e3 for a, b in zip(began, ended, strict=True))
                    say(
                        f"| {place} | {took[0]:.0f} | {min(took):.0f} | {statistics.median(took):.0f} |"
                        f" {mine:.1f} | {agents:.1f} |"
                    )
                say(f"PSS after use: {pss_of(page.process.pid):.1f} MB")
        finally:
            fleet.remove()
            shutil.rmtree(directory, ignore_errors=True)
            aws.close()


async def fill_table(table: Table, runs: int) -> None:
    now = time.time()
    group = GroupDefinition("test", f"{os.environ['AWS_ENDPOINT_URL']}/123456789012/none")
    jobs = [
        JobDefinition("test", f"job-{n}", message={"command": "true"}, schedule="*/10 * * * *") for n in range(JOBS)
    ]
    await table.put_many([group.item(), *(job.item() for job in jobs)])
    each = DAYS * 86_400 / runs
    items: list[dict[str, Any]] = []
    for n in range(runs):
        at, job = now - 60 - each * n, f"job-{n % JOBS}"
        failed = n % 50 == 3
        ended = format_time(at + 5)
        items.append(
            {
                **keys.run("test", f"old-{n}").attributes(),
                "group": "test",
                "job": job,
                "run_id": f"old-{n}",
                "state": "failed" if failed else "succeeded",
                "execution": f"{n:024x}",
                "attempt": 1,
                "host": f"host-{n % 9}",
                "scheduled_at": None,
                "started_at": format_time(at),
                "ended_at": ended,
                "duration_s": 5,
                "exit_code": 0,
                "signal": None,
                "reason": "exit code 0",
                "log": None,
                "usage": None,
                "labels": {},
                "attempts": 1,
                "seen_at": ended,
                "at": format_time(at),
                "too_long_told": False,
                "job_key": keys.job_key(job),
                "version": 1,
                "state_key": keys.ended_key(ended[:10], failed=failed),
                "state_at": ended,
                keys.EXPIRES: int(now + 90 * 86_400),
            }
        )
        if len(items) == 1000:
            await table.put_many(items)
            items = []
    await table.put_many(items)


async def of_fleet(runs: int, rounds: int) -> None:
    session = Session()
    table = Table(session, "runs")
    await table.make()
    await fill_table(table, runs)
    source = FleetSource(Config(), "runs")
    app = Application(source, Web(), Tokens(None, Token("reader", "read", hash_of(TOKEN))), frozenset({"localhost"}))
    say("| page | first, ms | least | middle |")
    say("| --- | --- | --- | --- |")
    for place in places():
        took = []
        for _ in range(rounds):
            before = time.perf_counter()
            assert (await asked(app, place))[0] == 200, place
            took.append((time.perf_counter() - before) * 1e3)
            await asyncio.sleep(2.1 if rounds > 2 else 0)  # nothing of the table's is kept for longer
        say(f"| {place} | {took[0]:.0f} | {min(took):.0f} | {statistics.median(took):.0f} |")
    source.close()
    session.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=100_000)
    parser.add_argument("--running", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--fleet", action="store_true")
    args = parser.parse_args()
    if not args.fleet:
        of_host(args.runs, args.running, args.rounds)
        return
    with FastStandIn() as stand_in:
        os.environ.update(aws_environment(stand_in.endpoint))
        asyncio.run(of_fleet(args.runs, args.rounds))


if __name__ == "__main__":
    main()
