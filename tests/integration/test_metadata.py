"""A metadata service that is none: whatever answers at its address, it takes little memory and little time."""

from __future__ import annotations

import json
import socket
import threading
import time
import tracemalloc
from contextlib import closing, suppress
from typing import TYPE_CHECKING

import pytest

from runner.aws.metadata import asking, instance
from runner.aws.metadata.region import region_of_instance
from runner.aws.session import Session
from runner.errors import AwsUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterator

MIB = 2**20
CREDENTIALS = {
    "Code": "Success",
    "AccessKeyId": "AKIATEST",
    "SecretAccessKey": "secret",
    "Token": "token",
    "Expiration": "2099-01-01T00:00:00Z",
}


def _said(text: str) -> bytes:
    return f"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {len(text)}\r\n\r\n{text}".encode()


HEAD = b"HTTP/1.1 200 OK\r\n"
# What is said at once, and then again and again with a pause.
HOSTILE: dict[str, tuple[bytes, bytes, float]] = {
    "a body without end": (HEAD + b"\r\n", b"x" * MIB, 0.0),
    "a body of 10 GB by its length": (HEAD + b"Content-Length: 10000000000\r\n\r\n", b"x" * MIB, 0.0),
    "a chunk of 10 GB": (HEAD + b"Transfer-Encoding: chunked\r\n\r\n2540BE400\r\n", b"x" * MIB, 0.0),
    "a chunk's size without end": (HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"0" * MIB, 0.0),
    "a byte now and then": (HEAD + b"Content-Length: 500\r\n\r\n", b"x", 0.1),
    "a header now and then": (HEAD, b"a: b\r\n", 0.1),
    "a header without end": (HEAD + b"a: ", b"x" * MIB, 0.0),
    "headers without end": (HEAD, b"a: b\r\n" * 10_000, 0.0),
    "only Continue": (b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 10_000, 0.0),
    "Continue now and then": (b"", b"HTTP/1.1 100 Continue\r\n\r\n", 0.1),
    "no HTTP": (b"SSH-2.0-OpenSSH_9.6\r\n", b"", 9.0),
    "silence": (b"", b"", 9.0),
    "numbers for texts": (_said(json.dumps(dict.fromkeys(CREDENTIALS, 7))), b"", 9.0),
    "a list": (_said("[1, 2]"), b"", 9.0),
}


class Server:
    """Says the same on each connection, whatever it is asked; or, as a service does, what belongs to the path."""

    def __init__(self) -> None:
        self.says = b"", b"", 9.0
        self.texts: dict[str, str] | None = None
        self.over = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                threading.Thread(target=self._talk, args=(connection,), daemon=True).start()

    def _talk(self, connection: socket.socket) -> None:
        with closing(connection), suppress(OSError):
            asked = connection.recv(4096).split()
            if self.texts is not None:
                text = self.texts.get(asked[1].decode())
                connection.sendall(_said(text) if text is not None else b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n")
                return
            first, more, pause = self.says
            connection.sendall(first)
            while not self.over.wait(pause):
                connection.sendall(more)

    def close(self) -> None:
        self.over.set()
        self._listener.close()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    made = Server()
    monkeypatch.setattr(asking, "LONGEST_S", 1.0)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "AWS_EC2_METADATA_DISABLED"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_METADATA_SERVICE_TIMEOUT", "1")
    monkeypatch.setenv("AWS_METADATA_SERVICE_NUM_ATTEMPTS", "1")
    monkeypatch.setenv("NO_PROXY", "*")
    yield made
    made.close()


@pytest.mark.parametrize("how", HOSTILE)
@pytest.mark.parametrize("where", ["AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_EC2_METADATA_SERVICE_ENDPOINT"])
async def test_whatever_answers_for_the_credentials_service_takes_little(
    server: Server, monkeypatch: pytest.MonkeyPatch, where: str, how: str
) -> None:
    monkeypatch.setenv(where, server.url + ("/role" if "FULL_URI" in where else ""))
    server.says = HOSTILE[how]
    session, began = Session(), time.monotonic()
    tracemalloc.start()
    with pytest.raises(AwsUnavailable):
        await session.credentials()
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # Three tries of a container's, three requests of an instance's, at a second each.
    assert time.monotonic() - began < 25
    assert most < 40 * MIB  # botocore's own modules are most of it
    session.close()


@pytest.mark.parametrize("how", HOSTILE)
def test_whatever_answers_for_the_notices_of_an_instance_is_no_more_than_away(
    server: Server, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", server.url)
    monkeypatch.setattr(instance, "METADATA_TIMEOUT_S", 1)
    server.says = HOSTILE[how]
    if how in ("numbers for texts", "a list"):
        assert instance.end_announced() in (None, instance.Notice("spot interruption"))
        return
    with pytest.raises(AwsUnavailable):
        instance.end_announced()


async def test_a_service_that_answers_gives_credentials_and_region(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    role = "/latest/meta-data/iam/security-credentials/"
    server.texts = {
        "/latest/api/token": "token",
        role: "web",
        f"{role}web": json.dumps(CREDENTIALS),
        "/latest/meta-data/placement/availability-zone/": "eu-central-1a",
        "/role": json.dumps(CREDENTIALS),
    }
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", server.url)
    session = Session()
    assert (await session.credentials()).method == "iam-role"
    session.close()
    assert region_of_instance() == "eu-central-1"
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{server.url}/role")
    session = Session()
    assert (await session.credentials()).method == "container-role"
    session.close()
    assert instance.end_announced() is None
