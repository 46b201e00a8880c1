"""How a job's process comes to be where `starting.direct` cannot start it: two ways, chosen by figures.

CPU of both sides per ``/bin/true``, from a bare interpreter of 11 MB (Linux 6.18, Python 3.11, milliseconds):

    posix_spawn, a vfork                              0.70   (own side 0.07)
    subprocess.Popen, a vfork                         0.70   (own side 0.10)
    subprocess.Popen(user=…), a fork                  1.43
    os.fork + exec                                    1.71 to 1.85
    clone3 without the interpreter's hooks + exec     1.28   (own side 0.31)
    clone3(CLONE_INTO_CGROUP) + setresuid + exec      1.25 to 1.65
    /bin/sh that enters the cgroup, then execs        1.71
    self into the cgroup, posix_spawn, self back      0.90   (but 8 ms of waiting after 20 ms without one)
    the direct way, as another user too               0.76   (own side 0.09)
    the direct way, in a cgroup too                   0.85   (own side 0.16)

- `spawn_here`, posix_spawn: a run as the supervisor's own user that needs no preparation. In a cgroup the
  supervisor steps into the run's cgroup around the call, but only while many are started (`stepping`
  has the reason); for a few, and with limits, the other way is taken.
- `spawn_forked`, clone3 straight into the cgroup: another user, nice, environment files, limits. The child
  prepares itself and says on a pipe what failed, so the loop does not wait for it.

Not taken: a supervisor whose user is the job's for the moment of a vfork (the job could signal and trace it), a
helper program (one more exec).

posix_spawn looks for the command while the loop waits, and would hold up every deadline where it hangs: a run with
a cwd, command or PATH on a network file system (`runner.supervisor.starting.mounts`) is forked too.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal

from runner.supervisor import libc
from runner.supervisor.failing import persistently, say
from runner.supervisor.starting.child import become
from runner.supervisor.starting.command import (
    RESET,
    Command,
    SpawnError,
    candidates,
    descriptors,
    execute,
)
from runner.supervisor.starting.unstarted import explain_cwd, explain_exec
from runner.supervisor.wire import close_all

TYPE_CHECKING = False  # not imported from typing, which costs a megabyte
if TYPE_CHECKING:
    from collections.abc import Callable

_SIGNALS = signal.valid_signals()
NOTHING = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)


def spawn_here(command: Command) -> int:
    """Start it by posix_spawn: a vfork, so nothing is copied. For a `Command.plain`. Raises SpawnError.

    Working directory and umask are set around the call: this process has one thread, and a child of its own.
    """
    environment = command.environment()
    paths = candidates(command.argv[0], environment)
    stdin = NOTHING if command.stdin is None else command.stdin
    actions = [(os.POSIX_SPAWN_DUP2, stdin, 0), *((os.POSIX_SPAWN_DUP2, command.output, fd) for fd in (1, 2))]

    def run(path: bytes) -> int:
        return os.posix_spawn(
            path, command.argv, environment, file_actions=actions, setsid=True, setsigmask=(), setsigdef=RESET
        )

    moved = command.cwd != "/"
    if moved:
        try:
            os.chdir(command.cwd)
        except OSError as error:
            raise explain_cwd(error, command.cwd) from error
    umask = os.umask(command.umask) if command.umask is not None else None
    try:
        descriptors.lower()
        return execute(paths, run)
    except OSError as error:
        raise explain_exec(error, command, environment, paths) from error
    finally:
        if umask is not None:
            os.umask(umask)
        put_back(descriptors.raise_)
        if moved:
            put_back(lambda: os.chdir("/"))


def keep_to_ourselves() -> None:
    """What whoever started us left open, as a shell's ``3>file`` is, is no job's: it closes on exec as all of ours."""
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208 - pathlib would cost most of a megabyte
        if int(name) > 2:
            with contextlib.suppress(OSError):  # the one that lists
                os.set_inheritable(int(name), False)


def put_back(step: Callable[[], None]) -> None:
    """There may be a process by now, which an error would leave without anybody who knows its pid."""
    try:
        persistently(step)
    except OSError as error:
        say(f"cannot put back what was changed for a start: {error}")


def spawn_forked(command: Command) -> tuple[int, int]:
    """Start it by a fork that prepares itself. Returns the pid and the descriptor of its report.

    The report is read until its end, which is the exec: `read_report` tells what it says. Raises SpawnError where
    not even a process could be made.
    """
    environment = command.environment()
    report, theirs = os.pipe2(os.O_CLOEXEC)
    # No signal may reach the child while it still has the supervisor's handlers.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        os.set_blocking(report, False)
        pid, placed = _fork(command)
        if pid == 0:
            become(command, environment, theirs, placed=placed)
    except OSError as error:
        close_all([report])
        raise SpawnError(error.errno or errno.EAGAIN, f"cannot start a process: {error.strerror}") from error
    finally:
        close_all([theirs])
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return pid, report


def _fork(command: Command) -> tuple[int, bool]:
    """The pid, and whether the child was born in its cgroup. Nothing here may fail in the child: it would go on as
    a second supervisor."""
    if command.cgroup is not None:
        try:
            return libc.fork_into(command.cgroup), True
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.ENOMEM):
                raise
    try:
        return libc.fork_into(None), False
    except OSError as error:
        if error.errno not in (errno.ENOSYS, errno.EPERM):
            raise
    return os.fork(), False  # filters of containers do not let clone3 through
