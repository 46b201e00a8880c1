"""One request and its answer over a kept connection, with everything that HTTP allows and that goes wrong."""

from __future__ import annotations

import socket
import threading
from contextlib import closing, suppress
from typing import TYPE_CHECKING

import botocore.session
import pytest
from botocore.exceptions import ConnectionClosedError, EndpointConnectionError, ReadTimeoutError

from runner.aws.exchange import Exchange

if TYPE_CHECKING:
    from collections.abc import Iterator

REQUEST = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}"


class Scripted:
    """Answers each request with the next of its answers, as the bytes stand there; then closes where told to."""

    def __init__(self) -> None:
        self.answers: list[tuple[bytes, bool]] = []
        self.connections = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self.connections += 1
                with closing(connection), suppress(OSError):  # a client that has had enough closes in the middle
                    self._talk(connection)

    def _talk(self, connection: socket.socket) -> None:
        received = b""
        while self.answers:
            while len(received) < len(REQUEST):
                piece = connection.recv(4096)
                if not piece:
                    return
                received += piece
            received = received[len(REQUEST) :]
            answer, close = self.answers.pop(0)
            step = max(7, len(answer) // 20)
            for start in range(0, len(answer), step):  # in pieces, however they fall
                connection.sendall(answer[start : start + step])
            if close:
                return

    def close(self) -> None:
        self._listener.close()


@pytest.fixture
def server() -> Iterator[Scripted]:
    made = Scripted()
    yield made
    made.close()


@pytest.fixture
def exchange(server: Scripted) -> Iterator[Exchange]:
    made = Exchange(server.url, botocore.session.Session(), connect=5.0, read=5.0, size=1)
    yield made
    made.close()


def body(text: bytes, *headers: bytes) -> bytes:
    return b"\r\n".join((b"HTTP/1.1 200 OK", b"Content-Length: %d" % len(text), *headers, b"", text))


def test_one_connection_serves_many_requests(server: Scripted, exchange: Exchange) -> None:
    server.answers = [(body(b"{%d}" % number, b"X-Number: %d" % number), False) for number in range(3)]
    answers = [exchange(REQUEST) for _ in range(3)]
    assert [answer.body for answer in answers] == [b"{0}", b"{1}", b"{2}"]
    assert [answer.headers["x-number"] for answer in answers] == ["0", "1", "2"]
    assert {answer.status for answer in answers} == {200}
    assert server.connections == 1


def test_chunks_are_put_together(server: Scripted, exchange: Exchange) -> None:
    chunked = b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;x=1\r\n{"a":\r\n2\r\n1}\r\n0\r\n\r\n'
    server.answers = [(chunked, False), (body(b"{}"), False)]
    assert exchange(REQUEST).body == b'{"a":1}'
    assert exchange(REQUEST).body == b"{}"
    assert server.connections == 1


def test_an_answer_without_length_ends_with_the_connection(server: Scripted, exchange: Exchange) -> None:
    server.answers = [(b"HTTP/1.1 503 Slow Down\r\n\r\nbusy", True), (body(b"{}"), False)]
    answer = exchange(REQUEST)
    assert (answer.status, answer.body) == (503, b"busy")
    assert exchange(REQUEST).body == b"{}"
    assert server.connections == 2


@pytest.mark.parametrize("farewell", [b"Connection: close", b"Connection: Close"])
def test_a_connection_that_is_announced_to_close_is_not_used_again(
    server: Scripted, exchange: Exchange, farewell: bytes
) -> None:
    server.answers = [(body(b"{}", farewell), True), (body(b"{}"), False)]
    assert exchange(REQUEST).body == exchange(REQUEST).body == b"{}"
    assert server.connections == 2


def test_a_connection_that_was_closed_meanwhile_is_made_anew(server: Scripted, exchange: Exchange) -> None:
    server.answers = [(body(b"{}"), True), (body(b"{}"), False)]
    assert exchange(REQUEST).body == b"{}"
    with socket.create_connection(server._listener.getsockname()):  # noqa: SLF001 - accepted once the other is closed
        pass
    assert exchange(REQUEST).body == b"{}"


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Le",
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{",
        b"220 mail.example.org ESMTP\r\n\r\n",
        b"x" * 100_000,
    ],
)
def test_a_broken_answer_is_a_broken_connection(server: Scripted, exchange: Exchange, answer: bytes) -> None:
    server.answers = [(answer, True), (body(b"{}"), False)]
    with pytest.raises(ConnectionClosedError):
        exchange(REQUEST)
    assert exchange(REQUEST).body == b"{}"


def test_silence_is_a_timeout(server: Scripted) -> None:
    server.answers = [(b"HTTP/1.1 200 OK\r\n", False), (b"", False)]
    exchange = Exchange(server.url, botocore.session.Session(), connect=2.0, read=0.3, size=1)
    with closing(exchange), pytest.raises(ReadTimeoutError):
        exchange(REQUEST)


def test_nobody_listens(server: Scripted, exchange: Exchange) -> None:
    server.close()
    with pytest.raises((EndpointConnectionError, ConnectionClosedError)):
        exchange(REQUEST)
