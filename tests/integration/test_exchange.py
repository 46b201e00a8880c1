"""One request and its answer over a kept connection, with everything that HTTP allows and that goes wrong."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import gc
import random
import socket
import ssl
import threading
from collections.abc import Awaitable, Callable
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Any

import botocore.session
import pytest
from botocore.config import Config
from botocore.exceptions import ConnectionClosedError, EndpointConnectionError, ReadTimeoutError, SSLError
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from runner.aws.exchange import Exchange
from runner.aws.lean import LeanSession

from waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

REQUEST = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}"


class Scripted:
    """Answers each request with the next of its answers, as the bytes stand there; then closes where told to."""

    def __init__(self) -> None:
        self.answers: list[tuple[bytes, bool]] = []
        self.connections = 0
        self.request_until = b""  # with what a request ends that is not `REQUEST`
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
            while self.request_until not in received if self.request_until else len(received) < len(REQUEST):
                piece = connection.recv(4096)
                if not piece:
                    return
                received += piece
            received = b"" if self.request_until else received[len(REQUEST) :]
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


def exchange_with(url: str, *, connect: float = 5.0, read: float = 5.0, size: int = 1) -> Exchange:
    session = botocore.session.Session()
    return Exchange(url, session, connect=connect, read=read, size=size, aside=asyncio.to_thread)


@pytest.fixture
async def exchange(server: Scripted) -> AsyncIterator[Exchange]:
    made = exchange_with(server.url)
    yield made
    made.close()


def body(text: bytes, *headers: bytes) -> bytes:
    return b"\r\n".join((b"HTTP/1.1 200 OK", b"Content-Length: %d" % len(text), *headers, b"", text))


async def test_one_connection_serves_many_requests(server: Scripted, exchange: Exchange) -> None:
    server.answers = [(body(b"{%d}" % number, b"X-Number: %d" % number), False) for number in range(3)]
    answers = [await exchange(REQUEST) for _ in range(3)]
    assert [answer.body for answer in answers] == [b"{0}", b"{1}", b"{2}"]
    assert [answer.headers["x-number"] for answer in answers] == ["0", "1", "2"]
    assert {answer.status for answer in answers} == {200}
    assert server.connections == 1


async def test_chunks_are_put_together(server: Scripted, exchange: Exchange) -> None:
    chunked = b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;x=1\r\n{"a":\r\n2\r\n1}\r\n0\r\n\r\n'
    server.answers = [(chunked, False), (body(b"{}"), False)]
    assert (await exchange(REQUEST)).body == b'{"a":1}'
    assert (await exchange(REQUEST)).body == b"{}"
    assert server.connections == 1


async def test_an_answer_without_length_ends_with_the_connection(server: Scripted, exchange: Exchange) -> None:
    server.answers = [(b"HTTP/1.1 503 Slow Down\r\n\r\nbusy", True), (body(b"{}"), False)]
    answer = await exchange(REQUEST)
    assert (answer.status, answer.body) == (503, b"busy")
    assert (await exchange(REQUEST)).body == b"{}"
    assert server.connections == 2


@pytest.mark.parametrize("farewell", [b"Connection: close", b"Connection: Close"])
async def test_a_connection_that_is_announced_to_close_is_not_used_again(
    server: Scripted, exchange: Exchange, farewell: bytes
) -> None:
    server.answers = [(body(b"{}", farewell), True), (body(b"{}"), False)]
    assert (await exchange(REQUEST)).body == (await exchange(REQUEST)).body == b"{}"
    assert server.connections == 2


async def test_a_connection_that_was_closed_meanwhile_is_made_anew(server: Scripted, exchange: Exchange) -> None:
    server.answers = [(body(b"{}"), True), (body(b"{}"), False)]
    assert (await exchange(REQUEST)).body == b"{}"
    with socket.create_connection(server._listener.getsockname()):  # noqa: SLF001 - accepted once the other is closed
        wait_for(lambda: server.connections == 2, "the first connection is closed")
    assert (await exchange(REQUEST)).body == b"{}"


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
async def test_a_broken_answer_is_a_broken_connection(server: Scripted, exchange: Exchange, answer: bytes) -> None:
    server.answers = [(answer, True), (body(b"{}"), False)]
    with pytest.raises(ConnectionClosedError):
        await exchange(REQUEST)
    assert (await exchange(REQUEST)).body == b"{}"


def chunks(*lines: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"".join(lines)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 629145600\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1_0\r\n\r\n{}",
        "HTTP/1.1 200 OK\r\nContent-Length: \u00b2\r\n\r\n{}".encode("latin-1"),
        b"HTTP/1.1 200 OK\r\nContent-Length: two\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200_000,
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 50_000,
        b"HTTP/1.1 2\xb20 OK\r\n\r\n",
        b"HTTP/1.1 0200 OK\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" * 100,
        chunks(b"1" * 100_000),
        chunks(b"2;" + b"x" * 100_000),
        chunks(b"-2\r\n{}\r\n0\r\n\r\n"),
        chunks(b"0x2\r\n{}\r\n0\r\n\r\n"),
        chunks(b"\r\n{}\r\n0\r\n\r\n"),
        chunks(b"25800000\r\n{}"),
        chunks(b"1FFFFFF\r\n", b"x" * 0x1FFFFFF, b"\r\n", b"2\r\n"),
        chunks(b"1\r\nx\r\n" * 70_000),
    ],
    ids=lambda answer: repr(answer[:90][17:]),
)
async def test_an_answer_beyond_all_bounds_is_a_broken_connection(
    server: Scripted, exchange: Exchange, answer: bytes
) -> None:
    server.answers = [(answer, False), (body(b"{}"), False)]
    with pytest.raises(ConnectionClosedError):
        await exchange(REQUEST)
    assert (await exchange(REQUEST)).body == b"{}"


def _client(url: str) -> Any:
    session = LeanSession()
    session.set_credentials("a", "b")
    config = Config(retries={"total_max_attempts": 1}, read_timeout=5.0)
    return session.create_client("sns", region_name="eu-central-1", endpoint_url=url, config=config)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 629145600\r\n\r\n" + b"x" * ((32 << 20) + 1),
        b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * ((32 << 20) + 1),
        chunks(b"2000001\r\n", b"x" * 0x2000001, b"\r\n"),
        chunks(b"1" * 100_000),
        chunks(b"2;" + b"x" * 100_000),
    ],
    ids=lambda answer: repr(answer[:60][17:]),
)
def test_an_answer_beyond_all_bounds_is_a_broken_connection_to_a_client_too(server: Scripted, answer: bytes) -> None:
    """Of botocore's, which reads by itself: the table, schedules, topics, parameters, an assumed role."""
    server.answers = [(answer, True)] * 2
    server.request_until = b"Version=2010-03-31"
    with pytest.raises(ConnectionClosedError):
        _client(server.url).publish(TopicArn="t", Message="m")


