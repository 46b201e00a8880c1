"""The sinks beside CloudWatch, over real sockets: all lines arrive, in order, under the names of their run."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import re
import shutil
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from runner.sinks import SPLIT_MARK, Batch, Piece, SinkUnavailable, Tag
from runner.sinks.journald import Journald
from runner.sinks.stdout import Stdout
from runner.sinks.syslog import MESSAGE_BYTES, Syslog

from waiting import wait_for

TAG = Tag("exec1", 2, "job", 'run "1"]\\', 0.0, host="host a")
LINES = ["plain", " ", "tab\tand \x00 nul", "é\u20ac\U0001f600 \ufffd", "x" * 7000] + [f"line {n}" for n in range(3000)]


def batches(lines: list[str], most: int = 1000) -> list[Batch]:
    return [Batch("s", (Piece(TAG, 1_700_000_000_123, lines[n : n + most]),)) for n in range(0, len(lines), most)]


class Receiver:
    """Takes what arrives on a socket, on a thread; `one` reads once and returns what it read."""

    def __init__(self, sock: socket.socket, one: Callable[[socket.socket], bytes]) -> None:
        self.socket = sock
        self.messages: list[bytes] = []
        self._one = one
        self._closing = False
        sock.settimeout(0.05)
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        while not self._closing:
            with contextlib.suppress(TimeoutError):
                self.messages.append(self._one(self.socket))

    def close(self) -> None:
        self._closing = True
        self._thread.join(5)
        self.socket.close()


def datagram(sock: socket.socket) -> bytes:
    data, descriptors, _, _ = socket.recv_fds(sock, 1 << 20, 4)
    for descriptor in descriptors:
        with os.fdopen(descriptor, "rb") as file:
            data += file.read()
    return data


@contextlib.contextmanager
def receiving(kind: int, address: str | tuple[str, int]) -> Iterator[Receiver]:
    sock = socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET, kind)
    sock.bind(address)
    receiver = Receiver(sock, datagram)
    try:
        yield receiver
    finally:
        receiver.close()


async def send_all(sink: Journald | Syslog, lines: list[str]) -> None:
    for batch in batches(lines):
        assert await sink.send(batch) == 0
    await sink.close()


# -- the journal


def entries(data: bytes) -> Iterator[dict[str, str]]:
    """The fields of each entry of a datagram, read as systemd-journald reads them."""
    entry: dict[str, str] = {}
    while data:
        line, _, rest = data.partition(b"\n")
        if not line:
            yield entry
            entry = {}
        elif b"=" in line:
            name, _, value = line.partition(b"=")
            entry[name.decode()] = value.decode()
        else:
            (size,) = struct.unpack("<Q", rest[:8])
            entry[line.decode()] = rest[8 : 8 + size].decode()
            assert rest[8 + size : 9 + size] == b"\n"
            rest = rest[9 + size :]
        data = rest
    if entry:
        yield entry


def test_journald_gets_every_line_with_the_fields_of_its_run(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    lines = [*LINES, "z" * 250_000, "two\nlines"]
    with receiving(socket.SOCK_DGRAM, str(path)) as receiver:
        asyncio.run(send_all(Journald("web", path), lines))
        wait_for(lambda: sum(m.count(b"\nMESSAGE\n") for m in receiver.messages) == len(lines), "all entries")
    found = [entry for message in receiver.messages for entry in entries(message)]
    assert [entry["MESSAGE"] for entry in found] == lines
    assert found[0] == {
        "MESSAGE": "plain",
        "PRIORITY": "6",
        "SYSLOG_IDENTIFIER": "job",
        "CRON_RUNNER_JOB": "job",
        "CRON_RUNNER_RUN_ID": TAG.run_id,
        "CRON_RUNNER_ATTEMPT": "2",
        "CRON_RUNNER_EXECUTION": "exec1",
        "CRON_RUNNER_GROUP": "web",
    }
    assert max(map(len, receiver.messages)) > 250_000, "a large entry came in a memory file"


def test_journald_comes_back_after_the_journal_was_restarted(tmp_path: Path) -> None:
    path = tmp_path / "socket"

    async def scene() -> None:
        sink = Journald("web", path)
        with pytest.raises(SinkUnavailable, match="systemd-journald"):
            await sink.send(batches(["early"])[0])
        for text in ("one", "two"):
            with receiving(socket.SOCK_DGRAM, str(path)) as receiver:
                # The first datagram to a journal that went away fails, and the batch is sent again.
                with contextlib.suppress(SinkUnavailable):
                    await sink.send(batches([text])[0])
                if not receiver.messages:
                    await sink.send(batches([text])[0])
                await asyncio.to_thread(wait_for, lambda r=receiver: r.messages, "an entry")
            path.unlink()
        await sink.close()

    asyncio.run(scene())


JOURNALD = Path("/lib/systemd/systemd-journald")
# A journal of its own, in a mount namespace where /run is empty; what it holds in the end is printed.
IN_OWN_RUN = """
set -e
mount -t tmpfs tmpfs /run
mkdir -p /run/systemd/journal /run/log/journal
: > "$OUT"
"$1" >/dev/null 2>&1 &
trap 'kill $!' EXIT
shift
"$@" >&2
for n in $(seq 200); do
    journalctl -D /run/log/journal -o json --all CRON_RUNNER_RUN_ID=run-1 > "$OUT" 2>/dev/null || true
    [ "$(wc -l < "$OUT")" -lt "$LINES" ] || exit 0
    sleep 0.1
