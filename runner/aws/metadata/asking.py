"""Asking the metadata service of an instance or a container, and believing it nothing without bounds.

It is next door, and anything may answer at its address: another container, a portal that takes every address for its
own. What botocore asks there it reads to its end, whatever the size and however slowly it comes, with the lock of
whoever needs credentials; so its fetchers are given `MetadataHttp` in the place of their HTTP.
"""

from __future__ import annotations

import http.client
import socket
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Mapping

LARGEST = 256 * 1024
"""Bytes of a whole answer. A role's credentials are less than 4 KB."""
LONGEST_S = 15.0
"""For the whole of an answer, its head included."""


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes


def ask(method: str, url: str, headers: Mapping[str, str], *, timeout: float) -> Answer:
    """One request without a body, never by a proxy. `timeout`: seconds for the connection and for each sign of life.

    Raises OSError (TimeoutError where it took too long) or http.client.HTTPException.
    """
    parts = urlsplit(url)
    host, until = parts.hostname or "", time.monotonic() + LONGEST_S
    connected = socket.create_connection((host, parts.port or 80), timeout)
    with _Bounded(connected.detach(), timeout, until) as bounded:
        connection = http.client.HTTPConnection(host, parts.port or 80)
        connection.sock = bounded
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection.request(method, target, headers={**headers, "Connection": "close"})
        with connection.getresponse() as answer:
            # Not `read()`: it makes room at once for as much as the answer says that it has.
            return Answer(answer.status, dict(answer.getheaders()), answer.read(LARGEST))


class _Bounded(socket.socket):
    """A connection that gives no more than an answer may be, and nothing after its time: however it is split."""

    def __init__(self, descriptor: int, timeout: float, until: float) -> None:
        super().__init__(fileno=descriptor)
        self._timeout, self._until, self._left = timeout, until, LARGEST

    def recv_into(self, buffer: Any, nbytes: int = 0, flags: int = 0) -> int:
        rest = self._until - time.monotonic()
        if rest <= 0:
            raise TimeoutError("the answer takes too long")
        self.settimeout(min(rest, self._timeout))
        received = super().recv_into(buffer, nbytes, flags)
        self._left -= received
        if self._left < 0:
            raise ConnectionError(f"the answer is larger than {LARGEST} bytes")
        return received


class MetadataHttp:
    """Stands in the way of one of botocore's fetchers to HTTP. `send` raises botocore's errors.

    By TLS, and by a proxy where one is set for this address, it asks as botocore does (`otherwise`).
    """

    def __init__(self, session: Any, otherwise: Any, timeout: float) -> None:
        self._session, self._otherwise, self._timeout = session, otherwise, timeout

    def send(self, request: Any) -> Any:
        from botocore import exceptions  # noqa: PLC0415 - loaded by whoever made the request
        from botocore.awsrequest import AWSResponse  # noqa: PLC0415 - as above

        url = str(request.url)
        by_proxy = self._session._proxy_config.proxy_url_for(url)  # noqa: SLF001 - there is no other way to it
        if by_proxy or not url.startswith("http://"):
            return self._otherwise.send(request)
        headers = {name: said if isinstance(said, str) else said.decode() for name, said in request.headers.items()}
        try:
            said = ask(request.method, url, headers, timeout=self._timeout)
        except TimeoutError as error:
            raise exceptions.ReadTimeoutError(endpoint_url=url, error=error) from error
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise exceptions.EndpointConnectionError(endpoint_url=url, error=error) from error
        answer: Any = AWSResponse(url, said.status, said.headers, None)  # type: ignore[arg-type]
        answer._content = said.body  # noqa: SLF001 - where botocore keeps what it has read itself
        return answer
