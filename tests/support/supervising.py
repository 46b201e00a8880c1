"""A real supervisor under a test's own directory, and a look at what its jobs left in the world."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket as socket_module
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import runner
from runner.agent.supervision.connection import ExitRecord, Hello, Started, StartSpec, Supervision

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

PATIENCE_S = 30.0
ROOT = Path(runner.__file__).resolve().parent.parent


def own_command(socket: Path, *arguments: str) -> list[str]:
    """The command line of a supervisor, as the agent has it."""
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from runner.supervisor.__main__ import main; main()"
    return [sys.executable, "-I", "-S", "-X", "utf8", "-c", code, "--socket", str(socket), *arguments]


class Witness:
    """Jobs under one supervisor, their output, their records, and whether anything of them is left."""

    def __init__(self, directory: Path, *arguments: str, linger: float = 30.0) -> None:
        self.directory = directory
        self.runtime = directory / "run"
        self.exits: dict[str, ExitRecord] = {}
        self.sizes: dict[str, int] = {}
        self.token = uuid.uuid4().hex
        self.hello: Hello
        self.link = Supervision(
            runtime=self.runtime,
            config_path=None,
            on_exit=self._on_exit,
            on_output=self._on_output,
            arguments=arguments,
            linger=linger,
        )

    def _on_exit(self, record: ExitRecord) -> None:
        self.exits[record.key] = record

    def _on_output(self, sizes: Mapping[str, int]) -> None:
        self.sizes.update(sizes)

    async def connect(self) -> Hello:
        self.hello = await self.link.connect()
        return self.hello

    async def start(self, *argv: str, key: str = "", **spec: Any) -> Started:
        """Start a job; the key is made up where none is given."""
        key = key or f"{uuid.uuid4().hex}/1"
        env = {"WITNESS": self.token, **spec.pop("env", {})}
        fd = os.open(self.spool(key), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            return await self.link.start(StartSpec(key=key, job="job", run_id="run", argv=argv, env=env, **spec), fd)
        finally:
            os.close(fd)

    async def ended(self, key: str, within: float = PATIENCE_S) -> ExitRecord:
        """The record of a started job, when it has ended."""
        async with asyncio.timeout(within):
            while key not in self.exits:
                await asyncio.sleep(0.005)
        return self.exits[key]

    async def run(self, *argv: str, **spec: Any) -> tuple[ExitRecord, str]:
        """Start, wait, and the output."""
        started = await self.start(*argv, **spec)
        record = started.exit or await self.ended(started.key)
        return record, self.output(started.key)

    def spool(self, key: str) -> Path:
        return self.directory / (key.replace("/", "_") + ".out")

    def output(self, key: str) -> str:
        return self.spool(key).read_text(errors="replace")

    async def output_has(self, key: str, text: str) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while text not in self.output(key):
                await asyncio.sleep(0.005)

    def left(self) -> list[int]:
        """Pids of living processes that were started by a job of this test, as far as their environment says."""
        return [pid for pid in all_pids() if f"WITNESS={self.token}" in environment(pid)]

    def stop(self) -> None:
        """End the supervisor and its jobs."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.hello.pid, signal.SIGTERM)
        gone(self.hello.pid)

    @property
    def log(self) -> str:
        return (self.runtime / "supervisor.log").read_text()


def all_pids() -> list[int]:
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]


def environment(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/environ").read_text(errors="replace")
    except OSError:
        return ""


def alive(pid: int) -> bool:
    """Whether the process exists and is no zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in ("Z", "X")


def gone(pid: int, within: float = PATIENCE_S) -> None:
    """Wait until the process has ended; reap it if it is our child."""
    until(lambda: _reaped(pid) or not alive(pid), f"end of process {pid}", within)


def _reaped(pid: int) -> bool:
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:
        return False


def until(condition: Callable[[], object], what: str, within: float = PATIENCE_S) -> None:
    deadline = time.monotonic() + within
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within} s: {what}")
        time.sleep(0.005)


def bare_supervisor(directory: Path, *arguments: str, **options: Any) -> tuple[subprocess.Popen[bytes], Path]:
    """A supervisor as a child of the test, listening on the socket that an agent with this runtime directory seeks."""
    socket = directory / "supervisor.sock"
    process = subprocess.Popen(own_command(socket, *arguments), **options)
    until(lambda: listens(socket) or process.poll() is not None, "the supervisor's socket")
    return process, socket


def listens(path: Path) -> bool:
    with contextlib.closing(socket_module.socket(socket_module.AF_UNIX)) as sock:
        return sock.connect_ex(str(path)) == 0