done
"""
SENDER = """
import asyncio, json, os, sys, time
from pathlib import Path
from runner.sinks import Batch, Piece, SinkUnavailable, Tag
from runner.sinks.journald import Journald
async def main():
    sink, tag = Journald("web"), Tag("exec1", 2, "job", "run-1", 0.0)
    deadline = time.monotonic() + 20
    batch = Batch("s", (Piece(tag, 0, json.load(sys.stdin)),))
    while True:
        try:
            await sink.send(batch)
            break
        except SinkUnavailable:
            if time.monotonic() > deadline: raise
            await asyncio.sleep(0.05)
    await sink.close()
asyncio.run(main())
"""


@pytest.mark.skipif(
    os.geteuid() != 0
    or not JOURNALD.exists()
    or not Path("/etc/machine-id").exists()
    or not shutil.which("journalctl"),
    reason="needs root and systemd-journald",
)
def test_a_real_journal_holds_every_line(tmp_path: Path) -> None:
    lines = [*LINES, "z" * 250_000, "two\nlines"]
    out = tmp_path / "journal.json"
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", IN_OWN_RUN, "sh", str(JOURNALD), sys.executable, "-c", SENDER],
        input=json.dumps(lines),
        env={**os.environ, "OUT": str(out), "LINES": str(len(lines))},
        text=True,
        capture_output=True,
        timeout=60,
        check=False,
    )
    if not out.exists():
        pytest.skip(f"no journal can be started here: {done.stderr.strip()[-200:]}")
    values = [json.loads(line)["MESSAGE"] for line in out.read_text().splitlines()]
    assert [bytes(value).decode() if isinstance(value, list) else value for value in values] == lines


# -- syslog

MESSAGE = re.compile(
    r"<78>1 2023-11-14T22:13:20\.123Z host_a job - - "
    r'\[cron-runner@32473 job="job" run_id="run \\"1\\"\\]\\\\" attempt="2" execution="exec1" group="web"\] (.*)',
    re.DOTALL,
)


def texts(messages: list[bytes]) -> list[str]:
    assert all(len(message) <= MESSAGE_BYTES for message in messages)
    matches = [MESSAGE.fullmatch(message.decode()) for message in messages]
    return [match[1] for match in matches if match]


def counted(data: bytes) -> list[bytes]:
    """RFC 6587's octet counting."""
    found = []
    while data:
        size, _, data = data.partition(b" ")
        found.append(data[: int(size)])
        assert len(found[-1]) == int(size)
        data = data[int(size) :]
    return found


