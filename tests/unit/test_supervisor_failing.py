"""What the supervisor does where the system refuses what it asks for."""

from __future__ import annotations

import errno
import os
import signal
import socket
import sys
from typing import TYPE_CHECKING, Any

import pytest

from runner.supervisor import capture as capture_module
from runner.supervisor import libc, loop
from runner.supervisor.capture import Capture
from runner.supervisor.loop import Loop
from runner.supervisor.placing import cgroup
from runner.supervisor.placing.delegation import Delegation
from runner.supervisor.request import StartRequest
from runner.supervisor.run import Run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


class Clock:
    """Stands until it is moved."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(loop, "now", lambda: self.now)


def failing(number: int) -> Callable[..., Any]:
    def fail(*_given: object, **_named: object) -> None:
        raise OSError(number, os.strerror(number))

    return fail


@pytest.fixture
def faults(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    found: list[object] = []
    monkeypatch.setattr(sys, "excepthook", lambda *fault: found.append(fault))
    return found


# -- the loop


def test_what_fails_for_ever_rests_and_is_listened_to_again(
    monkeypatch: pytest.MonkeyPatch, faults: list[object]
) -> None:
    clock = Clock(monkeypatch)
    turning = Loop()
    ours, theirs = socket.socketpair()
    healthy: list[bytes] = []

    def handle(_events: int) -> None:
        if len(faults) < 1000:
            raise LookupError
        healthy.append(ours.recv(10))

    with ours, theirs:
        turning.watch(ours.fileno(), 1, handle)
        theirs.send(b"x")
        for _ in range(300):
            turning.at(clock.now, lambda: None)
            turning.turn()
        assert len(faults) == loop.FAULTS + 1, "it does not take all the time"
        for count in range(1, 4):
            clock.now += loop.REST
            turning.turn()
            turning.at(clock.now, lambda: None)
            turning.turn()
            assert len(faults) == loop.FAULTS + 1 + count, "and is tried again"
        faults += [None] * 1000
        clock.now += loop.REST
        turning.turn()
        turning.at(clock.now, lambda: None)
        turning.turn()
        assert healthy == [b"x"]


def test_faults_that_are_over_do_not_count(monkeypatch: pytest.MonkeyPatch, faults: list[object]) -> None:
    Clock(monkeypatch)
    turning = Loop()
    ours, theirs = socket.socketpair()
    heard: list[bytes] = []

    def handle(_events: int) -> None:
        heard.append(ours.recv(1))
        if len(heard) % 2:
            raise LookupError

    with ours, theirs:
        turning.watch(ours.fileno(), 1, handle)
        for _ in range(1000):
            theirs.send(b"x")
            turning.soon(lambda: None)
            turning.turn()
    assert (len(heard), len(faults)) == (1000, 500)


# -- output


class Spool:
    """A capture on a real file, fed through a real pipe."""

    def __init__(self, path: Path, max_bytes: int) -> None:
        ours, self.theirs = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self.path = path
        self.capture = Capture(ours, os.open(path, os.O_RDWR | os.O_CREAT, 0o600), max_bytes)
        self.written = b""

    def write(self, data: bytes) -> None:
        for start in range(0, len(data), 30000):
            os.write(self.theirs, data[start : start + 30000])
            assert self.capture.take()
        self.written += data

    def end(self) -> bytes:
        os.close(self.theirs)
        assert not self.capture.take()
        while not self.capture.settle(50_000):
            pass
        self.capture.finish()
        return self.path.read_bytes()


def numbered(size: int) -> bytes:
    return b"".join(b"%07d\n" % number for number in range(size // 8))


REFUSALS = (errno.EROFS, errno.ESTALE, errno.ENODEV, errno.EPERM, errno.ENOTCONN, errno.ENOSPC, errno.EIO, errno.EINTR)


@pytest.mark.parametrize("number", REFUSALS)
def test_whatever_the_disk_says_the_pipe_stays_open_and_all_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    spool = Spool(tmp_path / "spool", 1 << 20)
    spool.write(b"before\n")
    with monkeypatch.context() as broken:
        broken.setattr(os, "splice", failing(number))
        broken.setattr(os, "pwrite", failing(number))
        spool.write(b"lost\n")
    assert spool.capture.pipe >= 0
    spool.write(b"after\n")
    assert spool.end() == b"before\nafter\n"
    assert (spool.capture.offset, spool.capture.refused) == (13, 5)


def test_a_pipe_that_cannot_be_read_for_a_moment_is_not_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = Spool(tmp_path / "spool", 1 << 20)
    os.write(spool.theirs, b"text")
    with monkeypatch.context() as broken:
        broken.setattr(os, "splice", failing(errno.ENOMEM))
        broken.setattr(os, "read", failing(errno.ENOMEM))
        with pytest.raises(OSError, match="memory"):
            spool.capture.take()
    assert spool.end() == b"text"


@pytest.mark.parametrize("splices", [True, False])
@pytest.mark.parametrize("size", [200_000, 216_392, 300_000, 400_000, 1_000_000, 1_234_560])
def test_head_and_tail_are_kept_without_holes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int, splices: bool
) -> None:
    most = 200_001
    monkeypatch.setattr(libc, "punch_hole", failing(errno.EOPNOTSUPP))
    if not splices:
        monkeypatch.setattr(os, "splice", failing(errno.EINVAL))
    spool = Spool(tmp_path / "spool", most)
    spool.write(numbered(size))
    found, gap = spool.end(), spool.capture.gap
    assert len(found) == size == spool.capture.offset
    head, tail = most // 2, most - most // 2
    assert gap == (None if size <= most else (head, size - tail))
    assert found[: head if gap else size] == spool.written[: head if gap else size]
    assert found[size - tail :] == spool.written[size - tail :]
    assert (tmp_path / "spool").stat().st_blocks * 512 < head + 2 * tail + 100_000, "and the disk holds no more"


def test_a_ring_goes_on_after_self_replacement(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libc, "punch_hole", failing(errno.EOPNOTSUPP))
    spool = Spool(tmp_path / "spool", 200_000)
    spool.write(numbered(500_000))
    spool.capture = Capture.restored(spool.capture.state(), spool.capture.ring)
    spool.write(numbered(80_000))
    found = spool.end()
    assert found[-100_000:] == spool.written[-100_000:]
    assert spool.capture.gap == (100_000, 480_000)


def test_a_state_from_before_the_ring_begins_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libc, "punch_hole", failing(errno.EOPNOTSUPP))
    spool = Spool(tmp_path / "spool", 200_000)
    pipe, file = spool.capture.pipe, spool.capture.file
    spool.capture = Capture.restored([pipe, file, 200_000, 400_000, 0, 100_000, 230_000])
    spool.write(numbered(40_000))
    found = spool.end()
    assert spool.capture.gap == (100_000, 400_000), "what had been given up before stays so"
    assert found[400_000:] == spool.written


def test_a_ring_that_the_disk_has_no_room_to_lay_out_keeps_the_latest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(libc, "punch_hole", failing(errno.EOPNOTSUPP))
    spool = Spool(tmp_path / "spool", 400_000)
    spool.write(numbered(800_000))
    real, room = os.pwrite, 100_000

    def pwrite(fd: int, data: bytes, offset: int) -> int:
        nonlocal room
        room -= len(data)
        return real(fd, data, offset) if room >= 0 else int(failing(errno.ENOSPC)())

    monkeypatch.setattr(os, "pwrite", pwrite)
    found, gap = spool.end(), spool.capture.gap
    assert gap is not None
    assert 600_000 < gap[1] < 740_000
    assert found[gap[1] :] == spool.written[gap[1] :]


def test_an_error_of_close_closes_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = Spool(tmp_path / "spool", 1 << 20)
    spool.write(b"text")
    real, closed = os.close, list[int]()

    def close(fd: int) -> None:
        closed.append(fd)
        real(fd)
        failing(errno.EDQUOT)()

    os.close(spool.theirs)
    monkeypatch.setattr(os, "close", close)
    with pytest.raises(OSError, match="quota"):
        spool.capture.finish()
    spool.capture.finish()
    assert len(closed) == len(set(closed)) == 2
    assert (spool.capture.pipe, spool.capture.file) == (-1, -1)


# -- the run


class Place:
    """Where nothing is, and killing fails as long as it is told to."""

    def __init__(self) -> None:
        self.main, self.kills, self.broken, self.left = 0, 0, False, True

    def started(self, pid: int) -> None:
        self.main = pid

    def _try(self) -> None:
        if self.broken:
            failing(errno.EMFILE)()

    def gone(self) -> bool:
        self._try()
        return not self.main and not self.left

    def kill(self) -> None:
        self.kills += 1
        self._try()
        self.left = False

    def signal(self, _number: int) -> int:
        self._try()
        return int(self.left)

    def count(self) -> int:
        self._try()
        return int(self.left)

    def account(self) -> dict[str, float]:
        return {}

    def oom(self) -> bool:
        return False

    def remove(self) -> None: ...


class Host:
    """A loop on a clock of its own, and the ends of runs."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
        self.clock = Clock(monkeypatch)
        monkeypatch.setattr("runner.supervisor.run.now", lambda: self.clock.now)
        monkeypatch.setattr(os, "killpg", lambda *given: self.signals.append(given[1]))
        self.loop, self.ends, self.signals = Loop(), list[Run](), list[int]()
        spool = Spool(path / "spool", 1 << 20)
        os.close(spool.theirs)
        self.place = Place()
        request = StartRequest({"key": "k/1", "argv": ["x"], "timeout": 3.0, "grace": 1.0})
        self.run = Run(request, "agent", self, self.place, spool.capture)
        self.run.begin(1 << 30)

    def discard(self, _run: Run, pipe: int) -> None:
        os.close(pipe)

    def began(self, run: Run) -> None: ...

    def grew(self, run: Run) -> None: ...

    def ended(self, run: Run) -> None:
        self.ends.append(run)

    def turn(self, seconds: float) -> None:
        """So long goes by, in steps of 10 ms."""
        for _ in range(round(seconds * 100)):
            self.clock.now += 0.01
            self.loop.soon(lambda: None)
            self.loop.turn()

    def reap(self) -> None:
        self.run.main_ended(9, type("Usage", (), {"ru_utime": 0.0, "ru_stime": 0.0, "ru_maxrss": 0})())


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Host]:
    made = Host(monkeypatch, tmp_path)
    yield made
    made.run.capture.finish()


