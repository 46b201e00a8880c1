"""`[agent] listen`: a small HTTP server for /healthz and /metrics that no client can hold up or fill.

asyncio's streams rather than a web framework: two pages, and a footprint that is counted in single megabytes.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

import structlog

log = structlog.get_logger()

_NOT_SERVED = "somebody else has the address: stop that, or set another [agent] listen"

# Asking and being answered, whatever the client's pace.
REQUEST_WITHIN_S = 5.0
MOST_CLIENTS = 32
HEAD_BYTES = 8192
BIND_AGAIN_S = 10.0


@dataclass(frozen=True, slots=True)
class Page:
    status: str
    body: bytes
    content_type: str = "application/json"
    headers: str = ""  # more of them, each with its CRLF


Pages = Mapping[str, Callable[[], Awaitable[Page]]]


def fault(status: str, text: str, headers: str = "") -> Page:
    return Page(status, json.dumps({"error": text}).encode() + b"\n", headers=headers)


class Listener:
    """Answers GET and HEAD of the paths in `pages`, one request a connection."""

    def __init__(self, pages: Pages) -> None:
        self._pages = pages
        self.clients = 0  # connected now
        self._asking: dict[asyncio.WriteTransport, None] = {}  # who has not said all of a request; oldest first

    async def serve(self, listen: str) -> None:
        """Serve on HOST:PORT until cancelled. An address that is taken is tried again: jobs that do not run would be
        worse than a health check that nobody can reach."""
        host, _, port = listen.rpartition(":")
        said = False
        while True:
            try:
                server = await asyncio.start_server(self._connected, host.strip("[]"), int(port), limit=HEAD_BYTES)
            except OSError as error:
                if not said:
                    log.error(
                        "health_not_served", listen=listen, error=str(error), retry_in=BIND_AGAIN_S, detail=_NOT_SERVED
                    )
                said = True
                await asyncio.sleep(BIND_AGAIN_S)
                continue
            if said:
                log.warning("health_served_again", listen=listen)
            async with server:
                await server.serve_forever()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        transport = writer.transport
        if self.clients >= MOST_CLIENTS and not self._asking:
            transport.abort()
            return
        if self.clients >= MOST_CLIENTS:
            # Who keeps half a request open makes room: whoever asks at once is answered, however many do not.
            oldest = next(iter(self._asking))
            del self._asking[oldest]
            oldest.abort()
        self.clients += 1
        self._asking[transport] = None
        try:
            with contextlib.suppress(OSError, TimeoutError, asyncio.IncompleteReadError):
                async with asyncio.timeout(REQUEST_WITHIN_S):
                    await self._answer(reader, writer)
                    writer.close()
                    await writer.wait_closed()
        finally:
            self.clients -= 1
            self._asking.pop(transport, None)
            transport.abort()  # nothing of a client that was too slow stays in memory

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        method = b"GET"
        try:
            line = (await reader.readuntil(b"\r\n\r\n")).split(b"\r\n", 1)[0]
            self._asking.pop(writer.transport, None)
        except asyncio.LimitOverrunError:
            page = fault("431 Request Header Fields Too Large", f"the head has more than {HEAD_BYTES} bytes")
        else:
            method, _, rest = line.partition(b" ")
            page = await self._page(method, rest.split(b" ", 1)[0].decode("latin-1"))
        head = (
            f"HTTP/1.1 {page.status}\r\nContent-Type: {page.content_type}\r\nContent-Length: {len(page.body)}\r\n"
            f"Cache-Control: no-store\r\n{page.headers}Connection: close\r\n\r\n"
        ).encode()
        writer.write(head if method == b"HEAD" else head + page.body)
        await writer.drain()

    async def _page(self, method: bytes, target: str) -> Page:
        make = self._pages.get(target.partition("?")[0])
        if make is None:
            return fault("404 Not Found", f"not found; there is {' and '.join(self._pages)}")
        if method not in (b"GET", b"HEAD"):
            return fault("405 Method Not Allowed", "only GET and HEAD", headers="Allow: GET, HEAD\r\n")
        try:
            return await make()
        except TimeoutError:
            raise
        except Exception:
            log.exception("page_failed", path=target)
            return fault("500 Internal Server Error", "the page could not be made; the agent's log says why")
