"""How full the groups' queues are, and their dead-letter queues: asked of SQS seldom, and no page but its own waits."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, Final

from runner.aws.sqs import Queue
from runner.errors import AwsUnavailable, CronRunnerError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from runner.aws.session import Session
    from runner.control.definition import GroupDefinition

_AGAIN_S: Final = 30.0
_AT_ONCE: Final = 8


class Queues:
    """Of one source. A row is {queue, group, counts, why}; `counts` is None where SQS does not say."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._rows: dict[str, dict[str, Any]] = {}
        self._asked = float("-inf")
        self._asking: asyncio.Task[None] | None = None

    def known(self, groups: Mapping[str, GroupDefinition]) -> Mapping[str, dict[str, Any]]:
        """By group, what was said last; where that is old, it is asked meanwhile."""
        if self._asking is None and time.monotonic() - self._asked >= _AGAIN_S:
            self._asking = asyncio.get_running_loop().create_task(self._ask(groups), name="queue counts")
        return self._rows

    async def asked(self, groups: Mapping[str, GroupDefinition]) -> Sequence[dict[str, Any]]:
        """What is said now, at most two seconds old."""
        if self._asking is None and time.monotonic() - self._asked >= 2.0:
            self._asking = asyncio.get_running_loop().create_task(self._ask(groups), name="queue counts")
        if self._asking is not None:
            await asyncio.shield(self._asking)
        return [self._rows[name] for name in groups if name in self._rows]

    def close(self) -> None:
        if self._asking is not None:
            self._asking.cancel()

    async def _ask(self, groups: Mapping[str, GroupDefinition]) -> None:
        places = asyncio.Semaphore(_AT_ONCE)
        try:
            rows = await asyncio.gather(*(self._one(group, places) for group in groups.values()))
            self._rows = {row["group"]: row for row in rows}
            self._asked = time.monotonic()
        finally:
            self._asking = None

    async def _one(self, group: GroupDefinition, places: asyncio.Semaphore) -> dict[str, Any]:
        queue = Queue(self._session, url=group.queue)
        shown = {"queue": queue.label.rpartition("/")[2] or queue.label, "group": group.name}
        try:
            async with places:
                facts = await queue.facts()
                dead = None
                if facts.redrive is not None:
                    url = await queue.url_of_arn(facts.redrive.target_arn)
                    dead = (await Queue(self._session, url=url).facts()).waiting
        except (AwsUnavailable, CronRunnerError) as error:
            why = f"{error}; `cron-runner check --iam-policy=web` prints what the page needs"
            return {**shown, "why": why, "counts": None}
        counts = {"waiting": facts.waiting, "in_flight": facts.in_flight, "delayed": facts.delayed, "dead": dead}
        return {**shown, "why": None, "counts": counts}


def total(rows: Mapping[str, Mapping[str, Any]], *names: str) -> int | None:
    """Of all queues that are known, the sum of these counts; None where none is known."""
    known = [row["counts"] for row in rows.values() if row["counts"] is not None]
    said = [counts[name] for counts in known for name in names if counts[name] is not None]
    return sum(said) if said else None
