"""Worlds in which one call of the system after another fails under the supervisor's own classes.

    python tests/support/supervisor_worlds.py FIRST COUNT

Each seed is a world: a forked process with a `Supervisor`, real jobs, a client at its real socket, and a `Plan` of
failures. Time passes `FASTER` times as fast for the supervisor. What is broken is printed with its seed and history.
"""

from __future__ import annotations

import array
import errno
import json
import os
import random
import signal
import socket
import struct
import sys
import tempfile
import time
import traceback
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from broken_calls import ERRORS, Broken, Plan

from runner.supervisor import handover, libc, loop, server
from runner.supervisor.options import Options
from runner.supervisor.placing import processes
from runner.supervisor.policy import Policy

if TYPE_CHECKING:
    from collections.abc import Sequence

FASTER = 10
WITHIN = 12.0  # seconds of our time for one world
STUBBORN = "trap '' TERM; while :; do sleep 0.02; done"
# argv, fields of the request, and the bytes that it prints where it ends by itself
JOBS: dict[str, tuple[Sequence[str], dict[str, Any], int | None]] = {
    "plain": (("sh", "-c", "echo hello"), {}, 6),
    "forked": (("sh", "-c", "cat; exit 3"), {"nice": 1, "stdin": "twelve bytes"}, 12),
    "missing": (("/nonexistent/command",), {}, 0),
    "missing forked": (("/nonexistent/command",), {"nice": 1}, 0),
    "deadline": (("sh", "-c", STUBBORN), {"timeout": 0.5, "grace": 0.3}, None),
    "silent": (("sh", "-c", STUBBORN), {"no_output_timeout": 0.5, "grace": 0.3}, None),
    "cancelled": (("sh", "-c", STUBBORN), {"nice": 1, "grace": 0.3}, None),
    "tied": (("sh", "-c", STUBBORN), {"tied": True, "grace": 0.3}, None),
    "leaves": (("sh", "-c", f"({STUBBORN}) & setsid sh -c '{STUBBORN.replace(chr(39), chr(34))}' & echo gone"),
               {"grace": 0.3}, None),
    "keeps": (("sh", "-c", "(sleep 0.05; echo later) & echo gone"), {"leftovers": "keep"}, None),
    "placed": (("sh", "-c", "pwd; umask"), {"cwd": "/tmp", "umask": 0o27, "env_files": ["/dev/null"]}, 10),
    "as another": (("sh", "-c", "echo hello"), {"user": "nobody"}, 6),
    "here": (("sh", "-c", "pwd; umask"), {"cwd": "/tmp", "umask": 0o27}, 10),
    "loud": (("sh", "-c", "head -c 300000 /dev/zero"), {"max_bytes": 60000}, 300_000),
    "waits": (("sh", "-c", STUBBORN), {"grace": 0.2}, None),
}  # fmt: skip


