"""Placement without cgroups: a run is its session, its descendants, and the orphans that bear its mark.

The supervisor is a subreaper, so whatever a run leaves behind becomes the supervisor's child: nothing can leave the
tree. What makes an orphan this run's is its session or the mark in its environment. A process that has both left
the session and wiped its environment before its parent died cannot be told from another run's: that one escapes.
"""

from __future__ import annotations

import contextlib
import os
import signal

from runner.supervisor.placing import processes

TYPE_CHECKING = False  # not imported from typing, which costs a megabyte
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from collections.abc import Set as AbstractSet


# A daemon may fork and end between the listing of /proc and the look at it, and so escape one look.
_LOOKS = 3


class SessionPlace:
    """Where one run lives. ``main`` is its main process's pid, 0 once that has been reaped."""

    __slots__ = ("_mark", "_others", "main", "session")

    def __init__(self, mark: bytes, others: Callable[[], AbstractSet[int]]) -> None:
        self._mark = mark
        self._others = others  # the pids of all main processes that have not been reaped
        self.main = 0
        self.session = 0

    def started(self, pid: int) -> None:
        self.main = self.session = pid

    def members(self, seen: processes.Snapshot | None = None) -> list[processes.Process]:
        """Its living processes, main process included; by a look that was taken already, or a new one."""
        seen = seen or processes.Snapshot()
        others = self._others()
        roots = {self.main, *seen.sessions.get(self.session, ())}
        for pid in seen.children.get(os.getpid(), ()):
            if pid not in others and processes.marked(pid, self._mark):
                roots.add(pid)
        return [seen.table[pid] for pid in seen.below(roots) if pid == self.main or pid not in others]

    def gone(self) -> bool:
        """Whether no process of it is left."""
        if self.main:
            return False
        for _ in range(_LOOKS):
            # Every survivor is below a child of ours that is nobody's main process: mostly there is none.
            if not processes.own_children() - self._others():
                return True
            if self.members():
                return False
        return True  # the orphans that there are belong to others

    def kill(self) -> None:
        """SIGKILL to all that are found; to be repeated until `gone`, as they may be forking."""
        if self.main:
            # One step for the whole group, which forking cannot outrun. Its leader is our child and not reaped
            # yet, so the number is still its own.
            with contextlib.suppress(OSError):
                os.killpg(self.main, signal.SIGKILL)
            with contextlib.suppress(OSError):
                os.kill(self.main, signal.SIGKILL)
        processes.send((item for item in self.members() if item.pid != self.main), signal.SIGKILL)

    def signal(self, number: int, *, wake: bool = True) -> int:
        """Send a signal to all that are found, and SIGCONT so that a stopped one hears it; how many there were."""
        found = self.members()
        processes.send(found, number, *([signal.SIGCONT] if wake else ()))
        return len(found)

    def count(self) -> int:
        return len(self.members())

    def usage(self, seen: processes.Snapshot | None) -> Mapping[str, float | int]:
        return processes.usage(self.members(seen))

    def oom(self) -> bool:
        return False

    def account(self) -> Mapping[str, float | int]:
        """What is known better than by wait4: nothing here."""
        return {}

    def remove(self) -> None:
        """Nothing to take away."""
