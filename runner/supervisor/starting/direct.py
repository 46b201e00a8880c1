"""The direct way to start a job, by `_spawn.c`: where that was built, and where the kernel lets it.

It is optional. Where it is not to be had, the ways of `spawn` serve, and why is said once; the same
job starts either way, and fails with the same words. A run waits for it, and so does the loop: at most for the 50 ms
after which the child is killed, to be started by a fork. Left to a fork from the first, as they might be slower or a
danger to us while they share our memory: runs that are to read environment files as the job's user, that may hang on
a network file system, and that are short of cpu or memory by their limits.
"""

from __future__ import annotations

import errno
import os

from runner.supervisor.failing import say
from runner.supervisor.placing.processes import read
from runner.supervisor.starting.command import SpawnError, candidates, descriptors, encoded
from runner.supervisor.starting.spawn import NOTHING
from runner.supervisor.starting.unstarted import explain_cwd, explain_exec, explain_nice, explain_preparation

TYPE_CHECKING = False  # not imported from typing, which costs a megabyte
if TYPE_CHECKING:
    from runner.supervisor.starting.command import Command

try:
    from runner.supervisor import _spawn

    _missing = ""
except ImportError as _error:
    _missing = "there was no C compiler, or no headers of Python, where this was installed"
    if "cannot import name" not in str(_error):  # it is there
        _missing = f"its library cannot be loaded ({_error})"

_AS_OURS = -1
_SAME_NICE = -(2**31)
_FORKED_ONLY = frozenset({"cpu", "memory"})
_EXITING, _NEVER_EXECUTED = 0x4, 0x40  # PF_EXITING and PF_FORKNOEXEC, of the ninth field in proc(5)'s stat
_SAID_BY_THE_FILE = (errno.ENOENT, errno.ENOEXEC)
_SAID = (1, 10, 100, 1000)


class Direct:
    """``why_not`` is empty while this is the way that is taken."""

    def __init__(self, wish: str = "auto") -> None:
        self.cut_off = 0  # children that did not get as far as exec
        self.why_not = "--start fork asks for the other way" if wish == "fork" else _missing or _traceable()
        if self.why_not and wish != "fork":
            say(f"starting jobs by fork, which costs more: the direct way is not taken, as {self.why_not}")

    @property
    def name(self) -> str:
        """For `hello`."""
        return f"fork: {self.why_not}" if self.why_not else "direct"

    def takes(self, command: Command, limits: frozenset[str]) -> bool:
        """Whether it is a run to be started this way."""
        return not self.why_not and not command.env_files and not limits & _FORKED_ONLY

    def start(self, command: Command) -> int | None:
        """The pid of the process that executes it; None where it is to be started another way. Raises SpawnError."""
        environment = command.environment()
        paths = candidates(command.argv[0], environment)
        try:
            pid, step, number, late = _spawn.start(
                paths,
                command.argv,
                [name + b"=" + value for name, value in environment.items()],
                encoded(command.cwd),
                NOTHING if command.stdin is None else command.stdin,
                command.output,
                _AS_OURS if command.cgroup is None else command.cgroup,
                command.groups,
                command.gid,
                _AS_OURS if command.uid is None else command.uid,
                _AS_OURS if command.umask is None else command.umask,
                _SAME_NICE if command.nice is None else command.nice,
                _AS_OURS if command.processes is None else command.most_processes(),
                descriptors.given,
                descriptors.hard,
            )
        except MemoryError as error:
            raise SpawnError(errno.ENOMEM, f"cannot start a process: {os.strerror(errno.ENOMEM)}") from error
        if step:
            self._failed(command, environment, step, number)
            return None
        if late and _died_before_exec(pid):
            os.waitpid(pid, 0)
            self._count()
            return None
        return pid

    def _failed(self, command: Command, environment: dict[bytes, bytes], step: int, number: int) -> None:
        """Returns where another way may do better. Raises SpawnError, with the words of the other ways."""
        error = OSError(number, os.strerror(number))
        if step == _spawn.CUT_OFF:
            self._count()
            return
        if step == _spawn.GUARD or (step == _spawn.CLONE and number in (errno.ENOSYS, errno.EPERM)):
            call = "clone3" if step == _spawn.CLONE else "timer_create"
            self.why_not = f"{call} is refused here ({error.strerror})"
            say(f"starting jobs by fork from now on, which costs more: {self.why_not}")
            return
        if step == _spawn.CLONE:
            raise SpawnError(number, f"cannot start a process: {error.strerror}")
        if step == _spawn.EXECUTE and number in _SAID_BY_THE_FILE:
            return  # a fork looks into it, with the eyes of the job's user
        if step == _spawn.EXECUTE:
            failure = explain_exec(error, command, environment, [])
        elif step == _spawn.DIRECTORY:
            failure = explain_cwd(error, command.cwd)
        elif step == _spawn.NICE:
            failure = explain_nice(error, command.nice)
        else:
            failure = explain_preparation(
                OSError(number, error.strerror, "cgroup.procs") if step == _spawn.PLACE_OPEN else error
            )
        failure.own = command.own_lack(number)
        raise failure

    def _count(self) -> None:
        self.cut_off += 1
        if self.cut_off in _SAID:
            say(
                f"starts that were cut off before the job was executed, and made again by fork: {self.cut_off} so far; "
                "by a busy host, or by another process of the job's user"
            )


def _traceable() -> str:
    """Why a child with another user's id could be read by that user while it has our memory; else nothing."""
    try:
        if os.geteuid() == 0 and read("/proc/sys/fs/suid_dumpable").strip() == b"1":
            return "fs.suid_dumpable is 1, by which others could read our memory"
    except OSError as error:
        return f"fs.suid_dumpable cannot be read ({error.strerror})"
    return ""


def _died_before_exec(pid: int) -> bool:
    """Of a child that is past exec or at its end: it is not reaped yet, so the number is its own."""
    while True:
        try:
            line = read(f"/proc/{pid}/stat")
        except OSError:  # then its end will tell
            return False
        flags = int(line[line.rindex(b")") + 2 :].split()[6])
        if not flags & _NEVER_EXECUTED:
            return False
        if flags & _EXITING:
            return True
