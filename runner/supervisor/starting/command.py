"""What is to be executed: where it is looked for, what is said when it cannot be, and the limits it starts with."""

from __future__ import annotations

import errno
import os
import resource
import signal

from runner.supervisor import lack
from runner.supervisor.wire import close_all

TYPE_CHECKING = False  # not imported from typing, which costs a megabyte
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

# "Ignored" survives exec: what the interpreter ignores, and what whoever started us did (nohup, a shell's "&").
RESET = tuple(number for number in signal.valid_signals() if signal.getsignal(number) is signal.SIG_IGN)
HANDLED = (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_SEARCH_ON = (errno.ENOENT, errno.ENOTDIR, errno.EACCES, errno.ESTALE, errno.ENODEV, errno.ETIMEDOUT)


class Descriptors:
    """The limit of open files: a supervisor needs three for every run, but jobs get the limit it was started with.

    A higher one breaks programs that use select(2), or that close all descriptors one by one.
    """

    most = 65536

    def __init__(self) -> None:
        self.given, self.hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._limit(self.given)

    def was(self, given: int) -> None:
        """What it was before self-replacement; somebody may have lowered what is possible since (prlimit(1))."""
        self.given = given if self.hard == resource.RLIM_INFINITY else min(given, self.hard)

    def raise_(self) -> None:
        """For the supervisor itself."""
        wanted = self.most if self.hard == resource.RLIM_INFINITY else min(self.most, self.hard)
        self._limit(max(wanted, self.given))
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(wanted, self.given), self.hard))

    def _limit(self, limit: int) -> None:
        """What is kept free: for kills, looks into /proc, and the spool files that come `at_once` with requests.

        The kernel gives the lowest number that is free, so one from ``reserve`` on says that the rest is used up.
        """
        kept = min(limit // 4, 256)
        self.reserve = limit - kept
        self.at_once = max(1, min(200, kept - 12))

    def lower(self) -> None:
        """For what is about to be executed."""
        resource.setrlimit(resource.RLIMIT_NOFILE, (self.given, self.hard))


descriptors = Descriptors()


class SpawnError(Exception):
    """The command could not be executed. ``number`` is ENOENT only where it is the command that was not found.

    ``passing``: for a lack that passes; not one that the run's own limits make.
    """

    def __init__(self, number: int, text: str, *, own: bool = False) -> None:
        super().__init__(text)
        self.number = number
        self.own = own

    @property
    def passing(self) -> bool:
        return not self.own and lack.passes(self.number)


class Command:
    """What to execute, and as what. ``uid`` None keeps the supervisor's own user, group and groups.

    ``output`` is the pipe's end for stdout and stderr, ``stdin`` a descriptor or None for /dev/null, ``cgroup`` the
    directory that a forked child is born in.
    """

    __slots__ = (
        "argv", "cgroup", "cwd", "env", "env_files", "gid", "groups", "name", "nice", "output", "overrides",
        "processes", "redact", "stdin", "uid", "umask",
    )  # fmt: skip

    def __init__(self, argv: tuple[str, ...], cwd: str, output: int) -> None:
        self.name = argv[0]
        self.argv = [encoded(item) for item in argv]
        self.cwd = cwd
        self.output = output
        self.stdin: int | None = None
        self.env: dict[str, str] = {}
        self.overrides: Mapping[str, str] = {}
        self.env_files: tuple[str, ...] = ()
        self.redact: tuple[str, ...] = ()
        self.umask: int | None = None
        self.nice: int | None = None
        self.uid: int | None = None
        self.gid = 0
        self.groups: list[int] = []
        self.processes: int | None = None
        self.cgroup: int | None = None

    @property
    def plain(self) -> bool:
        """Whether it needs nothing that only a forked child can do for itself.

        posix_spawn refuses descriptors beyond the limit of open files (EBADF, by glibc), which is the job's by then.
        """
        ends = max(self.output, -1 if self.stdin is None else self.stdin)
        plain = self.uid is None and self.nice is None and not self.env_files and self.processes is None
        return plain and ends < descriptors.given

    def paths(self) -> list[str]:
        """Where it will be looked for, and where it runs."""
        search = "" if "/" in self.name else self.overrides.get("PATH") or self.env.get("PATH", "")
        return [self.cwd, self.name, *search.split(":")]

    def most_processes(self) -> int:
        """RLIMIT_NPROC of a run that has one. Root could raise it too: a request may only lower what the host set."""
        assert self.processes is not None
        _soft, hard = resource.getrlimit(resource.RLIMIT_NPROC)
        return self.processes if hard == resource.RLIM_INFINITY else min(self.processes, hard)

    def own_lack(self, number: int) -> bool:
        """Whether an error is by the run's own limit of processes: others' count too, and need not end."""
        return self.processes is not None and number == errno.EAGAIN

    def close(self) -> None:
        """Close the ends that were made for the child."""
        close_all([fd for fd in (self.output, self.stdin, self.cgroup) if fd is not None])

    def environment(self) -> dict[bytes, bytes]:
        return {encoded(name): encoded(value) for name, value in (self.env | dict(self.overrides)).items()}


def encoded(value: str) -> bytes:
    return value.encode("utf-8", "surrogateescape")


def candidates(name: bytes, environment: Mapping[bytes, bytes]) -> list[bytes]:
    """The paths to try, in order: as execvp, by the PATH of the job's environment. An empty entry is the cwd."""
    if b"/" in name:
        return [name]
    path = environment.get(b"PATH", b"/usr/local/bin:/usr/bin:/bin")
    return [(entry + b"/" if entry else b"./") + name for entry in path.split(b":")]


def execute(paths: list[bytes], run: Callable[[bytes], int]) -> int:
    """Call ``run`` with each path until one can be executed. Raises the OSError that says most."""
    refused: OSError | None = None
    for path in paths:
        if len(paths) > 1 and not os.path.lexists(path):
            continue
        try:
            return run(path)
        except OSError as error:
            if error.errno not in _SEARCH_ON:
                raise
            if refused is None or error.errno == errno.EACCES:
                refused = error
    raise refused or FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
