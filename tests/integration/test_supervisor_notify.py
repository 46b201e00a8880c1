"""What the supervisor tells systemd, on a socket of the test's."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from typing import TYPE_CHECKING

import pytest
from supervising import Witness, bare_supervisor, until

from runner.agent.supervision.launch import Finder
from runner.errors import SupervisorUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "notify"))
        sock.settimeout(30)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        yield sock


def heard(sock: socket.socket) -> dict[str, str]:
    """The next notification."""
    return dict(line.partition("=")[::2] for line in sock.recv(4096).decode().splitlines())


def test_ready_means_that_it_listens(tmp_path: Path, systemd: socket.socket) -> None:
    process, path = bare_supervisor(tmp_path, env=os.environ)
    said = heard(systemd)
    assert said["READY"] == "1"
    assert "jobs in" in said["STATUS"]
    assert path.exists()
    process.send_signal(signal.SIGHUP)
    assert heard(systemd)["READY"] == "1", "the new code is ready too"
    process.send_signal(signal.SIGTERM)
    assert heard(systemd)["STOPPING"] == "1"
    assert process.wait(30) == 0


async def test_a_stop_asks_for_the_longest_grace(tmp_path: Path, systemd: socket.socket) -> None:
    # The unit's own process: one that an agent starts is not the service that systemd watches.
    runtime = tmp_path / "run"
    runtime.mkdir()
    process, _ = bare_supervisor(runtime, env=os.environ)
    witness = Witness(tmp_path)
    await witness.connect()
    assert witness.hello.pid == process.pid
    assert heard(systemd)["READY"] == "1"
    slow = "trap '' TERM; echo up; while :; do sleep 0.02; done"
    for grace in (50.0, 2.0):
        job = await witness.start("sh", "-c", slow, grace=grace)
        await witness.output_has(job.key, "up")
    os.kill(witness.hello.pid, signal.SIGTERM)
    try:
        seconds = int(heard(systemd)["EXTEND_TIMEOUT_USEC"]) / 1e6
        assert 50 < seconds < 120
    finally:
        process.kill()
        process.wait()
        for pid in witness.left():
            with contextlib.suppress(ProcessLookupError):  # a sleep that has ended meanwhile
                os.kill(pid, signal.SIGKILL)
        until(lambda: not witness.left(), "the jobs are gone")
        await witness.link.close()


def test_where_the_companion_unit_is_down_no_other_supervisor_is_started(tmp_path: Path) -> None:
    """It would be the agent's own child, and run jobs as the agent's user, in the agent's sandbox."""
    runtime = tmp_path / "run"
    (tmp_path / "run-supervisor").mkdir()
    with pytest.raises(SupervisorUnavailable, match=r"run-supervisor/supervisor\.sock: No such file"):
        Finder(runtime, None, (), 30.0).open()
    assert not runtime.exists()


def test_a_supervisor_that_cannot_be_executed_is_told_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "venv" / "bin" / "python3"  # an upgrade has replaced it, or this user may not reach it
    monkeypatch.setattr("sys.executable", str(gone))
    with pytest.raises(SupervisorUnavailable, match=f"^cannot start a supervisor: {gone}: No such file .*; install"):
        Finder(tmp_path / "run", None, (), 0.0).open()
