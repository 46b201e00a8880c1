"""The parts of the supervisor that only compute."""

from __future__ import annotations

import errno
import os
import pwd
import socket
import sys
from pathlib import Path
from typing import Any

import pytest

from runner.supervisor import records, users, wire
from runner.supervisor.loop import Loop, now
from runner.supervisor.notes import Notes
from runner.supervisor.options import Options, UsageError
from runner.supervisor.placing import cgroup, delegation, processes
from runner.supervisor.policy import Policy
from runner.supervisor.request import BadRequest, StartRequest
from runner.supervisor.starting import command, envfile, mounts

HYBRID = """\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd
41 31 0:38 / /sys/fs/cgroup/uni\\040fied rw,relatime shared:1 - cgroup2 cgroup2 rw
"""


def test_the_cgroup_mount_is_found_where_it_is() -> None:
    assert delegation.mount(HYBRID) == ("/", "/sys/fs/cgroup/uni fied")
    assert delegation.mount(HYBRID.splitlines()[0]) is None


def test_membership() -> None:
    assert delegation.membership("4:memory:/x\n0::/system.slice/a.service\n") == "/system.slice/a.service"
    assert delegation.membership("4:memory:/x\n") is None


@pytest.mark.parametrize(
    ("root", "path", "expected"),
    [
        ("/", "/", "/cg"),
        ("/", "/a/b", "/cg/a/b"),
        ("/docker/1", "/docker/1/x", "/cg/x"),
        ("/docker/1", "/docker/1", "/cg"),
        ("/docker/1", "/docker/12", None),
        ("/", "/../other", None),
    ],
)
def test_where_a_cgroup_is_seen(root: str, path: str, expected: str | None) -> None:
    assert delegation.directory(root, "/cg", path) == expected


def test_file_systems_that_may_hang() -> None:
    text = (
        "31 1 0:28 / / rw - ext4 /dev/a rw\n"
        "32 31 0:29 / /mnt/n\\040fs rw - nfs4 host:/ rw\n"
        "33 31 0:30 / /home/x rw - fuse.sshfs h: rw\n"
    )
    assert mounts.remote(text) == ("/mnt/n fs", "/home/x")
    found = mounts.Mounts(Loop())
    found._remote = mounts.remote(text)  # noqa: SLF001
    assert found.may_hang(["/", "/mnt/n fs/bin/tool"])
    assert found.may_hang(["/home/x"])
    assert not found.may_hang(["/", "/home/xy", "tool"])


class Cgroup:
    """A directory that stands in for a cgroup with controllers, which few test machines can give."""

    def __init__(self, base: Path, controllers: tuple[str, ...]) -> None:
        given = delegation.Delegation(str(base), str(base / "own"), temporary=False)
        given.controllers = controllers
        self.path = base / "run-1-1"
        self.path.mkdir()
        for name in ("memory.max", "memory.oom.group", "memory.swap.max", "cpu.max", "pids.max"):
            (self.path / name).touch()
        self.place = cgroup.CgroupPlace(given, str(self.path))

    def read(self, name: str) -> str:
        return (self.path / name).read_text()


def test_limits_are_written_as_the_kernel_wants_them(tmp_path: Path) -> None:
    made = Cgroup(tmp_path, ("memory", "cpu", "pids"))
    assert made.place.limit({"memory": 512 << 20, "cpu": 1.5, "pids": 10}) == []
    assert made.read("memory.max") == "536870912"
    assert made.read("memory.swap.max") == "0"
    assert made.read("memory.oom.group") == "1"
    assert made.read("cpu.max") == "150000 100000"
    assert made.read("pids.max") == "10"


def test_limits_without_their_controller_are_warned_of(tmp_path: Path) -> None:
    made = Cgroup(tmp_path, ("pids",))
    [warning] = made.place.limit({"memory": 1 << 20, "pids": 5})
    assert warning.startswith("cannot limit memory")
    assert made.read("memory.max") == ""


def test_the_account_of_a_cgroup(tmp_path: Path) -> None:
    made = Cgroup(tmp_path, ("memory",))
    (made.path / "cgroup.events").write_text("populated 0\nfrozen 0\n")
    (made.path / "cpu.stat").write_text("usage_usec 3500000\nuser_usec 1500000\nsystem_usec 2000000\n")
    (made.path / "memory.peak").write_text("7340032\n")
    (made.path / "memory.events").write_text("low 0\noom 1\noom_kill 2\noom_group_kill 1\n")
    made.place.gone()
    assert made.place.oom()
    assert made.place.account() == {"cpu_user_s": 1.5, "cpu_system_s": 2.0, "max_rss_bytes": 7340032}


def test_environment_files() -> None:
    text = 'A=1\n\n# no\n; no\nB = two words \nC=\'$x "y"\'\nD="a\\"b\\\\c"\nE=\n'
    assert envfile.parse(text, "f") == {"A": "1", "B": "two words", "C": '$x "y"', "D": 'a"b\\c', "E": ""}
    for bad in ("A", "1A=x", "A='x", 'A="', "=x", "A B=x", "A=\0", "export A=x"):
        with pytest.raises(ValueError, match="f, line 1"):
            envfile.parse(bad, "f")


