"""Which processes exist and whose they are, read from /proc. Facts from proc(5)."""

from __future__ import annotations

import errno
import os
import signal

from runner.supervisor.wire import close_all

TYPE_CHECKING = False  # not imported from typing, which costs a megabyte
if TYPE_CHECKING:
    from collections.abc import Iterable

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")
_GONE = (errno.ENOENT, errno.ESRCH)
_HIDDEN = (errno.EACCES, errno.EPERM)  # by hidepid, or another user's: not for us to see
_LOOKS = 4  # a parent may also be one that we are not shown: then looking again is no help
_CHILDREN = f"/proc/self/task/{os.getpid()}/children"


class Process:
    """One line of /proc/PID/stat. Times in clock ticks; ``start`` tells a process from a later one with its pid."""

    __slots__ = ("group", "parent", "pid", "rss", "session", "start", "state", "system", "user")

    def __init__(self, pid: int, line: bytes) -> None:
        # The command's name may hold spaces and brackets: the fields begin after the last closing one.
        fields = line[line.rindex(b")") + 2 :].split()
        self.pid = pid
        self.state = fields[0]
        self.parent = int(fields[1])
        self.group = int(fields[2])
        self.session = int(fields[3])
        self.user = int(fields[11])
        self.system = int(fields[12])
        self.start = int(fields[19])
        self.rss = int(fields[21]) * PAGE

    @property
    def alive(self) -> bool:
        return self.state not in (b"Z", b"X")


def read(path: str) -> bytes:
    """A small file of /proc or a cgroup, whole. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        data = os.read(fd, 65536)
        while piece := os.read(fd, 65536):
            data += piece
    finally:
        close_all([fd])
    return data


def process(pid: int) -> Process | None:
    """The process, a zombie too; None if there is none. Raises OSError where that cannot be known at this moment: what
    is taken for gone is not killed."""
    try:
        return Process(pid, read(f"/proc/{pid}/stat"))
    except ValueError:
        return None
    except OSError as error:
        if error.errno in _GONE or error.errno in _HIDDEN:
            return None
        raise


def start_ticks(pid: int) -> int:
    """When it started, in ticks since boot; 0 if it is gone."""
    found = process(pid)
    return found.start if found else 0


def everything() -> dict[int, Process]:
    """All living processes; zombies are left out, they only wait for their parent.

    /proc is read one by one while the world goes on: a process may be seen with a parent that is gone by the time
    that one is read. It has been adopted since, so it is read again.
    """
    pids = [int(name) for name in os.listdir("/proc") if name.isdigit()]  # noqa: PTH208 - hot, and no Path is wanted
    table: dict[int, Process] = {}
    for _ in range(_LOOKS):
        for pid in pids:
            found = process(pid)
            if found is not None and found.alive:
                table[pid] = found
            else:
                table.pop(pid, None)
        pids = [item.pid for item in table.values() if item.parent and item.parent not in table]
        if not pids:
            break
    return table


def own_children() -> set[int]:
    """Pids of this process's children, zombies included: its own and, to a subreaper, every orphan below it."""
    try:
        return {int(pid) for pid in read(_CHILDREN).split()}
    except FileNotFoundError:  # a kernel without CONFIG_PROC_CHILDREN
        me = os.getpid()
        return {item.pid for item in everything().values() if item.parent == me}


class Snapshot:
    """All living processes as they were at one look, ordered so that many runs can ask for theirs."""

    __slots__ = ("children", "sessions", "table")

    def __init__(self, table: dict[int, Process] | None = None) -> None:
        self.table = everything() if table is None else table
        self.children: dict[int, list[int]] = {}
        self.sessions: dict[int, list[int]] = {}
        for item in self.table.values():
            self.children.setdefault(item.parent, []).append(item.pid)
            self.sessions.setdefault(item.session, []).append(item.pid)

    def below(self, roots: Iterable[int]) -> set[int]:
        """The living among ``roots`` and all their descendants."""
        found: set[int] = set()
        todo = [pid for pid in roots if pid in self.table]
        while todo:
            pid = todo.pop()
            if pid not in found:
                found.add(pid)
                todo += self.children.get(pid, [])
        return found


def marked(pid: int, mark: bytes) -> bool:
    """Whether the process was started with ``NAME=VALUE`` in its environment, as far as it may be read. Raises OSError
    where it cannot be at this moment."""
    try:
        environ = read(f"/proc/{pid}/environ")
    except OSError as error:
        if error.errno in _GONE or error.errno in _HIDDEN:
            return False
        raise
    return environ.startswith(mark + b"\0") or b"\0" + mark + b"\0" in environ


def send(targets: Iterable[Process], *numbers: int) -> None:
    """Signal exactly these processes: each through a pidfd, after its start time was compared, so never a successor.

    Raises the first OSError by which one was not reached that is there; the others have had theirs all the same.
    """
    failed: OSError | None = None
    for target in targets:
        try:
            _send(target, numbers)
        except OSError as error:
            if error.errno not in _GONE and error.errno not in _HIDDEN:
                failed = failed or error
    if failed is not None:
        raise failed


def _send(target: Process, numbers: Iterable[int]) -> None:
    fd = os.pidfd_open(target.pid)
    try:
        if start_ticks(target.pid) == target.start:
            for number in numbers:
                signal.pidfd_send_signal(fd, number)
    finally:
        close_all([fd])


def usage(members: Iterable[Process]) -> dict[str, float | int]:
    """What they use together, as the answer to ``usage`` has it."""
    total: dict[str, float | int] = {"cpu_user_s": 0.0, "cpu_system_s": 0.0, "memory_bytes": 0, "processes": 0}
    for item in members:
        total["cpu_user_s"] += item.user / TICKS_PER_SECOND
        total["cpu_system_s"] += item.system / TICKS_PER_SECOND
        total["memory_bytes"] += item.rss
        total["processes"] += 1
    return total


def boot_id() -> str:
    return read("/proc/sys/kernel/random/boot_id").decode("ascii").strip()
