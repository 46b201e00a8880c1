"""The measurements: each takes a consumer and gives figures. All of one run, on one machine, one after the other."""

from __future__ import annotations

import json
import math
import os
import statistics
import subprocess
import sys
import time
from typing import TYPE_CHECKING

from runner.agent.journal.journal_file import open_connection

import meter
from consumers import HELLO, STAMP, ordinary

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from consumers import Consumer, CronRunner

Figures = dict[str, float]
_WARM = 20
_WITHIN_S = 300.0
# What a consumer does with the job queue and its results is counted; what the bench itself asks is taken out.
_OURS = ("GetQueueAttributes", "CreateQueue")
_OF_OUTPUT = ("PutLogEvents", "CreateLogStream", "CreateLogGroup", "PutRetentionPolicy")


def wait_until(condition: Callable[[], bool], what: str, within: float = _WITHIN_S, every: float = 0.02) -> None:
    """Look every so often until it is so."""
    deadline = time.monotonic() + within
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError(f"not within {within:g} s: {what}")
        time.sleep(every)


def _deleted(consumer: Consumer) -> dict[str, float]:
    return dict(consumer.endpoint.report()["queues"][consumer.jobs.rpartition("/")[2]])


def do_all(consumer: Consumer, count: int, *, every: float = 0.05) -> float:
    """Let prepared messages arrive and wait until every one is done with; the seconds from first to last."""
    before = _deleted(consumer)["deleted"]
    began = consumer.arrive(count)
    wait_until(lambda: _deleted(consumer)["deleted"] >= before + count, f"{consumer.name}: {count} jobs", every=every)
    return _deleted(consumer)["deleted_last"] - began


def warm(consumer: Consumer) -> None:
    """Start it, and let it do a few jobs, so that everything is loaded that ever will be."""
    consumer.prepare(_WARM, HELLO)
    consumer.start()
    do_all(consumer, _WARM)
    consumer.endpoint.take_all(consumer.results)


def burst(consumer: Consumer, jobs: int) -> Figures:
    """Short jobs that arrive all at once."""
    consumer.prepare(jobs, HELLO)
    time.sleep(1.5)  # the answers of what was before
    cpu, calls = meter.cpu_s(consumer.roots), consumer.endpoint.calls()
    seconds = do_all(consumer, jobs)
    time.sleep(1.5)  # what is done behind the last deletion counts as well
    cpu, calls = meter.cpu_s(consumer.roots) - cpu, consumer.endpoint.calls() - calls
    made = {action: count for action, count in calls.items() if action not in _OURS}
    peak = meter.peak_mb(meter.tree(consumer.roots))
    results = [json.loads(body) for body in consumer.endpoint.take_all(consumer.results)]
    said = sum(consumer.output(result) is not None for result in results)
    assert said >= jobs, f"{consumer.name} told of {said} jobs of {jobs}"
    return {
        "jobs_per_s": jobs / seconds,
        "cpu_s_per_1000": cpu / jobs * 1000,
        "requests_per_1000": sum(made.values()) / jobs * 1000,
        "queue_requests_per_1000": sum(count for name, count in made.items() if name not in _OF_OUTPUT) / jobs * 1000,
        "peak_mb": peak,
    }


def latency(consumer: Consumer, count: int) -> Figures:
    """From a message's arrival at an idle consumer to the start of its process."""
    consumer.prepare(count, STAMP)
    found: list[float] = []
    for _ in range(count):
        time.sleep(0.1)
        began = consumer.arrive(1)
        stamps: list[float] = []

        def told(stamps: list[float] = stamps) -> bool:
            for body in consumer.endpoint.take_all(consumer.results):
                output = consumer.output(json.loads(body))
                stamps += [int(output) / 1e9] if output and output.strip() else []
            return bool(stamps)

        wait_until(told, f"{consumer.name}: a stamp", within=30)
        found.append((stamps[0] - began) * 1000)
    found.sort()
    return {
        "latency_ms": statistics.median(found),
        "latency_p99_ms": found[math.ceil(len(found) * 0.99) - 1],
    }


def idle(consumer: Consumer, seconds: float) -> Figures:
    """With nothing to do, but connected and warm."""
    time.sleep(3)
    pids = meter.tree(consumer.roots)
    cpu, calls = meter.fine_cpu_s(pids), consumer.endpoint.calls()
    time.sleep(seconds)
    cpu, calls = meter.fine_cpu_s(pids) - cpu, consumer.endpoint.calls() - calls
    return {
        "idle_pss_mb": meter.pss_mb(pids),
        "idle_cpu_s_per_min": cpu / seconds * 60,
        "idle_receives_per_hour": calls["ReceiveMessage"] / seconds * 3600,
    }


def spawn_limit(jobs: int, at_once: int = 4) -> Figures:
    """The bare limit: the jobs' own cost, started and waited for with nothing else."""
    null = os.open(os.devnull, os.O_RDWR)
    redirected = [(os.POSIX_SPAWN_DUP2, null, fd) for fd in (0, 1, 2)]
    began, cpu = time.perf_counter(), sum(os.times()[:4])
    started = ended = 0
    while ended < jobs:
        while started < jobs and started - ended < at_once:
            os.posix_spawn("/bin/sh", HELLO, os.environ, file_actions=redirected)
            started += 1
        os.wait()
        ended += 1
    seconds, cpu = time.perf_counter() - began, sum(os.times()[:4]) - cpu
    os.close(null)
    return {"jobs_per_s": jobs / seconds, "cpu_s_per_1000": cpu / jobs * 1000}


