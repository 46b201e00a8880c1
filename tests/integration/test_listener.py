"""The listener against real clients: ordinary ones, and those that are slow, huge, wrong or many."""

from __future__ import annotations

import asyncio
import socket
import time
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

import pytest

from runner.agent.operator import http_listener as module
from runner.agent.operator.http_listener import HEAD_BYTES, MOST_CLIENTS, Listener, Page

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

HUGE = b"x" * (64 << 20)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


async def small() -> Page:
    return Page("200 OK", b"{}\n")


async def huge() -> Page:
    return Page("200 OK", HUGE)


async def broken() -> Page:
    raise ValueError("no such thing")


@asynccontextmanager
async def listening(port: int) -> AsyncIterator[Listener]:
    listener = Listener({"/healthz": small, "/huge": huge, "/broken": broken})
    task = asyncio.create_task(listener.serve(f"127.0.0.1:{port}"))
    try:
        async with asyncio.timeout(20):
            while not await reachable(port):
                await asyncio.sleep(0.01)
        yield listener
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def reachable(port: int) -> bool:
    with suppress(OSError):
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.close()
        return True
    return False


async def ask(port: int, request: bytes) -> tuple[str, dict[str, str], bytes]:
    """Status, headers and body; all that comes until the listener closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    async with asyncio.timeout(20):
        answer = await reader.read()
    writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    return lines[0].removeprefix("HTTP/1.1 "), dict(line.split(": ", 1) for line in lines[1:]), body


async def test_get_head_and_what_is_not_there() -> None:
    port = free_port()
    async with listening(port):
        status, headers, body = await ask(port, b"GET /healthz?verbose=1 HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (status, body) == ("200 OK", b"{}\n")
        assert headers["Content-Length"] == "3"
        assert headers["Connection"] == "close"
        status, headers, body = await ask(port, b"HEAD /healthz HTTP/1.1\r\n\r\n")
        assert (status, headers["Content-Length"], body) == ("200 OK", "3", b"")
        status, _, body = await ask(port, b"GET / HTTP/1.0\r\n\r\n")
        assert status == "404 Not Found"
        assert b"/healthz" in body
        status, headers, _ = await ask(port, b"POST /healthz HTTP/1.1\r\n\r\n")
        assert (status, headers["Allow"]) == ("405 Method Not Allowed", "GET, HEAD")
        assert (await ask(port, b"GET /broken HTTP/1.1\r\n\r\n"))[0] == "500 Internal Server Error"
        assert (await ask(port, b"\x16\x03\x01 tls?\r\n\r\n"))[0] == "404 Not Found"


async def test_a_huge_head_is_refused_before_it_is_read() -> None:
    port = free_port()
    async with listening(port):
        status, _, _ = await ask(port, b"GET /healthz HTTP/1.1\r\nX: " + b"x" * (2 * HEAD_BYTES) + b"\r\n\r\n")
        assert status == "431 Request Header Fields Too Large"


async def test_a_slow_client_is_left_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REQUEST_WITHIN_S", 0.3)
    port = free_port()
    async with listening(port) as listener:
        # One says nothing, one asks for more than it reads: both are cut off, and leave nothing behind.
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        began = time.monotonic()
        with suppress(ConnectionError):
            assert await asyncio.wait_for(reader.read(), 20) == b""
        assert 0.2 < time.monotonic() - began < 15
        writer.close()
        deaf = socket.create_connection(("127.0.0.1", port))
        deaf.sendall(b"GET /huge HTTP/1.1\r\n\r\n")
        async with asyncio.timeout(20):
            while listener.clients == 0:
                await asyncio.sleep(0.01)
            while listener.clients:
                await asyncio.sleep(0.01)
        deaf.close()
        assert (await ask(port, b"GET /healthz HTTP/1.1\r\n\r\n"))[0] == "200 OK"


async def test_who_keeps_half_a_request_open_denies_nobody_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REQUEST_WITHIN_S", 30.0)
    port = free_port()
    async with listening(port) as listener:
        async with asyncio.timeout(20):
            while listener.clients:  # the one that looked whether anybody is there
                await asyncio.sleep(0.01)
        idle = [await asyncio.open_connection("127.0.0.1", port) for _ in range(MOST_CLIENTS)]
        async with asyncio.timeout(20):
            while listener.clients < MOST_CLIENTS:
                await asyncio.sleep(0.01)
        # Half-open requests of others deny nobody anything: the oldest of them makes room.
        for _ in range(3):
            assert (await ask(port, b"GET /healthz HTTP/1.1\r\n\r\n"))[0] == "200 OK"
        with suppress(ConnectionError):
            assert await asyncio.wait_for(idle[0][0].read(), 20) == b""
        assert listener.clients < MOST_CLIENTS
        for _, writer in idle:
            writer.close()
        async with asyncio.timeout(20):
            while listener.clients:
                await asyncio.sleep(0.01)
        assert (await ask(port, b"GET /healthz HTTP/1.1\r\n\r\n"))[0] == "200 OK"


async def test_an_address_that_is_taken_is_had_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BIND_AGAIN_S", 0.05)
    port = free_port()
    with socket.socket() as other:
        other.bind(("127.0.0.1", port))
        other.listen()
        task = asyncio.create_task(Listener({"/healthz": small}).serve(f"127.0.0.1:{port}"))
        await asyncio.sleep(0.2)
        assert not task.done()
    try:
        async with asyncio.timeout(20):
            while True:
                with suppress(OSError):
                    if (await ask(port, b"GET /healthz HTTP/1.1\r\n\r\n"))[0] == "200 OK":
                        break
                await asyncio.sleep(0.02)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