def test_a_client_reads_what_is_within_bounds(server: Scripted) -> None:
    inside = b"<PublishResult><MessageId>m</MessageId></PublishResult>"
    text = b"<PublishResponse>" + inside + b"</PublishResponse>"
    whole = body(text)
    server.answers = [(whole, False), (chunks(b"%x\r\n%b\r\n0\r\n\r\n" % (len(text), text)), False)]
    server.request_until = b"Version=2010-03-31"
    client = _client(server.url)
    assert [client.publish(TopicArn="t", Message="m")["MessageId"] for _ in range(2)] == ["m", "m"]
    assert server.connections == 1


async def test_an_answer_without_length_has_a_bound_too(server: Scripted, exchange: Exchange) -> None:
    server.answers = [(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * ((32 << 20) + 1), False), (body(b"{}"), False)]
    with pytest.raises(ConnectionClosedError):
        await exchange(REQUEST)
    assert (await exchange(REQUEST)).body == b"{}"


async def test_what_comes_before_the_answer_is_not_the_answer(server: Scripted, exchange: Exchange) -> None:
    before = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
    server.answers = [(before + body(b"{1}"), False), (body(b"{2}"), False)]
    assert [(await exchange(REQUEST)).body for _ in range(2)] == [b"{1}", b"{2}"]
    assert server.connections == 1