def test_syslog_over_udp() -> None:
    with receiving(socket.SOCK_DGRAM, ("127.0.0.1", 0)) as receiver:
        receiver.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        port = receiver.socket.getsockname()[1]
        asyncio.run(send_all(Syslog(f"udp://127.0.0.1:{port}", "web"), LINES))
        wait_for(lambda: len(receiver.messages) == len(LINES), "all messages")
    assert texts(receiver.messages) == LINES


# What syslog(3) writes, in local time.
LOCAL = re.compile(r"<78>Nov 1[45] \d\d:\d\d:20 job\[run_\"1\"_\\\]: (.*)", re.DOTALL)


def local_texts(messages: list[bytes]) -> list[str]:
    matches = [LOCAL.fullmatch(message.decode()) for message in messages]
    return [match[1] for match in matches if match]


def test_a_local_syslog_socket_gets_what_the_c_library_writes(tmp_path: Path) -> None:
    with receiving(socket.SOCK_DGRAM, str(tmp_path / "log")) as receiver:
        asyncio.run(send_all(Syslog(f"unix://{tmp_path}/log", "web"), LINES))
        wait_for(lambda: len(receiver.messages) == len(LINES), "all messages")
    assert local_texts(receiver.messages) == LINES


def test_a_local_syslog_stream_gets_messages_that_end_with_a_nul(tmp_path: Path) -> None:
    with accepting(str(tmp_path / "log")) as (_, brought):
        asyncio.run(send_all(Syslog(f"unix://{tmp_path}/log", "web"), LINES))
        wait_for(lambda: brought, "the connection's end")
    *messages, rest = brought[0].split(b"\0")
    assert local_texts(messages) == [line.replace("\0", "#000") for line in LINES]
    assert not rest


class Slow(Receiver):
    """Reads a few datagrams now and then, into the buffer that the kernel gives everybody."""

    def _read(self) -> None:
        while not self._closing:
            time.sleep(0.003)
            with contextlib.suppress(TimeoutError):
                for _ in range(40):
                    self.messages.append(self._one(self.socket))


