"""CloudWatch Logs that hold every PutLogEvents to its limits, which moto does not: in process, or over HTTP.

The limits are those of the API reference; an event may be no larger than 256 KiB here, the stricter of the two
values that AWS has had.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections import defaultdict
from collections.abc import Callable, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from runner.aws.logs import Rejected
from runner.errors import AwsUnavailable

BATCH_BYTES = 1_048_576
BATCH_EVENTS = 10_000
EVENT_BYTES = 262_144
OVERHEAD = 26
SPAN_MS = 24 * 3600 * 1000


def violations(group: str, stream: str, events: Sequence[tuple[int, str]]) -> list[str]:
    """What CloudWatch would refuse about a batch."""
    sizes = [len(text.encode()) for _, text in events]
    stamps = [ms for ms, _ in events]
    checks = {
        "no events": bool(events),
        "too many events": len(events) <= BATCH_EVENTS,
        "batch too large": sum(sizes) + OVERHEAD * len(events) <= BATCH_BYTES,
        "event too large": all(size + OVERHEAD <= EVENT_BYTES for size in sizes),
        "empty event": all(sizes),
        "not in chronological order": stamps == sorted(stamps),
        "spans more than a day": not stamps or stamps[-1] - stamps[0] <= SPAN_MS,
        "name": 1 <= len(stream) <= 512 and not set(":*") & set(stream) and bool(group),
    }
    return [name for name, holds in checks.items() if not holds]


class StrictLogs:
    """Stands in for runner.aws.logs.Logs. `before` may raise, or wait, before a put is accepted; `after` once it is."""

    def __init__(self, *, exists: bool = True) -> None:
        self.events: dict[str, list[tuple[int, str]]] = defaultdict(list)
        self.puts: list[tuple[str, int]] = []
        self.violations: list[str] = []
        self.groups: dict[str, int | None] = {}
        self.streams: set[str] = set()
        self.in_flight = self.most_in_flight = 0
        self._busy: set[str] = set()
        self._exists = exists
        self.before: Callable[[str], Any] | None = None
        self.after: Callable[[str], Any] | None = None
        self.reject: Callable[[Sequence[tuple[int, str]]], Rejected | None] | None = None

    def lines(self, stream: str) -> list[str]:
        """In the order in which GetLogEvents gives them."""
        return [text for _, text in sorted(self.events[stream], key=lambda event: event[0])]

    async def put_events(self, group: str, stream: str, events: Sequence[tuple[int, str]]) -> Rejected | None:
        if not self._exists and stream not in self.streams:
            raise AwsUnavailable("PutLogEvents", "ResourceNotFoundException", "no such stream")
        if stream in self._busy:
            self.violations.append("two puts in flight for a stream")
        self._busy.add(stream)
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            await asyncio.sleep(0)
            if self.before is not None and (waiting := self.before(stream)) is not None:
                await waiting
            if found := violations(group, stream, events):
                self.violations.extend(found)
                raise AwsUnavailable("PutLogEvents", "InvalidParameterException", ", ".join(found))
            rejected = self.reject(events) if self.reject else None
            if rejected is None:
                self.events[stream].extend(events)
            else:
                first = max(rejected.too_old_end or 0, rejected.expired_end or 0)
                last = len(events) if rejected.too_new_start is None else rejected.too_new_start
                self.events[stream].extend(events[first:last])
            self.puts.append((stream, len(events)))
            if self.after is not None and (waiting := self.after(stream)) is not None:
                await waiting
            return rejected
        finally:
            self.in_flight -= 1
            self._busy.discard(stream)

    async def create_stream(self, group: str, stream: str) -> bool:
        if group not in self.groups:
            raise AwsUnavailable("CreateLogStream", "ResourceNotFoundException", "no such group")
        self.streams.add(stream)
        return True

    async def create_group(self, group: str, retention_days: int | None = None) -> bool:
        self.groups[group] = retention_days
        return True

    async def set_retention(self, group: str, days: int) -> None:
        self.groups[group] = days


class StrictLogsServer:
    """The same over HTTP, for the real client: an endpoint for AWS_ENDPOINT_URL."""

    def __init__(self) -> None:
        self.events: dict[str, list[tuple[int, str]]] = defaultdict(list)
        self.violations: list[str] = []
        self.calls: list[str] = []
        self.streams: set[str] = set()
        self.groups: dict[str, int | None] = {}
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                action = self.headers["X-Amz-Target"].rpartition(".")[2]
                status, answer = outer.answer(action, body)
                data = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/x-amz-json-1.1")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: object) -> None:
                """Quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self.endpoint = f"http://127.0.0.1:{self._server.server_address[1]}"

    def answer(self, action: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        self.calls.append(action)
        group, stream = body.get("logGroupName", ""), body.get("logStreamName", "")
        missing = {"__type": "ResourceNotFoundException", "message": "missing"}
        if action == "CreateLogGroup":
            self.groups.setdefault(group, None)
        elif action == "PutRetentionPolicy":
            self.groups[group] = body["retentionInDays"]
        elif action == "CreateLogStream":
            if group not in self.groups:
                return 400, missing
            self.streams.add(stream)
        elif action == "PutLogEvents":
            if stream not in self.streams:
                return 400, missing
            events = [(event["timestamp"], event["message"]) for event in body["logEvents"]]
            if found := violations(group, stream, events):
                self.violations.extend(found)
                return 400, {"__type": "InvalidParameterException", "message": ", ".join(found)}
            self.events[stream].extend(events)
            return 200, {"nextSequenceToken": "0"}
        return 200, {}

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
