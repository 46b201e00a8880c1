"""The supervisor: its version, its users, and what holds jobs together.

One that runs is asked. Where none does and no companion unit is installed, the one that the agent would start is
started for a moment, in a directory of its own, asked, and ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import runner
from runner.agent.supervision.connection import Supervision
from runner.check.finding import Finding, failed, ok, warning
from runner.check.unit import FOLDERS, installed
from runner.check.unit import SUPERVISOR_UNIT as UNIT
from runner.errors import SupervisorUnavailable

if TYPE_CHECKING:
    from runner.agent.runs.process import Hello
    from runner.config import Config

LIMITS = ("memory", "cpu", "pids")
_LINGER_S = 10.0  # should this check be killed before it has ended what it started
_LOOKS = f"`journalctl -u {UNIT}` says why"


async def running(config: Config) -> Hello | None:
    """What the host's supervisor says of itself; None where none runs, or none that answers. Raises PermissionError."""
    runtime = config.paths.runtime
    if not _exists(Path(f"{runtime}-supervisor", "supervisor.sock")) and not _exists(runtime / "supervisor.sock"):
        return None
    try:
        return await _hello(config, runtime)
    except SupervisorUnavailable:
        return None


async def ask(config: Config, folders: tuple[Path, ...] = FOLDERS) -> tuple[Hello | None, list[Finding]]:
    """The supervisor's hello, and the lines about it; None where nobody could be asked."""
    runtime = config.paths.runtime
    companion, own = Path(f"{runtime}-supervisor", "supervisor.sock"), runtime / "supervisor.sock"
    unit = installed(UNIT, folders)
    try:
        if not _exists(companion) and not _exists(own):
            if unit:
                detail = f"{UNIT} is installed and does not run: where jobs would run is not known"
                return None, [warning("supervisor", detail, f"`systemctl start {UNIT}` and check again; {_LOOKS}")]
            return await _try_one(config)
        hello = await _hello(config, runtime)
    except SupervisorUnavailable as error:
        return None, [_unavailable(error, unit=unit, socket=companion if _exists(companion) else own)]
    except PermissionError as error:
        return None, [warning("supervisor", f"cannot look for it: {error}", "check again as root")]
    return hello, judge(hello, started=False)


def _exists(path: Path) -> bool:
    """Raises PermissionError: not to see a socket is not that there is none."""
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


async def _hello(config: Config, runtime: Path, *, may_start: bool = False, linger: float = 60.0) -> Hello:
    supervision = Supervision(
        runtime=runtime,
        config_path=config.source,
        owner="check",  # its exit records are nobody's: it starts nothing
        on_exit=lambda _: None,
        on_output=lambda _: None,
        linger=linger,
        may_start=may_start,
    )
    try:
        return await supervision.connect()
    finally:
        await supervision.close()


async def _try_one(config: Config) -> tuple[Hello | None, list[Finding]]:
    # A short path: the address of a unix socket holds 107 bytes.
    directory = Path(tempfile.mkdtemp(prefix="crc-"))
    try:
        hello = await _hello(config, directory, may_start=True, linger=_LINGER_S)
    except SupervisorUnavailable as error:
        return None, [failed("supervisor", str(error), "correct what it names, or set another [paths] runtime")]
    else:
        with contextlib.suppress(ProcessLookupError):
            os.kill(hello.pid, signal.SIGTERM)
        # It takes its socket away at its end; what it writes until then goes into this directory.
        for _ in range(100):
            if not (directory / "supervisor.sock").exists():
                break
            await asyncio.sleep(0.05)
        return hello, judge(hello, started=True)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _unavailable(error: SupervisorUnavailable, *, unit: bool, socket: Path) -> Finding:
    if isinstance(error.__cause__, PermissionError):
        detail = f"{socket} is not for this user: placement and limits of jobs are not known"
        return warning("supervisor", detail, "check again as root, or as the agent's own user")
    if "version" in str(error) or "protocol" in str(error):
        return failed("supervisor", str(error), f"`systemctl reload {UNIT}`: jobs are left alone")
    remedy = f"`systemctl restart {UNIT}`; {_LOOKS}" if unit else f"remove {socket} if no supervisor runs"
    return failed("supervisor", str(error), remedy)


def judge(hello: Hello, *, started: bool) -> list[Finding]:
    """What the supervisor says of itself. ``started``: by this check, as the agent would start it."""
    how = "none runs; one that the agent would start says" if started else f"pid {hello.pid}"
    if hello.version != runner.__version__:
        detail = f"{how}: version {hello.version}, this is {runner.__version__}"
        found = [warning("supervisor", detail, f"`systemctl reload {UNIT}`: it replaces itself, jobs are left alone")]
    else:
        found = [ok("supervisor", f"{how}: version {hello.version}, uid {hello.uid}")]
    if hello.default_user_error is not None:
        detail, _, remedy = hello.default_user_error.partition("; ")
        found.append(failed("user", detail, remedy or "set [run] user"))
    return [*found, _placement(hello), *_way_of_starting(hello)]


def _way_of_starting(hello: Hello) -> list[Finding]:
    """No fault either way: a fork costs more CPU, and starts the same job."""
    if not hello.start:
        return []
    way, _, why = hello.start.partition(": ")
    if way == "direct":
        return [ok("start", "jobs are started directly (clone3), without a copy of the supervisor")]
    return [ok("start", f"jobs are started by fork, which costs about 1 ms of CPU more for each: {why}")]


def _placement(hello: Hello) -> Finding:
    if hello.placement != "cgroup":
        why = next((text for text in hello.warnings if "cgroup" in text), "no cgroup for jobs")
        return warning(
            "cgroup",
            f"{why.partition(';')[0]}; jobs are kept together by session and mark only: one that hides on purpose can "
            "escape a kill, and limits cannot be held",
            f"run the supervisor as {UNIT} (Delegate=yes) on a host with cgroup v2",
        )
    if missing := [name for name in LIMITS if name not in hello.controllers]:
        held = ", ".join(hello.controllers) or "none"
        detail = f"each job has its own cgroup, but limits of {', '.join(missing)} cannot be held (controllers: {held})"
        return warning("cgroup", detail, "give the unit Delegate=yes; for memory boot with cgroup_enable=memory")
    return ok("cgroup", f"each job has its own cgroup; limits of {', '.join(hello.controllers)} are held")