@pytest.mark.parametrize("width", [1, 300, 5000], ids=["short", "middling", "long"])
@pytest.mark.parametrize(("family", "host"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
def test_a_burst_over_udp_fits_the_buffer_as_the_kernel_charges_it(
    family: socket.AddressFamily, host: str, width: int
) -> None:
    lines = [f"{n} {'x' * width}" for n in range(3000 if width < 1000 else 300)]
    sock = socket.socket(family, socket.SOCK_DGRAM)
    try:
        sock.bind((host, 0))
    except OSError as error:
        sock.close()
        pytest.skip(f"no {host} here: {error}")
    port = sock.getsockname()[1]
    receiver = Slow(sock, datagram)
    try:
        asyncio.run(send_all(Syslog(f"udp://[{host}]:{port}" if ":" in host else f"udp://{host}:{port}", "web"), lines))
        with contextlib.suppress(AssertionError):
            wait_for(lambda: len(receiver.messages) == len(lines), "all messages", 5)
    finally:
        receiver.close()
    assert len(receiver.messages) == len(lines)
    assert texts(receiver.messages) == lines


RSYSLOG = """
module(load="imudp") module(load="imptcp") module(load="imuxsock" SysSock.Use="off")
input(type="imudp" address="127.0.0.1" port="{port}")
input(type="imptcp" address="127.0.0.1" port="{port}")
input(type="imuxsock" Socket="{directory}/log" UseSysTimeStamp="off")
template(name="told" type="string" string="%programname% %msg%\n")
action(type="omfile" file="{directory}/told" template="told" fileCreateMode="0644")
"""


def _free_for_both() -> int:
    """A port that nobody has, by UDP and by TCP, and that the kernel gives to nobody who asks for any."""
    low = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    while True:
        port = random.randrange(max(1024, low - 20_000), low)
        with socket.socket(type=socket.SOCK_DGRAM) as udp, socket.socket() as tcp, contextlib.suppress(OSError):
            udp.bind(("127.0.0.1", port))
            tcp.bind(("127.0.0.1", port))
            return port


SYSLOG_NG = """\
@version: 3.35
options {{ stats-freq(0); }};
source s {{
  network(ip("127.0.0.1") transport("udp") port({port}) flags(syslog-protocol) so-rcvbuf(8388608));
  syslog(ip("127.0.0.1") transport("tcp") port({port}));
  unix-dgram("{directory}/log");
}};
destination d {{ file("{directory}/told" template("$PROGRAM $MSG\\n")); }};
log {{ source(s); destination(d); }};
"""


def _daemon(name: str, directory: Path, port: int) -> list[str]:
    """The command of a syslog daemon that listens on the port and on `log`; skips where there is none."""
    program = shutil.which(name, path="/usr/sbin:/usr/bin")
    if program is None:
        pytest.skip(f"{name} is not installed")
    conf = directory / "conf"
    conf.write_text((RSYSLOG if name == "rsyslogd" else SYSLOG_NG).format(port=port, directory=directory))
    if name == "rsyslogd":
        return [program, "-n", "-f", str(conf), "-i", str(directory / "pid")]
    files = {"-f": "conf", "-R": "persist", "-p": "pid", "-c": "control"}
    return [program, "-F", "--no-caps", *(word for key, file in files.items() for word in (key, str(directory / file)))]


@pytest.fixture(params=["rsyslogd", "syslog-ng"])
def syslogd(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[int, Callable[[], list[str]]]]:
    """A real one; the port, and what it has written so far: program and message."""
    port = _free_for_both()
    command = _daemon(request.param, tmp_path, port)
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    written = tmp_path / "told"
    try:
        wait_for((tmp_path / "log").exists, "the daemon's socket")
        yield port, lambda: written.read_text().splitlines() if written.exists() else []
    finally:
        process.terminate()
        process.wait(10)


@pytest.mark.parametrize("scheme", ["udp", "tcp", "unix"])
def test_a_real_syslog_daemon_gets_every_line_of_a_burst_under_the_jobs_name(
    tmp_path: Path, syslogd: tuple[int, Callable[[], list[str]]], scheme: str
) -> None:
    port, told = syslogd
    lines = [f"line {n} of a burst" for n in range(3000)]
    address = f"unix://{tmp_path}/log" if scheme == "unix" else f"{scheme}://127.0.0.1:{port}"

    async def scene() -> None:
        sink = Syslog(address, "web")
        for batch in batches(lines):
            while True:
                with contextlib.suppress(SinkUnavailable):  # it listens in a moment
                    await sink.send(batch)
                    break
                await asyncio.sleep(0.05)
        await sink.close()

    asyncio.run(scene())
    wait_for(lambda: len(told()) >= len(lines), "all lines")
    # A message over a local socket keeps the space that is behind the tag, as logger's does.
    assert sorted(line.split() for line in told()) == sorted(f"job {line}".split() for line in lines)


@contextlib.contextmanager
def accepting(address: str | tuple[str, int]) -> Iterator[tuple[socket.socket, list[bytes]]]:
    """A server that reads every connection to its end; what each has brought."""
    server = socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET, socket.SOCK_STREAM)
    server.bind(address)
    server.listen()
    brought: list[bytes] = []

    def one(sock: socket.socket) -> bytes:
        connection, _ = sock.accept()
        connection.settimeout(20)
        with connection:
            data = b""
            while part := connection.recv(1 << 16):
                data += part
                if data.endswith(b"hang up"):
                    break
        brought.append(data)
        return data

    receiver = Receiver(server, one)
    try:
        yield server, brought
    finally:
        receiver.close()


def test_syslog_over_tcp_counts_octets() -> None:
    with accepting(("127.0.0.1", 0)) as (server, brought):
        asyncio.run(send_all(Syslog(f"tcp://127.0.0.1:{server.getsockname()[1]}", "web"), LINES))
        wait_for(lambda: brought, "the connection's end")
    assert texts(counted(brought[0])) == LINES


def test_syslog_over_tcp_connects_again_when_the_server_has_hung_up() -> None:
    async def scene(port: int, brought: list[bytes]) -> None:
        sink = Syslog(f"tcp://127.0.0.1:{port}", "web")
        with contextlib.suppress(SinkUnavailable):
            await sink.send(batches(["first", "hang up"])[0])
        await asyncio.to_thread(wait_for, lambda: brought, "the hang-up")
        await sink.send(batches(["second"])[0])
        await sink.close()
        await asyncio.to_thread(wait_for, lambda: len(brought) == 2, "the second connection")

    with accepting(("127.0.0.1", 0)) as (server, brought):
        asyncio.run(scene(server.getsockname()[1], brought))
    assert [texts(counted(data)) for data in brought] == [["first", "hang up"], ["second"]]


@pytest.mark.parametrize("kind", ["tcp", "unix"])
@pytest.mark.parametrize("lines", [10, 4000], ids=["while it waits to be read", "while it is sending"])
@pytest.mark.parametrize("close", ["at once", "half"])
def test_a_hang_up_is_seen_at_once_whatever_else_is_waited_for(
    tmp_path: Path, kind: str, lines: int, close: str
) -> None:
    """The server is restarted while it has not read what is under way."""
    server = socket.socket(socket.AF_UNIX if kind == "unix" else socket.AF_INET, socket.SOCK_STREAM)
    server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    server.bind(str(tmp_path / "log") if kind == "unix" else ("127.0.0.1", 0))
    server.listen()
    url = f"unix://{tmp_path}/log" if kind == "unix" else f"tcp://127.0.0.1:{server.getsockname()[1]}"

    async def scene() -> None:
        sink = Syslog(url, "web")
        sending = asyncio.create_task(sink.send(batches(["x" * 6000] * lines, lines)[0]))
        connection, _ = await asyncio.to_thread(server.accept)
        await asyncio.sleep(0.3)
        assert not sending.done(), "the server has read nothing"
        began = time.monotonic()
        if close == "half":
            connection.shutdown(socket.SHUT_WR)
        else:
            connection.close()
        with pytest.raises(SinkUnavailable):
            await sending
        assert time.monotonic() - began < 10
        sending = asyncio.create_task(sink.send(batches(["after it"])[0]))
        fresh, _ = await asyncio.to_thread(server.accept)
        assert b"after it" in await asyncio.to_thread(fresh.recv, 1 << 16)
        await sending
        for sock in (fresh, connection):
            sock.close()
        await sink.close()

    with server:
        asyncio.run(scene())


@pytest.mark.parametrize("scheme", ["udp", "tcp"])
def test_syslog_that_nobody_serves_is_unavailable(scheme: str) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM if scheme == "udp" else socket.SOCK_STREAM) as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        taken.close()

    async def scene() -> None:
        sink = Syslog(f"{scheme}://127.0.0.1:{port}", "web")
        with pytest.raises(SinkUnavailable, match=r"\[output.syslog\] address"):
            await sink.send(batches(["lost"])[0])
        await sink.close()

    asyncio.run(scene())


def test_no_event_of_a_sink_is_longer_than_its_message() -> None:
    assert Syslog.limits.event_bytes + 1000 < MESSAGE_BYTES
    assert len(SPLIT_MARK) < 64


def test_a_standard_output_that_nobody_reads_keeps_no_process_from_ending() -> None:
    reader, writer = os.pipe()

    async def scene() -> None:
        sink = Stdout(writer)
        sending = asyncio.create_task(sink.send(batches(["x" * 60_000] * 10)[0]))
        await asyncio.sleep(0)
        await sink.close()
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)

    asyncio.run(scene())
    threads = [thread for thread in threading.enumerate() if thread.name == "stdout"]
    assert all(thread.daemon for thread in threads)
    os.close(reader)
    for thread in threads:
        thread.join(5)
    os.close(writer)
