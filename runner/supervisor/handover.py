"""Self-replacement: the same process, with its children, goes on with new code.

State goes to a memfd, and execv follows: same pid, so same children; descriptors that the new code needs lose their
close-on-exec flag for that moment. Clients' connections are dropped, they connect again. The new code is first tried
out in a child (``--probe``), as there is no way back from execv.
"""

from __future__ import annotations

import json
import os
import signal
import sys

from runner.supervisor.capture import Capture
from runner.supervisor.placement import cgroup_path
from runner.supervisor.request import STOP_SIGNALS, StartRequest
from runner.supervisor.run import Run

TYPE_CHECKING = False  # not imported from typing, which costs a megabyte
if TYPE_CHECKING:
    from typing import Any

    from runner.supervisor.placement import Placement
    from runner.supervisor.run import Host

STATE = 1
HELD = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_RUN_FIELDS = (
    "pid", "user", "warnings", "secrets", "started_at", "started_boottime", "start_error",
    "wait_status", "usage", "ended_at", "cause", "cause_detail", "leftovers", "last_output", "kill_at", "killing",
    "asked", "announced",
)  # fmt: skip
_SIGNAL_NAMES = {number: name for name, number in STOP_SIGNALS.items()}


def dump_run(run: Run) -> dict[str, Any]:
    """A run as JSON can carry it."""
    return {
        "request": {
            "key": run.key, "job": run.job, "run_id": run.run_id, "argv": ["-"], "timeout": run.timeout,
            "no_output_timeout": run.no_output_timeout, "grace": run.grace,
            "stop_signal": _SIGNAL_NAMES[run.stop_signal], "leftovers": "keep" if run.keep else "kill",
        },
        "owner": run.owner, "cgroup": cgroup_path(run.place), "main": run.place.main,
        "capture": run.capture.state(), "facts": {name: getattr(run, name) for name in _RUN_FIELDS},
    }  # fmt: skip


def load_run(state: dict[str, Any], host: Host, placement: Placement) -> Run:
    """The run again, watched over as before."""
    capture = Capture.restored(state["capture"])
    inherit([run_fd for run_fd in (capture.pipe, capture.file) if run_fd >= 0], False)
    request = StartRequest(state["request"])
    place = placement.restore(request.key, state["cgroup"])
    run = Run(request, state["owner"], host, place, capture)
    for name in _RUN_FIELDS:
        setattr(run, name, state["facts"][name])
    place.started(run.pid)
    place.main = state["main"]
    return run


def inherit(fds: list[int], wanted: bool) -> None:
    """Whether descriptors stay open over exec: only for the moment of self-replacement."""
    for fd in fds:
        os.set_inheritable(fd, wanted)


def save(state: dict[str, Any]) -> int:
    """The state in a memfd that survives exec."""
    fd = os.memfd_create("supervisor-state", 0)
    data = json.dumps({"state": STATE, **state}).encode()
    while data:
        data = data[os.write(fd, data) :]
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def load(fd: int) -> dict[str, Any]:
    """The state that `save` wrote, by this or an older version. Raises ValueError for a newer one."""
    with os.fdopen(fd, "rb") as file:
        state: dict[str, Any] = json.loads(file.read())
    if state.get("state") != STATE:
        raise ValueError(f"cannot take over: the state has format {state.get('state')}, this version reads {STATE}")
    return state


def command() -> list[str]:
    """How this process was started, less what belongs to one exec only."""
    line = list(sys.orig_argv)
    if "--state-fd" in line:
        at = line.index("--state-fd")
        del line[at : at + 2]
    line[0] = sys.executable
    return line


def probe() -> int:
    """Try out in a child whether the new code can be loaded: it exits 0 if it can. Returns its pid."""
    line = command()
    return os.posix_spawn(line[0], [*line[: line.index("--socket")], "--probe"], os.environ, setsigmask=())


def replace(fd: int) -> None:
    """Become the new code. Returns only by OSError.

    Signals are held until the new code has its handlers: their default action would be the end.
    """
    line = command()
    at = line.index("--socket")  # the first option, and before --agent, which takes all that follows
    before = signal.pthread_sigmask(signal.SIG_BLOCK, HELD)
    try:
        os.execv(line[0], [*line[:at], "--state-fd", str(fd), *line[at:]])  # noqa: S606 - there is no shell to start
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
