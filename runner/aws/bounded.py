"""What botocore's clients read of an answer, within bounds: they themselves read one to its end, however long it is.

The connections that `runner.aws.direct` does without a client have bounds of their own (`runner.aws.exchange`).
"""

from __future__ import annotations

import time
from typing import Any, Final

from runner.aws.exchange import LARGEST_BODY

LONGEST_S: Final = 60.0
"""For the body of an answer, which may come in pieces that are in time each."""
_PIECE: Final = 64 * 1024


class BoundedHttp:
    """Stands in a client's way to HTTP. `send` raises botocore's errors."""

    def __init__(self, session: Any) -> None:
        self._session = session

    def send(self, request: Any) -> Any:
        """Send it and read the answer, but for one that is asked for as a stream."""
        if request.stream_output:
            return self._session.send(request)
        request.stream_output = True  # botocore leaves the body unread
        answer = self._session.send(request)
        answer._content = _read(answer.raw, request)  # noqa: SLF001 - where botocore keeps what it has read itself
        return answer

    def close(self) -> None:
        self._session.close()


def bound(client: Any) -> Any:
    """The client, its answers with bounds."""
    endpoint = client._endpoint  # noqa: SLF001 - there is no other way to a client's HTTP session
    endpoint.http_session = BoundedHttp(endpoint.http_session)
    return client


def _read(raw: Any, request: Any) -> bytes:
    """The body. By `read`, not `stream`: urllib3 reads the line before a chunk without a bound, http.client has one."""
    from botocore import exceptions  # noqa: PLC0415 - loaded when the client was made
    from urllib3.exceptions import HTTPError, ReadTimeoutError  # noqa: PLC0415 - as above

    body, until = bytearray(), time.monotonic() + LONGEST_S
    try:
        while piece := raw.read(_PIECE):
            body += piece
            if len(body) > LARGEST_BODY:
                raise ConnectionError(f"the answer is larger than {LARGEST_BODY} bytes")
            if time.monotonic() > until:
                raise ConnectionError(f"the answer takes longer than {LONGEST_S:.0f} s")
    except ReadTimeoutError as error:
        raise exceptions.ReadTimeoutError(endpoint_url=request.url, error=error) from error
    except (HTTPError, OSError, ValueError) as error:
        raw.close()
        raise exceptions.ConnectionClosedError(endpoint_url=request.url, request=request, error=error) from error
    return bytes(body)
