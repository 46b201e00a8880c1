"""Changes of ``[run] user`` and ``allowed_users`` reach a supervisor that runs: it outlives the agent."""

from __future__ import annotations

import json
import os
import signal
import socket
import struct
import time
from typing import TYPE_CHECKING

import pytest
from supervising import bare_supervisor, gone, listens, until

from runner.supervisor.wire import PROTOCOL

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: only root can run jobs as somebody else")

ALLOWED = "fds: must be 1, the spool file"  # what a start without one is told once its user was accepted


class Rules:
    """A supervisor with a configuration file, asked by connections of their own."""

    def __init__(self, directory: Path) -> None:
        self.config = directory / "config.toml"
        self.write("nobody", "daemon")
        self.process, self.path = bare_supervisor(directory, "--config", str(self.config), env={})

    def write(self, user: str, *allowed: str) -> None:
        self.replace(f'group = "x"\n[run]\nuser = "{user}"\nallowed_users = {list(allowed)}\n')

    def replace(self, text: str) -> None:
        new = self.config.with_suffix(".new")
        new.write_text(text)
        new.chmod(0o644)
        new.rename(self.config)

    def ask(self, **message: object) -> dict[str, object]:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(20)
            sock.connect(str(self.path))
            hello = ask(sock, {"op": "hello", "protocol": PROTOCOL})
            return ask(sock, message) if message else hello

    def start(self, user: str) -> str:
        """What a start that names ``user`` is told."""
        return str(self.ask(op="start", key="a/1", argv=["true"], user=user)["error"])

    def faulty(self, reason: str) -> None:
        """Only the default user is in force, and everybody is told why."""
        assert reason in self.start("daemon")
        assert self.start("") == self.start("nobody") == ALLOWED
        hello = self.ask()
        assert hello["default_user"] == "nobody"
        assert any(reason in warning for warning in hello["warnings"])  # type: ignore[attr-defined]

    def sound(self) -> None:
        assert self.start("daemon") == ALLOWED
        assert not any("config.toml" in warning for warning in self.ask()["warnings"])  # type: ignore[attr-defined]


def ask(sock: socket.socket, message: dict[str, object]) -> dict[str, object]:
    body = json.dumps({"id": 1, **message}).encode()
    sock.sendall(struct.pack(">I", len(body)) + body)
    size = struct.unpack(">I", sock.recv(4, socket.MSG_WAITALL))[0]
    answer: dict[str, object] = json.loads(sock.recv(size, socket.MSG_WAITALL))
    return answer


@pytest.fixture
def rules(tmp_path: Path) -> Iterator[Rules]:
    found = Rules(tmp_path)
    yield found
    found.process.terminate()
    assert found.process.wait(20) == 0


def test_a_user_is_added_and_taken_out(rules: Rules) -> None:
    assert "allowed_users" in rules.start("bin")
    rules.write("nobody", "daemon", "bin")
    assert rules.start("bin") == rules.start("daemon") == ALLOWED
    rules.write("nobody", "bin")
    assert "allowed_users" in rules.start("daemon")
    assert rules.start("bin") == ALLOWED


def test_a_change_in_place_of_the_same_length(rules: Rules) -> None:
    """Within one tick of the file's clock as well: at the latest a second after."""
    text = rules.config.read_text()
    assert rules.start("daemon") == ALLOWED
    rules.config.write_text(text.replace("daemon", "games_"))
    rules.config.write_text(text.replace("daemon", "backup"))
    until(lambda: rules.start("backup") == ALLOWED, "the last text to be in force")
    assert "allowed_users" in rules.start("daemon")


def test_another_default_user(rules: Rules) -> None:
    assert rules.ask()["default_user"] == "nobody"
    rules.write("daemon")
    assert rules.ask()["default_user"] == "daemon"
    assert rules.start("") == ALLOWED
    assert "allowed_users" in rules.start("nobody")


def test_a_file_that_others_may_write(rules: Rules) -> None:
    rules.config.chmod(0o664)
    rules.faulty("cannot trust")
    rules.config.chmod(0o644)
    rules.sound()
    os.chown(rules.config, 65534, 0)
    rules.faulty("cannot trust")
    os.chown(rules.config, 0, 0)
    rules.sound()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[run\n", "cannot read"),
        ("[run]\nallowed_users = 5\n", "must be a list"),
        ('[run]\nuser = ["a"]\n', "a text in quotes"),
    ],
)
def test_a_file_that_is_broken(rules: Rules, text: str, reason: str) -> None:
    rules.replace(text)
    rules.faulty(reason)
    rules.write("nobody", "daemon")
    rules.sound()


def test_a_file_that_is_gone_or_no_file(rules: Rules) -> None:
    rules.config.unlink()
    rules.faulty("it is gone")
    rules.config.mkdir()
    rules.faulty("cannot")
    rules.config.rmdir()
    os.mkfifo(rules.config)
    began = time.monotonic()
    rules.faulty("cannot trust")
    assert time.monotonic() - began < 10
    rules.config.unlink()
    rules.write("nobody", "daemon")
    rules.sound()


def test_self_replacement_with_a_broken_file(rules: Rules) -> None:
    """The successor has jobs to look after: it goes on with the default user that was in force."""
    instance = rules.ask()["instance"]
    rules.replace("[run\n")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(rules.path))
        ask(sock, {"op": "hello", "protocol": PROTOCOL})
        rules.process.send_signal(signal.SIGHUP)
        assert sock.recv(1) == b"", "connections are dropped by the replacement"
    until(lambda: listens(rules.path), "the successor")
    rules.faulty("cannot read")
    assert rules.ask()["instance"] == instance
    rules.write("nobody", "daemon")
    rules.sound()


def test_a_file_that_comes_later(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    process, path = bare_supervisor(tmp_path, "--config", str(config), "--linger", "5", env={})
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(path))
        ask(sock, {"op": "hello", "protocol": PROTOCOL})
        config.write_text('[run]\nuser = "daemon"\n')
        assert ask(sock, {"op": "hello", "protocol": PROTOCOL})["default_user"] == "daemon"
    assert process.wait(20) == 0
    gone(process.pid)


def test_nobody_is_lent_more_of_the_processor_than_the_host_allows(rules: Rules) -> None:
    """Root could give any nice to a job of anybody: the supervisor's own rules decide, whatever the agent asks for."""

    def told(nice: int) -> str:
        return str(rules.ask(op="start", key="a/1", argv=["true"], user="nobody", nice=nice)["error"])

    for nice in (-20, -1):
        assert "[run] min_nice" in told(nice)
    assert told(0) == told(19) == ALLOWED
    rules.replace('[run]\nuser = "nobody"\nallowed_users = []\nmin_nice = -5\n')
    assert "[run] min_nice" in told(-6)
    assert told(-5) == ALLOWED
    rules.replace('[run]\nuser = "nobody"\nmin_nice = -5\nwhat\n')
    assert "0 is the least" in told(-5), "while the file cannot be read, nothing is lent"
    rules.replace('[run]\nuser = "nobody"\nmin_nice = 3\n')
    assert "3 is the least" in told(2)
