"""What is said to AWS past botocore's client, held against what botocore itself would say."""

from __future__ import annotations

import asyncio
import datetime
import threading
from typing import TYPE_CHECKING, Any

import botocore.session
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials, RefreshableCredentials

from runner.aws.direct import Direct

if TYPE_CHECKING:
    from collections.abc import Callable

NOW = datetime.datetime(2026, 11, 24, 18, 5, 9, tzinfo=datetime.UTC)


class Clock:
    def strftime(self, form: str, _time: object) -> str:
        return NOW.strftime(form)

    def gmtime(self) -> None:
        """Of the same moment."""


@pytest.fixture(autouse=True)
def one_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runner.aws.direct.time", Clock())
    monkeypatch.setattr("botocore.auth.get_current_datetime", lambda: NOW)


def direct(service: str, endpoint: str, credentials: Any) -> Direct:
    session = botocore.session.Session()
    session._credentials = credentials  # noqa: SLF001 - where others would come from this machine
    client = session.create_client(service, region_name="eu-west-1", endpoint_url=endpoint)
    return Direct(client.meta, session, agent="cron-runner/1", connect=1, read=1, size=1, aside=asyncio.to_thread)


@pytest.mark.parametrize("token", [None, "a/token+of=a/role"])
@pytest.mark.parametrize("service", ["sqs", "logs", "dynamodb"])
@pytest.mark.parametrize(
    "endpoint",
    ["https://sqs.eu-west-1.amazonaws.com", "http://localhost:4566", "https://HOST:443/a~b/c d//e", "http://[::1]:80"],
)
def test_it_signs_as_botocore_does(endpoint: str, service: str, token: str | None) -> None:
    credentials = Credentials("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG", token)
    made = direct(service, endpoint, credentials)
    text = '{"a": "ü"}'.encode()
    for _ in range(2):  # the second time with the key of the first
        request = made._request("SendMessageBatch", text, credentials.get_frozen_credentials())  # noqa: SLF001 - what is sent
    head, _, sent = request.partition(b"\r\n\r\n")
    said = dict(line.split(":", 1) for line in head.decode("latin-1").split("\r\n")[1:])
    signed = said.pop("Authorization").strip()
    # All that botocore's signer would be given of the same request; it signs all but the user agent.
    given = {name: value for name, value in said.items() if name.lower() not in {"content-length", "host"}}
    given.pop("x-amz-security-token", None)
    theirs = AWSRequest("POST", endpoint.rstrip("/") + "/", {n: v.strip() for n, v in given.items()}, text)
    SigV4Auth(credentials, service, "eu-west-1").add_auth(theirs)
    assert signed == theirs.headers["Authorization"]
    assert sent == text
    assert said["content-length"] == str(len(text))


def test_new_credentials_sign_at_once() -> None:
    old, new = (Credentials(name, f"secret of {name}").get_frozen_credentials() for name in ("OLD", "NEW"))
    made = direct("sqs", "http://localhost:1", Credentials("OLD", "secret of OLD"))
    signed = [made._request("ReceiveMessage", b"{}", who) for who in (old, new, old)]  # noqa: SLF001 - what is sent
    assert b"Credential=NEW/20261124/eu-west-1/sqs/" in signed[1]
    assert signed[0] == signed[2]
    assert signed[0].partition(b"Signature=")[2] != signed[1].partition(b"Signature=")[2]


class Fetched:
    """Credentials that end soon, however often they are fetched; by whom is remembered."""

    def __init__(self) -> None:
        self.by: list[threading.Thread] = []

    def __call__(self) -> dict[str, str]:
        self.by.append(threading.current_thread())
        ends = datetime.datetime.now(datetime.UTC) + datetime.timedelta(minutes=1)
        return {"access_key": f"K{len(self.by)}", "secret_key": "s", "token": "t", "expiry_time": ends.isoformat()}


@pytest.fixture
def role() -> tuple[Fetched, RefreshableCredentials]:
    fetched = Fetched()
    return fetched, RefreshableCredentials.create_from_metadata(fetched(), fetched, "a test")


async def test_the_loop_never_fetches_credentials(role: tuple[Fetched, RefreshableCredentials]) -> None:
    fetched, credentials = role
    asked: list[Callable[[], Any]] = []

    async def aside(function: Callable[[], Any]) -> Any:
        asked.append(function)
        return await asyncio.to_thread(function)

    made = await asyncio.to_thread(direct, "sqs", "http://127.0.0.1:1", credentials)
    made._aside = aside  # noqa: SLF001 - to see what it is asked for
    fetched.by.clear()
    credentials._expiry_time = datetime.datetime.now(datetime.UTC)  # type: ignore[attr-defined]  # noqa: SLF001
    for _ in range(2):
        with pytest.raises(Exception, match=r"127\.0\.0\.1:1"):  # nobody listens there
            await made.receive_message(QueueUrl="q")
    assert asked[0] == credentials.get_frozen_credentials
    assert len(fetched.by) == 2  # those that came were of no use either
    assert threading.main_thread() not in fetched.by
