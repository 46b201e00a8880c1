"""How a job's process comes to be.

(The ways and their figures: see below; measured.)
"""

from __future__ import annotations

import contextlib
import errno
import fnmatch
import json
import os
import resource
import signal

from runner.supervisor import envfile, libc

TYPE_CHECKING = False  # not imported from typing, which costs a megabyte
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import NoReturn

_RESET = (signal.SIGPIPE, signal.SIGXFSZ)  # ignored by the interpreter, and "ignored" survives exec
_SIGNALS = signal.valid_signals()
_SEARCH_ON = (errno.ENOENT, errno.ENOTDIR, errno.EACCES, errno.ESTALE, errno.ENODEV, errno.ETIMEDOUT)


class Descriptors:
    """The limit of open files: a supervisor needs three for every run, but jobs get the limit it was started with.

    A higher one breaks programs that use select(2), or that close all descriptors one by one.
    """

    most = 65536

    def __init__(self) -> None:
        self.given, self.hard = resource.getrlimit(resource.RLIMIT_NOFILE)

    def raise_(self) -> None:
        """For the supervisor itself."""
        wanted = self.most if self.hard == resource.RLIM_INFINITY else min(self.most, self.hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(wanted, self.given), self.hard))

    def lower(self) -> None:
        """For what is about to be executed."""
        resource.setrlimit(resource.RLIMIT_NOFILE, (self.given, self.hard))


descriptors = Descriptors()


class SpawnError(Exception):
    """The command could not be executed. ``number`` is ENOENT only where it is the command that was not found."""

    def __init__(self, number: int, text: str) -> None:
        super().__init__(text)
        self.number = number


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
        """Whether it needs nothing that only a forked child can do for itself."""
        return self.uid is None and self.nice is None and not self.env_files and self.processes is None

    def close(self) -> None:
        """Close the ends that were made for the child."""
        for fd in (self.output, self.stdin, self.cgroup):
            if fd is not None:
                os.close(fd)

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


def explain_exec(error: OSError, name: str, paths: list[bytes]) -> SpawnError:
    number = error.errno or errno.EIO
    text = os.strerror(number)
    if number == errno.ENOENT and any(os.path.lexists(path) for path in paths):
        text = "its interpreter (#! line or loader) does not exist"
    elif number == errno.ENOEXEC:
        text = "it is no program and has no #! line"
    return SpawnError(number, f"cannot execute {name!r}: {text}")


def explain_cwd(error: OSError, cwd: str) -> SpawnError:
    # ENOENT is kept for "the command was not found", which a shell and the contract call 127.
    number = errno.ENOTDIR if error.errno == errno.ENOENT else error.errno or errno.EIO
    return SpawnError(number, f"cannot enter the working directory {cwd!r}: {os.strerror(error.errno or errno.EIO)}")


def spawn_here(command: Command) -> int:
    """Start it by posix_spawn: a vfork, so nothing is copied. For a `Command.plain`. Raises SpawnError.

    Working directory and umask are set around the call: this process has one thread, and a child of its own.
    """
    environment = command.environment()
    paths = candidates(command.argv[0], environment)
    if command.stdin is None:
        command.stdin = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
    actions = [(os.POSIX_SPAWN_DUP2, command.stdin, 0), *((os.POSIX_SPAWN_DUP2, command.output, fd) for fd in (1, 2))]

    def run(path: bytes) -> int:
        return os.posix_spawn(
            path, command.argv, environment, file_actions=actions, setsid=True, setsigmask=(), setsigdef=_RESET
        )

    with _surroundings(command):
        try:
            return execute(paths, run)
        except OSError as error:
            raise explain_exec(error, command.name, paths) from error


@contextlib.contextmanager
def _surroundings(command: Command) -> Iterator[None]:
    moved = command.cwd != "/"
    if moved:
        try:
            os.chdir(command.cwd)
        except OSError as error:
            raise explain_cwd(error, command.cwd) from error
    umask = os.umask(command.umask) if command.umask is not None else None
    try:
        descriptors.lower()
        yield
    finally:
        descriptors.raise_()
        if umask is not None:
            os.umask(umask)
        if moved:
            os.chdir("/")


