"""The socket with clients that are wrong, hostile, or of another version."""

from __future__ import annotations

import json
import socket
import struct
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from supervising import alive, bare_supervisor

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator

KEYS = [
    "op", "id", "fds", "key", "argv", "env", "env_files", "user", "group", "umask", "nice", "cwd", "stdin", "timeout",
    "grace", "stop_signal", "no_output_timeout", "max_bytes", "limits", "leftovers", "redact", "tied", "cause",
    "detail", "keys", "after", "protocol", "owner",
]  # fmt: skip
OPS = ["hello", "start", "stop", "list", "ack", "usage", "nonsense"]
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(), max_size=8)
    | st.sampled_from(["a/1", "\0", "\ud800", "/", "true"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
VALID: dict[str, Any] = {"op": "start", "key": "fuzz/1", "argv": ["true"], "fds": 1}
MESSAGE = st.dictionaries(st.sampled_from(KEYS), JSON, max_size=6).flatmap(
    lambda odd: st.sampled_from([odd, {**odd, "op": "start"}, {**VALID, **odd}, {"op": "stop", "key": "a/1", **odd}])
) | st.fixed_dictionaries({"op": st.sampled_from(OPS), "id": JSON})


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[subprocess.Popen[bytes], Path, Path]]:
    directory = tmp_path_factory.mktemp("fuzz")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CRON_RUNNER_RUN__USER", "root")
        process, path = bare_supervisor(directory)
    spool = directory / "spool"
    spool.touch()
    yield process, path, spool
    assert process.poll() is None, "the supervisor has died"
    process.terminate()
    assert process.wait(20) == 0


def frame(message: object) -> bytes:
    body = json.dumps(message).encode()
    return struct.pack(">I", len(body)) + body


def connected(path: Path) -> closing[socket.socket]:
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(10)
    sock.connect(str(path))
    return closing(sock)


def answers(sock: socket.socket) -> Iterator[dict[str, Any]]:
    """Frames until the other end closes; it may do so without having read everything, which is a reset."""
    with suppress(ConnectionResetError):
        while len(head := sock.recv(4, socket.MSG_WAITALL)) == 4:
            yield json.loads(sock.recv(struct.unpack(">I", head)[0], socket.MSG_WAITALL))


def hello(sock: socket.socket) -> dict[str, Any]:
    sock.sendall(frame({"op": "hello", "id": 0, "protocol": 1, "owner": "fuzz"}))
    return next(answers(sock))


def open_files(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def works(path: Path) -> None:
    with connected(path) as sock:
        assert hello(sock)["ok"] is True


def test_another_version_is_told_so(served: tuple[Any, Path, Path]) -> None:
    with connected(served[1]) as sock:
        sock.sendall(frame({"op": "hello", "id": 1, "protocol": 2, "version": "9.9"}) + frame({"op": "list", "id": 2}))
        first, second = (next(answers(sock)) for _ in range(2))
        assert first["code"] == "protocol_version"
        assert "protocol 2" in first["error"]
        assert "speaks 1" in first["error"]
        assert second["code"] == "protocol"


def test_an_unknown_request_is_answered_and_the_connection_goes_on(served: tuple[Any, Path, Path]) -> None:
    with connected(served[1]) as sock:
        hello(sock)
        sock.sendall(frame({"op": "dance", "id": 7}) + frame({"op": "list", "id": 8}))
        first, second = (next(answers(sock)) for _ in range(2))
        assert (first["id"], first["ok"], first["code"]) == (7, False, "unknown_op")
        assert (second["id"], second["ok"]) == (8, True)


@pytest.mark.parametrize(
    "data",
    [
        struct.pack(">I", (16 << 20) + 1),
        frame([1]),
        frame("x"),
        struct.pack(">I", 3) + b"\xff\xfe\xfd",
        struct.pack(">I", 0),
        struct.pack(">I", 200_000) + b"[" * 200_000,
        struct.pack(">I", 9) + b'{"a":NaN}',
        frame({"op": "list", "fds": 3}),
        frame({"op": "list", "fds": -1}),
        frame({"op": "list", "fds": "1"}),
    ],
    ids=["long", "list", "text", "bytes", "empty", "deep", "nan", "no fds", "minus", "type"],
)
def test_what_is_no_frame_ends_the_connection_with_a_reason(served: tuple[Any, Path, Path], data: bytes) -> None:
    with connected(served[1]) as sock:
        hello(sock)
        sock.sendall(data)
        [answer] = list(answers(sock))
        assert (answer["ok"], answer["code"]) == (False, "protocol")
    works(served[1])


def test_descriptors_are_not_kept(served: tuple[Any, Path, Path]) -> None:
    process, path, spool = served
    with connected(path) as sock, spool.open("rb+") as file:
        hello(sock)
        before = open_files(process.pid)
        for count in (1, 5, 100):
            message = {"op": "list", "id": 1, "fds": count}
            socket.send_fds(sock, [frame(message)], [file.fileno()] * count)
            assert next(answers(sock))["ok"] is True
        socket.send_fds(sock, [frame({"op": "start", "id": 1, "fds": 1, "key": "", "argv": []})], [file.fileno()])
        assert next(answers(sock))["ok"] is False
        assert open_files(process.pid) == before
        socket.send_fds(sock, [b"\0"], [file.fileno()] * 200)
        socket.send_fds(sock, [b"\0"], [file.fileno()] * 200)
        assert [answer["code"] for answer in answers(sock)] == ["protocol"]
    works(path)


def test_a_client_that_never_reads_is_cut_off(served: tuple[Any, Path, Path]) -> None:
    process, path, _spool = served
    with connected(path) as sock:
        hello(sock)
        sock.settimeout(0.5)
        request = frame({"op": "list", "id": "x" * 10_000}) * 5000
        with pytest.raises((TimeoutError, ConnectionError)):
            sock.sendall(request)
    works(path)
    assert alive(process.pid)


@given(st.lists(MESSAGE, min_size=1, max_size=6))
@settings(
    max_examples=150,
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_odd_requests_are_all_answered(served: tuple[Any, Path, Path], messages: list[dict[str, Any]]) -> None:
    process, path, spool = served
    with connected(path) as sock, spool.open("rb+") as file:
        hello(sock)
        for message in messages:
            count = message.get("fds")
            fds = [file.fileno()] * (count if type(count) is int and 0 < count < 3 else 0)
            try:
                socket.send_fds(sock, [frame(message)], fds)
            except OSError:
                break
        sock.shutdown(socket.SHUT_WR)
        for answer in answers(sock):
            assert "ok" in answer or "notice" in answer
    assert process.poll() is None


@given(st.lists(st.binary(max_size=64), max_size=5), st.booleans())
@settings(
    max_examples=100,
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_odd_bytes_end_the_connection_only(served: tuple[Any, Path, Path], pieces: list[bytes], framed: bool) -> None:
    process, path, _spool = served
    with connected(path) as sock:
        for piece in pieces:
            try:
                sock.sendall(struct.pack(">I", len(piece)) + piece if framed else piece)
            except OSError:
                break
        sock.shutdown(socket.SHUT_WR)
        for answer in answers(sock):
            assert answer["ok"] is False
    assert process.poll() is None
    works(path)
