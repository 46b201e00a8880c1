"""One request and its answer over kept connections: as much of HTTP/1.1 as the JSON protocols of AWS need.

urllib3 makes the connections, with TLS and certificates, in a thread: a name lookup cannot be waited for otherwise.
What is said over them is said in the event loop: to wake a thread of a busy process costs more than the call.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import ssl
import weakref
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator, Mapping

    from botocore.session import Session as BotocoreSession
    from urllib3 import HTTPConnectionPool

_PIECE: Final = 65_536
# What comes over the network is not trusted in size: ten messages of 1 MiB, every character escaped, are below it.
LARGEST_BODY: Final = 32 << 20
_LONGEST_HEAD: Final = 65_536
_LONGEST_CHUNK_LINE: Final = 1024
_MOST_CHUNKS: Final = 65_536  # of one byte each they would cost a hundred times the body
_MOST_INTERIM: Final = 8
_MOST_AT_ONCE: Final = 16  # pieces that are read before others have their turn
_LATER: Final = (BlockingIOError, InterruptedError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


_STATUS: Final = re.compile(r"[1-5][0-9]{2}")
_LENGTH: Final = re.compile(r"[0-9a-fA-F]{1,12}")


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back, whatever it says."""

    status: int
    headers: Mapping[str, str]  # names in lower case
    body: bytes


class Exchange:
    """Up to `size` connections to one URL. `connect` and `read` are seconds; `aside` calls a function in a thread."""

    def __init__(
        self,
        url: str,
        session: BotocoreSession,
        *,
        connect: float,
        read: float,
        size: int,
        aside: Callable[[Callable[[], Any]], Awaitable[Any]],
    ) -> None:
        self._url = url
        self._read = read
        self._size = size
        self._aside = aside
        self._pool = _pool(url, session, connect=connect)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._places = asyncio.Semaphore(size)
        self._idle: list[_Line] = []
        self._closed = False

    def close(self) -> None:
        """Close idle connections; those in use close when they are done with. From any thread."""
        self._closed = True
        if self._loop is None:
            return
        here = None
        with contextlib.suppress(RuntimeError):
            here = asyncio.get_running_loop()
        if here is self._loop or self._loop.is_closed():
            self._close_idle()
        else:
            self._loop.call_soon_threadsafe(self._close_idle)

    def _close_idle(self) -> None:
        idle, self._idle = self._idle, []
        for line in idle:
            line.close()

    async def __call__(self, request: bytes) -> Answer:
        """Send a whole request. Raises what botocore raises where there is no answer."""
        try:
            return await self._ask(request)
        except Exception as error:
            if (known := self._as_botocore_says(error)) is None:
                raise
            raise known from error

    async def _ask(self, request: bytes) -> Answer:
        loop = asyncio.get_running_loop()
        if loop is not self._loop:  # a function that is called again and again runs each time in a loop of its own
            self._close_idle()
            self._loop, self._places = loop, asyncio.Semaphore(self._size)
        async with self._places:
            line = self._kept() or _Line(await self._aside(self._connected), loop, self._read)
            try:
                answer = await line.ask(request)
            except BaseException:
                line.close()  # an answer may yet come that nobody waits for
                raise
            if self._closed:
                line.close()
            elif line.usable:
                self._idle.append(line)
            return answer

    def _kept(self) -> _Line | None:
        """The connection that was used last, unless the other side has closed it meanwhile."""
        while self._idle:
            line = self._idle.pop()
            line.listen()
            if line.usable:
                return line
        return None

    def _connected(self) -> Any:
        connection: Any = self._pool._new_conn()  # noqa: SLF001 - there is no other way to a connection of a pool
        try:
            connection.connect()
        except BaseException:
            connection.close()
            raise
        # Also where nobody waits for it any more, or the exchange itself is forgotten.
        weakref.finalize(connection, connection.sock.close).atexit = False
        return connection

    def _as_botocore_says(self, error: Exception) -> Exception | None:
        from botocore import exceptions  # noqa: PLC0415 - loaded when the client was made
        from urllib3.exceptions import ConnectTimeoutError, HTTPError, NewConnectionError  # noqa: PLC0415 - as above

        if isinstance(error, NewConnectionError):  # of which some releases make a timeout
            return exceptions.EndpointConnectionError(endpoint_url=self._url, error=error)
        if isinstance(error, ConnectTimeoutError):
            return exceptions.ConnectTimeoutError(endpoint_url=self._url, error=error)
        if isinstance(error, (ssl.SSLError, HTTPError)):
            known = exceptions.SSLError if "SSL" in type(error).__name__ else exceptions.EndpointConnectionError
            return known(endpoint_url=self._url, error=error)
        if isinstance(error, TimeoutError):
            return exceptions.ReadTimeoutError(endpoint_url=self._url, error=error)
        if isinstance(error, OSError):
            return exceptions.ConnectionClosedError(endpoint_url=self._url, request=None, error=error)
        return None


