"""A proxy in front of the stand-in that does what the network and AWS do on a bad day, by rule and by seed.

with Proxy(endpoint) as proxy:
    proxy.fail(0.3)                  # three in ten calls end in a 5xx or in throttling
    proxy.slow(5.0)                  # and each takes five seconds
    proxy.swallow("ReceiveMessage")  # is read, and never answered
    proxy.reset()                    # every connection is cut at once, and counted
    proxy.refuse()                   # nobody listens
    proxy.redeliver(0.1)             # one in ten messages is given out a second time
    proxy.expire(0.1)                # one in ten receipts is worth nothing any more
    proxy.deny("PutLogEvents")       # is refused for want of permission
    proxy.clock(-90.0)               # answers are dated: AWS's clock is 90 s behind this host's
    proxy.heal()                     # everything as it should be
    proxy.count("SendMessageBatch"), proxy.busiest_second()
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import socket
import struct
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Mapping

ANY = "*"
# What SQS and CloudWatch Logs answer, by kind: status, code, text.
_FAILURES = {
    "500": (500, "InternalFailure", "The request processing has failed because of an unknown error"),
    "503": (503, "ServiceUnavailable", "The service is currently unavailable"),
    "throttled": (400, "ThrottlingException", "Rate exceeded"),
}
_OF_RECEIPTS = ("DeleteMessage", "ChangeMessageVisibility")


@dataclass(frozen=True, slots=True)
class Call:
    """One request: when it came (monotonic seconds), its action, and what became of it."""

    at: float
    action: str
    fate: str


@dataclass(frozen=True, slots=True)
class _Request:
    line: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def action(self) -> str:
        return self.headers.get("x-amz-target", "?").rpartition(".")[2]

    def json(self) -> dict[str, Any]:
        return dict(json.loads(self.body or b"{}"))

    def asking(self, action: str, **parameters: Any) -> _Request:
        """The same caller asking for something else."""
        target = f"{self.headers['x-amz-target'].partition('.')[0]}.{action}"
        return _Request(self.line, {**self.headers, "x-amz-target": target}, json.dumps(parameters).encode())


@dataclass(slots=True)
class _Rules:
    fail: dict[str, float] = field(default_factory=dict)
    slow: dict[str, float] = field(default_factory=dict)
    swallowed: set[str] = field(default_factory=set)
    reset: bool = False
    redeliver: float = 0.0
    expire: float = 0.0
    denied: dict[str, str] = field(default_factory=dict)
    clock: float | None = None


class Proxy:
    """An HTTP proxy on a port of its own, run by a thread of its own; a context manager."""

    def __init__(self, upstream: str, seed: int = 1) -> None:
        address = urlsplit(upstream)
        self._upstream = (address.hostname or "127.0.0.1", address.port or 80)
        self._random = random.Random(seed)
        self._rules = _Rules()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="faults", daemon=True)
        self._server: asyncio.Server | None = None
        self._port = 0
        self._open: set[asyncio.Task[None]] = set()
        self._expired: set[str] = set()
        self.calls: list[Call] = []

    # -- a test's side: any thread ---------------------------------------------------------------------------

    def __enter__(self) -> Self:
        self._thread.start()
        self._do(self._listen())
        return self

    def __exit__(self, *_: object) -> None:
        self._do(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @property
    def endpoint(self) -> str:
        """Where clients find it; the same port for as long as the proxy lives."""
        return f"http://127.0.0.1:{self._port}"

    def fail(self, rate: float, action: str = ANY) -> None:
        """Answer a share of the calls with a 5xx or with throttling, in turns by the seed."""
        self._rules.fail[action] = rate

    def slow(self, seconds: float, action: str = ANY) -> None:
        """Let every answer take so much longer."""
        self._rules.slow[action] = seconds

    def swallow(self, action: str = ANY) -> None:
        """Read requests and never answer: a black hole."""
        self._rules.swallowed.add(action)

    def reset(self) -> None:
        """Cut every connection as soon as its request is here; the attempts are counted."""
        self._rules.reset = True

    def refuse(self) -> None:
        """Stop listening and cut what is connected: the kernel refuses, and nobody can count."""
        self._do(self._close())

    def redeliver(self, rate: float) -> None:
        """Make a share of the received messages visible again at once, so that they are delivered twice."""
        self._rules.redeliver = rate

    def expire(self, rate: float) -> None:
        """Let a share of the receipts expire as soon as they are given out; their messages come again."""
        self._rules.expire = rate

    def deny(self, *actions: str, code: str = "AccessDenied") -> None:
        """Refuse actions for want of permission, or with another error ``code`` that AWS has for them."""
        self._rules.denied.update(dict.fromkeys(actions, code))

    def clock(self, ahead_s: float) -> None:
        """Date every answer by a clock that is so far ahead of this host's."""
        self._rules.clock = ahead_s

    def heal(self) -> None:
        """Forget every rule, and listen again."""
        self._rules = _Rules()
        if self._server is None:
            self._do(self._listen())

    def count(self, action: str = ANY, *, since: float = 0.0) -> int:
        """How many calls of an action have come since a moment (`time.monotonic`)."""
        return sum(1 for call in self.calls if call.at >= since and action in (ANY, call.action))

    def counts(self) -> Counter[str]:
        """The calls per action."""
        return Counter(call.action for call in self.calls)

    def busiest_second(self, action: str = ANY, *, since: float = 0.0) -> int:
        """The most calls of an action within any one second."""
        times = sorted(call.at for call in self.calls if call.at >= since and action in (ANY, call.action))
        first = most = 0
        for last, at in enumerate(times):
            while at - times[first] >= 1.0:
                first += 1
            most = max(most, last - first + 1)
        return most

    def _do(self, coroutine: Any) -> None:
        asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(30)

    # -- the loop's side -------------------------------------------------------------------------------------

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self._port, reuse_address=True)
        self._port = self._server.sockets[0].getsockname()[1]

    async def _close(self) -> None:
        if self._server is not None:
            # What was accepted in this turn of the loop is attached in the next ones; a server that has been closed
            # by then fails that without a word, and leaves the connection open (CPython 3.11, Server._attach).
            for sock in self._server.sockets:
                self._loop.remove_reader(sock.fileno())
            for _ in range(3):
                await asyncio.sleep(0)
            self._server.close()
            self._server = None
        for task in list(self._open):
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        if self._server is None:  # taken in the moment before it was closed: `_close` knew nothing of it
            _cut(writer)
            writer.close()
            return
        self._open.add(task)
        # A client that goes away in mid-sentence, or a cut by `refuse`, ends this connection only.
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while request := await _read_request(reader):
                answer = await self._answer(request)
                if answer is None:
                    _cut(writer)
                    break
                writer.write(answer)
                await writer.drain()
        self._open.discard(task)
        writer.close()

    async def _answer(self, request: _Request) -> bytes | None:
        """The answer's bytes, or None where the connection is to be cut."""
        action, rules = request.action, self._rules
        fate = self._fate(action)
        dated = _date(rules.clock)
        self.calls.append(Call(time.monotonic(), action, fate))
        await asyncio.sleep(rules.slow.get(action, rules.slow.get(ANY, 0.0)))
        if fate == "reset":
            return None
        if fate == "swallowed":
            await asyncio.Event().wait()
        if fate in _FAILURES:
            return _failure(*_FAILURES[fate])
        if fate == "denied":
            return _failure(400, rules.denied[action], f"User is not authorized to perform {action}", dated)
        if action.removesuffix("Batch") in _OF_RECEIPTS and self._expired:
            return await self._with_expired(request)
        status, body = await self._forward(request)
        if action == "ReceiveMessage" and status == 200:
            await self._spoil(request, json.loads(body or b"{}").get("Messages", []))
        return _response(status, body, dated)

    def _fate(self, action: str) -> str:
        rules = self._rules
        if rules.reset:
            return "reset"
        if rules.swallowed & {action, ANY}:
            return "swallowed"
        if action in rules.denied:
            return "denied"
        if self._random.random() < rules.fail.get(action, rules.fail.get(ANY, 0.0)):
            return self._random.choice(sorted(_FAILURES))
        return "passed"

    async def _spoil(self, request: _Request, messages: list[dict[str, Any]]) -> None:
        """Make some of the messages come again, and some of their receipts worthless."""
        queue = request.json()["QueueUrl"]
        for message in messages:
            receipt = message["ReceiptHandle"]
            expired = self._random.random() < self._rules.expire
            if expired:
                self._expired.add(receipt)
            if expired or self._random.random() < self._rules.redeliver:
                again = {"QueueUrl": queue, "ReceiptHandle": receipt, "VisibilityTimeout": 0}
                await self._forward(request.asking("ChangeMessageVisibility", **again))

    async def _with_expired(self, request: _Request) -> bytes:
        """Pass a call about receipts on without the expired ones, and answer for those as SQS does."""
        asked = request.json()
        code, text = "ReceiptHandleIsInvalid", "The input receipt handle is invalid: it has expired"
        if "Entries" not in asked:
            if asked.get("ReceiptHandle") in self._expired:
                return _failure(400, code, text)
            return _response(*await self._forward(request))
        bad = [entry for entry in asked["Entries"] if entry["ReceiptHandle"] in self._expired]
        good = [entry for entry in asked["Entries"] if entry["ReceiptHandle"] not in self._expired]
        answer: dict[str, Any] = {"Successful": [], "Failed": []}
        if good:
            status, body = await self._forward(request.asking(request.action, **(asked | {"Entries": good})))
            if status != 200:
                return _response(status, body)
            answer |= json.loads(body)
        failed = [{"Id": entry["Id"], "SenderFault": True, "Code": code, "Message": text} for entry in bad]
        answer["Failed"] = [*(answer.get("Failed") or []), *failed]
        return _response(200, json.dumps(answer).encode())

    async def _forward(self, request: _Request) -> tuple[int, bytes]:
        reader, writer = await asyncio.open_connection(*self._upstream)
        try:
            headers = {**request.headers, "connection": "close", "content-length": str(len(request.body))}
            head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
            writer.write(f"{request.line}\r\n{head}\r\n".encode("latin-1") + request.body)
            await writer.drain()
            status = int((await reader.readline()).split()[1])
            answered = await _read_headers(reader)
            length = answered.get("content-length")
            return status, await (reader.readexactly(int(length)) if length else reader.read())
        finally:
            writer.close()


async def _read_request(reader: asyncio.StreamReader) -> _Request | None:
    line = (await reader.readline()).decode("latin-1").strip()
    if not line:
        return None
    headers = await _read_headers(reader)
    return _Request(line, headers, await reader.readexactly(int(headers.get("content-length", "0"))))


async def _read_headers(reader: asyncio.StreamReader) -> dict[str, str]:
    headers: dict[str, str] = {}
    while line := (await reader.readline()).decode("latin-1").strip():
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    return headers


def _failure(status: int, code: str, text: str, dated: str = "") -> bytes:
    return _response(status, json.dumps({"__type": f"com.amazonaws.sqs#{code}", "message": text}).encode(), dated)


def _response(status: int, body: bytes, dated: str = "") -> bytes:
    kind = "Content-Type: application/x-amz-json-1.0"
    return f"HTTP/1.1 {status} x\r\n{kind}\r\n{dated}Content-Length: {len(body)}\r\n\r\n".encode() + body


def _date(ahead_s: float | None) -> str:
    return "" if ahead_s is None else f"Date: {formatdate(time.time() + ahead_s, usegmt=True)}\r\n"


def _cut(writer: asyncio.StreamWriter) -> None:
    """Close with a reset instead of a farewell."""
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
