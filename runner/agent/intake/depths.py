"""How much waits in the job queue and in its dead-letter queue, asked of SQS only when somebody looks, and seldom."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import structlog

from runner.errors import AwsUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from runner.aws.sqs import Queue

log = structlog.get_logger()

AGAIN_S = 60.0


@dataclass(slots=True)
class Depth:
    """Messages of a queue, about, as SQS counts them; `not_empty_since` and `asked` are monotonic seconds. How old the
    oldest message is SQS says to CloudWatch alone: it is at least as old as the queue has been seen not empty."""

    visible: int
    in_flight: int
    delayed: int
    asked: float
    not_empty_since: float | None

    def as_told(self, now: float) -> dict[str, Any]:
        since = self.not_empty_since
        return {
            "visible": self.visible,
            "in_flight": self.in_flight,
            "delayed": self.delayed,
            "oldest_age_s": 0.0 if since is None else round(max(0.0, now - since), 1),
            "asked_s_ago": round(max(0.0, now - self.asked), 1),
        }


class Depths:
    """Used on the event loop. `queues` gives those that there are by the name that people know: `jobs`,
    `dead_letters`; its calls are not those of the poll, which waits for none of them."""

    def __init__(
        self, queues: Callable[[], Mapping[str, Queue | None]], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._queues = queues
        self._clock = clock
        self._known: dict[str, Depth] = {}
        self._asked = float("-inf")
        self._asking: asyncio.Task[None] | None = None

    async def look(self, within: float = 0.0) -> dict[str, dict[str, Any] | None]:
        """What is known by now, at most a minute old while SQS answers; an answer is waited for so many seconds. None
        for a queue that there is not, or that has not answered yet."""
        if self._asking is None and self._clock() - self._asked >= AGAIN_S:
            self._asked = self._clock()
            self._asking = asyncio.get_running_loop().create_task(self._ask(), name="queue depths")
        if self._asking is not None and within > 0:
            await asyncio.wait({self._asking}, timeout=within)
        now = self._clock()
        return {
            name: depth.as_told(now) if (depth := self._known.get(name)) is not None else None
            for name in ("jobs", "dead_letters")
        }

    async def _ask(self) -> None:
        try:
            for name, queue in self._queues().items():
                if queue is None:
                    self._known.pop(name, None)
                    continue
                facts = await queue.facts()
                now, before = self._clock(), self._known.get(name)
                counts = facts.waiting or 0, facts.in_flight or 0, facts.delayed or 0
                since = before.not_empty_since if before is not None else None
                self._known[name] = Depth(*counts, now, (since or now) if any(counts) else None)
        except AwsUnavailable as error:
            log.debug("queue_depth_not_known", error=str(error))  # why AWS is away is said by the poll
        finally:
            self._asking = None
