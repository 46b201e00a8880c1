"""botocore's session, and of botocore only what credentials, signatures and endpoints need.

Importing `botocore.session` imports what clients are made of, with writers of documentation, waiters and paginators.
That is 5 MB, for an agent that makes its daily calls without a client (`runner.aws.direct`). They are loaded with the
first client, also with one that botocore makes itself, to assume a role.

A client of botocore reads an answer to its end, however long that is; those of this session read it within the bounds
that `runner.aws.exchange` has.
"""

from __future__ import annotations

import os
import threading
import time
from typing import Any, Final

from runner.deferred import defer

# The names that are imported by `botocore.session` and `botocore.regions` as modules, and used by clients only.
ONLY_FOR_CLIENTS = (
    "botocore.client",
    "botocore.handlers",
    "botocore.monitoring",
    "botocore.paginate",
    "botocore.retryhandler",
    "botocore.translate",
    "botocore.waiter",
    "jmespath",
)
# Used by urllib3 to ask for another library's version, and to guess the types of uploaded files; the last one only
# where there is a file of AWS settings.
_HARDLY_USED = ("csv", "zipfile", "mimetypes", "configparser")

defer(*ONLY_FOR_CLIENTS, *_HARDLY_USED)

import botocore.session  # noqa: E402 - what it imports is to find the above
from botocore.loaders import Loader  # noqa: E402 - as above

from runner.aws.exchange import LARGEST_BODY  # noqa: E402 - as above
from runner.aws.metadata.asking import MetadataHttp  # noqa: E402 - as above
from runner.aws.models import LeanModels  # noqa: E402 - as above
from runner.aws.settings import METADATA_TIMEOUT_S  # noqa: E402 - as above

LONGEST_S: Final = 60.0
"""For the body of an answer, which may come in pieces that are in time each."""
_PIECE: Final = 64 * 1024


class LeanSession(botocore.session.Session):
    """A session that prepares for clients when the first one is made. For use by several threads."""

    def __init__(self) -> None:
        super().__init__(include_builtin_handlers=False)
        self._preparing = threading.Lock()
        self._prepared = False
        if not os.environ.get("AWS_DATA_PATH"):
            self.register_component("data_loader", Loader(file_loader=LeanModels()))

    def create_client(self, *args: Any, **options: Any) -> Any:
        with self._preparing:
            if not self._prepared:
                self._register_builtin_handlers(self.get_component("event_emitter"))  # type: ignore[attr-defined]
                self._prepared = True
        return bound(super().create_client(*args, **options))


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


def bound_fetchers(session: Any) -> None:
    """What looks for credentials at a metadata service, its answers with bounds; after its settings are made."""
    for provider in session.get_component("credential_provider").providers:
        # Of an instance, and of a container.
        for name in ("_role_fetcher", "_fetcher"):
            if hasattr(fetcher := getattr(provider, name, None), "_session"):
                bound_fetcher(fetcher)


def bound_fetcher(fetcher: Any) -> None:
    """One of botocore's that asks a metadata service."""
    http = fetcher._session  # noqa: SLF001 - there is no other way to its HTTP session
    timeout = float(getattr(fetcher, "_timeout", None) or METADATA_TIMEOUT_S)
    fetcher._session = MetadataHttp(http, BoundedHttp(http), timeout)  # noqa: SLF001 - as above


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
