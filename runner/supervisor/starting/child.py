"""What a forked child does until it is the job: the supervisor's memory, none of its duties.

Whatever fails here must end in ``_exit``: a child that returned would be a second supervisor.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # of the standard library, but not of its documentation
import contextlib
import errno
import fnmatch
import json
import os
import resource

from runner.supervisor.starting import envfile
from runner.supervisor.starting.command import (
    HANDLED,
    RESET,
    Command,
    SpawnError,
    candidates,
    descriptors,
    execute,
)
from runner.supervisor.starting.unstarted import explain_cwd, explain_exec, explain_nice, explain_preparation

_TRIES = 100  # to report

TYPE_CHECKING = False  # not imported from typing, which costs a megabyte
if TYPE_CHECKING:
    from typing import NoReturn


def become(command: Command, environment: dict[bytes, bytes], report: int, *, placed: bool) -> NoReturn:
    """In the child: turn into the job. Whatever fails is said on ``report``.

    ``environment`` was built by the parent: every object that a child makes or touches is a page that is copied. So
    signals are set by the C module itself: the enums that `signal` wraps around it are a fifth of all pages.
    """
    try:
        try:
            if command.cgroup is not None and not placed:
                os.write(os.open("cgroup.procs", os.O_WRONLY | os.O_CLOEXEC, dir_fd=command.cgroup), b"0")
            _prepare(command)
            _enter(command)
            secrets = _read_env_files(command)
            if secrets:
                _say(report, {"secrets": secrets})
            if command.env_files:
                environment = command.environment()
            descriptors.lower()  # last: the supervisor's own are still open here, and no file could be opened after it
            paths = candidates(command.argv[0], environment)
            _signal.pthread_sigmask(_signal.SIG_SETMASK, ())
            try:
                execute(paths, lambda path: os.execve(path, command.argv, environment))  # noqa: S606 - no shell wanted
            except OSError as error:
                raise explain_exec(error, command, environment, paths) from error
        except SpawnError as error:
            _say(report, {"error": [error.number, str(error)], "own": command.own_lack(error.number)})
        except OSError as error:
            failure = explain_preparation(error)
            _say(report, {"error": [failure.number, str(failure)], "own": command.own_lack(failure.number)})
    finally:
        os._exit(127)


def _say(report: int, said: dict[str, object]) -> None:
    """Nobody else can: without it the end of this process counts as the job's."""
    line = json.dumps(said).encode() + b"\n"
    for _ in range(_TRIES):
        with contextlib.suppress(OSError):
            line = line[os.write(report, line) :]
            if not line:
                return
    raise OSError(errno.EIO, "cannot report to the supervisor")


def _prepare(command: Command) -> None:
    os.setsid()
    # The supervisor's handlers would tell the supervisor, through the pipe that wakes it, of the child's signals.
    _signal.set_wakeup_fd(-1)
    for number in (*RESET, *HANDLED):
        _signal.signal(number, _signal.SIG_DFL)
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
            raise explain_nice(error, command.nice) from error
    if command.processes is not None:
        most = command.most_processes()
        resource.setrlimit(resource.RLIMIT_NPROC, (most, most))
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
            text = f"cannot read the environment file {path!r}: {error.strerror}; make it readable for the job's user"
            number = errno.EIO if error.errno in (None, errno.ENOENT) else error.errno
            raise SpawnError(number or errno.EIO, text) from error
        except ValueError as error:
            raise SpawnError(errno.EINVAL, f"cannot use the environment file {error}") from error
        command.env |= found
        # As the agent matches: in any case.
        globs = [glob.upper() for glob in command.redact]
        secrets += [
            value for name, value in found.items() if any(fnmatch.fnmatchcase(name.upper(), glob) for glob in globs)
        ]
    return secrets


def read_report(data: bytes) -> tuple[list[str], SpawnError | None]:
    """What the child said before it was the job: the secrets of its environment files, and why it failed."""
    secrets: list[str] = []
    for line in data.splitlines():
        try:
            said = json.loads(line)
        except ValueError:  # it was killed while it wrote
            continue
        secrets += said.get("secrets", [])
        if "error" in said:
            return secrets, SpawnError(*said["error"], own=said.get("own", False))
    return secrets, None
