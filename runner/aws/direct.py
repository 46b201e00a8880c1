"""The calls of an agent's ordinary life, without botocore's way around: a tenth of it is needed for them.

Credentials, region, endpoint, certificates and the signer are botocore's; connections are urllib3's
(`runner.aws.exchange`). What is left out is what takes the time: models, hooks, retries, header objects, and threads.
`Direct` has the client's methods of the same names, with the same arguments, answers and exceptions, but that the
answer is awaited.
"""

from __future__ import annotations

import base64
import json
import time
from functools import lru_cache
from hashlib import sha256
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from runner.aws.exchange import Answer, Exchange
from runner.aws.put_body import prepared_body
from runner.protocol.jsontext import few_values

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from botocore.session import Session as BotocoreSession

    from runner.aws.endpoints import Place

    Answered = Awaitable[dict[str, Any]]

HOT: Final = frozenset(
    (
        *("ReceiveMessage", "DeleteMessageBatch", "ChangeMessageVisibilityBatch", "SendMessageBatch", "PutLogEvents"),
        "CreateLogStream",
        # Not for their speed: without them an agent would have clients, and 6 MB more.
        *("GetQueueAttributes", "GetQueueUrl", "CreateLogGroup", "PutRetentionPolicy"),
        *("GetItem", "PutItem", "UpdateItem", "DeleteItem", "Query", "TransactWriteItems"),
        *("BatchGetItem", "BatchWriteItem"),
        # What `logs` reads: making a client takes longer.
        *("GetLogEvents", "DescribeLogStreams", "FilterLogEvents"),
    )
)


_CONDITIONS: Final = frozenset(("ConditionalCheckFailedException", "TransactionCanceledException"))
# AWS answers these with nothing but the status; to all others an empty body is no answer.
_SILENT: Final = frozenset(("CreateLogStream", "CreateLogGroup", "PutRetentionPolicy"))
_MOST_VALUES: Final = 10_000  # of an answer: bodies are one each, and a value costs many times its bytes
_MOST_OF_ITEMS: Final = 1_000_000  # of a page of a table, 1 MB of items: two for each attribute
# What a refusal says beside code and text: why a transaction was cancelled, and what a condition found.
_OF_REFUSALS: Final = ("CancellationReasons", "Item")


def read_answer(body: bytes, most: int = _MOST_VALUES) -> dict[str, Any]:
    """The JSON object that an answer is; raises ValueError or TypeError where it is none."""
    text = body.decode("utf-8")
    if not few_values(text, most):
        msg = f"it has more than {most} values"
        raise ValueError(msg)
    said = json.loads(text)
    if not isinstance(said, dict):
        msg = f"it begins with {body[:40]!r}"
        raise TypeError(msg)
    return said


