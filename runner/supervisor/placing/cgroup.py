"""Placement with cgroup v2: each run in a cgroup of its own, which no process of it can leave without root's help.

Killing needs no controllers; limits and exact accounts do.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import time
from collections import deque

from runner.supervisor.placing import processes
from runner.supervisor.placing.delegation import write

TYPE_CHECKING = False  # not imported from typing, which costs a megabyte
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from runner.supervisor.placing.delegation import Delegation

_CPU_PERIOD = 100_000  # microseconds, the kernel's default
_CLEAR_WITHIN = 5.0
_SWEPT_AT_ONCE = 100


class CgroupPlace:
    """One run's cgroup."""

    __slots__ = ("_account", "_delegation", "_leave", "_oom", "_removed", "home", "main", "path")

    def __init__(self, delegation: Delegation, path: str, leave: Callable[[str], None] = lambda _path: None) -> None:
        """``leave`` is told at the end of the run if the cgroup could not be removed."""
        self._delegation, self._leave = delegation, leave
        self._account: dict[str, float | int] = {}
        self._oom = False
        self._removed = False
        self.path = path
        self.main = 0
        self.home: Callable[[], None] | None = None  # while the supervisor could not step back out of it

    def started(self, pid: int) -> None:
        self.main = pid

    def limit(self, limits: Mapping[str, float]) -> list[str]:
        """Hold the run to ``limits`` from its first instruction on; warnings for those that cannot be had."""
        warnings = []
        for name, value in limits.items():
            if name not in self._delegation.controllers:
                warnings.append(f"cannot limit {name}: the cgroup has no {name} controller; the run is not held to it")
                continue
            try:
                self._set(name, value)
            except OSError as error:
                warnings.append(f"cannot limit {name}: {error.strerror}")
        return warnings

    def _set(self, name: str, value: float) -> None:
        if name == "memory":
            write(self.path, "memory.max", str(int(value)))
            write(self.path, "memory.oom.group", "1")
            with contextlib.suppress(FileNotFoundError):  # a kernel without swap accounting
                write(self.path, "memory.swap.max", "0")
        elif name == "cpu":
            write(self.path, "cpu.max", f"{max(int(value * _CPU_PERIOD), 1000)} {_CPU_PERIOD}")
        else:
            write(self.path, "pids.max", str(int(value)))

    def enter(self) -> None:
        """Move the supervisor here, for the moment in which it spawns."""
        write(self.path, "cgroup.procs", "0")

    def open(self) -> int:
        """A descriptor of the directory, for clone3."""
        return os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def gone(self) -> bool:
        """Whether no process is left; then the cgroup has been removed too, as far as it can be."""
        if self.main:
            return False
        if self._removed:
            return True
        self._step_out()
        if "memory" in self._delegation.controllers:
            if _populated(self.path):
                return False
            self._read_account()
        self._removed = _remove(self.path)
        return self._removed or not _populated(self.path)

    def kill(self) -> None:
        self._step_out()  # or we would be killed with it
        try:
            write(self.path, "cgroup.kill", "1")
        except FileNotFoundError:  # Linux before 5.14, or the cgroup has gone
            with contextlib.suppress(OSError):
                write(self.path, "cgroup.freeze", "1")
            try:
                processes.send(self._members(), signal.SIGKILL)
            finally:
                with contextlib.suppress(OSError):
                    write(self.path, "cgroup.freeze", "0")

    def _step_out(self) -> None:
        if self.home is not None:
            self.home()
            self.home = None

    def signal(self, number: int, *, wake: bool = True) -> int:
        members = self._members()
        processes.send(members, number, *([signal.SIGCONT] if wake else ()))
        return len(members)

    def count(self) -> int:
        return len(self._members())

    def _members(self) -> list[processes.Process]:
        """The living processes. Pid 0 is one of another pid namespace: it can only be killed with the cgroup."""
        pids = {int(pid) for path in _tree(self.path) for pid in _known(path, "cgroup.procs").split()}
        found = (processes.process(pid) for pid in pids if pid and pid != os.getpid())
        return [item for item in found if item is not None and item.alive]

    def usage(self, _seen: object = None) -> Mapping[str, float | int]:
        total = processes.usage(self._members())
        cpu = _table(_content(self.path, "cpu.stat"))
        if "user_usec" in cpu:  # also what has ended; without the cpu controller too
            total["cpu_user_s"], total["cpu_system_s"] = cpu["user_usec"] / 1e6, cpu["system_usec"] / 1e6
        memory = _content(self.path, "memory.current")
        if memory:
            total["memory_bytes"] = int(memory)
        return total

    def _read_account(self) -> None:
        cpu = _table(_content(self.path, "cpu.stat"))
        peak = _content(self.path, "memory.peak")
        self._oom = _table(_content(self.path, "memory.events")).get("oom_kill", 0) > 0
        if "user_usec" in cpu:
            self._account["cpu_user_s"] = cpu["user_usec"] / 1e6
            self._account["cpu_system_s"] = cpu["system_usec"] / 1e6
        if peak:
            self._account["max_rss_bytes"] = int(peak)

    def account(self) -> Mapping[str, float | int]:
        return self._account

    def oom(self) -> bool:
        return self._oom

    def remove(self) -> None:
        if self._removed:
            return
        with contextlib.suppress(OSError):  # then it is `CgroupPlacement.sweep` that takes it away
            self._removed = _remove(self.path)
        if not self._removed:  # with leftovers that are kept
            self._leave(self.path)