def test_a_kill_that_fails_is_tried_until_nothing_is_left(host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    host.place.broken = True
    host.turn(11)  # the timeout, the grace, and 7 s without a descriptor
    assert host.place.kills > 50
    assert host.signals.count(signal.SIGKILL) > 50, "which needs no descriptor"
    host.place.broken = False
    host.turn(0.2)
    host.reap()
    host.turn(0.2)
    assert len(host.ends) == 1
    assert host.run.record is not None
    assert host.run.record["cause"] == "timeout"
    assert "Too many open files" in host.run.record["faults"][0]
    assert len(capsys.readouterr().err.splitlines()) == 1, "said once"


def test_a_look_that_fails_is_made_again(host: Host) -> None:
    host.place.broken = True
    host.reap()
    host.turn(0.5)
    assert not host.ends
    host.place.broken, host.place.left = False, False
    host.turn(0.2)
    assert len(host.ends) == 1


def test_a_stop_of_a_run_that_is_being_killed_looks_at_once(host: Host) -> None:
    host.turn(4.2)
    host.place.broken = True
    host.turn(1)
    before = host.place.kills
    host.run.stop("cancel", "", 10.0)
    host.turn(0.01)
    assert host.place.kills == before + 1


def test_an_end_whose_output_cannot_be_closed_is_an_end(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    host.place.left = False
    real = os.close
    file = host.run.capture.file

    def close(fd: int) -> None:
        real(fd)
        if fd == file:
            failing(errno.EIO)()

    monkeypatch.setattr(capture_module.os, "close", close)
    host.reap()
    assert len(host.ends) == 1
    assert host.run.record is not None
    assert host.run.record["faults"] == ["close its output: [Errno 5] Input/output error"]


# -- cgroups of what was left behind


def test_empty_cgroups_are_taken_away_in_slices(tmp_path: Path) -> None:
    placement = cgroup.CgroupPlacement(Delegation(str(tmp_path), str(tmp_path), temporary=False))
    for number in range(250):
        (tmp_path / f"keep-1-{number}").mkdir()
    full = tmp_path / "keep-1-7"
    (full / "cgroup.events").write_text("populated 1\n")
    placement.clear(set())
    assert placement.left == 250, "as after self-replacement"
    place = placement.make(keep=True)
    assert placement.left == 250, "a start has no part in it"
    place.remove()
    for expected in (151, 51, 1, 1):
        placement.sweep()
        assert placement.left == expected
    (full / "cgroup.events").unlink()
    placement.sweep()
    assert (placement.left, list(tmp_path.iterdir())) == (0, [])


def test_a_cgroup_that_cannot_be_read_is_not_taken_for_empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    placement = cgroup.CgroupPlacement(Delegation(str(tmp_path), str(tmp_path), temporary=False))
    place = placement.make(keep=False)
    (tmp_path / place.path / "cgroup.events").write_text("populated 1\n")
    assert not place.gone()
    monkeypatch.setattr(os, "open", failing(errno.EMFILE))
    with pytest.raises(OSError, match="open files"):
        place.gone()
