"""As whom jobs run. A supervisor that is root needs root to be tested; one that is not, is tested as `nobody`."""

from __future__ import annotations

import json
import os
import shutil
import socket
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from supervising import ROOT, Witness, bare_supervisor, gone, listens, own_command, until

from runner.agent.supervision.connection import StartRefused

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: only root can run jobs as somebody else")

IDENTITY = "id -u; id -g; id -G; echo $HOME $USER $LOGNAME $SHELL"


async def test_a_job_runs_as_another_user(host: Witness) -> None:
    record, output = await host.run("sh", "-c", f"{IDENTITY}; echo again >/dev/stdout; ls /root", user="nobody")
    lines = output.splitlines()
    assert lines[:3] == ["65534", "65534", "65534"]
    assert lines[3].split()[1:3] == ["nobody", "nobody"]
    assert lines[4] == "again", "its output's pipe is its own"
    assert "ermission denied" in lines[5]
    assert record.exit_code != 0


async def test_a_cwd_that_the_user_may_not_enter(host: Witness, tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    tmp_path.chmod(0o755)
    started = await host.start("true", user="nobody", cwd=str(closed))
    assert started.exit is not None
    assert started.exit.start_error is not None
    assert "Permission denied" in started.exit.start_error[1]


async def test_env_files_are_read_as_the_user(host: Witness, tmp_path: Path) -> None:
    secret = tmp_path / "root.env"
    secret.write_text("A=1\n")
    secret.chmod(0o600)
    started = await host.start("true", user="nobody", env_files=(str(secret),))
    assert started.exit is not None
    assert started.exit.start_error is not None
    assert "Permission denied" in started.exit.start_error[1]


async def test_users_and_groups_that_are_not_allowed(host: Witness) -> None:
    for user, text in (("daemon", "allowed_users"), ("no-such-user", "allowed_users")):
        with pytest.raises(StartRefused, match=text) as refused:
            await host.start("true", user=user)
        assert refused.value.code == "user"
    with pytest.raises(StartRefused, match="not a member"):
        await host.start("true", user="nobody", group="daemon")
    _, output = await host.run("id", "-g", group="daemon")
    assert output == "1\n", "root may use any group"


async def test_root_only_if_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRON_RUNNER_RUN__USER", "nobody")
    monkeypatch.setenv("CRON_RUNNER_RUN__ALLOWED_USERS", "")
    witness = Witness(tmp_path)
    hello = await witness.connect()
    try:
        assert hello.default_user == "nobody"
        with pytest.raises(StartRefused, match="'root'"):
            await witness.start("true", user="root")
        assert (await witness.run("id", "-u"))[1] == "65534\n"
    finally:
        await witness.link.close()
        witness.stop()


async def test_without_a_user_the_default_must_exist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRON_RUNNER_RUN__USER", "no-such-user")
    witness = Witness(tmp_path)
    hello = await witness.connect()
    try:
        assert hello.default_user is None
        assert hello.default_user_error is not None
        assert "no such user" in hello.default_user_error
        with pytest.raises(StartRefused, match="no such user"):
            await witness.start("true")
    finally:
        await witness.link.close()
        witness.stop()


def test_a_configuration_that_others_can_write_is_refused(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text('[run]\nuser = "root"\n')
    for mode, uid in ((0o666, 0), (0o644, 65534)):
        config.chmod(mode)
        os.chown(config, uid, 0)
        said = subprocess.run(
            own_command(tmp_path / "s.sock", "--config", str(config)),
            capture_output=True, text=True, timeout=20, check=False, env={},
        )  # fmt: skip
        assert said.returncode == 78
        assert "cannot trust" in said.stderr


def test_the_configuration_names_the_users(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text('group = "x"\n[run]\nuser = "nobody"\nallowed_users = ["daemon"]\n')
    process, path = bare_supervisor(tmp_path, "--config", str(config), "--linger", "5", env={})
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(path))
        assert ask(sock, {"op": "hello", "protocol": 1})["default_user"] == "nobody"
        answer = ask(sock, {"op": "start", "key": "a/1", "argv": ["true"], "user": "root"})
        assert answer["code"] == "user"
        answer = ask(sock, {"op": "start", "key": "a/1", "argv": ["true"], "user": "daemon"})
        assert answer["error"] == "fds: must be 1, the spool file"
        rss = next(line for line in Path(f"/proc/{process.pid}/status").read_text().splitlines() if "VmRSS" in line)
        assert int(rss.split()[1]) < 15 * 1024
    assert process.wait(20) == 0


def ask(sock: socket.socket, message: dict[str, object]) -> dict[str, object]:
    body = json.dumps({"id": 1, **message}).encode()
    sock.sendall(struct.pack(">I", len(body)) + body)
    size = struct.unpack(">I", sock.recv(4, socket.MSG_WAITALL))[0]
    answer: dict[str, object] = json.loads(sock.recv(size, socket.MSG_WAITALL))
    return answer


AS_PEER = """
import os, socket, struct, json, sys
os.setgroups([]); os.setgid(65534); os.setuid(65534)
sock = socket.socket(socket.AF_UNIX); sock.connect(sys.argv[1])
body = json.dumps({"op": "hello", "protocol": 1, "id": 1}).encode()
try:
    sock.sendall(struct.pack(">I", len(body)) + body)
except OSError: pass
print(sock.recv(65536)[4:].decode())
"""


def test_a_peer_of_another_user_is_refused(tmp_path: Path) -> None:
    process, path = bare_supervisor(tmp_path, "--linger", "5")
    path.chmod(0o666)
    for parent in [tmp_path, *tmp_path.parents][:3]:
        parent.chmod(parent.stat().st_mode | 0o011)
    said = subprocess.run(
        [sys.executable, "-c", AS_PEER, str(path)], capture_output=True, text=True, timeout=20, check=False
    )
    assert '"refused"' in said.stdout, said.stderr
    assert process.wait(20) == 0


@pytest.fixture
def nobodys(tmp_path: Path) -> Path:
    """A directory of nobody's, with a copy of the supervisor that nobody can read."""
    for parent in [tmp_path, *tmp_path.parents][:3]:
        parent.chmod(parent.stat().st_mode | 0o011)
    home = tmp_path / "nobody"
    shutil.copytree(ROOT / "runner" / "supervisor", home / "runner" / "supervisor")
    shutil.copy(ROOT / "runner" / "__init__.py", home / "runner")
    for path in (home, *home.rglob("*")):
        os.chown(path, 65534, 65534)
    return home


def test_wholly_as_one_ordinary_user(nobodys: Path) -> None:
    code = f"import sys; sys.path.insert(0, {str(nobodys)!r}); from runner.supervisor.__main__ import main; main()"
    path = nobodys / "s.sock"
    process = subprocess.Popen(
        ["/usr/bin/python3", "-I", "-S", "-c", code, "--socket", str(path), "--linger", "5"],
        user=65534, group=65534, extra_groups=[], cwd="/",
    )  # fmt: skip
    until(lambda: listens(path), "the supervisor's socket")
    with socket.socket(socket.AF_UNIX) as sock, (nobodys / "out").open("wb+") as spool:
        sock.connect(str(path))
        hello = ask(sock, {"op": "hello", "protocol": 1})
        assert (hello["uid"], hello["default_user"], hello["placement"]) == (65534, "nobody", "session")
        assert ask(sock, {"op": "start", "key": "a/1", "argv": ["true"], "user": "root"})["code"] == "user"
        body = json.dumps({"id": 2, "op": "start", "key": "a/1", "fds": 1, "argv": ["id", "-u"]}).encode()
        socket.send_fds(sock, [struct.pack(">I", len(body)) + body], [spool.fileno()])
        started = sock.recv(4096)
        assert b'"ok":true' in started
        while b'"exited"' not in started:
            started += sock.recv(4096)
        spool.seek(0)
        assert spool.read() == b"65534\n"
        assert ask(sock, {"op": "ack", "keys": ["a/1"]})["ok"] is True
    assert process.wait(20) == 0
    gone(process.pid)
