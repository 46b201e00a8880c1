"""One request and its answer over kept connections: as much of HTTP/1.1 as the JSON protocols of AWS need.

urllib3 makes the connections, with TLS, certificates and its look at whether the other side has closed one meanwhile.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from botocore.session import Session as BotocoreSession
    from urllib3 import HTTPConnectionPool

_PIECE: Final = 65_536
_LONGEST_HEAD: Final = 65_536


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back, whatever it says."""

    status: int
    headers: Mapping[str, str]  # names in lower case
    body: bytes


class Exchange:
    """Connections to one URL. `connect` and `read` are seconds; `size` is how many are kept."""

    def __init__(self, url: str, session: BotocoreSession, *, connect: float, read: float, size: int) -> None:
        self._url = url
        self._connect, self._read = connect, read
        self._pool = _pool(url, session, connect=connect, size=size)

    def close(self) -> None:
        """Close idle connections; those in use close when they are done with."""
        self._pool.close()

    def _open(self, connection: Any) -> None:
        connection.timeout = self._connect
        connection.connect()
        connection.sock.settimeout(self._read)

    def __call__(self, request: bytes) -> Answer:
        """Send a whole request. Raises what botocore raises where there is no answer."""
        from botocore import exceptions  # noqa: PLC0415 - loaded when the client was made
        from urllib3.exceptions import ConnectTimeoutError, HTTPError, NewConnectionError  # noqa: PLC0415 - as above

        try:
            connection: Any = self._pool._get_conn()  # noqa: SLF001 - there is no other way to a connection of a pool
            try:
                if connection.sock is None:
                    self._open(connection)
                connection.sock.sendall(request)
                answer, keep = _read_answer(connection.sock)
            except BaseException:
                connection.close()
                raise
            if not keep:
                connection.close()
            self._pool._put_conn(connection)  # noqa: SLF001 - as above
        except NewConnectionError as error:  # of which some releases make a timeout
            raise exceptions.EndpointConnectionError(endpoint_url=self._url, error=error) from error
        except ConnectTimeoutError as error:
            raise exceptions.ConnectTimeoutError(endpoint_url=self._url, error=error) from error
        except (ssl.SSLError, HTTPError) as error:
            known = exceptions.SSLError if "SSL" in type(error).__name__ else exceptions.EndpointConnectionError
            raise known(endpoint_url=self._url, error=error) from error
        except TimeoutError as error:
            raise exceptions.ReadTimeoutError(endpoint_url=self._url, error=error) from error
        except OSError as error:
            raise exceptions.ConnectionClosedError(endpoint_url=self._url, request=None, error=error) from error
        return answer


def _pool(url: str, session: BotocoreSession, *, connect: float, size: int) -> HTTPConnectionPool:
    import socket  # noqa: PLC0415 - as below

    import urllib3  # noqa: PLC0415 - loaded with botocore
    from botocore.httpsession import get_cert_path  # noqa: PLC0415 - as above

    options = [(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1), (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)]
    trusted: dict[str, Any] = {}
    if url.startswith("https:"):
        bundle = session.get_config_variable("ca_bundle")
        trusted = {"cert_reqs": "CERT_REQUIRED", "ca_certs": get_cert_path(bundle or True)}
    return urllib3.connection_from_url(url, timeout=connect, maxsize=size, socket_options=options, **trusted)


def _read_answer(sock: Any) -> tuple[Answer, bool]:
    """The answer, and whether the connection can be used again. Raises OSError where it ends within."""
    received = bytearray()
    while (end := received.find(b"\r\n\r\n")) < 0:
        _more(sock, received)
        if len(received) > _LONGEST_HEAD:
            raise ConnectionError("the answer's head has no end")
    first, *rest = received[:end].decode("latin-1").split("\r\n")
    del received[: end + 4]
    words = first.split(" ", 2)
    if not words[0].startswith("HTTP/1.") or len(words) < 2 or not words[1].isdigit():
        raise ConnectionError(f"what answered does not speak HTTP: {first[:40]!r}")
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in rest)}
    keep = words[0] != "HTTP/1.0" and headers.get("connection", "").lower() != "close"
    if headers.get("transfer-encoding", "").lower() == "chunked":
        body = _read_chunks(sock, received)
    elif "content-length" in headers:
        length = int(headers["content-length"])
        while len(received) < length:
            _more(sock, received)
        body = bytes(received[:length])
    else:
        while piece := sock.recv(_PIECE):
            received += piece
        body, keep = bytes(received), False
    return Answer(int(words[1]), headers, body), keep


def _read_chunks(sock: Any, received: bytearray) -> bytes:
    body = bytearray()
    while True:
        while (end := received.find(b"\r\n")) < 0:
            _more(sock, received)
        size = int(received[:end].partition(b";")[0], 16)
        while len(received) < end + 2 + size + 2:
            _more(sock, received)
        body += received[end + 2 : end + 2 + size]
        del received[: end + 2 + size + 2]
        if not size:
            return bytes(body)


def _more(sock: Any, received: bytearray) -> None:
    piece = sock.recv(_PIECE)
    if not piece:
        raise ConnectionError("the connection was closed before the answer's end")
    received += piece