class Client:
    """As the agent: connects again when it is dropped, asks again what was refused for the moment."""

    def __init__(self, path: str, directory: str, jobs: list[str]) -> None:
        self.path, self.directory, self.problems = path, directory, list[str]()
        self.wanted = {f"{name}/1": name for name in jobs}
        self.answered: dict[str, int] = {}
        self.ended: dict[str, dict[str, Any]] = {}
        self.notices: dict[str, int] = {}
        self._waiting: dict[int, dict[str, Any]] = {}
        self._number = 0
        self._inbox = b""
        self._sock: socket.socket | None = None
        self._look_at = 0.0

    def turn(self) -> None:
        if self._sock is None:
            self._connect()
        self._read()
        if time.monotonic() > self._look_at and self._sock is not None:  # what a notice that was lost would have said
            self._look_at = time.monotonic() + 0.3
            self.post({"op": "list"})

    def _connect(self) -> None:
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(self.path)
        sock.setblocking(False)
        self._sock, self._inbox, self._waiting = sock, b"", {}
        self.post({"op": "hello", "protocol": 1, "owner": "agent"})
        for key in self.wanted:
            if key not in self.ended and not (key.startswith("tied") and self.answered.get(key)):
                self.start(key)

    def start(self, key: str) -> None:
        argv, fields, _size = JOBS[self.wanted[key]]
        fd = os.open(self.spool(key), os.O_RDWR | os.O_CREAT, 0o600)
        env = {"PATH": os.environ["PATH"], "WORLD": self.directory}
        self.post({"op": "start", "fds": 1, "key": key, "argv": argv, "env": env, **fields}, fd)
        os.close(fd)

    def spool(self, key: str) -> str:
        return f"{self.directory}/{key.replace('/', '_')}"

    def post(self, message: dict[str, Any], fd: int | None = None) -> None:
        if self._sock is None:
            return
        self._number += 1
        self._waiting[self._number] = message
        body = json.dumps({"id": self._number, **message}).encode()
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))] if fd is not None else []
        try:
            self._sock.sendmsg([struct.pack(">I", len(body)) + body], rights, socket.MSG_NOSIGNAL)
        except OSError:
            self.hang_up()

    def hang_up(self) -> None:
        if self._sock is not None:
            self._sock.close()
        self._sock = None

    def _read(self) -> None:
        while self._sock is not None:
            try:
                data = self._sock.recv(1 << 20)
            except BlockingIOError:
                break
            except OSError:
                data = b""
            if not data:
                self.hang_up()
                return
            self._inbox += data
        while len(self._inbox) >= 4 and len(self._inbox) - 4 >= (size := int.from_bytes(self._inbox[:4], "big")):
            frame, self._inbox = json.loads(self._inbox[4 : 4 + size]), self._inbox[4 + size :]
            self._take(frame)

    def _take(self, frame: dict[str, Any]) -> None:
        if frame.get("notice") == "exited":
            self._ended(frame["key"], frame["record"], notice=True)
        if "id" not in frame:
            return
        asked = self._waiting.pop(frame["id"], None)
        if asked is None:
            self.problems.append(f"answered twice: {frame}")
        elif asked["op"] == "start":
            self._started(asked["key"], frame)
        elif asked["op"] == "list" and frame["ok"]:
            for known in frame["runs"]:
                if known.get("exit"):
                    self._ended(known["key"], known["exit"])

    def _started(self, key: str, frame: dict[str, Any]) -> None:
        if not frame["ok"]:
            self.start(key)
            return
        self.answered[key] = frame["pid"]
        if frame.get("exit"):
            self._ended(key, frame["exit"])
        elif key.startswith("cancelled"):
            self.post({"op": "stop", "key": key, "cause": "cancel"})

    def _ended(self, key: str, record: dict[str, Any], *, notice: bool = False) -> None:
        before = self.ended.setdefault(key, record)
        if notice:
            self.notices[key] = self.notices.get(key, 0) + 1
        if self.notices.get(key, 0) > 1 or json.dumps(before) != json.dumps(record):
            self.problems.append(f"ended twice: {key}: {before} {record}")
        if before is not record or JOBS[self.wanted[key]][1].get("leftovers") == "keep":
            return
        if left := living(key, self.directory):
            self.problems.append(f"ended, and left {left}: {key}: {record}")


def _no_holes(*_given: int) -> None:
    raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))


def living(key: str, directory: str) -> list[int]:
    marks = (f"CRON_RUNNER_EXECUTION={key}".encode(), f"WORLD={directory}".encode())
    return [
        pid
        for pid, item in processes.everything().items()
        if item.pid != os.getpid() and all(processes.marked(pid, mark) for mark in marks)
    ]


