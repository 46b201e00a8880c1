"""The API: the same source, as JSON; what a page shows, a program can ask for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from starlette.responses import JSONResponse, Response

from runner.web import asked
from runner.web.answers import named
from runner.web.asked import body_of, change_of, runs_filter
from runner.web.openapi import description
from runner.web.sources.source import Filter, Piece
from runner.web.stream import QUIET, Streams, event, pieces

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.requests import Request

    from runner.web.answers import Answers
    from runner.web.changes import Changes
    from runner.web.sources.source import Source

_OUTPUT_PIECE: Final = 1 << 18
MOST_OUTPUT: Final = 1 << 20
"""Bytes of one answer: a reader goes on from X-Next-Offset."""


class Api:
    """Handlers by the names of their operations."""

    def __init__(self, source: Source, answers: Answers, changes: Changes, streams: Streams) -> None:
        self._source = source
        self._answers = answers
        self._changes = changes
        self._streams = streams

    async def status(self, _: Request) -> Response:
        return JSONResponse(await self._source.status())

    async def hosts(self, _: Request) -> Response:
        return JSONResponse(list(await self._source.hosts()))

    async def queues(self, _: Request) -> Response:
        return JSONResponse(list(await self._source.queues()))

    async def audit(self, request: Request) -> Response:
        params = request.query_params
        return JSONResponse(await self._source.audit(asked.cursor(params), asked.whole(params, "limit", 50, 500)))

    async def runs(self, request: Request) -> Response:
        return JSONResponse(await self._source.runs(runs_filter(request.query_params)))

    async def run(self, request: Request) -> Response:
        return JSONResponse(await self._source.run(named(request, "run_id")))

    async def output(self, request: Request) -> Response:
        """At most a mebibyte from `from` on; X-Next-Offset is where to go on, X-Size how much there is."""
        run_id, start = named(request, "run_id"), asked.whole(request.query_params, "from", 0, 1 << 60, 0)
        data = bytearray()
        place = start
        while True:
            piece = await self._source.output(run_id, place, _OUTPUT_PIECE)
            data += piece.data
            moved, place = piece.next > place, piece.next
            if not moved or place >= piece.size or len(data) >= MOST_OUTPUT:
                break
        headers = {"X-Next-Offset": str(place), "X-Size": str(piece.size), "X-Over": "true" if piece.over else "false"}
        headers["Content-Security-Policy"] = "default-src 'none'; sandbox"
        return Response(bytes(data), media_type="text/plain; charset=utf-8", headers=headers)

    async def stream(self, request: Request) -> Response:
        run_id, start = named(request, "run_id"), asked.place(request)
        await self._source.output(run_id, start, 0)  # whether there is such a run
        return self._streams.answer(_events(pieces(self._source, run_id, start)), request, self._answers)

    async def jobs(self, _: Request) -> Response:
        return JSONResponse(list(await self._source.jobs()))

    async def job(self, request: Request) -> Response:
        return JSONResponse(await self._source.job(named(request, "group"), named(request, "job")))

    async def job_runs(self, request: Request) -> Response:
        group, job, params = named(request, "group"), named(request, "job"), request.query_params
        await self._source.job(group, job)
        wanted = Filter(job=f"{group}/{job}", limit=asked.whole(params, "limit", 50, 500), cursor=asked.cursor(params))
        return JSONResponse(await self._source.runs(wanted))

    async def job_next(self, request: Request) -> Response:
        count = asked.whole(request.query_params, "n", 5, 1000)
        return JSONResponse(list(await self._source.next(named(request, "group"), named(request, "job"), count)))

    async def openapi(self, _: Request) -> Response:
        return JSONResponse(description())

    # -- changes

    async def change_run(self, request: Request) -> Response:
        return await self._change(request, run_id=named(request, "run_id"))

    async def change_job(self, request: Request) -> Response:
        return await self._change(request, group=named(request, "group"), job=named(request, "job"))

    async def change_group(self, request: Request) -> Response:
        return await self._change(request, group=named(request, "group"))

    async def change_host(self, request: Request) -> Response:
        return await self._change(request)

    async def _change(self, request: Request, **target: str) -> Response:
        change = change_of(str(request.path_params["op"]), await body_of(request), **target)
        key = request.headers.get("idempotency-key", "").strip()
        done: dict[str, Any] = await self._changes.make(change, request.scope["person"], key)
        return JSONResponse(done)


async def _events(found: AsyncIterator[Piece | None]) -> AsyncIterator[bytes]:
    async for piece in found:
        if piece is None:
            yield QUIET
            continue
        if piece.data:
            yield event("output", piece.data.decode("utf-8", "replace"), piece.next)
        if piece.over:
            yield event("end", piece.outcome or "", piece.next)
