"""What surrounds an EC2 instance: its metadata service (IMDSv2), and EC2 Auto Scaling's two calls for a hook."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

if TYPE_CHECKING:
    from collections.abc import Iterator

INSTANCE = "i-0123456789abcdef0"
NO_ACTION = f"No active Lifecycle Action found with instance ID {INSTANCE}"
_XML = '<{action}Response xmlns="http://autoscaling.amazonaws.com/doc/2011-01-01/"><{action}Result/></{action}Response>'
_REFUSED = (
    "<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code><Message>{text}</Message></Error></ErrorResponse>"
)


class Instance:
    """`metadata` by path below /latest/meta-data/, `calls` that Auto Scaling got, `refusals` (code, text) to come."""

    def __init__(self) -> None:
        self.metadata: dict[str, str] = {"instance-id": INSTANCE}
        self.calls: list[dict[str, str]] = []
        self.refusals: list[tuple[str, str]] = []
        self.endpoint = ""

    @property
    def environment(self) -> dict[str, str]:
        """What sends a host's agent here."""
        return {
            "AWS_EC2_METADATA_SERVICE_ENDPOINT": f"{self.endpoint}/",
            "AWS_ENDPOINT_URL_AUTO_SCALING": self.endpoint,
        }

    def actions(self) -> list[str]:
        return [call["Action"] for call in self.calls]

    def answer(self, call: dict[str, str]) -> tuple[int, str]:
        """Auto Scaling's."""
        self.calls.append(call)
        if self.refusals:
            code, text = self.refusals.pop(0)
            return 400, _REFUSED.format(code=code, text=text)
        return 200, _XML.format(action=call["Action"])


@contextmanager
def instance() -> Iterator[Instance]:
    """One, on a port of its own."""
    made = Instance()

    class Handler(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            self._send(200, "token")

        def do_GET(self) -> None:
            if self.headers["X-aws-ec2-metadata-token"] != "token":
                self._send(401, "")
                return
            found = made.metadata.get(self.path.removeprefix("/latest/meta-data/"))
            self._send(*((404, "not found") if found is None else (200, found)))

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            self._send(*made.answer(dict(parse_qsl(body))))

        def _send(self, status: int, text: str) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: object) -> None:
            """Silent."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.endpoint = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield made
    finally:
        server.shutdown()
        server.server_close()
