"""What stands at the other end of webhooks in tests: an HTTP server that keeps what it is sent."""

from __future__ import annotations

import json
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(slots=True)
class Receiver:
    """What stands at the other end of webhooks: it answers with ``answers`` in turn, then with 200."""

    url: str = ""
    seen: list[tuple[str, str, bytes]] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)
    says: int = 2  # bytes of each answer
    said: int = 0  # bytes of the last one that were sent

    def bodies(self) -> list[Any]:
        return [json.loads(body) for _, _, body in self.seen]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            made.seen.append((self.command, self.path, body))
            status = made.answers.pop(0) if made.answers else 200
            self.send_response(status)
            if status == 302:
                self.send_header("Location", f"{made.url}/elsewhere")
            self.send_header("Content-Length", str(made.says))
            self.end_headers()
            made.said = 0
            with suppress(ConnectionError):
                while made.said < made.says:
                    made.said += self.wfile.write(b"ok" * min(32_768, (made.says - made.said) // 2))

        do_GET = do_POST  # noqa: N815 - http.server's name

        def log_message(self, *_: object) -> None:
            """Nothing on the tests' standard error."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield made
    server.shutdown()
    thread.join()
    server.server_close()
