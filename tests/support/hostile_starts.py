"""Direct starts as a user whose other processes do to the new ones whatever they may, as long as it goes on.

    python tests/support/hostile_starts.py COUNT      as root; prints what came of it as JSON

COUNT starts are made under each of `HOSTILE`. The user is one that nobody has: kill(-1) reaches all that are its own.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from runner.supervisor.starting import command, direct

UID = 61_234
PTRACE_SEIZE = 0x4206
PR_SET_PDEATHSIG = 1


def signals(number: signal.Signals) -> None:
    while True:
        with contextlib.suppress(ProcessLookupError):
            os.kill(-1, number)


def tracing() -> None:
    """Seize whatever comes. What it was at that moment is in its name: exec gives a process its own."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
    ours = os.getppid()
    seen = {os.getpid()}
    while True:
        for pid in _children(ours):
            if pid in seen or libc.ptrace(PTRACE_SEIZE, pid, None, None) != 0:
                continue
            seen.add(pid)
            try:
                program = Path(f"/proc/{pid}/exe").readlink().name
            except OSError:
                program = ""
            os.write(1, b"!" if "python" in program else b".")


def _children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


HOSTILE = {
    "stopped": lambda: signals(signal.SIGSTOP),
    "killed": lambda: signals(signal.SIGKILL),
    "dumped": lambda: signals(signal.SIGQUIT),
    "ended": lambda: signals(signal.SIGTERM),
    "traced": tracing,
}


def sibling(name: str) -> tuple[int, int]:
    """Its pid, and what it says."""
    ours, theirs = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.dup2(theirs, 1)
        os.setgroups([])
        os.setresgid(UID, UID, UID)
        os.setresuid(UID, UID, UID)
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # it does not outlive us
        try:
            HOSTILE[name]()
        finally:
            os._exit(1)
    os.close(theirs)
    return pid, ours


def under(name: str, count: int) -> dict[str, Any]:
    starter = direct.Direct()
    assert not starter.why_not, starter.why_not
    other, said = sibling(name)
    output = os.open("/dev/null", os.O_WRONLY)
    longest, started, at_exec, left = 0.0, 0, 0, list[int]()
    for _ in range(count):
        made = command.Command(("true",), "/", output)
        made.env = {"PATH": "/usr/bin:/bin"}
        made.uid = made.gid = UID
        before = time.monotonic()
        pid = starter.start(made)
        longest = max(longest, time.monotonic() - before)
        if pid is not None:
            started += 1
            at_exec += Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] == "T"
            os.kill(pid, signal.SIGKILL)
            left.append(pid)  # one that is traced is not given to its parent while its tracer lives
        left = [pid for pid in left if os.waitpid(pid, os.WNOHANG)[0] != pid]
    for pid in (other, *left):
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    os.set_blocking(said, False)
    try:
        traced = os.read(said, 1 << 20)
    except BlockingIOError:
        traced = b""
    os.close(said)
    os.close(output)
    return {
        "started": started, "cut_off": starter.cut_off, "longest_s": round(longest, 4), "stopped_after_exec": at_exec,
        "traced": len(traced), "traced_before_exec": traced.count(b"!"),
    }  # fmt: skip


def main() -> None:
    found = {name: under(name, int(sys.argv[1])) for name in HOSTILE}
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main()