class Direct:
    """The calls of `HOT` at one place. `connect` and `read` are seconds, `size` is how many calls there are at once;
    `aside` calls in a thread what may block."""

    def __init__(
        self,
        place: Place,
        session: BotocoreSession,
        *,
        agent: str,
        connect: float,
        read: float,
        size: int,
        aside: Callable[[Callable[[], Any]], Awaitable[Any]],
    ) -> None:
        from botocore.awsrequest import AWSRequest  # noqa: PLC0415 - loaded with the session

        self.meta = place
        credentials = session.get_credentials()
        assert credentials is not None, "no client is made without credentials"
        self._credentials = credentials
        self._aside = aside
        model, url = place.service_model, place.endpoint_url.rstrip("/") + "/"
        self._signer = self._signer_with(credentials.get_frozen_credentials())
        self._path = urlsplit(url).path
        self._canonical_path = self._signer._normalize_url_path(self._path)  # noqa: SLF001 - as it signs
        self._target = model.metadata["targetPrefix"]
        self._unsigned = f"User-Agent: {agent}"
        self._signed = {
            "content-type": f"application/x-amz-json-{model.metadata['jsonVersion']}",
            "host": self._signer.headers_to_sign(AWSRequest("POST", url))["host"],
        }
        # Errors under the names that they always had.
        self._query_mode = {"x-amzn-query-mode": "true"} if "awsQueryCompatible" in model.metadata else {}
        self._exchange = Exchange(url, session, connect=connect, read=read, size=size, aside=aside)

    def receive_message(self, **asked: Any) -> Answered:
        return self._call("ReceiveMessage", json.dumps(asked).encode())

    def delete_message_batch(self, **asked: Any) -> Answered:
        return self._call("DeleteMessageBatch", json.dumps(asked).encode())

    def change_message_visibility_batch(self, **asked: Any) -> Answered:
        return self._call("ChangeMessageVisibilityBatch", json.dumps(asked).encode())

    def send_message_batch(self, **asked: Any) -> Answered:
        return self._call("SendMessageBatch", json.dumps(asked, default=_in_base64).encode())

    def put_log_events(self, **asked: Any) -> Answered:
        return self._call("PutLogEvents", prepared_body() or json.dumps(asked).encode())

    def create_log_stream(self, **asked: Any) -> Answered:
        return self._call("CreateLogStream", json.dumps(asked).encode())

    def get_queue_attributes(self, **asked: Any) -> Answered:
        return self._call("GetQueueAttributes", json.dumps(asked).encode())

    def get_queue_url(self, **asked: Any) -> Answered:
        return self._call("GetQueueUrl", json.dumps(asked).encode())

    def create_log_group(self, **asked: Any) -> Answered:
        return self._call("CreateLogGroup", json.dumps(asked).encode())

    def put_retention_policy(self, **asked: Any) -> Answered:
        return self._call("PutRetentionPolicy", json.dumps(asked).encode())

    def get_log_events(self, **asked: Any) -> Answered:
        return self._call("GetLogEvents", json.dumps(asked).encode(), _MOST_OF_ITEMS)

    def describe_log_streams(self, **asked: Any) -> Answered:
        return self._call("DescribeLogStreams", json.dumps(asked).encode())

    def filter_log_events(self, **asked: Any) -> Answered:
        return self._call("FilterLogEvents", json.dumps(asked).encode(), _MOST_OF_ITEMS)

    def get_item(self, **asked: Any) -> Answered:
        return self._call("GetItem", json.dumps(asked).encode(), _MOST_OF_ITEMS)

    def put_item(self, **asked: Any) -> Answered:
        return self._call("PutItem", json.dumps(asked).encode())

    def update_item(self, **asked: Any) -> Answered:
        return self._call("UpdateItem", json.dumps(asked).encode(), _MOST_OF_ITEMS)

    def delete_item(self, **asked: Any) -> Answered:
        return self._call("DeleteItem", json.dumps(asked).encode())

    def query(self, **asked: Any) -> Answered:
        return self._call("Query", json.dumps(asked).encode(), _MOST_OF_ITEMS)

    def transact_write_items(self, **asked: Any) -> Answered:
        # Without the token of a client, by which one that is sent again is known: nothing here sends one again.
        return self._call("TransactWriteItems", json.dumps(asked).encode(), _MOST_OF_ITEMS)

    def batch_get_item(self, **asked: Any) -> Answered:
        return self._call("BatchGetItem", json.dumps(asked).encode(), _MOST_OF_ITEMS)

    def batch_write_item(self, **asked: Any) -> Answered:
        return self._call("BatchWriteItem", json.dumps(asked).encode(), _MOST_OF_ITEMS)

    def close(self) -> None:
        """Close idle connections; those in use close when they are done with."""
        self._exchange.close()

    async def _call(self, operation: str, body: bytes, most: int = _MOST_VALUES) -> dict[str, Any]:
        # Frozen: one set of credentials, whatever is renewed meanwhile. Those that end may be fetched for it.
        may_block, freeze = getattr(self._credentials, "refresh_needed", None), self._credentials.get_frozen_credentials
        frozen = await self._aside(freeze) if may_block is not None and may_block() else freeze()
        answer = await self._exchange(self._request(operation, body, frozen))
        if answer.status // 100 != 2:
            raise self._refusal(operation, answer)
        said = read_answer(answer.body, most) if answer.body or operation not in _SILENT else {}
        said["ResponseMetadata"] = {"HTTPStatusCode": answer.status, "HTTPHeaders": answer.headers}
        return said

    def _request(self, operation: str, body: bytes, credentials: Any) -> bytes:
        """Signed by botocore's signer. What it would make of header objects each time anew, the canonical form of a
        request, is always the same here but for a few words."""
        if credentials != self._signer.credentials:
            self._signer = self._signer_with(credentials)
        time_ = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        token = {"x-amz-security-token": credentials.token} if credentials.token else {}
        target = f"{self._target}.{operation}"
        # In the order of their names.
        signed = self._signed | {"x-amz-date": time_} | token | {"x-amz-target": target} | self._query_mode
        names, lines = ";".join(signed), [f"{name}:{value}" for name, value in signed.items()]
        canonical = "\n".join(("POST", self._canonical_path, "", *lines, "", names, sha256(body).hexdigest()))
        context: Any = SimpleNamespace(context={"timestamp": time_})
        signature = self._signer.signature(self._signer.string_to_sign(context, canonical), context)
        scope = self._signer.scope(context)
        head = (
            f"POST {self._path} HTTP/1.1",
            *lines,
            f"content-length:{len(body)}",
            self._unsigned,
            f"Authorization: AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders={names}, Signature={signature}",
            "\r\n",
        )
        return "\r\n".join(head).encode("latin-1") + body

    def _signer_with(self, credentials: Any) -> Any:
        from botocore.auth import SigV4Auth  # noqa: PLC0415 - loaded with the session

        signer: Any = SigV4Auth(credentials, self.meta.service_model.signing_name, self.meta.region_name)
        # It makes a day's key anew for each request, in four steps that are the same all day.
        signer._sign = lru_cache(16)(signer._sign)  # noqa: SLF001
        return signer

    def _refusal(self, operation: str, answer: Answer) -> Exception:
        """What a client would have raised; read by its parser."""
        from botocore.exceptions import ClientError  # noqa: PLC0415 - as above
        from botocore.parsers import create_parser  # noqa: PLC0415 - as above

        model = self.meta.service_model
        shape: Any = model.operation_model(operation).output_shape
        given = {"status_code": answer.status, "headers": _Headers(answer.headers), "body": answer.body}
        said = create_parser(model.metadata["protocol"]).parse(given, shape)
        if said["Error"]["Code"] in _CONDITIONS:
            said |= {name: value for name, value in read_answer(answer.body).items() if name in _OF_REFUSALS}
        return ClientError(said, operation)


def _in_base64(value: bytes) -> str:
    """As JSON protocols have bytes."""
    return base64.b64encode(value).decode("ascii")


class _Headers(dict[str, str]):
    """As botocore's parsers look into headers: without regard to case."""

    def get(self, name: str, default: Any = None) -> Any:
        return super().get(name.lower(), default)

    def __contains__(self, name: object) -> bool:
        return super().__contains__(str(name).lower())

    def __getitem__(self, name: str) -> str:
        return super().__getitem__(name.lower())


def goes_direct(url: str) -> bool:
    """Whether nothing stands between us and the endpoint; the ways through proxies are left to botocore."""
    from botocore.utils import get_environ_proxies  # noqa: PLC0415 - loaded with the session

    return not get_environ_proxies(url)
