"""Spawning from inside of a run's cgroup: the supervisor steps into it, spawns, and steps back.

That saves a fork (`spawn` has the figures), but to move a process between cgroups the kernel takes a
lock that every fork and exit shares, and taking it waits for an RCU grace period: 8 to 16 ms in which everything here
stands still. Not so within about 16 ms after it was taken last (Linux 6.18, HZ=250). So stepping begins only when many
starts come together, and for as long as they do the lock is taken often, if need be by a move to where we are already.
"""

from __future__ import annotations

import os
from collections import deque

from runner.supervisor.loop import now
from runner.supervisor.starting import spawn

TYPE_CHECKING = False  # not imported from typing, which costs a megabyte
if TYPE_CHECKING:
    from runner.supervisor.loop import Loop, Timer
    from runner.supervisor.placing.cgroup import CgroupPlace
    from runner.supervisor.starting.command import Command

# A step saves 0.4 ms of CPU, the first one waits for 8 ms or more, and to keep at it costs 3 ms of CPU a second.
_MANY = 16
_WITHIN = 0.25
_EVERY = 0.008


class Stepping:
    """``own`` is the supervisor's cgroup."""

    def __init__(self, loop: Loop, own: str) -> None:
        self._loop = loop
        self._home = os.open(f"{own}/cgroup.procs", os.O_WRONLY | os.O_CLOEXEC)
        self._starts: deque[float] = deque(maxlen=_MANY)
        self._moved = 0.0
        self._timer: Timer | None = None

    def wanted(self) -> bool:
        """Whether to step for the start that is due. To be asked once for each."""
        self._starts.append(now())
        if self._timer is None and len(self._starts) == _MANY and now() - self._starts[0] <= _WITHIN:
            self._keep()
        return self._timer is not None

    def spawn(self, place: CgroupPlace, command: Command) -> int | None:
        """The pid of a process born in ``place``; None where that cannot be entered. Raises SpawnError."""
        try:
            place.enter()
        except OSError:
            return None
        place.home = self._step_back
        try:
            return spawn.spawn_here(command)
        finally:
            try:
                self._step_back()
            except OSError:
                pass  # the place does it again, before anything in it is killed
            else:
                place.home = None

    def _step_back(self) -> None:
        """Out of the cgroup of a run. Raises OSError."""
        os.write(self._home, b"0")
        self._moved = now()

    def _keep(self) -> None:
        """Move at least every `_EVERY` seconds, until `_WITHIN` after the last start."""
        self._timer = None
        if now() - self._starts[-1] > _WITHIN:
            return
        if now() - self._moved >= _EVERY:
            try:
                self._step_back()
            except OSError:  # then runs are forked into their cgroups
                return
        self._timer = self._loop.at(self._moved + _EVERY, self._keep)