class _Line:
    """A connection that the event loop watches. One request is under way at a time; `patience` is in seconds."""

    def __init__(self, connection: Any, loop: asyncio.AbstractEventLoop, patience: float) -> None:
        self.usable = True
        self._connection = connection
        self._sock = connection.sock
        self._sock.setblocking(False)
        self._loop = loop
        self._patience = patience
        self._answer: asyncio.Future[Answer] | None = None
        self._reading = _reading()
        self._unsent: bytes | memoryview = b""
        self._stuffed = False  # more is to be sent when there is room
        self._heard = 0.0
        self._timer: asyncio.TimerHandle | None = None
        loop.add_reader(self._sock, self.listen)

    def ask(self, request: bytes) -> asyncio.Future[Answer]:
        """The answer, or OSError."""
        self._answer = answer = self._loop.create_future()
        self._reading = _reading()
        next(self._reading)
        self._heard = self._loop.time()
        self._timer = self._loop.call_at(self._heard + self._patience, self._silent)
        self._unsent = memoryview(request)
        self._send()
        return answer

    def close(self) -> None:
        if self.usable:
            self.usable = False
            self._loop.remove_reader(self._sock)
            self._loop.remove_writer(self._sock)
            self._connection.close()
            self._settle(ConnectionError("the connection was closed"))

    def listen(self) -> None:
        """There is something to read, or may be."""
        try:
            for _ in range(_MOST_AT_ONCE):
                piece = self._sock.recv(_PIECE)
                if self._answer is None:
                    break
                self._heard = self._loop.time()
                self._reading.send(piece)
            else:
                self._loop.call_soon(self._listen_on)  # of TLS there may be more than the kernel knows of
                return
        except _LATER:
            return
        except StopIteration as end:
            answer, keep = end.value
            keep = keep and not self._unsent
            self._settle(answer)
            if keep:
                return
        except (OSError, ValueError) as error:
            self._settle(error)
        self.close()

    def _listen_on(self) -> None:
        if self.usable:
            self.listen()

    def _send(self) -> None:
        try:
            while self._unsent:
                self._unsent = self._unsent[self._sock.send(self._unsent) :]
                self._heard = self._loop.time()
        except _LATER:
            if not self._stuffed:
                self._loop.add_writer(self._sock, self._send)
            self._stuffed = True
            return
        except OSError as error:
            self._settle(error)
            self.close()
            return
        self._unsent = b""  # what is left of a view holds all of the request
        if self._stuffed:
            self._loop.remove_writer(self._sock)
        self._stuffed = False

    def _silent(self) -> None:
        if (until := self._heard + self._patience) > self._loop.time():
            self._timer = self._loop.call_at(until, self._silent)
        else:
            self._settle(TimeoutError("no answer in time"))
            self.close()

    def _settle(self, result: Answer | Exception) -> None:
        answer, self._answer = self._answer, None
        if self._timer is not None:
            self._timer.cancel()
        if answer is None or answer.done():  # given up by its waiter
            return
        if isinstance(result, Answer):
            answer.set_result(result)
        else:
            answer.set_exception(result)


