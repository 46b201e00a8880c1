"""Placement with cgroup v2: each run in a cgroup of its own, which no process of it can leave without root's help.

Killing needs no controllers; limits and exact accounts do.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time

from runner.supervisor import processes
from runner.supervisor.delegation import write

TYPE_CHECKING = False  # not imported from typing, which costs a megabyte
if TYPE_CHECKING:
    from collections.abc import Mapping

    from runner.supervisor.delegation import Delegation

_CPU_PERIOD = 100_000  # microseconds, the kernel's default
_CLEAR_WITHIN = 5.0


class CgroupPlace:
    """One run's cgroup."""

    __slots__ = ("_account", "_delegation", "_oom", "_removed", "main", "path")

    def __init__(self, delegation: Delegation, path: str) -> None:
        self._delegation = delegation
        self._account: dict[str, float | int] = {}
        self._oom = False
        self._removed = False
        self.path = path
        self.main = 0

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
        """Whether no process is left; then the cgroup has been removed too."""
        if self.main:
            return False
        if "memory" in self._delegation.controllers:
            if _populated(self.path):
                return False
            self._read_account()
        self._removed = _remove(self.path)
        return self._removed

    def kill(self) -> None:
        try:
            write(self.path, "cgroup.kill", "1")
        except FileNotFoundError:  # Linux before 5.14, or the cgroup has gone
            with contextlib.suppress(OSError):
                write(self.path, "cgroup.freeze", "1")
            for item in self._members():
                processes.send(item, signal.SIGKILL)
            with contextlib.suppress(OSError):
                write(self.path, "cgroup.freeze", "0")

    def signal(self, number: int) -> int:
        members = self._members()
        for item in members:
            processes.send(item, number)
            processes.send(item, signal.SIGCONT)
        return len(members)

    def count(self) -> int:
        return len(self._members())

    def _members(self) -> list[processes.Process]:
        """The living processes. Pid 0 is one of another pid namespace: it can only be killed with the cgroup."""
        pids = {int(pid) for path in _tree(self.path) for pid in _content(path, "cgroup.procs").split()}
        found = (processes.process(pid) for pid in pids if pid and pid != os.getpid())
        return [item for item in found if item is not None and item.alive]

    def usage(self, _seen: object = None) -> Mapping[str, float | int]:
        total = processes.usage(self._members())
        cpu = _table(self.path, "cpu.stat")
        if "user_usec" in cpu:  # also what has ended; without the cpu controller too
            total["cpu_user_s"], total["cpu_system_s"] = cpu["user_usec"] / 1e6, cpu["system_usec"] / 1e6
        memory = _content(self.path, "memory.current")
        if memory:
            total["memory_bytes"] = int(memory)
        return total

    def _read_account(self) -> None:
        cpu = _table(self.path, "cpu.stat")
        peak = _content(self.path, "memory.peak")
        self._oom = _table(self.path, "memory.events").get("oom_kill", 0) > 0
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
        if not self._removed:  # with leftovers that are kept, or without a process
            _remove(self.path)


def _content(path: str, name: str) -> bytes:
    try:
        return processes.read(f"{path}/{name}")
    except OSError:
        return b""


def _table(path: str, name: str) -> dict[str, int]:
    """A flat keyed file: ``name value`` lines."""
    pairs = (line.split() for line in _content(path, name).decode("ascii").splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2}


def _populated(path: str) -> bool:
    return _table(path, "cgroup.events").get("populated", 0) != 0


def _tree(path: str) -> list[str]:
    """The cgroup and those below it, parents first."""
    found = [path]
    for parent in found:
        with contextlib.suppress(OSError), os.scandir(parent) as entries:
            found += [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
    return found


def _remove(path: str) -> bool:
    """Remove the cgroup and those that a job made in it; false while there is a process in one of them."""
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
        return not os.path.isdir(path)  # noqa: PTH112 - as above
    return True


class CgroupPlacement:
    """Makes the runs' cgroups under the base, and clears what a supervisor before us left there."""

    name = "cgroup"

    def __init__(self, delegation: Delegation) -> None:
        self.delegation = delegation
        self.made = 0
        self._kept: list[str] = []

    @property
    def controllers(self) -> tuple[str, ...]:
        return self.delegation.controllers

    def make(self, *, keep: bool) -> CgroupPlace:
        """A cgroup for one run. Raises OSError. What is meant to be left behind is left by `clear` too."""
        self._kept = [path for path in self._kept if not _remove(path)]
        while True:
            self.made += 1
            path = f"{self.delegation.base}/{'keep' if keep else 'run'}-{os.getpid()}-{self.made}"
            try:
                os.mkdir(path)  # noqa: PTH102 - no pathlib here
            except FileExistsError:  # kept leftovers of one before us with our pid, which is always 1 in a container
                continue
            break
        if keep:
            self._kept.append(path)
        return CgroupPlace(self.delegation, path)

    def adopt(self, path: str) -> CgroupPlace:
        """A run's cgroup from before self-replacement."""
        return CgroupPlace(self.delegation, path)

    def clear(self, spare: set[str]) -> None:
        """Kill the runs of a supervisor that died: nobody answers for them any more, and they may be run again."""
        with os.scandir(self.delegation.base) as entries:
            old = [entry.path for entry in entries if entry.is_dir() and entry.name.startswith(("run-", "keep-"))]
        old = [path for path in old if path not in spare]
        for path in old:
            if "/keep-" in path:
                _remove(path)
            else:
                CgroupPlace(self.delegation, path).kill()
        until = time.monotonic() + _CLEAR_WITHIN
        while not all(_remove(path) for path in old if "/run-" in path) and time.monotonic() < until:
            time.sleep(0.01)

    def close(self) -> None:
        """At the supervisor's end."""
        if self.delegation.temporary:
            for path in self._kept:
                _remove(path)
            with contextlib.suppress(OSError):
                os.rmdir(self.delegation.base)  # noqa: PTH106 - no pathlib here
