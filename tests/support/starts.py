"""Every kind of start, through every way there is, in a process of its own: what the job sees, what a failure says.

    python tests/support/starts.py DIRECTORY [UID]      prints {request: {way: what came of it}} as JSON

A request is what is set on a `Command`; a way is a function that makes a process of it.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from runner.supervisor.placing import delegation
from runner.supervisor.starting import spawn
from runner.supervisor.starting.child import read_report
from runner.supervisor.starting.command import Command, SpawnError, descriptors
from runner.supervisor.starting.direct import Direct

if TYPE_CHECKING:
    from collections.abc import Callable

NOBODY = 65534
PATH = "/usr/local/bin:/usr/bin:/bin"
SHOWN = ("status", "limits", "stat", "environ", "cgroup", "timers")
# Of proc(5)'s status; the rest is other for each process.
STATUS = ("Umask", "Uid", "Gid", "Groups", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp",
          "SigBlk", "SigIgn", "SigCgt", "Cpus_allowed", "TracerPid", "Threads")  # fmt: skip
LOOK = ("cat", *(f"/proc/self/{name}" for name in SHOWN))
LIST = ("ls", "-l", "/proc/self/cwd", "/proc/self/fd")


def requests(home: Path) -> dict[str, dict[str, Any]]:
    """Fields of a `Command`; ``argv`` is that of `LOOK` and of `LIST` where there is none."""
    nicer = min(os.getpriority(os.PRIO_PROCESS, 0) + 3, 19)
    script, format_, loop = home / "no-interpreter", home / "no-format", home / "loop"
    script.write_text("#!/nonexistent/interpreter\n")
    format_.write_text("\x7fELF but no more\n")
    loop.symlink_to(loop)
    for path in (script, format_):
        path.chmod(0o755)
    (home / "plain").write_text("no program\n")
    first, second = home / "first", home / "second"
    for path in (first, second):
        path.mkdir()
        (path / "tool").write_text("#!/bin/sh\necho $0\n")
    (second / "tool").chmod(0o755)
    (first / "dangling").symlink_to("/nonexistent/target")
    (second / "dangling").write_text("#!/bin/sh\necho found\n")
    (second / "dangling").chmod(0o755)
    found: dict[str, dict[str, Any]] = {
        "as we are": {},
        "umask": {"umask": 0o27},
        "directory": {"cwd": str(home)},
        "stdin": {"stdin": "what it reads", "argv": ("cat",)},
        "environment": {"env": {"PATH": PATH, "EMPTY": "", "ODD": "ü=\udcff\n"}, "argv": LOOK},
        "no PATH": {"env": {}, "argv": ("cat", "/proc/self/environ")},
        "niced": {"nice": nicer},
        "all of it": {"umask": 0o77, "nice": nicer, "cwd": str(home), "stdin": ""},
        "found in PATH's second": {"env": {"PATH": f"{home}/first:{home}/second"}, "argv": ("tool",)},
        "found by an empty entry": {"env": {"PATH": f"/nonexistent::{PATH}"}, "cwd": str(second), "argv": ("tool",)},
        "relative command": {"cwd": str(home), "argv": ("second/tool",)},
        "a dangling link before it": {"env": {"PATH": f"{first}:{second}"}, "argv": ("dangling",)},
        "in no directory of PATH": {"argv": ("nonexistent-command",)},
        "in PATH, not executable": {"env": {"PATH": str(first)}, "argv": ("tool",)},
        "a file in PATH": {"env": {"PATH": f"{home}/plain:{home}/nowhere"}, "argv": ("tool",)},
        "no such file": {"argv": ("/nonexistent/command",)},
        "not executable": {"argv": (str(home / "plain"),)},
        "a directory": {"argv": (str(home),)},
        "below a file": {"argv": (f"{home}/plain/tool",)},
        "a loop of links": {"argv": (str(loop),)},
        "no exec format": {"argv": (str(format_),)},
        "no interpreter": {"argv": (str(script),)},
        "no interpreter, in PATH": {"env": {"PATH": f"/nonexistent:{home}"}, "argv": ("no-interpreter",)},
        "an argument too long": {"argv": ("true", "x" * 200_000)},
        "too many arguments": {"argv": ("true", *["x" * 100_000] * 100)},
        "no such directory": {"cwd": "/nonexistent"},
        "a file for a directory": {"cwd": str(home / "plain")},
    }  # fmt: skip
    if os.geteuid() != 0:
        return {
            **found,
            "nice below what it may": {"nice": -20},
            "another user": {"uid": NOBODY - 1, "gid": NOBODY - 1},
        }
    return {**found, **as_root(home)}


def as_root(home: Path) -> dict[str, dict[str, Any]]:
    other = {"uid": NOBODY, "gid": NOBODY, "groups": [NOBODY, 12345]}
    closed = home / "closed"
    closed.mkdir(0o700)
    (closed / "tool").write_text("#!/bin/sh\n")
    (closed / "tool").chmod(0o755)
    return {
        "another user": other,
        "another user in no group": {**other, "groups": []},
        "another group": {"uid": 0, "gid": NOBODY, "groups": [0, 5]},
        "another user, all of it": {**other, "umask": 0o77, "nice": -3, "cwd": str(home), "stdin": "x"},
        "few processes": {**other, "processes": 1000},
        "too many processes": {**other, "processes": 1, "crowd": True},
        "a cgroup": {"cgroup": True},
        "a cgroup, another user": {**other, "cgroup": True},
        "an unknown cgroup": {**other, "cgroup": False},
        "a forbidden directory": {**other, "cwd": str(closed)},
        "a command in a forbidden directory": {**other, "argv": (f"{closed}/tool",)},
        "a forbidden directory in PATH": {**other, "env": {"PATH": f"{closed}:/nonexistent"}, "argv": ("tool",)},
        "root's forbidden directory": {"cwd": str(closed)},
    }


def command(asked: dict[str, Any], argv: tuple[str, ...], output: int) -> Command:
    made = Command(argv, asked.get("cwd", "/"), output)
    made.env = asked.get("env", {"PATH": PATH})
    for name in ("umask", "nice", "uid", "gid", "groups", "processes"):
        if name in asked:
            setattr(made, name, asked[name])
    if "stdin" in asked:
        made.stdin = os.memfd_create("stdin", os.MFD_CLOEXEC)
        os.write(made.stdin, asked["stdin"].encode())
        os.lseek(made.stdin, 0, os.SEEK_SET)
    if "cgroup" in asked:
        made.cgroup = cgroup(kept=asked["cgroup"])
    return made


def cgroup(*, kept: bool) -> int:
    """A descriptor of one, which has gone meanwhile where it is not ``kept``."""
    path = CGROUPS / ("starts-test" if kept else "starts-test-gone")
    path.mkdir(exist_ok=True)
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    if not kept:
        path.rmdir()
    return fd


def forked(made: Command) -> int:
    pid, report = spawn.spawn_forked(made)
    os.set_blocking(report, True)
    data = b""
    while piece := os.read(report, 65536):
        data += piece
    os.close(report)
    error = read_report(data)[1]
    if error is not None:
        os.waitpid(pid, 0)
        raise error
    return pid


def direct(made: Command) -> int:
    pid = DIRECT.start(made)
    assert not DIRECT.why_not
    return forked(made) if pid is None else pid


def outcome(way: Callable[[Command], int], asked: dict[str, Any], argv: tuple[str, ...]) -> Any:
    ours, theirs = os.pipe2(os.O_CLOEXEC)
    made = command(asked, argv, theirs)
    if made.uid is not None and os.geteuid() == 0:
        os.fchown(theirs, made.uid, made.gid)
    try:
        pid = way(made)
    except SpawnError as error:
        return {"number": error.number, "text": str(error), "own": error.own, "passing": error.passing}
    except OSError as error:
        return {"raised": str(error)}
    finally:
        made.close()
    with os.fdopen(ours, "rb") as pipe:
        text = pipe.read()
    status = os.waitpid(pid, 0)[1]
    return {"status": status, "seen": _plain(text, pid)}


def _plain(text: bytes, pid: int) -> list[str]:
    """What a job printed, without what is other for each process."""
    lines = []
    for line in text.decode(errors="surrogateescape").splitlines():
        name, colon, _ = line.partition(":")
        if line.startswith(f"{pid} ("):
            fields = line.rpartition(")")[2].split()
            # parent, group, session and terminal; nice; exit signal; policy
            same = [fields[1] == str(os.getpid()), *(item == str(pid) for item in fields[2:4]), *fields[4:5]]
            lines.append(f"stat {same} nice {fields[16]} signal {fields[35]} policy {fields[38]}")
        elif "->" in line:
            lines.append(f"{line.split()[0]} {line.rpartition(' ')[2].partition(':')[0].replace(str(pid), 'PID')}")
        elif name == "SigIgn":  # 32 and 33 belong to the C library, whose posix_spawn ignores them
            lines.append(f"SigIgn {int(line.split()[1], 16) & ~0x180000000:x}")
        elif not colon or name in STATUS or "\0" in line or line[0].isdigit():
            lines.append(line)
    return lines


def nobody() -> int:
    """A process of theirs."""
    ready, say = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.setresuid(NOBODY, NOBODY, NOBODY)
        os.write(say, b".")
        signal.pause()
        os._exit(0)
    os.read(ready, 1)
    os.close(ready)
    os.close(say)
    return pid


def main() -> None:
    signal.signal(signal.SIGTERM, lambda *_: None)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1, signal.SIGCHLD})
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    descriptors.raise_()
    spawn.keep_to_ourselves()
    os.chdir("/")  # where a supervisor is
    home = Path(sys.argv[1])
    for uid in map(int, sys.argv[2:]):
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
    every: dict[str, Callable[[Command], int]] = {"forked": forked, "here": spawn.spawn_here}
    if not DIRECT.why_not:
        every["direct"] = direct
    found: dict[str, dict[str, Any]] = {}
    for name, asked in requests(home).items():
        if "cgroup" in asked and not CGROUPS.is_dir():
            continue
        crowd = [nobody() for _ in range(3)] if asked.get("crowd") else []
        found[name] = {}
        for way, start in every.items():
            plain = not {"uid", "nice", "processes", "cgroup"} & set(asked)
            if way != "here" or plain:
                looks = [asked["argv"]] if "argv" in asked else [LOOK, LIST]
                found[name][way] = [outcome(start, asked, argv) for argv in looks]
        for pid in crowd:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
    sys.stdout.write(json.dumps(found))
    if (CGROUPS / "starts-test").is_dir():
        (CGROUPS / "starts-test").rmdir()


def _cgroups() -> Path:
    mount = delegation.mount(Path("/proc/self/mountinfo").read_text())
    return Path(mount[1]) if mount is not None and os.geteuid() == 0 else Path("/nonexistent")


DIRECT = Direct()
CGROUPS = _cgroups()

if __name__ == "__main__":
    main()
