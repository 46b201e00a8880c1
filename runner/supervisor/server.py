"""The supervisor: one loop, in which requests, deadlines and exits change the table of runs."""

from __future__ import annotations

import contextlib
import gc
import heapq
import os
import signal
from functools import partial

from runner import __version__
from runner.supervisor import handover, lack, notify
from runner.supervisor import request as requests
from runner.supervisor.clients import Clients
from runner.supervisor.failing import say
from runner.supervisor.growth import Growth
from runner.supervisor.home import identity_of
from runner.supervisor.lack import Lack
from runner.supervisor.loop import READ, Loop, guarded, now
from runner.supervisor.notes import Notes
from runner.supervisor.placing import processes
from runner.supervisor.placing.placement import Placement
from runner.supervisor.records import Records
from runner.supervisor.remnants import Remnants
from runner.supervisor.report import facts, started
from runner.supervisor.request import BadRequest, StartRequest
from runner.supervisor.starting import command
from runner.supervisor.starting.command import SpawnError
from runner.supervisor.starting.launch import Launcher
from runner.supervisor.ties import Ties
from runner.supervisor.wire import PROTOCOL, close_all

TYPE_CHECKING = False  # not imported from typing, which costs a megabyte
if TYPE_CHECKING:
    import socket
    from collections.abc import Callable
    from resource import struct_rusage
    from typing import Any

    from runner.supervisor.options import Options
    from runner.supervisor.policy import Policy
    from runner.supervisor.run import Run
    from runner.supervisor.wire import Connection

    Operation = Callable[[Connection, dict[str, Any], list[int]], dict[str, Any] | None]

_KILLED_WITHIN = 30.0  # after the longest grace
_REAP_AGAIN = 0.05
_SWEEP_EVERY = 30.0
_PAGE = 500  # runs in one answer to list


