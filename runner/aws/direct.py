"""The five calls that are made all the time, without botocore's way around: a tenth of it is needed for them.

Credentials, region, endpoint, certificates and the signer are botocore's; connections are urllib3's
(`runner.aws.exchange`). What is left out is what takes the time: models, hooks, retries, and header objects. `Direct`
has the client's methods of the same names, with the same arguments, answers and exceptions, so whoever has one need
not know which it is.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from runner.aws.exchange import Answer, Exchange
from runner.aws.put_body import prepared_body

if TYPE_CHECKING:
    from botocore.client import BaseClient
    from botocore.session import Session as BotocoreSession

HOT: Final = frozenset(
    ("ReceiveMessage", "DeleteMessageBatch", "ChangeMessageVisibilityBatch", "SendMessageBatch", "PutLogEvents")
)


class Direct:
    """The hot calls of one client. `connect` and `read` are seconds, `size` is how many connections are kept."""

    def __init__(
        self, client: BaseClient, session: BotocoreSession, *, agent: str, connect: float, read: float, size: int
    ) -> None:
        model = client.meta.service_model
        self._client = client
        credentials = session.get_credentials()
        assert credentials is not None, "no client is made without credentials"
        self._credentials = credentials
        self._service = model.signing_name
        self._url = client.meta.endpoint_url.rstrip("/") + "/"
        self._path = urlsplit(self._url).path
        self._target = model.metadata["targetPrefix"]
        self._headers = {
            "Content-Type": f"application/x-amz-json-{model.metadata['jsonVersion']}",
            "User-Agent": agent,
        }
        if "awsQueryCompatible" in model.metadata:
            self._headers["x-amzn-query-mode"] = "true"  # errors under the names that they always had
        self._exchange = Exchange(self._url, session, connect=connect, read=read, size=size)

    def receive_message(self, **asked: Any) -> dict[str, Any]:
        return self._call("ReceiveMessage", json.dumps(asked).encode())

    def delete_message_batch(self, **asked: Any) -> dict[str, Any]:
        return self._call("DeleteMessageBatch", json.dumps(asked).encode())

    def change_message_visibility_batch(self, **asked: Any) -> dict[str, Any]:
        return self._call("ChangeMessageVisibilityBatch", json.dumps(asked).encode())

    def send_message_batch(self, **asked: Any) -> dict[str, Any]:
        return self._call("SendMessageBatch", json.dumps(asked).encode())

    def put_log_events(self, **asked: Any) -> dict[str, Any]:
        return self._call("PutLogEvents", prepared_body() or json.dumps(asked).encode())

    def close(self) -> None:
        """Close idle connections; those in use close when they are done with."""
        self._exchange.close()

    def _call(self, operation: str, body: bytes) -> dict[str, Any]:
        answer = self._exchange(self._signed(operation, body))
        if answer.status >= 300:
            raise self._refusal(operation, answer)
        said = json.loads(answer.body or b"{}")
        if not isinstance(said, dict):
            msg = f"it begins with {answer.body[:40]!r}"
            raise TypeError(msg)
        said["ResponseMetadata"] = {"HTTPStatusCode": answer.status, "HTTPHeaders": answer.headers}
        return said

    def _signed(self, operation: str, body: bytes) -> bytes:
        from botocore.auth import SigV4Auth  # noqa: PLC0415 - loaded when the client was made
        from botocore.awsrequest import AWSRequest  # noqa: PLC0415 - as above

        request = AWSRequest("POST", self._url, {**self._headers, "X-Amz-Target": f"{self._target}.{operation}"}, body)
        # Frozen: one set of credentials, whatever is renewed meanwhile.
        credentials = self._credentials.get_frozen_credentials()
        SigV4Auth(credentials, self._service, self._client.meta.region_name).add_auth(request)
        lines = [f"POST {self._path} HTTP/1.1", f"Host: {urlsplit(self._url).netloc}", f"Content-Length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in request.headers.items() if name.lower() != "host"]
        return "\r\n".join((*lines, "", "")).encode("latin-1") + body

    def _refusal(self, operation: str, answer: Answer) -> Exception:
        """What the client itself would have raised; read by its parser."""
        from botocore.exceptions import ClientError  # noqa: PLC0415 - as above
        from botocore.parsers import create_parser  # noqa: PLC0415 - as above

        model = self._client.meta.service_model
        shape: Any = model.operation_model(operation).output_shape
        given = {"status_code": answer.status, "headers": _Headers(answer.headers), "body": answer.body}
        return ClientError(create_parser(model.metadata["protocol"]).parse(given, shape), operation)


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
    from botocore.utils import get_environ_proxies  # noqa: PLC0415 - loaded when the client was made

    return not get_environ_proxies(url)
