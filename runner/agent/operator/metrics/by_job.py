"""What /metrics says of each job by its name, as many as `[agent] metrics_jobs` keeps apart."""

from __future__ import annotations

import asyncio
import sqlite3
from collections import Counter
from typing import TYPE_CHECKING

import structlog
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

from runner.agent.journal import history
from runner.protocol.emf import OTHERS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client.core import Metric

    from runner.agent.services import Services

log = structlog.get_logger()

_PREFIX = "cron_runner_job_"


async def remember(services: Services) -> None:
    """When each job succeeded and failed last before this agent: an alert must not fall silent by a restart."""
    most = services.config.agent.metrics_jobs
    if most <= 0:
        return
    try:
        ends = await asyncio.to_thread(_last_ends, services)
    except (OSError, sqlite3.Error) as error:
        log.warning(
            "job_metrics_incomplete", error=str(error), detail="what ended before this agent is not in /metrics"
        )
        return
    for job, outcome, at in sorted(ends, key=lambda end: end[2], reverse=True):
        if job and (of := services.counts.jobs.of(job, most)) is not None:
            of.ended(outcome, at)


def _last_ends(services: Services) -> list[tuple[str, str, float]]:
    with history.reading(services.journal.database.path) as journal:
        return history.last_ends(journal)


def families(services: Services) -> Iterator[Metric]:
    """The metrics, one series or histogram to a job."""
    jobs, most = services.counts.jobs, services.config.agent.metrics_jobs
    if most <= 0:
        return
    active = Counter(run.execution.job.job for run in services.roster.active())
    running: Counter[str] = Counter()
    for name, count in active.items():
        jobs.of(name, most)
        running[name if name in jobs.by_name else OTHERS] += count
    gauges = {
        name: GaugeMetricFamily(_PREFIX + name, text, labels=["job"])
        for name, text in (
            ("last_success_timestamp_seconds", "When a run of the job succeeded last, unix seconds."),
            ("last_failure_timestamp_seconds", "When a run of the job failed last, unix seconds."),
            ("running", "Runs of the job that take room now."),
        )
    }
    runs = CounterMetricFamily(
        f"{_PREFIX}runs_total", "Runs of the job that ended for good, by outcome.", labels=["job", "outcome"]
    )
    duration = HistogramMetricFamily(
        f"{_PREFIX}duration_seconds", "How long the processes of the job's attempts ran.", labels=["job"]
    )
    for name, of in list(jobs.by_name.items()):
        if of.last_success is not None:
            gauges["last_success_timestamp_seconds"].add_metric([name], of.last_success)
        if of.last_failure is not None:
            gauges["last_failure_timestamp_seconds"].add_metric([name], of.last_failure)
        gauges["running"].add_metric([name], running[name])
        for outcome, count in of.runs.items():
            runs.add_metric([name, outcome], count)
        duration.add_metric([name], of.duration.buckets(), of.duration.sum)
    yield from (*gauges.values(), runs, duration)
