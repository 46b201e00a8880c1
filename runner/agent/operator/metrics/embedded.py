"""``[agent] metrics = "emf"``: once a minute what CloudWatch makes metrics of, into the agent's own log stream.

Few, since each is billed by its name and dimensions: those of a host that add up to, or stand for, its group. Names
and meanings are those of /metrics (prometheus.py), a counter without its ``_total`` being what was added in the minute.
"""

from __future__ import annotations

import asyncio
import random
import time
from typing import TYPE_CHECKING, Final

from runner import __version__
from runner.agent.operator.health import judge
from runner.agent.reporting.counts import LATENCY_S, Histogram
from runner.protocol.emf import MOST_VALUES, document

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from runner.agent.operator.health_watch import HealthWatch

EVERY_S: Final = 60.0
DEPTHS_WITHIN_S: Final = 1.0


class SampledHistogram(Histogram):
    """Keeps also a fair sample of the values since it was last taken, and the largest of them."""

    __slots__ = ("_chance", "_largest", "_sample", "_seen")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        super().__init__(bounds)
        self._chance = random.Random()  # noqa: S311 - a sample, no secret
        self._sample: list[float] = []
        self._seen = 0
        self._largest = 0.0

    def observe(self, value: float) -> None:
        super().observe(value)
        self._seen += 1
        self._largest = max(self._largest, value)
        if len(self._sample) < MOST_VALUES:
            self._sample.append(value)
        elif (place := self._chance.randrange(self._seen)) < MOST_VALUES:
            self._sample[place] = value

    def take(self) -> list[float]:
        """At most as many as a document holds; another sample begins."""
        taken = [round(value, 3) for value in self._sample]
        if self._seen > len(taken):
            taken[0] = round(self._largest, 3)
        self._sample, self._seen, self._largest = [], 0, 0.0
        return taken


class EmbeddedMetrics:
    """Made before anything is counted; `write` takes a line of the log."""

    def __init__(self, watch: HealthWatch, write: Callable[[str], None]) -> None:
        self._watch = watch
        self._write = write
        self._latency = watch.services.counts.latency = SampledHistogram(LATENCY_S)
        self._before: dict[str, int] = {}

    async def run(self) -> None:
        """At each full minute, as CloudWatch counts them."""
        while True:
            now = time.time()
            await asyncio.sleep(EVERY_S - now % EVERY_S)
            await self.tell()

    async def tell(self) -> None:
        """What has been since the last time, and what is."""
        owed = await self._watch.outbox_depth()
        depths = await self._watch.depths.look(DEPTHS_WITHIN_S) if self._watch.depths is not None else {}
        for line in self.lines(time.time(), owed, depths):
            self._write(line)

    def lines(
        self,
        now: float,
        owed: tuple[int, float | None] | None,
        depths: Mapping[str, Mapping[str, float] | None],
    ) -> list[str]:
        """The group's document, and one for each outcome that runs had."""
        services, counts = self._watch.services, self._watch.services.counts
        group, host = services.config.group, {"host": services.source.host.name, "version": __version__}
        metrics = {**self._standing(owed, depths), **self._added()}
        latency = self._latency.take()
        lines = [
            document(
                now, {"group": group}, {**metrics, **({"queue_latency_seconds": latency} if latency else {})}, more=host
            )
        ]
        for outcome, total in counts.runs.items():
            if added := self._since(f"runs {outcome}", total):
                lines.append(document(now, {"group": group, "outcome": outcome}, {"runs": added}, more=host))
        return lines

    def _standing(
        self, owed: tuple[int, float | None] | None, depths: Mapping[str, Mapping[str, float] | None]
    ) -> dict[str, float]:
        facts = self._watch.facts()
        now: dict[str, float] = {
            "healthy": int(judge(facts).ok),
            "runs_running": facts.running,
            "runs_held": facts.held,
            "spool_bytes": facts.spool_bytes,
            "unshipped_age_seconds": round(facts.unshipped_age_s or 0.0, 3),
        }
        if owed is not None:
            now["outbox_events"] = owed[0]
        if (jobs := depths.get("jobs")) is not None:
            now["queue_messages"] = jobs["visible"]
            now["queue_oldest_age_seconds"] = jobs["oldest_age_s"]
        if (dead := depths.get("dead_letters")) is not None:
            now["dead_letter_messages"] = dead["visible"]
        return now

    def _added(self) -> dict[str, int]:
        counts = self._watch.services.counts
        totals = {
            "messages_received": counts.received,
            "messages_handed_back": sum(counts.handed_back.values()),
            "messages_rejected": sum(counts.rejected.values()),
            "leases_lost": self._watch.services.keeper.lost,
            "attempts_started": counts.started,
            "runs_skipped": sum(counts.skipped.values()),
        }
        return {name: self._since(name, total) for name, total in totals.items()}

    def _since(self, name: str, total: int) -> int:
        added = total - self._before.get(name, 0)
        self._before[name] = total
        return added
