"""Self-replacement: the same process, with its children, goes on with new code.

State goes to a memfd, and execv follows: same pid, so same children; descriptors that the new code needs lose their
close-on-exec flag for that moment. Clients' connections are dropped, they connect again. There is no way back from
execv. So the new code is first tried out in a child (``--probe``), which reads the state and builds all that it will
have to build of it; a version that cannot, as after a downgrade, leaves the old code at work. What is added to the
state is optional for who reads it, in both directions: versions before the trial read `STATE` 1 and tried nothing.
"""

from __future__ import annotations

import json
import os
import signal
import sys

from runner.supervisor.capture import Capture
from runner.supervisor.marks import Marks
from runner.supervisor.placing.placement import cgroup_path
from runner.supervisor.request import STOP_SIGNALS, StartRequest
from runner.supervisor.run import Run
from runner.supervisor.wire import in_memory

TYPE_CHECKING = False  # not imported from typing, which costs a megabyte
if TYPE_CHECKING:
    from typing import Any

    from runner.supervisor.placing.placement import Placement

STATE = 1
WITH_SECRETS = 2
"""Where a run has some: a version that does not know of them would write them into its output's file."""
HELD = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_RUN_FIELDS = (
    "pid", "user", "warnings", "secrets", "started_at", "started_boottime", "start_error",
    "wait_status", "usage", "ended_at", "cause", "cause_detail", "leftovers", "last_output", "kill_at", "killing",
    "asked", "announced", "faults",
)  # fmt: skip
_SIGNAL_NAMES = {number: name for name, number in STOP_SIGNALS.items()}


def dump_run(run: Run) -> dict[str, Any]:
    """A run as JSON can carry it."""
    return {
        "request": {
            "key": run.key, "job": run.job, "run_id": run.run_id, "argv": ["-"], "timeout": run.timeout,
            "no_output_timeout": run.no_output_timeout, "grace": run.grace,
            "stop_signal": _SIGNAL_NAMES[run.stop_signal], "leftovers": "keep" if run.keep else "kill",
            "note": run.note, "keep_free": run.capture.keep_free,
        },
        "owner": run.owner, "cgroup": cgroup_path(run.place), "main": run.place.main, "tied": run.tied,
        "capture": run.capture.state(), "ring": run.capture.ring,
        "facts": {name: getattr(run, name) for name in _RUN_FIELDS},
        "marks": run.marks.flat(),
        **({} if run.capture.masking is None else {"secrets": run.capture.secrets}),
    }  # fmt: skip


def load_run(state: dict[str, Any], host: Any, placement: Placement) -> Run:
    """The run again. Nothing is done to the world, and with None for ``host`` (a `Host`) nothing can be."""
    capture = Capture.restored(state["capture"], state.get("ring"))
    request = StartRequest(state["request"])
    place = placement.restore(request.key, state["cgroup"])
    run = Run(request, state["owner"], host, place, capture)
    for name in _RUN_FIELDS:
        if name in state["facts"]:
            setattr(run, name, state["facts"][name])
    run.tied = state.get("tied", False)
    run.marks = Marks(state.get("marks", ()))  # older versions had none
    if state.get("secrets", -1) >= 0:
        capture.take_secrets(state["secrets"])
    place.started(run.pid)
    place.main = state["main"]
    return run


class Estate:
    """Everything of a predecessor's `Supervisor.state`, built, and nothing done to the world yet."""

    def __init__(self, state: dict[str, Any], host: Any, placement: Placement) -> None:
        self.made = int(state["made"])
        self.nofile = int(state["nofile"])
        self.discarded: list[int] = [int(fd) for fd in state["discarded"]]
        self.remnants: list[tuple[int, dict[str, Any]]] = [(fd, entry) for fd, entry in state.get("remnants", ())]
        self.records: list[tuple[str, dict[str, Any]]] = [(owner, entry) for owner, entry in state["records"]]
        self.ties: list[tuple[str, str]] = [(key, owner) for key, owner in state.get("ties", ())]
        self.runs = [load_run(dumped, host, placement) for dumped in state["runs"]]

    def descriptors(self) -> list[int]:
        """What of it is a descriptor, and was left open over exec."""
        fds = [fd for run in self.runs for fd in (run.capture.pipe, run.capture.file)]
        return [fd for fd in fds if fd >= 0] + self.discarded


def inherit(fds: list[int], wanted: bool) -> None:
    """Whether descriptors stay open over exec: only for the moment of self-replacement."""
    for fd in fds:
        os.set_inheritable(fd, wanted)


def save(state: dict[str, Any]) -> int:
    """The state in a memfd, open for this process alone so far. Raises OSError."""
    kind = WITH_SECRETS if any("secrets" in run for run in state.get("supervisor", {}).get("runs", ())) else STATE
    return in_memory("supervisor-state", json.dumps({"state": kind, **state}).encode())


def load(fd: int) -> dict[str, Any]:
    """The state that `save` wrote, by this or another version. Raises ValueError for one that cannot be read."""
    with os.fdopen(fd, "rb") as file:
        state: dict[str, Any] = json.loads(file.read())
    if state.get("state") not in (STATE, WITH_SECRETS):
        raise ValueError(f"cannot take over: the state has format {state.get('state')}, this version reads {STATE}")
    return state


def _line(*before: str) -> list[str]:
    """How this process was started, with ``before`` as its first options: --agent takes all that follows it."""
    given = sys.argv[1:]
    interpreter = sys.orig_argv[1 : len(sys.orig_argv) - len(given)]
    if given[:1] == ["--state-fd"]:  # of the exec that made us
        del given[:2]
    return [sys.executable, *interpreter, *before, *given]


def probe(fd: int) -> int:
    """Try out the new code in a child, with the state at ``fd``: it exits 0 if it can go on from there. Its pid.

    Raises OSError.
    """
    line = _line("--probe", "--state-fd", str(fd))
    inherit([fd], True)
    try:
        return os.posix_spawn(line[0], line, os.environ, setsigmask=())
    finally:
        inherit([fd], False)


def replace(fd: int) -> None:
    """Become the new code. Returns only by OSError.

    Signals are held until the new code has its handlers: their default action would be the end.
    """
    line = _line("--state-fd", str(fd))
    before = signal.pthread_sigmask(signal.SIG_BLOCK, HELD)
    try:
        os.execv(line[0], line)  # noqa: S606 - there is no shell to start
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
