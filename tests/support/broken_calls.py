"""Calls of the system that fail where a plan says, and an account of every descriptor.

Only calls made by the supervisor's own modules count. A place is the function that is called and the line that calls
it. For a world of its own, a forked process: nothing is ever put back.
"""

from __future__ import annotations

import errno
import fcntl
import os
import resource
import select
import signal
import socket
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.supervisor import libc
from runner.supervisor.starting import direct

if TYPE_CHECKING:
    from collections.abc import Callable

ERRORS = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO, errno.EAGAIN, errno.EINTR)
_OS = (
    "chdir", "close", "copy_file_range", "dup", "dup2", "execve", "fchown", "fstat", "ftruncate", "kill", "killpg",
    "listdir", "lseek", "memfd_create", "mkdir", "open", "pidfd_open", "pipe2", "posix_spawn", "pread", "pwrite",
    "read", "rmdir", "scandir", "set_blocking", "setsid", "splice", "stat", "unlink", "wait4", "write",
)  # fmt: skip
_SOCKET = ("accept", "close", "getsockopt", "recvmsg", "send", "setblocking")
_OURS = "runner.supervisor."
_MAKING = frozenset(
    {"accept", "listdir", "memfd_create", "open", "pidfd_open", "pipe2", "posix_spawn", "scandir", "dup", "spawn"}
)


class Plan:
    """Which visits of which places fail, and with what. ``lack`` is a stretch of counted calls in which no descriptor
    can be made, ``burst`` one in which nothing works."""

    def __init__(self) -> None:
        self.visits: dict[tuple[str, int], int] = {}
        self.burst = self.lack = range(0)


class Broken:
    """Installed in this process for good by its making. Failing begins with `begin`."""

    def __init__(self) -> None:
        self.plan = Plan()
        self.places: Counter[str] = Counter()
        self.failed: list[str] = []
        self.closed_twice: list[str] = []
        self.on = False
        self._count = 0
        self._sentinel = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
        self._dead: set[int] = set()
        self._dup2, self._close = os.dup2, os.close
        for name in _OS:
            self._replace(os, name)
        for name in _SOCKET:
            self._replace(socket.socket, name)
        for owner, name in (
            (signal, "pidfd_send_signal"), (fcntl, "fcntl"), (resource, "setrlimit"), (libc, "punch_hole"),
            (libc, "fork_into"),
        ):  # fmt: skip
            self._replace(owner, name)
        if not direct._missing:  # noqa: SLF001
            direct._spawn = self._spawn(direct._spawn)  # type: ignore[assignment]  # noqa: SLF001
        select.epoll = self._epoll()  # type: ignore[misc]

    def begin(self, plan: Plan) -> None:
        self.plan, self.on, self._count = plan, True, 0
        self.places.clear()

    def descriptors(self) -> dict[int, str]:
        """What is open, less the numbers that were closed: they are held, so that none comes again."""
        found = {}
        for entry in Path("/proc/self/fd").iterdir():
            number = int(entry.name)
            try:
                target = str(entry.readlink())
            except OSError:  # the one that lists
                continue
            if number not in self._dead and number != self._sentinel:
                found[number] = target
        return found

    def _replace(self, owner: Any, name: str) -> None:
        real = getattr(owner, name)
        closing = name == "close"
        bury = self._bury_socket if owner is socket.socket else self._bury

        def call(*given: Any, **named: Any) -> Any:
            frame = sys._getframe(1)  # noqa: SLF001 - who calls is what it is about
            fault = self._fault(name, frame)
            if closing:
                bury(given[0], f"{frame.f_code.co_filename.rpartition('/')[2]}:{frame.f_lineno}")
            if fault is not None:
                raise fault
            return None if closing else real(*given, **named)

        setattr(owner, name, call)

    def _fault(self, name: str, frame: Any) -> OSError | None:
        if not self.on or not frame.f_globals["__name__"].startswith(_OURS):
            return None
        place = f"{name} {frame.f_globals['__name__'].removeprefix(_OURS)}:{frame.f_lineno}"
        self.places[place] += 1
        self._count += 1
        number = self.plan.visits.get((place, self.places[place]))
        if number is None and self._count in self.plan.burst:
            number = errno.ENOMEM
        if number is None and self._count in self.plan.lack and name in _MAKING:
            number = errno.EMFILE
        if number is None:
            return None
        self.failed.append(f"{place} visit {self.places[place]}: {errno.errorcode[number]}")
        return OSError(number, os.strerror(number))

    def _bury(self, number: int, where: str) -> None:
        if number in self._dead:
            self.closed_twice.append(f"{number} at {where}")
            return
        os.fstat(number)  # EBADF for what was never open
        self._dup2(self._sentinel, number, inheritable=False)
        self._dead.add(number)

    def _bury_socket(self, sock: socket.socket, where: str) -> None:
        if sock.fileno() >= 0:
            self._bury(sock.detach(), where)

    def _spawn(self, real: Any) -> Any:
        """The direct start, which fails by what it returns: at clone3, in the child, or cut off on the way."""
        broken = self

        class Spawn:
            def start(self, *given: Any) -> tuple[int, int, int, bool]:
                fault = broken._fault("spawn", sys._getframe(1))  # noqa: SLF001
                if fault is None:
                    return real.start(*given)  # type: ignore[no-any-return]
                if fault.errno == errno.EINTR:
                    return 0, real.CUT_OFF, 0, False
                step = real.PLACE_OPEN if fault.errno in (errno.EMFILE, errno.ENFILE, errno.EIO) else real.CLONE
                return 0, step, fault.errno or errno.EIO, False

            def __getattr__(self, name: str) -> int:
                return getattr(real, name)  # type: ignore[no-any-return]

        return Spawn()

    def _epoll(self) -> Callable[[], Any]:
        real = select.epoll
        broken = self

        class Epoll:
            def __init__(self) -> None:
                self._epoll = real()

            def poll(self, timeout: float, most: int) -> list[tuple[int, int]]:
                fault = broken._fault("poll", sys._getframe(1))  # noqa: SLF001
                if fault is not None:
                    raise fault
                return self._epoll.poll(min(timeout, 0.004) if timeout >= 0 else 0.004, most)

            def __getattr__(self, name: str) -> Callable[..., None]:
                def call(*given: int) -> None:
                    fault = broken._fault(name, sys._getframe(1))  # noqa: SLF001
                    if fault is not None:
                        raise fault
                    getattr(self._epoll, name)(*given)

                return call

        return Epoll