def _pool(url: str, session: BotocoreSession, *, connect: float) -> HTTPConnectionPool:
    import socket  # noqa: PLC0415 - as below

    import urllib3  # noqa: PLC0415 - loaded with botocore
    from botocore.httpsession import get_cert_path  # noqa: PLC0415 - as above

    options = [(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1), (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)]
    trusted: dict[str, Any] = {}
    if url.startswith("https:"):
        bundle = session.get_config_variable("ca_bundle")
        trusted = {"cert_reqs": "CERT_REQUIRED", "ca_certs": get_cert_path(bundle or True)}
    return urllib3.connection_from_url(url, timeout=connect, socket_options=options, **trusted)


def _reading() -> Generator[None, bytes, tuple[Answer, bool]]:
    """Is sent the pieces of an answer, b"" at the connection's end. Returns the answer, and whether the connection can
    be used again; raises OSError where it ends within, or is not what HTTP allows."""
    received = bytearray()
    for _ in range(_MOST_INTERIM):
        protocol, status, headers = yield from _reading_head(received)
        if status == HTTPStatus.SWITCHING_PROTOCOLS:
            raise ConnectionError("what answered does not speak HTTP any more")
        if status // 100 != 1:
            break
    else:
        raise ConnectionError("the answer has too many interim ones before it")
    keep = protocol != "HTTP/1.0" and headers.get("connection", "").lower() != "close"
    if status in (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED):
        body = b""
    elif headers.get("transfer-encoding", "").lower() == "chunked":
        body = yield from _reading_chunks(received)
    elif "content-length" in headers:
        length = _size(headers["content-length"], 10)
        while len(received) < length:
            received += _more((yield))
        body = bytes(received[:length])
        del received[:length]
    else:
        while piece := (yield):
            received += piece
            _size(str(len(received)), 10)
        body, keep = bytes(received), False
    return Answer(status, headers, body), keep and not received


def _reading_head(received: bytearray) -> Generator[None, bytes, tuple[str, int, dict[str, str]]]:
    while (end := received.find(b"\r\n\r\n")) < 0:
        if len(received) > _LONGEST_HEAD:
            raise ConnectionError("the answer's head has no end")
        received += _more((yield))
    first, *rest = received[:end].decode("latin-1").split("\r\n")
    del received[: end + 4]
    words = first.split(" ", 2)
    if not words[0].startswith("HTTP/1.") or len(words) < 2 or not _STATUS.fullmatch(words[1]):
        raise ConnectionError(f"what answered does not speak HTTP: {first[:40]!r}")
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in rest)}
    return words[0], int(words[1]), headers


def _reading_chunks(received: bytearray) -> Generator[None, bytes, bytes]:
    body = bytearray()
    for _ in range(_MOST_CHUNKS):
        while (end := received.find(b"\r\n", 0, _LONGEST_CHUNK_LINE)) < 0:
            if len(received) > _LONGEST_CHUNK_LINE:
                raise ConnectionError("the line before a chunk of the answer has no end")
            received += _more((yield))
        size = _size(received[:end].partition(b";")[0].strip().decode("latin-1"), 16, LARGEST_BODY - len(body))
        while len(received) < end + 2 + size + 2:
            received += _more((yield))
        body += received[end + 2 : end + 2 + size]
        del received[: end + 2 + size + 2]
        if not size:
            return bytes(body)
    raise ConnectionError(f"the answer comes in more than {_MOST_CHUNKS} chunks")


def _size(text: str, base: int, most: int = LARGEST_BODY) -> int:
    """What a length in an answer says; Python's int() would also take a sign, underscores and other scripts' digits."""
    if not _LENGTH.fullmatch(text):
        raise ConnectionError(f"the answer's length is no number: {text[:40]!r}")
    size = int(text, base)
    if size > most:
        raise ConnectionError(f"the answer is larger than {LARGEST_BODY} bytes")
    return size


def _more(piece: bytes) -> bytes:
    if not piece:
        raise ConnectionError("the connection was closed before the answer's end")
    return piece