def output(consumer: CronRunner, lines: int) -> Figures:
    """One job that writes lines of 100 bytes as fast as it can, until all of them are in CloudWatch Logs."""
    code = f"import sys; w = sys.stdout.write; [w('x' * 99 + '\\n') for _ in range({lines})]"
    to_disk = []
    for _ in range(3):  # the first one also makes the pages that the others find
        with (consumer.directory / "plain").open("wb") as plain:
            began = time.perf_counter()
            subprocess.run([sys.executable, "-c", code], stdout=plain, env=ordinary(os.environ), check=True)
            to_disk.append(time.perf_counter() - began)
    disk = min(to_disk)
    consumer.prepare(1, [sys.executable, "-c", code])
    time.sleep(1.5)
    agent = consumer.roots[0]
    meter.forget_peak(agent)
    before, cpu = meter.peak_mb([agent]), meter.cpu_s(consumer.roots)
    logs = consumer.endpoint.report()["logs"]["events"]
    began = time.perf_counter()
    do_all(consumer, 1)
    wait_until(lambda: consumer.endpoint.report()["logs"]["events"] - logs >= lines, "all lines in Logs")
    seconds = time.perf_counter() - began
    time.sleep(0.5)
    cpu, after = meter.cpu_s(consumer.roots) - cpu, meter.peak_mb([agent])
    arrived = consumer.endpoint.report()["logs"]["events"] - logs
    [end] = [
        result
        for body in consumer.endpoint.take_all(consumer.results)
        if (result := json.loads(body))["type"].endswith("finished")
    ]
    used = end["data"]["usage"]
    own = cpu - used["cpu_user_s"] - used["cpu_system_s"]
    return {
        "lines_per_s": lines / seconds,
        "cpu_us_per_line": own / lines * 1e6,
        "memory_growth_mb": after - before,
        "lines_lost": lines - arrived,
        "job_s": end["data"]["duration_s"],
        "job_s_to_disk": disk,
    }


def many_running(consumer: CronRunner, runs: int, seconds: float) -> Figures:
    """Jobs that run and do nothing: what it costs to hold them. The consumer admits as many at once."""
    agent, supervisor = consumer.roots
    before = meter.pss_mb([agent]), meter.pss_mb([supervisor])
    consumer.prepare(runs, ["sleep", "3600"])
    consumer.arrive(runs)
    # Their processes below the supervisor, however they were started.
    wait_until(lambda: len(meter.tree([supervisor])) > runs, f"{runs} runs", every=0.5)
    time.sleep(5)
    pids = [agent, supervisor]
    cpu = meter.fine_cpu_s(pids)
    time.sleep(seconds)
    cpu = meter.fine_cpu_s(pids) - cpu
    return {
        "cpu_percent": cpu / seconds * 100,
        "agent_kb_per_run": (meter.pss_mb([agent]) - before[0]) / runs * 1024,
        "supervisor_kb_per_run": (meter.pss_mb([supervisor]) - before[1]) / runs * 1024,
    }


def backlog(consumer: CronRunner, jobs: int, queued: int) -> Figures:
    """The cost of short jobs at the head of a long queue; the rest is left there."""
    consumer.prepare(queued, HELLO)
    time.sleep(1.5)
    cpu, before = meter.cpu_s(consumer.roots), _deleted(consumer)["deleted"]
    began = consumer.arrive(queued)
    wait_until(lambda: _deleted(consumer)["deleted"] >= before + jobs, f"{jobs} of {queued} jobs", every=0.02)
    done, seconds = _deleted(consumer)["deleted"] - before, time.time() - began
    cpu = meter.cpu_s(consumer.roots) - cpu
    return {"jobs_per_s": done / seconds, "cpu_s_per_1000": cpu / done * 1000}


def fill_journal(state: Path, runs: int) -> None:
    """A journal that remembers so many runs that have ended, as the product would have left it."""
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    connection = open_connection(state / "journal.db")
    now, spec = time.time(), json.dumps({"job": "bench", "run_id": "-", "argv": ["/bin/sh", "-c", "echo hello"]})
    connection.execute("PRAGMA synchronous = OFF")
    connection.execute("BEGIN")
    connection.execute(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?) INSERT INTO runs ("
        "execution, run_id, job, owner, state, attempt, sequence, spec, message_id, "
        "receipt, delivery, sent_at, message, lease_taken, lease_until, boot_id, accepted_at, started_at, ended_at, "
        "outcome, reason, exit_code) SELECT lower(hex(randomblob(12))), 'old-' || i, 'bench', 'agent', 'ended', 1, 2, "
        "?, 'm-' || i, 'r-' || i, 1, ?, 'gone', 0, 0, 'boot', ?, ?, ?, 'succeeded', 'exit code 0', 0 FROM n",
        (runs, spec, now, now, now, now),
    )
    connection.execute(
        "INSERT INTO events (id, execution, subject, owner, terminal, created_at, sent_at, body) "
        "SELECT execution || '/1/cron-runner.run.finished', execution, run_id, 'agent', 1, ?, ?, '' FROM runs",
        (now, now),
    )
    connection.execute("COMMIT")
    connection.close()
