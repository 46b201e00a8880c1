"""Output as it is written, as server-sent events (HTML Living Standard, 9.2).

A stream goes on over restarts of the agent and failures of AWS, from its byte. What a client does not read is not made:
its own buffers and 64 KiB of ours are all that waits, and it is cut off after a while.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from starlette.responses import Response

from runner.errors import AwsUnavailable, CronRunnerError
from runner.web.sources.source import SourceAway

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.requests import Request
    from starlette.types import Receive, Scope, Send

    from runner.web.answers import Answers
    from runner.web.sources.source import Piece, Source

MOST_STREAMS: Final = 32
PIECE: Final = 64 << 10
UNREAD_S: Final = 15.0
"""A reader that takes nothing for so long is cut off."""
_LOOK_S: Final = 0.3
_QUIET_S: Final = 10.0


class Streams:
    """How many there are; `take` is False where there is no room for one more."""

    def __init__(self, most: int = MOST_STREAMS) -> None:
        self.open = 0
        self._most = most

    def take(self) -> bool:
        if self.open >= self._most:
            return False
        self.open += 1
        return True

    def leave(self) -> None:
        self.open -= 1

    def answer(self, events: AsyncIterator[bytes], request: Request, answers: Answers) -> Response:
        """A stream of these events; 503 where there is no room for one more."""
        if not self.take():
            return answers.problem(503, "all streams are in use; try again in a moment", path=request.url.path)
        return EventStream(events, self)


async def pieces(source: Source, run_id: str, start: int, look: float = _LOOK_S) -> AsyncIterator[Piece | None]:
    """What comes from `start` on, until the run's output is over; None when it has been quiet for a while."""
    loop = asyncio.get_running_loop()
    said = loop.time()
    while True:
        try:
            piece = await source.output(run_id, start, PIECE)
        except (SourceAway, AwsUnavailable):
            piece = None  # it comes back, and then it goes on from here
        except CronRunnerError:
            return
        if piece is not None and (piece.next > start or piece.over):
            start = piece.next
            said = loop.time()
            yield piece
            if piece.over:
                return
            if len(piece.data) >= PIECE // 2:
                continue
        if loop.time() - said > _QUIET_S:
            said = loop.time()
            yield None
        await asyncio.sleep(look)


def event(kind: str, data: str, place: int | str | None = None) -> bytes:
    """One event. Every line of the data has its field: nothing in it can begin another one, a carriage return too."""
    lines = data.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    said = [f"event: {kind}"] + ([] if place is None else [f"id: {place}"])
    return "\n".join([*said, *(f"data: {line}" for line in lines), "", ""]).encode("utf-8", "replace")


QUIET: Final = b": quiet\n\n"


class EventStream(Response):
    """Sends what an iterator gives, while the client takes it; it leaves its place in `streams` at its end."""

    def __init__(self, events: AsyncIterator[bytes], streams: Streams) -> None:
        super().__init__(media_type="text/event-stream")
        self._events = events
        self._streams = streams

    async def __call__(self, _: Scope, receive: Receive, send: Send) -> None:
        try:
            async with asyncio.TaskGroup() as tasks:
                sending = tasks.create_task(self._send(send))
                gone = tasks.create_task(_gone(receive))
                await asyncio.wait((sending, gone), return_when=asyncio.FIRST_COMPLETED)
                sending.cancel()
                gone.cancel()
        except* (OSError, TimeoutError):
            pass  # it left, or reads nothing: the connection is closed without an end
        finally:
            self._streams.leave()

    async def _send(self, send: Send) -> None:
        headers = [
            (b"content-type", b"text/event-stream; charset=utf-8"),
            (b"cache-control", b"no-store"),
            (b"x-accel-buffering", b"no"),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        async for piece in self._events:
            async with asyncio.timeout(UNREAD_S):
                await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