@pytest.mark.parametrize("status", [b"204 No Content", b"304 Not Modified"])
async def test_an_answer_that_has_no_body_is_not_waited_for(
    server: Scripted, exchange: Exchange, status: bytes
) -> None:
    server.answers = [(b"HTTP/1.1 " + status + b"\r\n\r\n", False), (body(b"{}"), False)]
    assert (await exchange(REQUEST)).body == b""
    assert (await exchange(REQUEST)).body == b"{}"


async def test_a_large_answer_lets_others_have_their_turn(server: Scripted, exchange: Exchange) -> None:
    large = body(b'"' + b"x" * (30 << 20) + b'"')
    server.answers = [(large, False)]
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    other = asyncio.create_task(others())
    answer = await exchange(REQUEST)
    other.cancel()
    assert len(answer.body) == (30 << 20) + 2
    assert turns > 20


async def test_silence_is_a_timeout(server: Scripted) -> None:
    server.answers = [(b"HTTP/1.1 200 OK\r\n", False), (b"", False)]
    exchange = exchange_with(server.url, read=0.3)
    with closing(exchange), pytest.raises(ReadTimeoutError):
        await exchange(REQUEST)


async def test_nobody_listens(server: Scripted, exchange: Exchange) -> None:
    server.close()
    with pytest.raises((EndpointConnectionError, ConnectionClosedError)):
        await exchange(REQUEST)


