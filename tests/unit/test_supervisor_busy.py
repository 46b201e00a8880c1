"""What the supervisor does differently while much is asked of it at once."""

from __future__ import annotations

import itertools
import socket
from typing import TYPE_CHECKING, Any

import pytest

from runner.supervisor import clients
from runner.supervisor.clients import Clients
from runner.supervisor.loop import Loop
from runner.supervisor.starting import stepping
from runner.supervisor.starting.stepping import Stepping
from runner.supervisor.wire import Connection, encode

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Office:
    """The listening side, which notes what it answers."""

    def __init__(self, path: Path) -> None:
        self.loop = Loop()
        self.done: list[str] = []
        self.gone: list[int] = []
        self.path = str(path / "sock")
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(self.path)
        self.listener.listen()
        self.clients = Clients(self.loop, self.listener, self.answer, lambda _client: self.gone.append(len(self.done)))

    def answer(self, client: Connection, message: dict[str, Any], _fds: list[int]) -> None:
        self.done.append(message["op"])
        if message["op"] == "broken":
            raise LookupError(message["op"])
        self.clients.tell(client, {"did": message["op"]})

    def ask(self, *operations: str) -> socket.socket:
        """A new client, which has asked for all that."""
        asking = socket.socket(socket.AF_UNIX)
        asking.connect(self.path)
        asking.sendall(b"".join(encode({"op": name}) for name in operations))
        self.turn()
        return asking

    def turn(self) -> None:
        """Never waits: the tests only turn it while something is due."""
        self.loop.soon(lambda: None)
        self.loop.turn()
        self.clients.flush()


@pytest.fixture
def office(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Office]:
    monkeypatch.setattr(clients, "_SLICE", 0.0)  # every request is one that takes long
    made = Office(tmp_path)
    yield made
    for client in list(made.clients._connected.values()):  # noqa: SLF001
        made.clients.drop(client)
    made.listener.close()


def test_an_answer_does_not_wait_for_all_that_was_asked_with_it(office: Office) -> None:
    with office.ask("1", "2", "3") as asking:
        asking.setblocking(False)
        for count in (1, 2, 3):
            office.turn()
            assert len(office.done) == count
            assert asking.recv(1000) == encode({"did": str(count)})
        office.turn()
        assert office.done == ["1", "2", "3"]


def test_others_and_timers_have_their_turn_meanwhile(office: Office) -> None:
    with office.ask("a1", "a2", "a3"), office.ask("b1", "b2", "b3"):
        for _ in range(4):
            office.turn()
            office.loop.at(0, lambda: office.done.append("timer"))
    assert office.done.index("b1") < office.done.index("a3")
    assert office.done.index("timer") < office.done.index("b3")


def test_what_was_asked_before_the_client_went_is_done(office: Office) -> None:
    office.ask("1", "2", "3").close()
    for _ in range(8):
        office.turn()
    assert office.done == ["1", "2", "3"]
    assert office.gone == [3], "it is known to be gone when all is done"


def test_a_fault_in_one_request_leaves_those_behind_it(office: Office, capsys: pytest.CaptureFixture[str]) -> None:
    with office.ask("broken", "2"):
        for _ in range(3):
            office.turn()
    assert office.done == ["broken", "2"]
    assert "LookupError" in capsys.readouterr().err


class Clock:
    """Stands until it is moved."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(stepping, "now", lambda: self.now)


def test_stepping_is_for_many_starts_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    moves = tmp_path / "cgroup.procs"
    moves.touch()
    clock = Clock(monkeypatch)
    loop = Loop()
    found = Stepping(loop, str(tmp_path))
    for _ in range(15):
        assert not found.wanted()
        clock.now += 0.1
    assert not found.wanted(), "16 starts, but in 1.5 s"
    assert moves.read_text() == ""
    clock.now = 2000.0
    answers = [found.wanted() for _ in range(17)]
    assert answers == [False] * 15 + [True] * 2, "as soon as the last 16 are within a quarter of a second"
    assert moves.read_text() == "0", "the one that waits"
    for moment, expected in ((0.004, "0"), (0.008, "00"), (0.016, "000")):
        clock.now = 2000.0 + moment
        found._keep()  # noqa: SLF001 - as the timer does
        assert moves.read_text() == expected
    clock.now += 0.3
    found._keep()  # noqa: SLF001
    assert moves.read_text() == "000"
    assert not found.wanted(), "a pause ends it"


def test_without_the_right_to_move_nothing_steps(tmp_path: Path) -> None:
    (tmp_path / "cgroup.procs").symlink_to("/dev/full")
    found = Stepping(Loop(), str(tmp_path))
    assert not any(found.wanted() for _ in range(40))


def test_what_is_put_off_runs_in_the_next_turn() -> None:
    loop = Loop()
    count = itertools.count()
    ran: list[int] = []

    def again() -> None:
        ran.append(next(count))
        loop.soon(again)

    loop.soon(again)
    for turns in (1, 2, 3):
        loop.turn()
        assert len(ran) == turns