def test_the_command_is_looked_for_as_execvp_does() -> None:
    assert command.candidates(b"a/b", {}) == [b"a/b"]
    assert command.candidates(b"x", {b"PATH": b"/1::/2"}) == [b"/1/x", b"./x", b"/2/x"]
    assert command.candidates(b"x", {})[-1] == b"/bin/x"


def test_a_process_line_with_a_hostile_name() -> None:
    line = b"12 (a) R 1 2) 3 (x) S 7 8 9 " + b" ".join(b"%d" % i for i in range(4, 50))
    item = processes.Process(12, line)
    assert (item.state, item.parent, item.group, item.session) == (b"S", 7, 8, 9)


def test_descent() -> None:
    def made(pid: int, parent: int) -> processes.Process:
        return processes.Process(pid, b"%d (x) S %d 0 0 " % (pid, parent) + b"0 " * 50)

    table = {pid: made(pid, parent) for pid, parent in {2: 1, 3: 2, 4: 3, 5: 1, 6: 5}.items()}
    assert processes.Snapshot(table).below([2, 99]) == {2, 3, 4}


def request(**fields: Any) -> StartRequest:
    return StartRequest({"key": "a/1", "argv": ["true"], **fields})


def test_a_start_has_defaults() -> None:
    found = request()
    assert (found.timeout, found.grace, found.stop_signal, found.cwd, found.keep_leftovers) == (
        None,
        10,
        "TERM",
        "/",
        False,
    )


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"argv": []}, "argv"),
        ({"argv": "true"}, "argv"),
        ({"argv": ["a\0"]}, "argv[0]"),
        ({"argv": ["a", 1]}, "argv[1]"),
        ({"argv": ["\ud800"]}, "argv[0]"),
        ({"key": ""}, "key"),
        ({"key": "x" * 257}, "key"),
        ({"env": {"A=B": ""}}, "env"),
        ({"env": {"": ""}}, "env"),
        ({"env": {"A": 1}}, "env.A"),
        ({"timeout": True}, "timeout"),
        ({"timeout": -1}, "timeout"),
        ({"timeout": float("inf")}, "timeout"),
        ({"umask": 0o1000}, "umask"),
        ({"umask": 1.5}, "umask"),
        ({"nice": 20}, "nice"),
        ({"stop_signal": "KILL"}, "stop_signal"),
        ({"leftovers": "maybe"}, "leftovers"),
        ({"limits": {"disk": 1}}, "limits"),
        ({"limits": {"memory": "1G"}}, "limits.memory"),
        ({"max_bytes": 0}, "max_bytes"),
        ({"stdin": 1}, "stdin"),
        ({"cwd": "/\0"}, "cwd"),
    ],
)  # fmt: skip
def test_a_start_that_is_wrong_names_the_field(fields: dict[str, Any], named: str) -> None:
    with pytest.raises(BadRequest) as refused:
        request(**fields)
    assert str(refused.value).startswith(named)


def test_options() -> None:
    found = Options(["--socket=/s", "--linger", "1.5", "--agent", "cron-runner", "--config", "x"])
    assert (found.socket, found.linger, found.agent, found.config) == (
        "/s",
        1.5,
        ["cron-runner", "--config", "x"],
        None,
    )
    for bad in ([], ["--socket"], ["--socket", "/s", "--agent"], ["--what"], ["--socket", "/s", "--placement", "x"]):
        with pytest.raises(UsageError):
            Options(bad)


def entry(key: str, finished: float | None = None) -> dict[str, Any]:
    return {"key": key, "exit": {"finished_at": now() + 2e9 if finished is None else finished}}


def test_records_spill_beyond_the_bound_and_come_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "MOST_IN_MEMORY", 2)
    monkeypatch.setattr(records, "_COMPACT_FROM", 300)
    path = tmp_path / "r"
    kept = records.Records(str(path))
    for number in range(40):
        kept.keep("agent", entry(f"{number}/1"), attended=True)
    kept.keep("other", entry("o/1"), attended=False)
    assert len(kept.in_memory()) == 2
    assert len(kept) == 41
    assert kept.find("agent", "39/1") == entry("39/1", kept.find("agent", "39/1")["exit"]["finished_at"])  # type: ignore[index]
    assert kept.find("other", "39/1") is None
    size = path.stat().st_size
    for number in range(2, 38):
        kept.forget("agent", f"{number}/1")
    assert path.stat().st_size < size / 4, "it was rewritten without what is not wanted"
    assert sorted(kept.keys("agent")) == ["0/1", "1/1", "38/1", "39/1"]
    kept.spill_all()
    again = records.Records(str(path))
    again.load()
    assert sorted(again.keys("agent")) == ["0/1", "1/1", "38/1", "39/1"]
    for owner, key in (("agent", "0/1"), ("agent", "1/1"), ("agent", "38/1"), ("agent", "39/1"), ("other", "o/1")):
        again.forget(owner, key)
    assert not path.exists()


