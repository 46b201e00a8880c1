"""The loop's center: clients, their requests, the runs, the exits."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import stat

from runner import __version__
from runner.supervisor import processes, spawn
from runner.supervisor import request as requests
from runner.supervisor.capture import Capture
from runner.supervisor.loop import READ, WRITE, Loop, now
from runner.supervisor.records import Records
from runner.supervisor.request import BadRequest, StartRequest
from runner.supervisor.run import Run
from runner.supervisor.session import SessionPlace
from runner.supervisor.users import peer_allowed
from runner.supervisor.wire import PROTOCOL, Connection, Hangup, ProtocolError, close_all

TYPE_CHECKING = False  # not imported from typing, which costs a megabyte
if TYPE_CHECKING:
    import socket
    from collections.abc import Callable
    from resource import struct_rusage
    from typing import Any

    from runner.supervisor.users import Users

    Operation = Callable[[Connection, dict[str, Any], list[int]], dict[str, Any] | None]

OUTPUT_EVERY = 0.25


class Supervisor:
    """Everything there is; one thread, driven by `serve`."""

    def __init__(
        self, listener: socket.socket, users: Users, *, instance: str, linger: float | None, home: str
    ) -> None:
        self.loop = Loop()
        self.users = users
        self.instance = instance
        self.runs: dict[str, Run] = {}
        self.by_pid: dict[int, Run] = {}
        self.records = Records()
        self._home = home
        self._listener = listener
        self._linger = linger
        self._idle_since = 0.0
        self._clients: dict[int, Connection] = {}
        self._dirty: dict[int, Connection] = {}
        self._pending: dict[int, tuple[Connection, object, Run, int, bytearray]] = {}
        self._grown: dict[str, Run] = {}
        self._last_output = 0.0
        self._stopping = False
        self._boot_id = processes.boot_id()
        self._ops: dict[str, Operation] = {
            "hello": self._hello, "start": self._start, "stop": self._stop, "list": self._list, "ack": self._ack, "usage": self._usage,
        }  # fmt: skip

    def serve(self) -> None:
        wake, theirs = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(theirs, warn_on_full_buffer=False)
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda *_: None)
        self.loop.watch(wake, READ, lambda _events: self._on_signals(os.read(wake, 4096)))
        self.loop.watch(self._listener.fileno(), READ, lambda _events: self._accept())
        self._reap()
        while not self._done():
            self.loop.turn()
            self._flush()

    def _done(self) -> bool:
        if self._stopping:
            return not self.runs
        if self.runs or self._clients or len(self.records):
            self._idle_since = 0.0
            return False
        if not self._idle_since:
            self._idle_since = now()
            if self._linger is not None:
                self.loop.at(self._idle_since + self._linger, lambda: None)
        return self._linger is not None and now() - self._idle_since >= self._linger

    def _on_signals(self, numbers: bytes) -> None:
        if signal.SIGCHLD in numbers:
            self._reap()
        if signal.SIGTERM in numbers or signal.SIGINT in numbers:
            self._stopping = True
            for run in list(self.runs.values()):
                run.stop("shutdown", "the supervisor was stopped")

    # -- clients

    def _accept(self) -> None:
        try:
            sock, _address = self._listener.accept()
        except OSError:
            return
        client = Connection(sock)
        if not peer_allowed(client.peer_uid, client.peer_gid):
            client.close()
            return
        self._clients[sock.fileno()] = client
        self.loop.watch(sock.fileno(), READ, lambda events: self._on_client(client, events))

    def _on_client(self, client: Connection, events: int) -> None:
        try:
            if events & WRITE:
                self._dirty[client.sock.fileno()] = client
            if events & ~WRITE:
                for message, fds in client.receive():
                    self._answer(client, message, fds)
        except InterruptedError:
            pass
        except Hangup:
            self._drop(client)
        except ProtocolError as error:
            self._tell(client, {"ok": False, "code": "protocol", "error": str(error)})
            with contextlib.suppress(Hangup):
                client.flush()
            self._drop(client)

    def _drop(self, client: Connection) -> None:
        fd = client.sock.fileno()
        if fd < 0:
            return
        self.loop.unwatch(fd)
        self._clients.pop(fd, None)
        self._dirty.pop(fd, None)
        client.close()
        for run in list(self.runs.values()):
            if run.client is client:
                run.stop("cancel", "its client went away")

    def _tell(self, client: Connection, message: dict[str, Any]) -> None:
        if client.sock.fileno() >= 0:
            client.send(message)
            self._dirty[client.sock.fileno()] = client

    def _flush(self) -> None:
        dirty, self._dirty = self._dirty, {}
        for fd, client in dirty.items():
            try:
                client.flush()
                self.loop.change(fd, READ | WRITE if client.pending else READ)
            except Hangup:
                self._drop(client)

    def _notify(self, owner: str, message: dict[str, Any]) -> None:
        for client in self._clients.values():
            if client.owner == owner:
                self._tell(client, message)

    # -- requests

    def _answer(self, client: Connection, message: dict[str, Any], fds: list[int]) -> None:
        number = message.get("id")
        try:
            answer = self._operation(client, str(message.get("op")))(client, message, fds)
        except BadRequest as error:
            answer = {"ok": False, "code": error.code, "error": str(error)}
        finally:
            close_all(fds)
        if answer is not None:
            self._tell(client, {"id": number, "ok": True, **answer})

    def _operation(self, client: Connection, name: str) -> Operation:
        if not client.owner and name != "hello":
            raise BadRequest("cannot take a request before hello: say hello first", "protocol")
        if name not in self._ops:
            raise BadRequest(f"cannot do {name[:64]!r}: knows {', '.join(self._ops)}", "unknown_op")
        return self._ops[name]

    def _hello(self, client: Connection, message: dict[str, Any], _fds: list[int]) -> dict[str, Any]:
        if message.get("protocol") != PROTOCOL:
            raise BadRequest(
                f"cannot talk: the client speaks protocol {str(message.get('protocol'))[:20]}, this supervisor "
                f"({__version__}) speaks {PROTOCOL}; run the same version of both",
                "protocol_version",
            )
        client.owner = requests.text(message, "owner", "agent", most=128) or "agent"
        return {
            "protocol": PROTOCOL, "version": __version__, "pid": os.getpid(), "boot_id": self._boot_id,
            "instance": self.instance, "uid": os.geteuid(), "default_user": self.users.default,
            "default_user_error": self.users.default_error(), "placement": "session", "controllers": [],
            "warnings": [],
        }  # fmt: skip

    def _start(self, client: Connection, message: dict[str, Any], fds: list[int]) -> dict[str, Any] | None:
        request = StartRequest(message)
        known = self._known(client.owner, request.key)
        if known is not None:
            return known
        if self._stopping:
            raise BadRequest("cannot start a run: the supervisor is stopping", "stopping")
        identity = self.users.identity(request.user, client.peer_uid, now())
        gid = self.users.group(identity, request.group)
        if len(fds) != 1:
            raise BadRequest("fds: must be 1, the spool file")
        _check_spool(fds[0])
        ours, theirs = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(ours, False)
        command = spawn.Command(request.argv, request.cwd, theirs)
        mark = f"{requests.MARK}={request.key}"
        command.env = dict(identity.environment)
        command.overrides = request.env | {requests.MARK: request.key, requests.HOME_MARK: self._home}
        command.env_files, command.redact = request.env_files, request.redact
        command.umask, command.nice = request.umask, request.nice
        if identity.uid != os.geteuid() or gid != os.getegid():
            command.uid, command.gid, command.groups = identity.uid, gid, identity.groups
            os.fchown(theirs, identity.uid, gid)
        place = SessionPlace(mark.encode(), lambda: set(self.by_pid))
        run = Run(request, client.owner, self, place, Capture(ours, fds.pop(), request.max_bytes))
        run.user = identity.name
        run.client = client if request.tied else None
        self.runs[run.key] = run
        try:
            return self._spawn(run, command, request, client, message.get("id"))
        except spawn.SpawnError as error:
            run.failed(error.number, str(error))
            return self._known(client.owner, run.key)
        finally:
            os.close(theirs)
            if command.stdin is not None:
                os.close(command.stdin)

    def _spawn(
        self, run: Run, command: spawn.Command, request: StartRequest, client: Connection, number: object
    ) -> dict[str, Any] | None:
        if request.stdin is not None:
            command.stdin = _text_file(request.stdin)
        if command.plain:
            pid = spawn.spawn_here(command)
            self.by_pid[pid] = run
            run.begin(pid)
            return self._known(client.owner, run.key)
        pid, report = spawn.spawn_forked(command)
        self.by_pid[pid] = run
        run.begin(pid)
        self._pending[pid] = (client, number, run, report, bytearray())
        self.loop.watch(report, READ, lambda _events: self._on_report(pid))
        return None

    def _on_report(self, pid: int) -> None:
        client, number, run, report, data = self._pending[pid]
        try:
            while piece := os.read(report, 65536):
                data += piece
        except BlockingIOError:
            return
        self.loop.unwatch(report)
        os.close(report)
        del self._pending[pid]
        run.secrets, error = spawn.read_report(bytes(data))
        if error is not None:
            run.start_error = (error.number, str(error))
            run.answer = (client, number)
            return
        known = self._known(client.owner, run.key)
        if known is not None:
            self._tell(client, {"id": number, "ok": True, **known})

    def _known(self, owner: str, key: str) -> dict[str, Any] | None:
        run = self.runs.get(key)
        if run is None:
            return self.records.find(owner, key)
        if run.owner != owner:
            raise BadRequest("key: is another client's", "taken")
        return _facts(run)

    def _stop(self, client: Connection, message: dict[str, Any], _fds: list[int]) -> dict[str, Any]:
        run = self.runs.get(requests.text(message, "key"))
        found = run is not None and run.owner == client.owner
        if run is not None and found:
            cause = requests.cause(message)
            run.stop(cause, requests.text(message, "detail", "", most=1024), requests.seconds(message, "grace"))
        return {"found": found}

    def _list(self, client: Connection, _message: dict[str, Any], _fds: list[int]) -> dict[str, Any]:
        runs = [_facts(run) for run in self.runs.values() if run.owner == client.owner]
        ended = [self.records.find(client.owner, key) for key in self.records.keys(client.owner)]
        return {"runs": runs + ended}

    def _ack(self, client: Connection, message: dict[str, Any], _fds: list[int]) -> dict[str, Any]:
        for key in requests.texts(message, "keys"):
            self.records.forget(client.owner, key)
        return {}

    def _usage(self, client: Connection, _message: dict[str, Any], _fds: list[int]) -> dict[str, Any]:
        return {"usage": {key: run.place.usage() for key, run in self.runs.items() if run.owner == client.owner}}

    # -- what happens to runs

    def grew(self, run: Run) -> None:
        """Its file has grown: said at most every `OUTPUT_EVERY` seconds, for all runs together."""
        if not self._grown:
            self.loop.at(max(now(), self._last_output + OUTPUT_EVERY), self._tell_output)
        self._grown[run.key] = run

    def _tell_output(self) -> None:
        self._last_output = now()
        by_owner: dict[str, dict[str, int]] = {}
        for run in self._grown.values():
            by_owner.setdefault(run.owner, {})[run.key] = run.capture.offset
        self._grown = {}
        for owner, sizes in by_owner.items():
            self._notify(owner, {"notice": "output", "sizes": sizes})

    def _reap(self) -> None:
        """Collect every child that has ended: main processes, and orphans that became ours."""
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            run = self.by_pid.pop(pid, None)
            if run is not None:
                self._main_ended(run, pid, status, usage)

    def _main_ended(self, run: Run, pid: int, status: int, usage: struct_rusage) -> None:
        if pid in self._pending:
            self._on_report(pid)
        if run.start_error is not None:
            run.place.main = 0
            run.failed(*run.start_error)
        else:
            run.main_ended(status, usage)

    def ended(self, run: Run) -> None:
        """Its record is complete."""
        del self.runs[run.key]
        self._grown.pop(run.key, None)
        facts = _facts(run)
        self.records.keep(run.owner, facts)
        if run.answer is not None:
            client, number = run.answer
            self._tell(client, {"id": number, "ok": True, **facts})
        elif run.start_error is None:
            self._notify(run.owner, {"notice": "exited", "key": run.key, "record": run.record})
        if run.client is not None and run.client.sock.fileno() < 0:
            self.records.forget(run.owner, run.key)


def _facts(run: Run) -> dict[str, Any]:
    return {
        "key": run.key, "job": run.job, "run_id": run.run_id, "pid": run.pid, "start_ticks": run.start_ticks,
        "started_at": run.started_at, "started_boottime": run.started_boottime, "user": run.user,
        "secrets": run.secrets, "warnings": run.warnings, "bytes": run.capture.offset, "exit": run.record,
    }  # fmt: skip


def _check_spool(fd: int) -> None:
    """The file must be one that output can be put into at an offset."""
    flags = fcntl.fcntl(fd, fcntl.F_GETFL)
    if not stat.S_ISREG(os.fstat(fd).st_mode) or flags & os.O_APPEND or flags & os.O_ACCMODE == os.O_RDONLY:
        raise BadRequest("fds: must be a regular file, open for writing and not for appending")


def _text_file(text: str) -> int:
    fd = os.memfd_create("stdin", os.MFD_CLOEXEC)
    with os.fdopen(os.dup(fd), "wb") as file:
        file.write(text.encode("utf-8", "surrogateescape"))
    os.lseek(fd, 0, os.SEEK_SET)
    return fd
