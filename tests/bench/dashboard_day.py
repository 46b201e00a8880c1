"""A day of a group as its agents and its recorder tell it, by their own code: a model of hosts that run jobs.

In the night a batch is more than the hosts hold, in the morning one job fails until it is mended, at noon CloudWatch
takes no output for a while, in the evening a host dies under its runs.
"""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, Final

from runner.agent.operator.health import Facts
from runner.agent.operator.metrics.embedded import EmbeddedMetrics
from runner.agent.reporting.counts import Counts
from runner.control.recording.measured import Measured
from runner.protocol.units import format_time

START: Final = 1_791_763_200.0  # 2026-10-12T00:00:00Z
DAY_S: Final = 86400
SLOTS: Final = 4
MINUTE_S, HOUR_S = 60, 3600


@dataclass(frozen=True, slots=True)
class Cron:
    """A job that is due each ``every`` seconds from ``first`` on, ``at_once`` runs at a time."""

    name: str
    every: int
    takes: float
    first: int = 0
    at_once: int = 1
    fails: float = 0.004
    writes: int = 20_000


JOBS: Final = (
    Cron("poll-feeds", MINUTE_S, 6, fails=0.01),
    Cron("send-mail", MINUTE_S, 3, first=20),
    Cron("rates", 5 * MINUTE_S, 12),
    Cron("import", 15 * MINUTE_S, 150, first=120),
    Cron("thumbnails", 10 * MINUTE_S, 90, first=240, at_once=3),
    Cron("reports", HOUR_S, 400, first=600, at_once=4, writes=400_000),
    Cron("backup", DAY_S, 3500, first=2 * HOUR_S, at_once=3, writes=2_000_000),
    Cron("nightly", DAY_S, 260, first=3 * HOUR_S, at_once=220, fails=0.02, writes=60_000),
    Cron("sitemap", 6 * HOUR_S, 700, first=5 * HOUR_S),
    Cron("invoices", DAY_S, 90, first=6 * HOUR_S, at_once=40),
)


@dataclass(slots=True)
class Host:
    """What an agent counts, and what it runs: (end, job, begun, due) of each."""

    name: str
    counts: Counts = field(default_factory=Counts)
    running: list[tuple[float, Cron, float, float]] = field(default_factory=list)
    spool: float = 0.0
    unshipped_since: float | None = None
    metrics: Any = None


class Day:
    """The group's, second by second."""

    def __init__(self, group: str, seed: int) -> None:
        self.group, self.chance, self.lines = group, random.Random(seed), list[str]()
        self.measured = Measured(self.lines.append)
        self.hosts = [self._host(f"ip-10-0-0-{n}") for n in (11, 12, 13, 14)]
        self.queue: deque[tuple[Cron, float]] = deque()
        self.not_empty_since: float | None = None

    def run(self, seconds: int) -> list[str]:
        for second in range(seconds):
            now = START + second
            self._trouble(second, now)
            for job in JOBS:
                if second >= job.first and (second - job.first) % job.every == 0:
                    self.queue.extend([(job, now)] * job.at_once)
            self._step(now, second)
            if second % MINUTE_S == MINUTE_S - 1:
                self._tell(now, second)
        return self.lines

    def _host(self, name: str) -> Host:
        host = Host(name)
        services = SimpleNamespace(
            config=SimpleNamespace(group=self.group),
            source=SimpleNamespace(host=SimpleNamespace(name=name)),
            counts=host.counts,
            keeper=SimpleNamespace(lost=0),
        )
        watch: Any = SimpleNamespace(services=services, depths=None, facts=lambda: self._facts(host))
        host.metrics = EmbeddedMetrics(watch, self.lines.append)
        return host

    def _facts(self, host: Host) -> Facts:
        since = host.unshipped_since
        return Facts(
            running=len(host.running),
            spool_bytes=int(host.spool),
            unshipped_age_s=0.0 if since is None else self.now - since,
        )

    def _step(self, now: float, second: int) -> None:
        away = 12.5 * HOUR_S <= second < 12.9 * HOUR_S
        for host in self.hosts:
            self._end(host, now, second)
            while self.queue and len(host.running) < SLOTS:
                job, due = self.queue.popleft()
                host.counts.received += 1
                host.counts.began(now - due + self.chance.uniform(0.05, 0.4))
                host.running.append((now + job.takes * self.chance.lognormvariate(0, 0.25), job, now, due))
            host.spool += sum(one[1].writes / one[1].takes for one in host.running)
            if not away:
                host.spool *= 0.5
            if host.unshipped_since is None or host.spool < 1e6:
                host.unshipped_since = now if away else None
        self.not_empty_since = (self.not_empty_since or now) if self.queue else None

    def _end(self, host: Host, now: float, second: int) -> None:
        for one in [one for one in host.running if one[0] <= now]:
            host.running.remove(one)
            _, job, begun, due = one
            broken = job.name == "import" and 8 * HOUR_S <= second < 9.5 * HOUR_S
            outcome = "failed" if broken or self.chance.random() < job.fails else "succeeded"
            host.counts.ended(outcome, now - begun, last=True, written=job.writes, dropped=0)
            ended = {"kind": "finished", "at": format_time(now), "outcome": outcome, "duration_s": now - begun}
            self._recorded(job, begun, due, now, ended={**ended, "started_at": format_time(begun)})

    def _recorded(self, job: Cron, begun: float, due: float, now: float, **more: Any) -> None:
        item = {"group": self.group, "job": job.name, "attempt": 1, "scheduled_at": format_time(due)}
        self.measured.wrote(
            None, {**item, "started": {"started_at": format_time(begun)}, **more}, defined=True, now=now
        )

    def _trouble(self, second: int, now: float) -> None:
        if second == 18 * HOUR_S + 700:
            for _, job, begun, due in self.hosts.pop().running:  # which the scheduler finds a quarter of an hour later
                self._recorded(job, begun, due, now + 900, lost={"at": format_time(now + 900)})
        if second == 19 * HOUR_S:
            self.hosts.append(self._host("ip-10-0-0-27"))

    def _tell(self, now: float, second: int) -> None:
        self.now = now
        oldest = 0.0 if self.not_empty_since is None else now - self.not_empty_since
        depths = {"jobs": {"visible": len(self.queue), "oldest_age_s": oldest}, "dead_letters": {"visible": 0}}
        owed = int(40 * (second - 12.5 * HOUR_S) / HOUR_S) if 12.5 * HOUR_S <= second < 12.9 * HOUR_S else 0
        for host in self.hosts:
            self.lines += host.metrics.lines(now, (owed, None), depths)
        self.measured.flush()


def day(group: str, *, seed: int, seconds: int = DAY_S) -> list[str]:
    """The lines of all its log streams, of the whole day or of its beginning."""
    return Day(group, seed).run(seconds)
