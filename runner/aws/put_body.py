"""The body of PutLogEvents, written in one go.

botocore makes a dictionary of every event, copies it, and escapes every character that is not ASCII: for a batch of
10,000 events that is several times the batch in memory, and most of the call's time.
"""

from __future__ import annotations

import threading
from itertools import groupby, islice
from json.encoder import encode_basestring
from operator import itemgetter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

EVENT = "before-call.cloudwatch-logs.PutLogEvents"
"""botocore's event between its own serialisation and the signature."""

_AT_ONCE = 500
_prepared = threading.local()


def body_of(group: str, stream: str, events: Sequence[tuple[int, str]]) -> bytes:
    """The request's JSON in UTF-8 for (unix milliseconds, text) events."""
    head = f'{{"logGroupName":{encode_basestring(group)},"logStreamName":{encode_basestring(stream)},"logEvents":['
    return b"".join((head.encode(), *_parts(events), b"]}"))


def _parts(events: Sequence[tuple[int, str]]) -> Iterator[bytes]:
    first = True
    for ms, same in groupby(events, itemgetter(0)):
        begin = f'{{"timestamp":{ms},"message":'
        while texts := [encode_basestring(text) for _, text in islice(same, _AT_ONCE)]:
            yield (("" if first else ",") + begin + f"}},{begin}".join(texts) + "}").encode()
            first = False


class prepared:  # noqa: N801 - a context manager, used as a word
    """Within it, PutLogEvents of this thread is sent with this body."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    def __enter__(self) -> None:
        _prepared.body = self._body

    def __exit__(self, *_: object) -> None:
        del _prepared.body


def prepared_body() -> bytes | None:
    """The body that this thread's call is to be sent with."""
    body: bytes | None = getattr(_prepared, "body", None)
    return body


def put_prepared_body(params: dict[str, Any], **_: object) -> None:
    """The handler of `EVENT`."""
    if (body := prepared_body()) is not None:
        params["body"] = body
