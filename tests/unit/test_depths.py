"""How much is on the queues is asked seldom, and never waited for longer than whoever looks has time."""

from __future__ import annotations

import asyncio
from typing import Any

from runner.agent.intake.depths import Depths
from runner.agent.reporting.counts import OTHERS, Jobs
from runner.aws.messages import QueueFacts
from runner.errors import AwsUnavailable


class Queue:
    """Answers as it is told to."""

    def __init__(self) -> None:
        self.asked = 0
        self.waiting = 0
        self.answers = asyncio.Event()
        self.answers.set()
        self.fails = False

    async def facts(self) -> QueueFacts:
        self.asked += 1
        await self.answers.wait()
        if self.fails:
            raise AwsUnavailable("GetQueueAttributes", "AccessDenied", "not you")
        return QueueFacts("arn", 30, 60, 1, None, False, self.waiting, in_flight=1 if self.waiting else 0)


async def test_depths_are_asked_once_a_minute_and_remembered_while_sqs_is_away() -> None:
    queue, now = Queue(), [0.0]
    queues: dict[str, Any] = {"jobs": queue, "dead_letters": None}
    depths = Depths(lambda: queues, clock=lambda: now[0])

    async def jobs(within: float = 5.0) -> dict[str, Any]:
        return (await depths.look(within))["jobs"] or {}

    assert (await depths.look(0))["jobs"] is None, "a look that has no time waits for nothing"
    assert await jobs() == {"visible": 0, "in_flight": 0, "delayed": 0, "oldest_age_s": 0.0, "asked_s_ago": 0.0}
    queue.waiting, now[0] = 3, 59.0
    assert (await jobs())["visible"] == 0
    assert queue.asked == 1
    now[0] = 60.0
    assert (await jobs())["visible"] == 3
    now[0] = 130.0
    assert (await jobs())["oldest_age_s"] == 70.0
    queue.fails, now[0] = True, 200.0
    seen = await jobs()
    assert (seen["visible"], seen["oldest_age_s"], seen["asked_s_ago"]) == (3, 140.0, 70.0)
    queue.fails, queue.waiting, now[0] = False, 0, 300.0
    assert (await jobs())["oldest_age_s"] == 0.0
    # One that never answers is asked once, and held up by nobody.
    queue.answers.clear()
    now[0] = 400.0
    asked = queue.asked
    for _ in range(3):
        now[0] += 100.0
        assert (await jobs(0.01))["visible"] == 0
    assert queue.asked == asked + 1
    queue.answers.set()
    await jobs()


def test_so_many_jobs_have_numbers_of_their_own_and_the_others_share_theirs() -> None:
    jobs = Jobs()
    for name in ("a", "b", "c", "d", "a"):
        of = jobs.of(name, 2)
        assert of is not None
        of.runs["failed"] += 1
        of.ended("failed", 5.0)
    assert {name: of.runs["failed"] for name, of in jobs.by_name.items()} == {"a": 2, "b": 1, OTHERS: 2}
    assert jobs.of("e", 0) is None
    assert jobs.by_name["a"].last_success is None
    assert jobs.by_name["a"].last_failure == 5.0