# -- a server in the same loop, which reads and answers as it likes -----------------------------------------------


Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@contextlib.asynccontextmanager
async def serving(talk: Talk, tls: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    """Its URL; `talk` has each connection."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):  # the last by the test's end
            await talk(reader, writer)
        writer.close()

    server = await asyncio.start_server(handle, "localhost", 0, ssl=tls, family=socket.AF_INET)
    port = server.sockets[0].getsockname()[1]
    async with server:
        yield f"{'https' if tls else 'http'}://localhost:{port}/"


async def read_request(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:"))
    return await reader.readexactly(int(length.partition(b":")[2]))


def request_of(text: bytes) -> bytes:
    return b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (len(text), text)


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        writer.write(body(await read_request(reader)))
        await writer.drain()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Key and certificate of localhost, which is its own authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, *plain) + made.public_bytes(serialization.Encoding.PEM)
    )
    return path


@pytest.fixture
def tls(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


async def test_tls_carries_what_is_larger_than_any_buffer(
    tls: ssl.SSLContext, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_CA_BUNDLE", str(certificate))
    text = random.randbytes(5_000_000)
    async with serving(echo, tls) as url:
        with closing(exchange_with(url, size=2)) as exchange:
            answers = await asyncio.gather(*(exchange(request_of(part)) for part in (text, b"{}", text[::-1])))
            assert [answer.body for answer in answers] == [text, b"{}", text[::-1]]
            assert (await exchange(request_of(b"[]"))).body == b"[]"


async def test_a_certificate_that_nobody_vouches_for_is_refused(
    tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_CA_BUNDLE", raising=False)
    async with serving(echo, tls) as url:
        with closing(exchange_with(url)) as exchange, pytest.raises(SSLError):
            await exchange(REQUEST)


async def test_a_certificate_of_another_host_is_refused(
    tls: ssl.SSLContext, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_CA_BUNDLE", str(certificate))
    async with serving(echo, tls) as url:
        with closing(exchange_with(url.replace("localhost", "127.0.0.1"))) as exchange, pytest.raises(SSLError):
            await exchange(REQUEST)


async def test_an_answer_that_comes_before_all_was_sent_ends_the_connection() -> None:
    connections = 0

    async def refuse_the_first(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        if connections > 1:
            await echo(reader, writer)
        await reader.readuntil(b"\r\n\r\n")
        writer.write(body(b"too long"))
        await writer.drain()
        await reader.read()  # what had been sent, and the end

    async with serving(refuse_the_first) as url:
        with closing(exchange_with(url)) as exchange:
            # More than the buffers of both sides hold; the server's reader stops at 128 KiB that nobody took.
            assert (await exchange(request_of(b"x" * 50_000_000))).body == b"too long"
            assert (await exchange(REQUEST)).body == b"{}"
    assert connections == 2


async def test_an_answer_that_nobody_waits_for_is_not_the_next_ones() -> None:
    asked, go_on = asyncio.Event(), asyncio.Event()

    async def wait(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            text = await read_request(reader)
            asked.set()
            await go_on.wait()
            writer.write(body(text))

    async with serving(wait) as url:
        with closing(exchange_with(url)) as exchange:
            given_up = asyncio.create_task(exchange(request_of(b"1")))
            await asked.wait()
            given_up.cancel()
            with pytest.raises(asyncio.CancelledError):
                await given_up
            go_on.set()
            assert (await exchange(request_of(b"2"))).body == b"2"


async def test_no_more_connections_than_there_may_be() -> None:
    open_now, most = 0, 0

    async def count(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal open_now, most
        open_now += 1
        most = max(most, open_now)
        try:
            await echo(reader, writer)
        finally:
            open_now -= 1

    async with serving(count) as url:
        with closing(exchange_with(url, size=3)) as exchange:
            texts = [b"%d" % number for number in range(30)]
            answers = await asyncio.gather(*(exchange(request_of(text)) for text in texts))
            assert [answer.body for answer in answers] == texts
    assert most == 3


async def test_what_the_other_side_says_unasked_ends_the_connection() -> None:
    said = asyncio.Event()

    async def talkative(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        text = await read_request(reader)
        writer.write(body(text))
        await writer.drain()
        if text == b"1":
            writer.write(body(b"unasked"))
            await writer.drain()
            said.set()
            await reader.read()

    async with serving(talkative) as url:
        with closing(exchange_with(url)) as exchange:
            assert (await exchange(request_of(b"1"))).body == b"1"
            await said.wait()
            assert (await exchange(request_of(b"2"))).body == b"2"


def test_one_loop_after_another(server: Scripted) -> None:
    """As where a function is called again and again in one process."""
    server.answers = [(body(b"{%d}" % number), False) for number in range(2)]
    exchange = exchange_with(server.url)

    async def ask() -> bytes:
        return (await exchange(REQUEST)).body

    with asyncio.Runner() as first:
        assert first.run(ask()) == b"{0}"
    with asyncio.Runner() as second:
        assert second.run(ask()) == b"{1}"
    exchange.close()
    assert server.connections == 2


@pytest.mark.filterwarnings("error")
async def test_a_connection_that_came_too_late_is_closed() -> None:
    ended = asyncio.Event()

    async def until_the_end(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read()
        ended.set()

    async with serving(until_the_end) as url:
        connected, go_on = asyncio.Event(), asyncio.Event()

        async def aside(function: Callable[[], Any]) -> Any:
            made = await asyncio.to_thread(function)
            connected.set()
            await go_on.wait()
            return made

        exchange = exchange_with(url)
        exchange._aside = aside  # noqa: SLF001 - to be there in the middle
        with closing(exchange):
            asking = asyncio.create_task(exchange(REQUEST))
            await connected.wait()
            asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking
            del asking
            gc.collect()
            await asyncio.wait_for(ended.wait(), 20)
