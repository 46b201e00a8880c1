"""A fast, strict stand-in for SQS, CloudWatch Logs and the fleet's table in DynamoDB: ``python standin.py``, a process.

It speaks the JSON protocols over HTTP/1.1 with connections that are kept, prints its port, and keeps everything in
memory. Beside AWS's calls:

- ``GET /counts``: calls per action, what Logs has accepted, each queue's deletions, every broken limit, and the table's
  units as DynamoDB bills them (`table_units`), as JSON;
- ``POST /move`` ``{"from", "to", "count"}``: so many messages of one queue arrive at another, all at once;
- ``POST /delay`` ``{"seconds"}``: each answer of the table is so much later, whatever else is under way;
- ``POST /moto-api/reset``: forget everything (moto's path, so that tests may use either).
"""

from __future__ import annotations

import asyncio
import json
import select
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from urllib.request import ProxyHandler, build_opener

from standin_table import Dynamo

from standin_logs import Logs
from standin_sqs import Refused, Sqs

if TYPE_CHECKING:
    from collections.abc import Mapping

_START_WITHIN_S = 30.0


class Server:
    """The HTTP side: requests in, actions done, answers out."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._since = time.time()
        self._sqs = Sqs("")
        self._logs = Logs()
        self._dynamo = Dynamo()
        self._table_delay = 0.0

    async def serve(self) -> None:
        """Listen on a free port of the loopback, print it, and serve for ever."""
        server = await asyncio.start_server(self._connection, "127.0.0.1", 0, backlog=1024)
        port = server.sockets[0].getsockname()[1]
        self._sqs = Sqs(f"http://127.0.0.1:{port}")
        print(port, flush=True)  # noqa: T201 - the caller waits for it
        async with server:
            await server.serve_forever()

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # A client that went away in mid-sentence is its own affair.
        with suppress(OSError, asyncio.IncompleteReadError):
            while (head := await _head(reader)) is not None:
                method, path, headers = head
                body = await reader.readexactly(int(headers.get("content-length", "0")))
                status, extra, answer = await self._answer(method, path, headers, body)
                content = json.dumps(answer).encode()
                writer.write(
                    f"HTTP/1.1 {status} x\r\nContent-Type: application/x-amz-json-1.0\r\n{extra}"
                    f"Content-Length: {len(content)}\r\n\r\n".encode()
                    + content
                )
                await writer.drain()
        writer.close()

    async def _answer(  # noqa: PLR0911 - a path each
        self, method: str, path: str, headers: Mapping[str, str], body: bytes
    ) -> tuple[int, str, dict[str, Any]]:
        if path == "/counts" and method == "GET":
            return 200, "", self._report()
        if path == "/move":
            asked = json.loads(body)
            return 200, "", {"at": self._sqs.move(asked["from"], asked["to"], asked["count"])}
        if path == "/delay":
            self._table_delay = json.loads(body)["seconds"]
            return 200, "", {}
        if path == "/moto-api/reset":
            self._sqs.reset()
            self._logs.reset()
            self._dynamo.reset()
            self._counts.clear()
            self._since = time.time()
            return 200, "", {"status": "ok"}
        if "x-amz-target" not in headers:
            return 400, "", {"__type": "UnknownOperationException", "message": "only SQS, Logs and DynamoDB are here"}
        prefix, _, action = headers.get("x-amz-target", "").partition(".")
        self._counts[action] += 1
        services: dict[str, Sqs | Logs | Dynamo] = {"AmazonSQS": self._sqs, "DynamoDB_20120810": self._dynamo}
        service = services.get(prefix, self._logs)
        if service is self._dynamo and self._table_delay:
            await asyncio.sleep(self._table_delay)
        try:
            return 200, "", await service.call(action, json.loads(body or b"{}"))
        except Refused as error:
            extra = f"x-amzn-query-error: {error.query};Sender\r\n"
            told = {"__type": f"com.amazonaws#{error.code}", "message": str(error)}
            return 400, extra, told | getattr(error, "more", {})

    def _report(self) -> dict[str, Any]:
        return {
            "counts": dict(self._counts),
            "seconds": time.time() - self._since,
            "units": self._dynamo.units.report(),
            "logs": self._logs.accepted,
            "queues": self._sqs.deletions(),
            "violations": self._logs.violations,
        }


async def _head(reader: asyncio.StreamReader) -> tuple[str, str, dict[str, str]] | None:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    first, *rest = head.decode("latin-1").strip().split("\r\n")
    method, path, _ = first.split(" ", 2)
    pairs = (line.partition(":") for line in rest)
    return method, path, {name.strip().lower(): value.strip() for name, _, value in pairs}


class FastStandIn:
    """The stand-in's process; a context manager."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self.endpoint = ""

    def __enter__(self) -> Self:
        self._process = process = subprocess.Popen(
            [sys.executable, str(Path(__file__))], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        ready, _, _ = select.select([process.stdout], [], [], _START_WITHIN_S)
        port = process.stdout.readline().strip() if ready else ""
        if not port:
            self.__exit__()
            raise AssertionError("the stand-in did not start")
        self.endpoint = f"http://127.0.0.1:{port}"
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.communicate()


def counts(endpoint: str) -> dict[str, Any]:
    """What the stand-in has counted since its last reset."""
    with build_opener(ProxyHandler({})).open(f"{endpoint}/counts", timeout=30) as answer:
        return dict(json.loads(answer.read()))


async def _main() -> None:
    serving = asyncio.create_task(Server().serve())
    # The pipe on standard input is closed when whoever started us is gone, however that came about.
    gone = asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await asyncio.wait({serving, gone}, return_when=asyncio.FIRST_COMPLETED)


if __name__ == "__main__":
    asyncio.run(_main())