class World:
    """One supervisor in this process, from its making to its end."""

    def __init__(self, seed: int, directory: str) -> None:
        self.random = random.Random(seed)  # worlds are to come again
        self.broken = Broken()
        real = time.clock_gettime
        begun = real(time.CLOCK_BOOTTIME)
        loop.time = SimpleNamespace(  # type: ignore[assignment]
            CLOCK_BOOTTIME=time.CLOCK_BOOTTIME,
            sleep=time.sleep,
            clock_gettime=lambda clock: begun + (real(clock) - begun) * FASTER,
        )
        self.jobs = [*self.random.sample(sorted(set(JOBS) - {"waits"}), self.random.randint(1, 3)), "waits"]
        self.placement = self.random.choice(("session", "cgroup"))
        self.rings = self.random.random() < 0.5
        processes._CHILDREN = f"/proc/self/task/{os.getpid()}/children"  # noqa: SLF001 - this process is a fork
        path = f"{directory}/sock"
        Path(path + ".lock").touch()
        listener = socket.socket(socket.AF_UNIX)
        listener.setblocking(False)
        listener.bind(path)
        listener.listen()
        environ = {"CRON_RUNNER_RUN__USER": "root", "CRON_RUNNER_RUN__ALLOWED_USERS": "nobody"}
        self.start = self.random.choice(("auto", "auto", "fork"))
        options = Options(["--socket", path, "--placement", self.placement, "--start", self.start])
        policy = Policy(None, environ if os.geteuid() == 0 else {})
        self._make = lambda: server.Supervisor(listener, policy, options, path, "world")
        self.supervisor = self._born()
        self.replaced = self.random.random() < 0.3  # whether it replaces itself on the way
        self.client = Client(path, directory, self.jobs)
        if self.random.random() < 0.15:  # enough at once for the supervisor to step into their cgroups
            self.client.wanted |= {f"many{number}/1": "plain" for number in range(30)}
        self.hung = ""
        self._until = time.monotonic() + WITHIN
        self._stage = 0
        self._turns = 0

    def _born(self) -> server.Supervisor:
        made = self._make()
        made.on_signal = lambda _number: self.supervisor.stop()
        made.hear()
        self._real_done = made._done  # noqa: SLF001
        made._done = self._done  # type: ignore[method-assign]  # noqa: SLF001
        return made

    def _replace(self) -> None:
        """As by execv: what is not in the state is forgotten. From there is no way back, so nothing fails meanwhile."""
        self.replaced = False
        self.broken.on = False
        old = self.supervisor
        for connection in list(old.clients._connected.values()):  # noqa: SLF001
            self.client.hang_up()
            connection.close()
        state = json.loads(json.dumps(old.state()))
        signal.set_wakeup_fd(-1)
        for fd in old.loop._handlers:  # noqa: SLF001
            old.loop._disarm(fd)  # noqa: SLF001
        self.supervisor = self._born()
        self.supervisor.take_over(handover.Estate(state, self.supervisor, self.supervisor.placement))
        self.supervisor.records.load()
        handed = old.descriptors()
        self.before |= {fd: what for fd, what in self.broken.descriptors().items() if fd not in handed}
        self.broken.on = True

    def plan(self, places: Sequence[str]) -> Plan:
        """What fails: one place once, or twice, or at its next visit but one; or a stretch of all calls."""
        plan = Plan()
        kind = self.random.choice(("once", "again", "again", "later", "burst", "lack"))
        begin = self.random.randint(1, 300)
        if kind == "burst":
            plan.burst = range(begin, begin + self.random.randint(2, 40))
        elif kind == "lack":
            plan.lack = range(begin, begin + self.random.randint(2, 400))
        else:
            place, number = self.random.choice(places), self.random.choice(ERRORS)
            visit = self.random.choice((1, 1, 1, 2, 3))
            plan.visits[place, visit] = number
            if kind != "once":
                plan.visits[place, visit + (1 if kind == "again" else self.random.randint(2, 5))] = number
        return plan

    def run(self, plan: Plan) -> None:
        self.before = self.broken.descriptors()
        if self.rings:
            libc.punch_hole = _no_holes
        self.broken.begin(plan)
        self.supervisor.serve()
        if self.replaced and self._stage < 2 and self._turns > 30 and not self.hung:
            self._replace()
            self.supervisor.serve()
        self.broken.on = False
        self.client.hang_up()
        self.supervisor.placement.close()
        if not self.hung:
            self._look_back()

    def _done(self) -> bool:
        """Called by `serve` at every turn. What the world itself asks of the system does not fail."""
        self.broken.on = False
        try:
            return self._turn()
        finally:
            self.broken.on = True

    def _turn(self) -> bool:
        """The client's turn, and what the world does next."""
        if time.monotonic() > self._until:
            runs = [(run.key, run.pid, run.wait_status, run.killing) for run in self.supervisor.runs.values()]
            self.hung = f"not over after {WITHIN} s: stage {self._stage}, ended {list(self.client.ended)}, {runs}"
            return True
        client = self.client
        self._turns += 1
        if self.replaced and self._stage < 2 and self._turns > 30 and self.supervisor.settled:
            return True
        if self._stage == 0 or (self._stage < 3 and "tied/1" not in self.supervisor.runs):
            client.turn()
        missing = [key for key in client.wanted if key not in client.ended and not key.startswith(("tied", "waits"))]
        started = [key for key in client.wanted if key.startswith(("tied", "waits")) and not client.answered.get(key)]
        if self._stage == 0 and not missing and not [key for key in started if key not in client.ended]:
            self._stage = 1
            client.hang_up()
            client.wanted["after/1"] = "plain"  # all that is to fail may have failed: work goes on
        elif self._stage == 1 and "after/1" in client.ended:
            self._stage = 2
            client.post({"op": "ack", "keys": [key for key in client.ended if key != "waits/1"]})
            os.kill(os.getpid(), signal.SIGTERM)
        elif self._stage == 2 and self._real_done():
            self._stage = 3
        remnants = self.supervisor._remnants.pipes()  # noqa: SLF001
        return self._stage == 3 and not processes.own_children() and not remnants

    def _look_back(self) -> None:
        problems = self.client.problems
        problems += [f"closed twice: {item}" for item in self.broken.closed_twice]
        if len(self.supervisor.clients):
            for connection in list(self.supervisor.clients._connected.values()):  # noqa: SLF001
                self.supervisor.clients.drop(connection)
        leaked = {fd: what for fd, what in self.broken.descriptors().items() if fd not in self.before}
        leaked = {fd: what for fd, what in leaked.items() if not what.endswith(".records")}
        if leaked:
            problems.append(f"never closed: {leaked}")
        for key, record in self.client.ended.items():
            self._look_at(key, record)

    def _look_at(self, key: str, record: dict[str, Any]) -> None:
        expected = JOBS[self.client.wanted[key]][2]
        failed = record.get("start_error") or record.get("faults")
        if expected is None or failed:
            return
        if self.client.wanted[key] == "loud" and record["bytes_dropped"] != expected - 60_000:
            self.client.problems.append(f"{key}: dropped {record['bytes_dropped']}, gap {record['gap']}")
        if record["bytes_total"] != expected:
            self.client.problems.append(f"{key}: {record['bytes_total']} of {expected} bytes are accounted for")