def test_records_that_are_broken_or_old_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "r"
    path.write_text('{"owner": "agent", "entry": {"key": "old/1", "exit": {"finished_at": 5}}}\n{"half\n')
    kept = records.Records(str(path))
    kept.load()
    assert len(kept) == 0
    assert not path.exists()


def test_records_without_a_disk_stay_in_memory(tmp_path: Path) -> None:
    kept = records.Records(str(tmp_path / "missing" / "r"))
    kept.keep("agent", entry("a/1"), attended=False)
    assert kept.find("agent", "a/1") is not None


def test_frames_in_pieces() -> None:
    ours, theirs = socket.socketpair()
    connection = wire.Connection(ours)
    with theirs:
        data = wire.encode({"a": "é"}) + wire.encode({"b": [1]})
        for byte in data:
            theirs.send(bytes([byte]))
            connection.receive()
        assert list(connection.requests) == [({"a": "é"}, []), ({"b": [1]}, [])]
        assert connection.peer_uid == os.getuid()
    with pytest.raises(wire.Hangup):
        connection.receive()
    connection.close()


def test_timers_ring_in_order_and_not_when_cancelled() -> None:
    loop = Loop()
    rung: list[int] = []
    start = now()
    for number in (3, 1, 2):
        loop.at(start + number * 1e-3, lambda number=number: rung.append(number))
    for _ in range(500):
        loop.cancel(loop.at(start + 3600, lambda: rung.append(0)))
    while len(rung) < 3:
        loop.turn()
    assert rung == [1, 2, 3]
    assert len(loop._timers) < 200, "what was cancelled does not pile up"  # noqa: SLF001


def test_a_user_that_is_not_root_is_only_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    found = Policy("/nonexistent", {"CRON_RUNNER_RUN__USER": "root"})
    own = found.identity("", 0, 0.0)
    assert own.uid == os.getuid()
    if own.name != "daemon":
        with pytest.raises(BadRequest, match="not as root"):
            found.identity("daemon", 0, 0.0)


def test_the_agents_own_user_gets_no_jobs_from_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    found = users.Users("", ("nobody",))
    uid = found.identity("nobody", 0, 0.0).uid
    with pytest.raises(BadRequest, match="agent's own user"):
        found.identity("nobody", uid, 0.0)


def test_the_supervisor_loads_little() -> None:
    """Each of these would cost it a good part of its 15 MB."""
    import subprocess

    code = "import sys; from runner.supervisor import __main__; print(*sys.modules)"
    said = subprocess.run([sys.executable, "-S", "-c", f"import sys; sys.path[:0] = {sys.path!r}; {code}"],
                          capture_output=True, text=True, check=True)  # fmt: skip
    heavy = {"asyncio", "dataclasses", "inspect", "logging", "pathlib", "subprocess", "threading", "tomllib", "typing"}
    assert not heavy & set(said.stdout.split())


@pytest.mark.parametrize(
    ("shell", "expected"),
    [
        ("/bin/bash", "/bin/bash"),
        ("/usr/sbin/nologin", "/bin/sh"),
        ("/sbin/nologin", "/bin/sh"),
        ("/bin/false", "/bin/sh"),
        ("", "/bin/sh"),
    ],
)
def test_shell_names_a_program_that_runs_commands(shell: str, expected: str) -> None:
    entry = pwd.struct_passwd(("svc", "x", os.getuid(), os.getgid(), "", "/srv", shell))
    assert users.Identity(entry).environment["SHELL"] == expected


def test_what_is_noted_of_a_run_is_found_until_it_has_ended_and_no_failure_of_it_reaches_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = str(tmp_path / "runs")
    notes = Notes(path, "this boot")
    notes.began(os.getpid(), keep=False)
    notes.began(os.getppid(), keep=True)
    mine = (os.getpid(), processes.start_ticks(os.getpid()), False)
    parents = (os.getppid(), processes.start_ticks(os.getppid()), True)
    assert [(note.session, note.start, note.keep) for note in Notes(path, "this boot").read()] == [mine, parents]
    assert Notes(path, "another boot").read() == []
    notes.ended(os.getppid())
    assert [(note.session, note.start, note.keep) for note in Notes(path, "this boot").read()] == [mine]
    with Path(path).open("ab") as file:
        file.write(b"[12, 3")  # a full disk
    assert len(Notes(path, "this boot").read()) == 1

    def fail(*_: object) -> int:
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))

    monkeypatch.setattr(processes, "start_ticks", fail)
    notes.began(1, keep=False)
    assert len(Notes(path, "this boot").read()) == 1
    monkeypatch.undo()
    monkeypatch.setattr(os, "write", fail)
    notes.began(os.getppid(), keep=False)
    monkeypatch.undo()
    notes.ended(os.getpid())
    notes.ended(os.getppid())
    assert not Path(path).exists()
