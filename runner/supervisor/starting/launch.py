"""From a checked request to a process: identity, pipe, place, spawn."""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat

from runner.supervisor.capture import Capture
from runner.supervisor.failing import persistently
from runner.supervisor.loop import READ, now
from runner.supervisor.placing.cgroup import CgroupPlace
from runner.supervisor.request import HOME_MARK, MARK, BadRequest, StartRequest
from runner.supervisor.run import Run
from runner.supervisor.starting import spawn
from runner.supervisor.starting.child import read_report
from runner.supervisor.starting.command import Command
from runner.supervisor.starting.direct import Direct
from runner.supervisor.starting.mounts import Mounts
from runner.supervisor.starting.stepping import Stepping
from runner.supervisor.wire import close_all, in_memory

TYPE_CHECKING = False  # not imported from typing, which costs a megabyte
if TYPE_CHECKING:
    from collections.abc import Callable

    from runner.supervisor.placing.placement import Placement
    from runner.supervisor.policy import Policy
    from runner.supervisor.run import Host
    from runner.supervisor.users import Identity


class Launcher:
    """Starts runs. Whether a forked child works is known only when it has become the job, or has said why not."""

    def __init__(self, host: Host, users: Policy, placement: Placement, identity: str, start: str) -> None:
        self._host = host
        self.direct = Direct(start)
        self._users = users
        self._placement = placement
        self._identity = identity
        cgroups = placement.cgroups
        self._stepping = None if cgroups is None else Stepping(host.loop, cgroups.delegation.own)
        self._mounts = Mounts(host.loop)
        self._pending: dict[int, tuple[Run, int, bytearray, Callable[[Run], None]]] = {}

    def __len__(self) -> int:
        """How many are between fork and exec."""
        return len(self._pending)

    def prepare(self, request: StartRequest, owner: str, peer_uid: int, fds: list[int]) -> tuple[Run, Command]:
        """Everything before the process. Takes the spool file out of ``fds``. Raises BadRequest and OSError."""
        identity = self._users.identity(request.user, peer_uid, now())
        gid = self._users.group(identity, request.group)
        self._users.nice(request.nice)
        if len(fds) != 1:
            raise BadRequest("fds: must be 1, the spool file")
        _check_spool(fds[0])
        ours = theirs = -1
        stdin = None if request.stdin is None else in_memory("stdin", request.stdin.encode("utf-8", "surrogateescape"))
        try:
            ours, theirs = os.pipe2(os.O_CLOEXEC)
            os.set_blocking(ours, False)  # ours alone: the job's end is another open file, and stays blocking
            place, warnings = self._placement.make(request, identity.uid)
        except OSError:
            close_all([fd for fd in (stdin, ours, theirs) if fd is not None and fd >= 0])
            raise
        run = Run(request, owner, self._host, place, Capture(ours, fds.pop(), request.max_bytes))
        run.user, run.warnings = identity.name, warnings
        if request.secrets:
            run.capture.mask(request.secrets.values())
        command = Command(request.argv, request.cwd, theirs)
        command.stdin = stdin
        try:
            self._describe(command, request, identity, gid)
        except OSError:
            command.close()
            run.withdraw()
            raise
        return run, command

    def _describe(self, command: Command, request: StartRequest, identity: Identity, gid: int) -> None:
        command.env = dict(identity.environment)
        # What may stay behind must not be killed by the next supervisor.
        home = {} if request.keep_leftovers else {HOME_MARK: self._identity}
        command.overrides = {**request.env, **request.secrets, MARK: request.key, **home}
        command.env_files, command.redact = request.env_files, request.redact
        command.umask, command.nice = request.umask, request.nice
        command.processes = self._placement.process_limit(request.limits, identity.uid)
        if identity.uid != os.geteuid() or gid != os.getegid():
            command.uid, command.gid, command.groups = identity.uid, gid, identity.groups
            os.fchown(command.output, identity.uid, gid)  # so that the job may open /dev/stdout

    def launch(self, run: Run, command: Command, *, limits: frozenset[str], started: Callable[[Run], None]) -> None:
        """Make the process. ``started`` is called once it is the job, at once or later; not if it could not be.

        Raises SpawnError where that is known at once; later, the run ends with its ``start_error`` set.
        """
        try:
            if not self._mounts.may_hang(command.paths()) and self._started_at_once(run, command, limits):
                started(run)
                return
            if isinstance(run.place, CgroupPlace) and command.cgroup is None:
                command.cgroup = run.place.open()
            pid, report = spawn.spawn_forked(command)
        finally:
            command.close()
        run.begin(pid)
        self._pending[pid] = (run, report, bytearray(), started)
        self._host.loop.watch(report, READ, lambda _events: self._on_report(pid))

    def _started_at_once(self, run: Run, command: Command, limits: frozenset[str]) -> bool:
        if self.direct.takes(command, limits):
            if isinstance(run.place, CgroupPlace):
                command.cgroup = run.place.open()
            pid = self.direct.start(command)
            if pid is not None:
                run.begin(pid)
                return True
            if not self.direct.why_not:  # something held this child up: no more waiting for it
                return False
        return command.plain and not limits and self._spawned_here(run, command)

    def _spawned_here(self, run: Run, command: Command) -> bool:
        if not isinstance(run.place, CgroupPlace):
            run.begin(spawn.spawn_here(command))
            return True
        if self._stepping is None or not self._stepping.wanted():
            return False
        pid = self._stepping.spawn(run.place, command)
        if pid is None:
            return False
        run.begin(pid)
        return True

    def _on_report(self, pid: int) -> None:
        try:
            self._read_report(pid)
        except BlockingIOError:
            return
        self._reported(pid)

    def _read_report(self, pid: int) -> None:
        _run, report, data, _started = self._pending[pid]
        while piece := os.read(report, 65536):
            data += piece

    def _reported(self, pid: int) -> None:
        run, report, data, started = self._pending.pop(pid)
        self._host.loop.unwatch(report)
        close_all([report])
        run.secrets, error = read_report(bytes(data))
        if error is not None:
            run.start_error, run.passing = (error.number, str(error)), error.passing
        else:
            started(run)

    def exited(self, pid: int) -> None:
        """The main process was reaped: if it was not the job yet, its report is complete now."""
        if pid in self._pending:
            with contextlib.suppress(OSError):
                persistently(lambda: self._read_report(pid))
            self._reported(pid)


def _check_spool(fd: int) -> None:
    """The file must be one that output can be put into at an offset."""
    flags = fcntl.fcntl(fd, fcntl.F_GETFL)
    if not stat.S_ISREG(os.fstat(fd).st_mode) or flags & os.O_APPEND or flags & os.O_ACCMODE == os.O_RDONLY:
        raise BadRequest("fds: must be a regular file, open for writing and not for appending")
