"""/metrics: what the agent knows of itself, in Prometheus's text format. docs/metrics.md explains each metric.

Nothing is kept for it: the numbers are collected from their owners when somebody asks. Labels have a bounded number
of values each: names of jobs as many as `[agent] metrics_jobs` says; run ids are none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, InfoMetricFamily
from prometheus_client.registry import Collector

from runner import __version__
from runner.agent.operator.health import KINDS, judge
from runner.agent.operator.metrics import by_job

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from prometheus_client.core import Metric

    from runner.agent.operator.health import Facts
    from runner.agent.operator.health_watch import HealthWatch
    from runner.agent.reporting.counts import Histogram

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
PREFIX = "cron_runner_"
DEPTHS_WITHIN_S = 1.0
LOGS = ("PutLogEvents", "CreateLogStream", "CreateLogGroup", "PutRetentionPolicy")


class Metrics:
    """Made at the first scrape."""

    def __init__(self, watch: HealthWatch) -> None:
        self._agent = AgentCollector(watch)
        self._watch = watch
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self._agent)
        ProcessCollector(registry=self._registry)
        self._remembers = False  # what was before this agent

    async def page(self) -> tuple[bytes, str]:
        """The body and its content type."""
        if not self._remembers:
            self._remembers = True
            await by_job.remember(self._watch.services)
        self._agent.outbox = await self._watch.outbox_depth()
        if self._watch.depths is not None:
            self._agent.depths = await self._watch.depths.look(DEPTHS_WITHIN_S)
        return generate_latest(self._registry), CONTENT_TYPE


class AgentCollector(Collector):
    """`outbox` is (events, when the oldest happened), asked for beforehand; None while the journal does not answer."""

    def __init__(self, watch: HealthWatch) -> None:
        self._watch = watch
        self.outbox: tuple[int, float | None] | None = None
        self.depths: Mapping[str, Mapping[str, float] | None] = {}

    def collect(self) -> Iterable[Metric]:
        facts = self._watch.facts()
        yield from self._about()
        yield from self._intake(facts)
        yield from self._runs(facts)
        yield from by_job.families(self._watch.services)
        yield from self._output(facts)
        yield from self._results(facts)
        yield from self._aws(facts)
        yield from self._health(facts)

    def _about(self) -> Iterator[Metric]:
        config = self._watch.services.config
        about = {"version": __version__, "group": config.group, "policy": config.admission.policy}
        yield InfoMetricFamily(f"{PREFIX}build", "The agent: its version, group and admission policy.", about)
        yield _gauge("start_time_seconds", "When this agent started, unix seconds.", self._watch.started_at)

    def _intake(self, facts: Facts) -> Iterator[Metric]:
        counts, keeper = self._watch.services.counts, self._watch.services.keeper
        yield _counter("messages_received_total", "Messages received from the job queue.", counts.received)
        yield _by(
            "messages_handed_back_total", "Messages handed back to the queue, by why.", "reason", counts.handed_back
        )
        yield _by("messages_rejected_total", "Messages that cannot be a run, by why.", "reason", counts.rejected)
        yield _gauge(
            "receive_age_seconds",
            "Seconds since SQS last answered a receive; 0 while nothing is asked for (full, paused, draining).",
            facts.silent_s if facts.silent_s != float("inf") else facts.asking_for_s or 0.0,
        )
        yield from self._depths()
        yield _gauge("leases_held", "Messages whose lease is renewed.", keeper.holding)
        yield _counter("lease_renewals_total", "Leases renewed.", keeper.renewed)
        yield _counter("leases_lost_total", "Leases lost while their message was wanted.", keeper.lost)

    def _depths(self) -> Iterator[Metric]:
        messages = GaugeMetricFamily(
            f"{PREFIX}queue_messages", "Messages in the queue by SQS's own count, about.", labels=["queue", "state"]
        )
        oldest = GaugeMetricFamily(
            f"{PREFIX}queue_oldest_age_seconds",
            "For how long the queue has not been seen empty: its oldest message is at least so old.",
            labels=["queue"],
        )
        for queue, depth in self.depths.items():
            if depth is not None:
                for state in ("visible", "in_flight", "delayed"):
                    messages.add_metric([queue, state], depth[state])
                oldest.add_metric([queue], depth["oldest_age_s"])
        yield from (messages, oldest)

    def _runs(self, facts: Facts) -> Iterator[Metric]:
        counts = self._watch.services.counts
        yield _counter("attempts_started_total", "Attempts whose process was started.", counts.started)
        yield _by("attempts_total", "Attempts that ended, by outcome.", "outcome", counts.attempts)
        yield _by("runs_total", "Runs that ended for good, by the outcome of the last attempt.", "outcome", counts.runs)
        yield _by("runs_skipped_total", "Runs that admission skipped, by why.", "reason", counts.skipped)
        yield _gauge("runs_running", "Runs that take room now.", facts.running)
        yield _by("runs_held", "Received runs that wait here, by what for.", "reason", facts.held_by, gauge=True)
        yield _histogram(
            "queue_latency_seconds", "From the sending of the message to the process of its run.", counts.latency
        )
        yield _histogram("attempt_duration_seconds", "How long the processes of attempts ran.", counts.duration)

    def _output(self, facts: Facts) -> Iterator[Metric]:
        services = self._watch.services
        yield _counter("output_bytes_total", "Bytes written by attempts that ended.", services.counts.output_bytes)
        yield _counter(
            "output_dropped_bytes_total",
            "Of these, bytes given up: beyond max_bytes, on a full disk, or refused by the sink.",
            services.counts.dropped_bytes,
        )
        yield _gauge("spool_bytes", "Output on disk that some sink has not accepted.", facts.spool_bytes)
        yield _gauge("spool_limit_bytes", "output.spool_max_bytes.", services.config.output.spool_max_bytes)
        yield _gauge(
            "unshipped_age_seconds",
            "For how long the oldest output that some sink has not accepted has been there; 0 if there is none.",
            facts.unshipped_age_s or 0.0,
        )

    def _results(self, facts: Facts) -> Iterator[Metric]:
        if self.outbox is not None:
            depth, oldest = self.outbox
            age = 0.0 if oldest is None else max(0.0, self._watch.services.now() - oldest)
            yield _gauge("outbox_events", "Events that the results queue has not accepted.", depth)
            yield _gauge("outbox_oldest_age_seconds", "Age of the oldest of them; 0 if there is none.", age)
        yield _gauge(
            "results_failing_seconds",
            "For how long the results queue has taken nothing; 0 while it does.",
            facts.results_failing_s or 0.0,
        )

    def _aws(self, facts: Facts) -> Iterator[Metric]:
        stats = self._watch.stats
        requests = CounterMetricFamily(
            f"{PREFIX}aws_requests_total", "Requests to AWS, by call.", labels=["service", "action"]
        )
        for action, count in list(stats.requests.items()):
            requests.add_metric([_service(action), action], count)
        yield requests
        errors = CounterMetricFamily(
            f"{PREFIX}aws_errors_total",
            "Requests to AWS that failed, by call and AWS's (or our own) code.",
            labels=["service", "action", "code"],
        )
        for (action, code), count in list(stats.errors.items()):
            errors.add_metric([_service(action), action, code], count)
        yield errors
        if facts.clock_ahead_s is not None:
            yield _gauge("clock_ahead_seconds", "How far this host's clock is ahead of AWS's.", facts.clock_ahead_s)

    def _health(self, facts: Facts) -> Iterator[Metric]:
        health, reload = judge(facts), self._watch.services.reload
        wrong = {problem.kind for problem in health.problems}
        yield _gauge("healthy", "1 when /healthz answers 200.", health.ok)
        yield _by(
            "problem", "1 for what /healthz finds wrong.", "kind", {kind: kind in wrong for kind in KINDS}, gauge=True
        )
        yield _gauge("supervisor_connected", "1 while the supervisor of the jobs is there.", facts.supervisor_connected)
        yield _gauge("journal_blocked", "1 while the journal cannot be written.", facts.journal_blocked_s is not None)
        yield _gauge(
            "admission_blocked", "1 while disk, spool, journal or supervisor stop admission.", bool(facts.blocked)
        )
        yield _gauge("paused", "1 while this host is paused.", bool(facts.paused))
        yield _gauge(
            "draining", "1 while the agent is stopping, or its host is drained.", facts.draining or facts.drained
        )
        yield _gauge(
            "config_last_reload_successful",
            "0 after a reload whose file was refused.",
            reload is None or not reload.refused,
        )
        yield _gauge(
            "config_restart_keys", "Keys changed in the file that need a restart.", len(reload.restart) if reload else 0
        )


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(PREFIX + name, text, value=value)


def _counter(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(PREFIX + name, text, value=value)


def _by(name: str, text: str, label: str, values: Mapping[str, float], *, gauge: bool = False) -> Metric:
    family = (GaugeMetricFamily if gauge else CounterMetricFamily)(PREFIX + name, text, labels=[label])
    for value, count in values.items():
        family.add_metric([str(value)], count)
    return family


def _histogram(name: str, text: str, histogram: Histogram) -> Metric:
    return HistogramMetricFamily(PREFIX + name, text, buckets=histogram.buckets(), sum_value=histogram.sum)


def _service(action: str) -> str:
    return "logs" if action in LOGS else "sqs"