def spawn_forked(command: Command) -> tuple[int, int]:
    """Start it by a fork that prepares itself. Returns the pid and the descriptor of its report.

    The report is read until its end, which is the exec: `read_report` tells what it says. Raises SpawnError where
    not even a process could be made.
    """
    report, theirs = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    os.set_blocking(theirs, True)
    # No signal may reach the child while it still has the supervisor's handlers.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        pid = _fork(command)
        if pid == 0:
            _become(command, theirs)
    except OSError as error:
        os.close(report)
        raise SpawnError(error.errno or errno.EAGAIN, f"cannot start a process: {error.strerror}") from error
    finally:
        os.close(theirs)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return pid, report


def _fork(command: Command) -> int:
    if command.cgroup is not None:
        try:
            return libc.fork_into(command.cgroup)
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.ENOMEM):
                raise
    try:
        pid = libc.fork_into(None)
    except OSError as error:
        if error.errno not in (errno.ENOSYS, errno.EPERM):
            raise
        pid = os.fork()  # seccomp filters of containers know no clone3
    if pid == 0 and command.cgroup is not None:
        fd = os.open("cgroup.procs", os.O_WRONLY | os.O_CLOEXEC, dir_fd=command.cgroup)
        os.write(fd, b"0")
    return pid


def _become(command: Command, report: int) -> NoReturn:
    """In the child: turn into the job. Whatever fails is said on ``report``."""
    try:
        try:
            _prepare(command)
            _enter(command)
            secrets = _read_env_files(command)
            if secrets:
                os.write(report, json.dumps({"secrets": secrets}).encode() + b"\n")
            environment = command.environment()
            paths = candidates(command.argv[0], environment)
            signal.pthread_sigmask(signal.SIG_SETMASK, ())
            try:
                execute(paths, lambda path: os.execve(path, command.argv, environment))  # noqa: S606 - a shell is the job's to ask for
            except OSError as error:
                raise explain_exec(error, command.name, paths) from error
        except SpawnError as error:
            os.write(report, json.dumps({"error": [error.number, str(error)]}).encode() + b"\n")
        except OSError as error:
            text = f"cannot prepare the process: {error}"
            os.write(report, json.dumps({"error": [error.errno or errno.EIO, text]}).encode() + b"\n")
    finally:
        os._exit(127)


def _prepare(command: Command) -> None:
    os.setsid()
    for number in _RESET:
        signal.signal(number, signal.SIG_DFL)
    stdin = command.stdin if command.stdin is not None else os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
    os.dup2(stdin, 0)
    os.dup2(command.output, 1)
    os.dup2(command.output, 2)
    if command.umask is not None:
        os.umask(command.umask)
    if command.nice is not None:
        try:
            os.setpriority(os.PRIO_PROCESS, 0, command.nice)
        except OSError as error:
            text = f"cannot set nice {command.nice}: {error.strerror}"
            raise SpawnError(error.errno or errno.EPERM, text) from error
    descriptors.lower()
    if command.processes is not None:
        resource.setrlimit(resource.RLIMIT_NPROC, (command.processes, command.processes))
    if command.uid is not None:
        os.setgroups(command.groups)
        os.setresgid(command.gid, command.gid, command.gid)
        os.setresuid(command.uid, command.uid, command.uid)


def _enter(command: Command) -> None:
    try:
        os.chdir(command.cwd)
    except OSError as error:
        raise explain_cwd(error, command.cwd) from error


def _read_env_files(command: Command) -> list[str]:
    secrets = []
    for path in command.env_files:
        try:
            found = envfile.read(path)
        except OSError as error:
            text = f"cannot read the environment file {path!r}: {error.strerror}"
            number = errno.EIO if error.errno in (None, errno.ENOENT) else error.errno
            raise SpawnError(number or errno.EIO, text) from error
        except ValueError as error:
            raise SpawnError(errno.EINVAL, f"cannot use the environment file {error}") from error
        command.env |= found
        secrets += [
            value for name, value in found.items() if any(fnmatch.fnmatchcase(name, glob) for glob in command.redact)
        ]
    return secrets


def read_report(data: bytes) -> tuple[list[str], SpawnError | None]:
    """What the child said before it was the job: the secrets of its environment files, and why it failed."""
    secrets: list[str] = []
    for line in data.splitlines():
        said = json.loads(line)
        secrets += said.get("secrets", [])
        if "error" in said:
            return secrets, SpawnError(*said["error"])
    return secrets, None
