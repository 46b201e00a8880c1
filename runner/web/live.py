"""What pages are told while they are open: that something has changed, and more of a log. One stream a page."""

from __future__ import annotations

import asyncio
import hashlib
import json
from typing import TYPE_CHECKING, Any, Final

from runner.errors import AwsUnavailable, CronRunnerError
from runner.web import asked
from runner.web.answers import named
from runner.web.log import following
from runner.web.stream import QUIET, Streams, event

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.requests import Request
    from starlette.responses import Response

    from runner.web.answers import Answers
    from runner.web.sources.source import Source

_LOOK_S: Final = 1.0
_QUIET_LOOKS: Final = 10


class Live:
    """`/live` says `changed`; `/runs/RUN_ID/follow` says it too, and sends the log."""

    def __init__(self, source: Source, answers: Answers, streams: Streams) -> None:
        self._source = source
        self._answers = answers
        self._streams = streams
        self._looking = asyncio.Lock()
        self._looked = float("-inf")
        self._seen = ""

    async def changes(self, request: Request) -> Response:
        return self._streams.answer(self._changed(), request, self._answers)

    async def follow(self, request: Request) -> Response:
        run_id, start = named(request, "run_id"), asked.place(request)
        await self._source.output(run_id, start, 0)  # whether there is such a run
        return self._streams.answer(self._both(following(self._source, run_id, start)), request, self._answers)

    async def _changed(self) -> AsyncIterator[bytes]:
        """An event when what runs, waits, is wrong or has ended is another than before."""
        before, quiet = "", 0
        while True:
            now = await self._now()
            if before and now != before:
                yield event("changed", "")
            elif (quiet := quiet + 1) % _QUIET_LOOKS == 1:
                yield QUIET
            before = now
            await asyncio.sleep(_LOOK_S)

    async def _now(self) -> str:
        """What it is now, made once a second however many look."""
        loop = asyncio.get_running_loop()
        async with self._looking:
            if loop.time() - self._looked >= _LOOK_S:
                try:
                    self._seen = _digest(await self._source.overview())
                except (AwsUnavailable, CronRunnerError):
                    self._seen = "away"
                self._looked = loop.time()
            return self._seen

    async def _both(self, log: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """The log's events and the changes, as they come; the log's end ends it."""
        queue: asyncio.Queue[bytes | None] = asyncio.Queue(maxsize=1)

        async def pump(events: AsyncIterator[bytes], *, last: bool) -> None:
            async for one in events:
                await queue.put(one)
            if last:
                await queue.put(None)

        tasks = [
            asyncio.create_task(pump(log, last=True), name="log"),
            asyncio.create_task(pump(self._changed(), last=False), name="changes"),
        ]
        try:
            while (one := await queue.get()) is not None:
                yield one
        finally:
            for task in tasks:
                task.cancel()


def _digest(overview: dict[str, Any]) -> str:
    """Of what matters: not of times that go on by themselves."""
    told = [
        [(run["run_id"], run["state"], run.get("attempt")) for run in overview["running"]],
        [(one.get("run_id"), one.get("queue"), one["state"], one.get("reason")) for one in overview["waiting"]],
        [(one["state"], one.get("run_id"), one.get("host")) for one in overview["wrong"]],
        [run["run_id"] for run in overview["ended"]],
        [(one["state"], one.get("job"), one.get("group")) for one in overview["off"]],
        overview["running_count"],
    ]
    return hashlib.sha256(json.dumps(told, default=str).encode()).hexdigest()