def _known(path: str, name: str) -> bytes:
    """A file of a cgroup that may have gone: then nothing. Raises OSError where it cannot be read at this moment."""
    try:
        return processes.read(f"{path}/{name}")
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENODEV, errno.EOPNOTSUPP):  # the last: a threaded cgroup
            return b""
        raise


def _content(path: str, name: str) -> bytes:
    """The same for what is only told: nothing where it cannot be read."""
    try:
        return processes.read(f"{path}/{name}")
    except OSError:
        return b""


def _table(content: bytes) -> dict[str, int]:
    """A flat keyed file: ``name value`` lines."""
    pairs = (line.split() for line in content.decode("ascii").splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2}


def _populated(path: str) -> bool:
    return _table(_known(path, "cgroup.events")).get("populated", 0) != 0


def _tree(path: str) -> list[str]:
    """The cgroup and those below it, parents first. Raises OSError where it cannot be seen at this moment."""
    found = [path]
    for parent in found:
        with contextlib.suppress(FileNotFoundError), os.scandir(parent) as entries:
            found += [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
    return found


def _remove(path: str) -> bool:
    """Remove the cgroup and those that a job made in it; false while there is a process in one of them, or it cannot
    be removed for another reason. Raises OSError where neither can be known."""
    try:
        os.rmdir(path)  # noqa: PTH106 - no pathlib here
    except FileNotFoundError:
        return True
    except OSError:
        if _populated(path):
            return False
        for directory in reversed(_tree(path)):
            with contextlib.suppress(OSError):
                os.rmdir(directory)  # noqa: PTH106 - as above
        try:
            os.stat(path)  # noqa: PTH116 - as above
        except FileNotFoundError:
            return True
        return False
    return True


class CgroupPlacement:
    """Makes the runs' cgroups under the base, and clears what a supervisor before us left there."""

    name = "cgroup"

    def __init__(self, delegation: Delegation) -> None:
        self.delegation = delegation
        self.made = 0
        self._left: deque[str] = deque()  # cgroups of runs that have ended, with something in them or not removable

    @property
    def controllers(self) -> tuple[str, ...]:
        return self.delegation.controllers

    def make(self, *, keep: bool) -> CgroupPlace:
        """A cgroup for one run. Raises OSError. What is meant to be left behind is left by `clear` too."""
        while True:
            self.made += 1
            path = f"{self.delegation.base}/{'keep' if keep else 'run'}-{os.getpid()}-{self.made}"
            try:
                os.mkdir(path)  # noqa: PTH102 - no pathlib here
            except FileExistsError:  # kept leftovers of one before us with our pid, which is always 1 in a container
                continue
            return self.adopt(path)

    def adopt(self, path: str) -> CgroupPlace:
        """A run's cgroup from before self-replacement."""
        return CgroupPlace(self.delegation, path, self._left.append)

    @property
    def left(self) -> int:
        """How many cgroups are to be taken away when they are empty."""
        return len(self._left)

    def sweep(self) -> None:
        """Look at some of those that were left, and take away what is empty."""
        for _ in range(min(len(self._left), _SWEPT_AT_ONCE)):
            path = self._left.popleft()
            try:
                removed = _remove(path)
            except OSError:
                removed = False
            if not removed:
                self._left.append(path)

    def clear(self, spare: set[str]) -> None:
        """Kill the runs of a supervisor that died: nobody answers for them any more, and they may be run again."""
        with os.scandir(self.delegation.base) as entries:
            old = [entry.path for entry in entries if entry.is_dir() and entry.name.startswith(("run-", "keep-"))]
        old = [path for path in old if path not in spare]
        self._left += [path for path in old if "/keep-" in path]
        old = [path for path in old if "/run-" in path]
        until = time.monotonic() + _CLEAR_WITHIN
        while (old := [path for path in old if not self._cleared(path)]) and time.monotonic() < until:
            time.sleep(0.01)
        self._left += old

    def _cleared(self, path: str) -> bool:
        try:
            if _remove(path):
                return True
            self.adopt(path).kill()
        except OSError:
            return False
        return False

    def close(self) -> None:
        """At the supervisor's end."""
        if self.delegation.temporary:
            for path in self._left:
                with contextlib.suppress(OSError):
                    _remove(path)
            with contextlib.suppress(OSError):
                os.rmdir(self.delegation.base)  # noqa: PTH106 - no pathlib here
