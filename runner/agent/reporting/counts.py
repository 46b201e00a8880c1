"""What has happened since the agent began, as plain numbers: nearly free to count, read by /metrics (prometheus.py).

prometheus_client's own counters take a lock and two calls for each step; these are added to on the event loop alone.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass, field
from itertools import accumulate

from runner.protocol.emf import OTHERS
from runner.protocol.outcome import Outcome

# Seconds from the message's sending to its process.
LATENCY_S = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0, 14400.0)
# Seconds that an attempt takes: cron's jobs are done in a blink, or take the night.
DURATION_S = (0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 1800.0, 3600.0, 7200.0, 14400.0, 43200.0)

OUTCOMES = tuple(str(outcome) for outcome in Outcome)
SKIPPED = ("overlap", "stale", "maintenance")
REJECTED = ("invalid", "not_allowed", "does_not_fit", "not_signed", "bad_signature")


class Histogram:
    """`counts[i]` are the values up to `bounds[i]` and above the one before; the last one those above all."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    def buckets(self) -> list[tuple[str, float]]:
        """As Prometheus has them: how many up to each bound."""
        upto = accumulate(self.counts)
        return [(bound, float(count)) for bound, count in zip((*map(str, self.bounds), "+Inf"), upto, strict=True)]


FAILURES = frozenset(("failed", "timed_out", "killed", "oom_killed", "start_failed", "lost"))


class OfJob:
    """Of the runs of one job: ends by outcome, how long its attempts took, when one succeeded and failed last (unix
    seconds)."""

    __slots__ = ("duration", "last_failure", "last_success", "runs")

    def __init__(self) -> None:
        self.runs: Counter[str] = Counter()
        self.duration = Histogram(DURATION_S)
        self.last_success: float | None = None
        self.last_failure: float | None = None

    def ended(self, outcome: str, at: float) -> None:
        """A run has, perhaps long ago."""
        if outcome == Outcome.SUCCEEDED:
            self.last_success = max(at, self.last_success or 0.0)
        elif outcome in FAILURES:
            self.last_failure = max(at, self.last_failure or 0.0)


class Jobs:
    """By name, as many as are kept apart: those that come first, whatever names senders make up."""

    __slots__ = ("by_name",)

    def __init__(self) -> None:
        self.by_name: dict[str, OfJob] = {}

    def of(self, name: str, most: int) -> OfJob | None:
        """None where no job has numbers of its own."""
        if most <= 0:
            return None
        found = self.by_name.get(name)
        if found is None:
            apart = len(self.by_name) - (OTHERS in self.by_name)
            found = self.by_name.setdefault(name if apart < most else OTHERS, OfJob())
        return found


@dataclass(slots=True)
class Counts:
    """`attempts` and `runs` by outcome, `skipped`, `rejected` and `handed_back` by a word for why.

    Those whose words are known begin at 0: what is there from the start has an increase at its first time.
    """

    received: int = 0
    handed_back: Counter[str] = field(default_factory=Counter)
    started: int = 0
    attempts: Counter[str] = field(default_factory=lambda: Counter(dict.fromkeys(OUTCOMES, 0)))
    runs: Counter[str] = field(default_factory=lambda: Counter(dict.fromkeys(OUTCOMES, 0)))
    skipped: Counter[str] = field(default_factory=lambda: Counter(dict.fromkeys(SKIPPED, 0)))
    rejected: Counter[str] = field(default_factory=lambda: Counter(dict.fromkeys(REJECTED, 0)))
    output_bytes: int = 0
    dropped_bytes: int = 0
    latency: Histogram = field(default_factory=lambda: Histogram(LATENCY_S))
    duration: Histogram = field(default_factory=lambda: Histogram(DURATION_S))
    jobs: Jobs = field(default_factory=Jobs)

    def began(self, latency_s: float | None) -> None:
        """A process exists. `latency_s` since the message was sent, None where that is no matter of ours."""
        self.started += 1
        if latency_s is not None:
            self.latency.observe(max(0.0, latency_s))

    def ended_of(self, job: str, outcome: str, duration_s: float | None, *, last: bool, at: float, most: int) -> None:
        """The same of its job; `most` jobs are kept apart."""
        of = self.jobs.of(job, most)
        if of is None:
            return
        if last:
            of.runs[outcome] += 1
            of.ended(outcome, at)
        if duration_s is not None:
            of.duration.observe(duration_s)

    def ended(self, outcome: str, duration_s: float | None, *, last: bool, written: int, dropped: int) -> None:
        """An attempt ended; `last`: none follows. `duration_s` is None where no process was, or nobody knows."""
        self.attempts[outcome] += 1
        if last:
            self.runs[outcome] += 1
        if duration_s is not None:
            self.duration.observe(duration_s)
        self.output_bytes += written
        self.dropped_bytes += dropped
