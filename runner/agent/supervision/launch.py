"""Finding the host's supervisor, or starting one that outlives the agent."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import runner
from runner.errors import SupervisorUnavailable

if TYPE_CHECKING:
    from collections.abc import Sequence

OF_SYSTEMD = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")
OF_UNIT = "CRON_RUNNER_SUPERVISOR"
"""The environment of the packaged agent: the directory of the companion's socket. Such an agent starts none itself."""
_START_WITHIN = 10.0


class Finder:
    """Knows where supervisors listen: the companion unit's first, then one under the runtime path."""

    def __init__(
        self,
        runtime: Path,
        config_path: Path | None,
        arguments: Sequence[str],
        linger: float,
        *,
        may_start: bool = True,
    ) -> None:
        self._runtime = runtime
        self._may_start = may_start
        self._config_path = config_path
        self._arguments = tuple(arguments)
        self._linger = linger
        self._child = 0

    def open(self) -> socket.socket:
        """A connected socket. Waits, so it is called in a thread. Raises SupervisorUnavailable."""
        if self._child:  # one that this agent started and that has ended since
            with contextlib.suppress(ChildProcessError):
                os.waitpid(self._child, os.WNOHANG)
        companion = companion_of(self._runtime)
        # Also while that unit is down, or its directory was taken away: a supervisor of ours would run its jobs as us,
        # and a second time. The packaged unit says that there is a companion.
        if OF_UNIT in os.environ or companion.is_dir():
            return _dial(Path(os.environ.get(OF_UNIT, companion)) / "supervisor.sock")
        own = self._runtime / "supervisor.sock"
        try:
            return _dial(own)
        except SupervisorUnavailable:
            if not self._may_start:
                raise
            return self._launch(own)

    def _launch(self, path: Path) -> socket.socket:
        try:
            self._runtime.mkdir(mode=0o750, parents=True, exist_ok=True)
            lock = os.open(self._runtime / "supervisor.start.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise SupervisorUnavailable(
                f"cannot start a supervisor in {self._runtime}: {error.strerror or error}; set [paths] runtime to a "
                "directory of this user's"
            ) from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)  # one of several agents starts it, the others find it
            with contextlib.suppress(SupervisorUnavailable):
                return _dial(path)
            log = self._runtime / "supervisor.log"
            process = self._spawn(path, log)
            self._child = process.pid
            return _await(process, path, log)
        finally:
            os.close(lock)

    def _spawn(self, path: Path, log: Path) -> subprocess.Popen[bytes]:
        """The supervisor's process. Raises SupervisorUnavailable, also where Python is replaced or out of reach."""
        try:
            with log.open("ab") as stderr:
                return subprocess.Popen(
                    self._command(path),
                    stdin=subprocess.DEVNULL,
                    stdout=stderr,
                    stderr=stderr,
                    cwd="/",
                    # It is not the service that systemd asks about: that is us.
                    env={name: value for name, value in os.environ.items() if name not in OF_SYSTEMD},
                    start_new_session=True,
                )
        except OSError as error:
            raise SupervisorUnavailable(
                f"cannot start a supervisor: {error.filename}: {error.strerror}; "
                "install cron-runner where this user may read and execute it"
            ) from error

    def _command(self, path: Path) -> list[str]:
        root = str(Path(runner.__file__).resolve().parent.parent)
        code = f"import sys; sys.path.insert(0, {root!r}); from runner.supervisor.__main__ import main; main()"
        command = [sys.executable, "-I", "-S", "-X", "utf8", "-c", code, "--socket", str(path.resolve())]
        if self._config_path is not None:
            command += ["--config", str(self._config_path.resolve())]
        return [*command, "--linger", str(self._linger), *self._arguments]


def companion_of(runtime: Path) -> Path:
    """The runtime directory of the supervisor that has a unit of its own."""
    return Path(f"{runtime}-supervisor")


def _dial(path: Path) -> socket.socket:
    try:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    except OSError as error:  # for want of descriptors or memory
        raise SupervisorUnavailable(
            f"cannot reach the supervisor: {error.strerror}; raise the agent's limits (LimitNOFILE=) if it lasts"
        ) from error
    try:
        sock.settimeout(5)
        sock.connect(str(path))
    except OSError as error:
        sock.close()
        raise SupervisorUnavailable(
            f"cannot reach the supervisor at {path}: {error.strerror or error}; "
            "see whether cron-runner-supervisor runs, and whether this user is root or the agent's own"
        ) from error
    sock.setblocking(False)
    return sock


def _last_lines(log: Path) -> list[str]:
    try:
        return log.read_text(errors="replace")[-2000:].strip().splitlines()
    except OSError:  # it says why, and is not needed for anything else
        return []


def _await(process: subprocess.Popen[bytes], path: Path, log: Path) -> socket.socket:
    until = time.monotonic() + _START_WITHIN
    while True:
        try:
            sock = _dial(path)
        except SupervisorUnavailable:
            # One that finds another, which has lost its socket and makes it anew, goes back: that one is waited for.
            given_way = process.poll() == os.EX_TEMPFAIL and time.monotonic() < until
            if process.returncode is not None and not given_way:
                said = _last_lines(log)
                why = said[-1] if said else f"exit status {process.returncode}"
                raise SupervisorUnavailable(f"cannot start a supervisor: {why}") from None
            if time.monotonic() > until:
                raise
            time.sleep(0.005)
        else:
            process.returncode = 0  # it outlives us: nobody here waits for it
            return sock
