"""The page's process of a host, and what programs ask of it by HTTP."""

from __future__ import annotations

import contextlib
import http.client
import json
import subprocess
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urlsplit

from runner.web.tokens import Token, hash_of

from fleet import COMMAND

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from runner.web.app import Application

    from fleet import Host

READ, OPERATE = "r" * 43, "o" * 43
TOKEN = "t" * 43


@dataclass(frozen=True, slots=True)
class Said:
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def text(self) -> str:
        return self.body.decode()


@dataclass(frozen=True, slots=True)
class Page:
    """The page's process, asked by HTTP."""

    port: int
    process: subprocess.Popen[str]

    def ask(self, path: str, token: str = OPERATE, *, method: str = "GET", body: Any = None, **headers: str) -> Said:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if token:
            sent.setdefault("Authorization", f"Bearer {token}")
        data = None
        if body is not None:
            form = isinstance(body, list)
            data = urlencode(body) if form else json.dumps(body)
            sent.setdefault("Content-Type", "application/x-www-form-urlencoded" if form else "application/json")
        try:
            connection.request(method, path, data, sent)
            answer = connection.getresponse()
            return Said(answer.status, answer.headers, answer.read())
        finally:
            connection.close()

    def post(self, path: str, body: Any, token: str = OPERATE, **headers: str) -> Said:
        return self.ask(path, token, method="POST", body=body, **headers)


@contextlib.contextmanager
def serving(host: Host, directory: Path, **environment: str) -> Iterator[Page]:
    tokens = directory / "tokens"
    lines = [Token("reader", "read", hash_of(READ)), Token("oncall", "operate", hash_of(OPERATE))]
    tokens.write_text("\n".join(one.line() for one in lines) + "\n")
    process = subprocess.Popen(
        [COMMAND, "--config", str(host.config), "web", "--listen", "127.0.0.1:0"],
        env=host.environment | {"CRON_RUNNER_WEB__TOKENS_FILE": str(tokens)} | environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        yield Page(urlsplit(process.stdout.readline().strip()).port or 0, process)
    finally:
        process.terminate()
        process.wait(20)
        if process.stdout is not None:
            process.stdout.close()


class Stream:
    """Server-sent events, read by a thread: `events` are (kind, id, data)."""

    def __init__(self, page: Page, path: str, **headers: str) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", page.port, timeout=60)
        sent = {"Authorization": f"Bearer {READ}", **{name.replace("_", "-"): text for name, text in headers.items()}}
        self.connection.request("GET", path, headers=sent)
        self.answer = self.connection.getresponse()
        self.events: list[tuple[str, str, str]] = []
        self.ended = threading.Event()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        fields: dict[str, str] = {}
        with contextlib.suppress(OSError, http.client.HTTPException, ValueError, AttributeError):
            for raw in self.answer:
                line = raw.decode().removesuffix("\n")
                name, _, value = line.partition(": ")
                if not line and fields:
                    self.events.append((fields.get("event", ""), fields.get("id", ""), fields.get("data", "")))
                    fields = {}
                elif name == "data":
                    fields["data"] = f"{fields['data']}\n{value}" if "data" in fields else value
                elif name:
                    fields[name] = value
        self.ended.set()

    @property
    def output(self) -> str:
        return "".join(data for kind, _, data in self.events if kind == "output")

    def close(self) -> None:
        self.connection.close()


async def asked(app: Application, path: str) -> tuple[int, str]:
    """A page, as the reader with `TOKEN` gets it without a socket: its status and its text."""
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    plain, _, query = path.partition("?")
    scope = {"type": "http", "method": "GET", "path": plain, "raw_path": plain.encode(), "query_string": query.encode()}
    headers = [(b"host", b"localhost"), (b"authorization", f"Bearer {TOKEN}".encode())]
    await app.app({**scope, "headers": headers, "client": ("::1", 1), "scheme": "http", "root_path": ""}, receive, send)
    return sent[0]["status"], b"".join(one.get("body", b"") for one in sent[1:]).decode()