def _main_of(seed: int, directory: str, places: Sequence[str]) -> dict[str, Any]:
    world = World(seed, directory)
    plan = world.plan(places) if places else Plan()
    try:
        world.run(plan)
    except BaseException:  # noqa: BLE001 - whatever ends the supervisor is what is looked for
        world.broken.on = False
        world.client.problems.append(f"the supervisor ended: {traceback.format_exc()}")
    if world.hung:
        world.client.problems.append(world.hung)
    return {
        "seed": seed, "placement": world.placement, "start": world.start, "jobs": world.jobs,
        "failed": world.broken.failed,
        "places": list(world.broken.places), "problems": world.client.problems,
    }  # fmt: skip


def inhabit(seed: int, places: Sequence[str]) -> dict[str, Any]:
    """One world in a process of its own; its report."""
    with tempfile.TemporaryDirectory() as directory:
        report = Path(directory, "report")
        pid = os.fork()
        if pid == 0:
            os.setsid()
            noise = os.open(f"{directory}/noise", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            os.dup2(noise, 1)
            os.dup2(noise, 2)
            try:
                report.write_text(json.dumps(_main_of(seed, directory, places)))
            finally:
                os._exit(0)
        os.waitpid(pid, 0)
        _sweep(pid, directory)
        said: dict[str, Any] = json.loads(report.read_text()) if report.exists() else {"problems": ["no report"]}
        said["noise"] = Path(directory, "noise").read_text(errors="replace")
        return said


def _sweep(world: int, directory: str) -> None:
    """Nothing of a world that went wrong may outlive it."""
    for pid, item in processes.everything().items():
        if item.session == world or processes.marked(pid, f"WORLD={directory}".encode()):
            os.kill(pid, signal.SIGKILL)


def learn(count: int = 12) -> list[str]:
    """The places there are, from worlds in which nothing fails."""
    places: set[str] = set()
    for seed in range(count):
        said = inhabit(-1 - seed, ())
        if said["problems"]:
            raise SystemExit(json.dumps(said, indent=1))
        places |= set(said["places"])
    return sorted(places)


def main() -> None:
    first, count = int(sys.argv[1]), int(sys.argv[2])
    places = learn()
    failures = 0
    for seed in range(first, first + count):
        said = inhabit(seed, places)
        if said["problems"]:
            failures += 1
            said.pop("places", None)
            noise = said.pop("noise", "")
            sys.stdout.write(f"{json.dumps(said, indent=1)}\n{noise[-3000:]}\n")
    sys.stdout.write(f"{count} worlds, {len(places)} places, {failures} failures\n")
    sys.exit(failures > 0)


if __name__ == "__main__":
    main()