class Supervisor:
    """Everything there is; one thread, driven by `serve`."""

    def __init__(self, listener: socket.socket, users: Policy, options: Options, home: str, instance: str) -> None:
        self.loop = Loop()
        self.instance = instance
        self.listener = listener
        self.runs: dict[str, Run] = {}
        self.mains: dict[int, Run | None] = {}  # main processes that have not been reaped; None: the agent, a probe
        self.records = Records(home + ".records")
        identity = self.identity = identity_of(home)
        self.placement = Placement(options.placement, options.cgroup, identity, self.mains.keys)
        self.clients = Clients(self.loop, listener, self._answer, lambda client: self._ties.gone(client.owner))
        self._ties = Ties(self.loop, self.clients, self._end_tied)
        self._users = users
        self._launcher = Launcher(self, users, self.placement, identity, options.start)
        self._linger = options.linger
        self._idle_since: float | None = None
        self._growth = Growth(self.loop, self.clients)
        self.grew = self._growth.add
        self._remnants = Remnants(self.loop, self.clients)
        self.discard = self._remnants.add
        self._sweeping = False
        self._boot_id = processes.boot_id()
        self.notes = Notes(home + ".runs", self._boot_id)
        self.stopping = False
        self.on_signal: Callable[[int], None] = lambda _number: None
        self.on_child: Callable[[int, int], None] = lambda _pid, _status: None
        self._operations: dict[str, Operation] = {
            "hello": self._hello, "start": self._start, "stop": self._stop, "signal": self._signal, "list": self._list,
            "ack": self._ack, "usage": self._usage,
        }  # fmt: skip

    def move(self, listener: socket.socket) -> None:
        """Listen there from now on; what is kept beside the socket is written there too."""
        before, self.listener = self.listener, listener
        self.clients.move(listener)
        before.close()
        self.records.write_again()
        self.notes.write_again()

    def hear(self) -> None:
        """From here on signals are not fatal: they wait for `serve`."""
        wake, theirs = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(theirs, warn_on_full_buffer=False)
        for number in command.HANDLED:
            signal.signal(number, lambda *_: None)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())  # held since before self-replacement
        self.loop.watch(wake, READ, lambda _events: self._on_signals(os.read(wake, 4096)))

    def serve(self) -> None:
        """Until stopped and nothing runs any more, or idle for longer than ``--linger``."""
        self._reap()
        self._sweep_later()
        gc.freeze()  # no collection touches what is here to stay, and so no forked child copies it for that
        while not self._done():
            self.loop.turn()
            self.clients.flush()
        self.records.spill_all()

    def _done(self) -> bool:
        if self.stopping:
            return not self.runs
        if (
            self.runs
            or len(self.clients)
            or len(self.records)
            or self._linger is None
            or self.mains
            or len(self._remnants)
        ):
            self._idle_since = None
            return False
        if self._idle_since is None:
            self._idle_since = now()
            self.loop.at(self._idle_since + self._linger, lambda: None)
        return now() - self._idle_since >= self._linger

    def stop(self) -> None:
        """Stop all jobs with their signal and grace; `serve` returns when they are gone."""
        self.stopping = True
        for run in list(self.runs.values()):
            run.stop("shutdown", "the supervisor was stopped")
        last = max((run.kill_at or 0.0 for run in self.runs.values()), default=0.0)
        within = max(last - now(), 0.0) + _KILLED_WITHIN
        notify.tell("STOPPING=1", f"EXTEND_TIMEOUT_USEC={int(within * 1e6)}")

    def _on_signals(self, numbers: bytes) -> None:
        for number in sorted(set(numbers)):
            guarded(self._reap if number == signal.SIGCHLD else partial(self.on_signal, number))

    def _reap(self) -> None:
        """Collect every child that has ended: main processes, and orphans that became ours."""
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return
            except OSError:  # no signal comes again for those that are left
                self.loop.at(now() + _REAP_AGAIN, self._reap)
                return
            if pid == 0:
                return
            if pid in self.mains:
                run = self.mains.pop(pid)
                guarded(partial(self._reaped, pid, run, status, usage))

    def _reaped(self, pid: int, run: Run | None, status: int, usage: struct_rusage) -> None:
        if run is None:
            self.on_child(pid, status)
            return
        self._launcher.exited(pid)
        if run.start_error is not None:
            run.failed(*run.start_error, passing=run.passing)
        else:
            run.main_ended(status, usage)

    # -- requests

    def _answer(self, client: Connection, message: dict[str, Any], fds: list[int]) -> None:
        try:
            answer = self._operation(client, str(message.get("op")))(client, message, fds)
        except BadRequest as error:
            answer = {"ok": False, "code": error.code, "error": str(error)}
        except (OSError, MemoryError) as error:
            passing = isinstance(error, MemoryError) or lack.passes(error.errno)
            answer = {"ok": False, "code": "lack" if passing else "failed", "error": f"cannot do that now: {error}"}
        finally:
            close_all(fds)
        if answer is not None:
            self.clients.tell(client, {"id": message.get("id"), "ok": True, **answer})

    def _operation(self, client: Connection, name: str) -> Operation:
        if not client.owner and name != "hello":
            raise BadRequest("cannot take a request before hello: say hello first", "protocol")
        if name not in self._operations:
            raise BadRequest(f"cannot do {name[:64]!r}: knows {', '.join(self._operations)}", "unknown_op")
        return self._operations[name]

    def _hello(self, client: Connection, message: dict[str, Any], _fds: list[int]) -> dict[str, Any]:
        if message.get("protocol") != PROTOCOL:
            raise BadRequest(
                f"cannot talk: the client speaks protocol {str(message.get('protocol'))[:20]}, this supervisor "
                f"({__version__}) speaks {PROTOCOL}; run the same version of both",
                "protocol_version",
            )
        client.owner = requests.text(message, "owner", "agent", most=128) or "agent"
        error = self._users.default_error()
        return {
            "protocol": PROTOCOL, "version": __version__, "pid": os.getpid(), "boot_id": self._boot_id,
            "instance": self.instance, "uid": os.geteuid(), "default_user": None if error else self._users.default,
            "default_user_error": error, "placement": self.placement.name, "controllers": self.placement.controllers,
            "warnings": [*self.placement.warnings, *self._users.warnings], "fds": command.descriptors.at_once,
            "start": self._launcher.direct.name, "secrets": True,
        }  # fmt: skip

    def _start(self, client: Connection, message: dict[str, Any], fds: list[int]) -> dict[str, Any] | None:
        request = StartRequest(message)
        known = self._known(client.owner, request.key)
        if known is not None and "pending" in known:
            self.runs[request.key].asked_by = (
                client,
                message.get("id"),
            )  # by a connection before: it is told to this one
            return None
        if known is not None:
            return known
        if self.stopping:
            raise BadRequest("cannot start a run: the supervisor is stopping", "stopping")
        if self.records.full:
            raise BadRequest(
                "cannot start a run: too many unacknowledged records; start the agent, or make room on the disk", "full"
            )
        if fds and fds[0] >= command.descriptors.reserve:
            raise Lack("cannot start a run: no descriptor is left for it; raise the supervisor's LimitNOFILE")
        run, prepared = self._launcher.prepare(request, client.owner, client.peer_uid, fds)
        self.runs[run.key] = run
        if request.tied:
            run.tied = True
            self._ties.tie(run.key, client.owner)
        run.asked_by = client, message.get("id")
        try:
            self._launcher.launch(run, prepared, limits=frozenset(request.limits), started=self._tell_started)
        except SpawnError as error:
            run.failed(error.number, str(error), passing=error.passing)
        except OSError:  # before there was a process: it is as if nothing had been asked
            del self.runs[run.key]
            self._ties.forget(run.key)
            run.withdraw()
            raise
        return None

    def _tell_started(self, run: Run) -> None:
        """Answer its start, whatever came of it."""
        if run.announced or run.asked_by is None:
            return
        client, number = run.asked_by
        run.announced = True
        if run.passing:
            assert run.start_error is not None
            answer = {"ok": False, "code": "lack", "error": run.start_error[1]}
        else:
            answer = {"ok": True, **started(run)}
        self.clients.tell(client, {"id": number, **answer})

    def _known(self, owner: str, key: str) -> dict[str, Any] | None:
        run = self.runs.get(key)
        if run is None:
            return self.records.find(owner, key)
        if run.owner != owner:
            raise BadRequest("key: is another client's", "taken")
        return facts(run)

    def _stop(self, client: Connection, message: dict[str, Any], _fds: list[int]) -> dict[str, Any]:
        run = self.runs.get(requests.text(message, "key"))
        if run is None or run.owner != client.owner:
            return {"found": False}
        cause, detail = requests.cause(message), requests.text(message, "detail", "", most=1024)
        run.stop(cause, detail, requests.seconds(message, "grace"))
        return {"found": True}

    def _signal(self, client: Connection, message: dict[str, Any], _fds: list[int]) -> dict[str, Any]:
        """To all of its processes, and nothing follows from it: what ends by it was ended by somebody else."""
        number = requests.whole(message, "number", None, 1, signal.SIGRTMAX)
        run = self.runs.get(requests.text(message, "key"))
        if run is None or run.owner != client.owner or number is None:
            return {"found": False}
        return {"found": True, "processes": run.place.signal(number, wake=False)}

    def _list(self, client: Connection, message: dict[str, Any], _fds: list[int]) -> dict[str, Any]:
        """In pages, by key, so that any number fits into frames."""
        after = requests.text(message, "after", "")
        alive = [key for key, run in self.runs.items() if run.owner == client.owner]
        keys = (key for key in (*alive, *self.records.keys(client.owner)) if key > after)
        page = heapq.nsmallest(_PAGE, keys)
        found = [self._found(client.owner, key) for key in page]
        return {"runs": [item for item in found if item], "after": page[-1] if len(page) == _PAGE else None}

    def _found(self, owner: str, key: str) -> dict[str, Any] | None:
        """For `_list`: one record that the disk does not give back must not hide all others."""
        try:
            return self._known(owner, key)
        except OSError as error:
            say(f"run {key}: cannot read its record: {error}; it will count as lost")
            return None

    def _ack(self, client: Connection, message: dict[str, Any], _fds: list[int]) -> dict[str, Any]:
        for key in requests.texts(message, "keys"):
            self.records.forget(client.owner, key)
            self._ties.forget(key)
        return {}

    def _usage(self, client: Connection, _message: dict[str, Any], _fds: list[int]) -> dict[str, Any]:
        # Without cgroups one look at all processes has to do for all runs: each look costs as many reads.
        seen = processes.Snapshot() if self.placement.name == "session" and self.runs else None
        used = {}
        for key, run in self.runs.items():
            if run.owner == client.owner:
                with contextlib.suppress(OSError):  # not to be known at this moment
                    used[key] = run.place.usage(seen)
        return {"usage": used}

    def _end_tied(self, owner: str, key: str) -> None:
        run = self.runs.get(key)
        if run is not None:
            run.stop("cancel", "its client went away")
        else:
            self.records.forget(owner, key)

    # -- what happens to runs

    def began(self, run: Run) -> None:
        """Its main process exists."""
        self.mains[run.pid] = run
        self._note(run)

    def _note(self, run: Run) -> None:
        if self.placement.cgroups is None or run.keep:  # else its cgroup says all
            self.notes.began(run.pid, keep=run.keep)

    def ended(self, run: Run) -> None:
        """Its record is complete: keep it, then say so."""
        self._growth.drop(run)
        if run.passing:  # it has not been: its start is asked for again
            self._ties.forget(run.key)
        elif not run.tied or run.key in self._ties:
            self.records.keep(run.owner, facts(run), attended=self.clients.attended(run.owner))
        del self.runs[run.key]
        self.notes.ended(run.pid)
        self._sweep_later()
        if run.announced:
            self.clients.notify(run.owner, {"notice": "exited", "key": run.key, "record": run.record})
        else:
            self._tell_started(run)

    def _sweep_later(self) -> None:
        if not self._sweeping and self.placement.left:
            self._sweeping = True
            self.loop.at(now() + _SWEEP_EVERY, self._sweep)

    def _sweep(self) -> None:
        self._sweeping = False
        self.placement.sweep()
        self._sweep_later()

    # -- self-replacement

    def state(self) -> dict[str, Any]:
        """All that a successor in this process needs."""
        return {
            "runs": [handover.dump_run(run) for run in self.runs.values()],
            "records": self.records.in_memory(), "discarded": self._remnants.pipes(),
            "remnants": self._remnants.state(),
            "nofile": command.descriptors.given, "made": self.placement.made, "ties": self._ties.state(),
        }  # fmt: skip

    def descriptors(self) -> list[int]:
        """What of `state` is a descriptor."""
        fds = [fd for run in self.runs.values() for fd in (run.capture.pipe, run.capture.file, run.capture.secrets)]
        return [fd for fd in fds if fd >= 0] + self._remnants.pipes()

    @property
    def settled(self) -> bool:
        """Whether no child is between fork and exec: its report cannot be handed over."""
        return not len(self._launcher)

    def take_over(self, estate: handover.Estate) -> None:
        """Go on with what a predecessor in this process has left."""
        self.placement.made = estate.made
        command.descriptors.was(estate.nofile)
        handover.inherit(estate.descriptors(), False)
        self._remnants.restore(estate.discarded, estate.remnants)
        for owner, entry in estate.records:
            self.records.keep(owner, entry, attended=True)
        for run in estate.runs:
            self.runs[run.key] = run
            if run.place.main:
                self.mains[run.pid] = run
            run.watch()
        self._ties.take_over(estate.ties)
        self.notes.start_anew(self.notes.read())
        for run in estate.runs:  # what a version before the notes has started
            if run.place.main:
                self._note(run)
