"""``python -m runner.supervisor``, also started by the agent and by the unit. Exit codes are those of sysexits.h.

SIGTERM stops all jobs with their signal and grace, then the supervisor. SIGHUP replaces the supervisor's code and
leaves the jobs alone. With ``--agent`` it is the PID 1 of a container: it starts the agent, hands SIGTERM on to it,
and ends with it and with its exit code. An agent that was killed, or fails while there are jobs, is started again:
they are not to notice.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys

from runner import __version__
from runner.supervisor import handover, home, notify, options
from runner.supervisor.failing import say
from runner.supervisor.loop import guarded, now
from runner.supervisor.placing.placement import Placement
from runner.supervisor.policy import NOTHING_INHERITED, Policy, PolicyError
from runner.supervisor.server import Supervisor
from runner.supervisor.starting import command
from runner.supervisor.starting.spawn import keep_to_ourselves, put_back
from runner.supervisor.wire import close_all

TYPE_CHECKING = False  # not imported from typing, which costs a megabyte
if TYPE_CHECKING:
    from typing import Any

    from runner.supervisor.loop import Timer

EX_OK, EX_USAGE, EX_SOFTWARE, EX_TEMPFAIL, EX_CONFIG = 0, 64, 70, 75, 78
_SETTLE_EVERY = 0.05
_LOOK_EVERY = 5.0
_AGENT_AGAIN = 1.0
_REPLACE_AGAIN, _REPLACE_AGAIN_MOST = 1.0, 60.0


def main(arguments: list[str] | None = None) -> None:
    """Run until stopped. Exits the process."""
    given = sys.argv[1:] if arguments is None else arguments
    # Ignored, as after a parent's `trap '' CHLD`, it is handed on by exec, and the kernel then reaps our children
    # before we can ask how they ended. What is blocked stays so until there are handlers (`Supervisor.hear`).
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    if "--help" in given[:1]:
        sys.stdout.write(options.USAGE)
        sys.exit(EX_OK)
    try:
        chosen = options.Options(given)
        if chosen.probe:
            sys.exit(_try_out(chosen))
        state = handover.load(chosen.state_fd) if chosen.state_fd is not None else None
        inherited = None if state is None else state.get("policy", NOTHING_INHERITED)
        policy = Policy(chosen.config, os.environ, inherited=inherited)
    except options.UsageError as error:
        sys.stderr.write(options.USAGE)
        say(str(error))
        sys.exit(EX_USAGE)
    except PolicyError as error:
        say(str(error))
        sys.exit(EX_TEMPFAIL if error.passing else EX_CONFIG)
    sys.exit(Program(chosen, policy).run(state))


def _try_out(chosen: options.Options) -> int:
    """Do with the state of the one who asks all that `Program.run` does, up to where the world would notice it."""
    try:
        state = handover.load(chosen.state_fd) if chosen.state_fd is not None else None
        if state is None:
            return EX_OK
        Policy(chosen.config, os.environ, inherited=state.get("policy", NOTHING_INHERITED))
        inherited = Inherited(state)
        path = os.path.abspath(chosen.socket)  # noqa: PTH100 - pathlib would cost most of a megabyte
        placement = Placement(chosen.placement, chosen.cgroup, home.identity_of(path), set)
        handover.Estate(inherited.supervisor, None, placement)
        if placement.cgroups is None and any(run["cgroup"] for run in inherited.supervisor["runs"]):
            raise LookupError(f"runs are in cgroups; {'; '.join(placement.warnings)}")  # noqa: TRY301 - as the others
    except Exception as error:  # noqa: BLE001 - whatever it is, it would end the one who asks and orphan its jobs
        say(f"cannot take over the state of {chosen.socket}: {type(error).__name__}: {error}")
        return EX_TEMPFAIL if isinstance(error, MemoryError | OSError) else EX_SOFTWARE
    return EX_OK


class Inherited:
    """What a predecessor's state says of the process itself."""

    def __init__(self, state: dict[str, Any]) -> None:
        self.lock, self.agent, self.listener = int(state["lock"]), int(state["agent"]), int(state["listener"])
        self.instance: str = state["instance"]
        self.ending = bool(state.get("ending", False))
        self.supervisor: dict[str, Any] = state["supervisor"]


class Program:
    """The process around the `Supervisor`: lock, socket, signals, the agent of a container."""

    def __init__(self, chosen: options.Options, policy: Policy) -> None:
        self._options = chosen
        self._policy = policy
        self._home = home.Home(os.path.abspath(chosen.socket))  # noqa: PTH100 - pathlib would cost most of a megabyte
        self._looking: Timer | None = None
        self._said_lost = False
        self._agent = 0
        self._status = EX_OK
        self._probe = 0
        self._asked = 0  # how often for new code, since it was last found wanting
        self._later: Timer | None = None  # when it is tried again, after it was put off
        self._again_after = _REPLACE_AGAIN
        self._ending = False  # as somebody asked for it
        self._supervisor: Supervisor

    def run(self, state: dict[str, Any] | None) -> int:
        """Serve; ``state`` is what a predecessor in this process handed over. Returns the exit code."""
        while os.open("/dev/null", os.O_RDWR) <= 2:  # 0, 1 and 2 must not become somebody's pipe
            pass
        keep_to_ourselves()
        if state is None:
            if not self._home.take():
                say(f"cannot serve {self._home.path}: another supervisor does; stop that one first")
                return EX_TEMPFAIL
            if (pid := home.another(self._home.path)) is not None:
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGHUP)  # it looks for its socket at once
                say(f"cannot serve {self._home.path}: process {pid} does, and makes its socket anew; try again")
                return EX_TEMPFAIL
            listener, instance = self._home.listen(), os.urandom(8).hex()
        else:
            inherited = Inherited(state)
            self._home.take_over(inherited.lock)
            self._agent, instance = inherited.agent, inherited.instance
            self._ending = inherited.ending
            listener = socket.socket(fileno=inherited.listener)
            os.set_inheritable(self._home.lock, False)
            listener.set_inheritable(False)
        os.chdir("/")
        supervisor = self._supervisor = Supervisor(listener, self._policy, self._options, self._home.path, instance)
        supervisor.on_signal, supervisor.on_child = self._on_signal, self._on_child
        supervisor.hear()
        if state is not None:
            supervisor.take_over(handover.Estate(inherited.supervisor, supervisor, supervisor.placement))
        command.descriptors.raise_()
        supervisor.records.load()
        spare = {run.place.path for run in supervisor.runs.values() if hasattr(run.place, "path")}
        if state is None:
            supervisor.placement.clear(spare, supervisor.notes.read(), taken_over=False)
            supervisor.notes.start_anew()
        else:  # the jobs that go on under us are more than what could not be cleared
            guarded(lambda: supervisor.placement.clear(spare, taken_over=True))
        if self._options.agent and not self._agent:
            self._start_agent() if state is None else self._start_agent_again()
        if self._agent:
            supervisor.mains[self._agent] = None
        notify.tell("READY=1", f"STATUS=version {__version__}, jobs in {supervisor.placement.description}")
        self._look()
        try:
            supervisor.serve()
        finally:
            with contextlib.suppress(OSError):  # somebody may have cleared the runtime directory
                os.unlink(self._home.path)  # noqa: PTH108 - as above
            supervisor.notes.close()
            supervisor.placement.close()
        return self._status

    def _look(self) -> None:
        """Where somebody has taken our socket away, it is made again: our jobs and records must be found."""
        supervisor = self._supervisor
        if self._looking is not None:
            supervisor.loop.cancel(self._looking)
        self._looking = supervisor.loop.at(now() + _LOOK_EVERY, self._look)  # first: what follows may fail
        if supervisor.stopping or not self._home.lost():
            return
        try:
            listener = self._home.make_again(supervisor.identity)
            why = "another supervisor has the place"
        except OSError as error:
            listener, why = None, str(error)
        if listener is None:
            if not self._said_lost:
                say(f"{self._home.path} was taken away, and cannot be made anew: {why}; trying again")
            self._said_lost = True
            return
        self._said_lost = False
        say(f"{self._home.path} was taken away; it is made anew, and the jobs go on")
        supervisor.move(listener)

    def _start_agent(self) -> None:
        if self._agent or self._supervisor.stopping:
            return
        command.descriptors.lower()
        try:
            self._agent = os.posix_spawnp(
                self._options.agent[0], self._options.agent, os.environ, setsid=True, setsigmask=(),
                setsigdef=command.RESET,
            )  # fmt: skip
        finally:
            put_back(command.descriptors.raise_)
        self._supervisor.mains[self._agent] = None

    def _start_agent_again(self) -> None:
        try:
            self._start_agent()
        except OSError as error:
            say(f"cannot start the agent: {error}; trying again")
            self._supervisor.loop.at(now() + _AGENT_AGAIN, self._start_agent_again)

    def _on_signal(self, number: int) -> None:
        if number == signal.SIGHUP:
            self._look()
            self._asked += 1
            if self._asked == 1 or self._later is not None:
                self._try_new_code()
        elif self._agent:
            with contextlib.suppress(OSError):
                os.kill(self._agent, signal.SIGTERM)
        else:
            self._supervisor.stop()
        if number != signal.SIGHUP:
            self._ending = True

    def _on_child(self, pid: int, status: int) -> None:
        if pid == self._probe:
            self._probe = 0
            if status == 0:
                self._replace()
            elif os.waitstatus_to_exitcode(status) == EX_TEMPFAIL:
                self._replace_later("see above")
            else:
                say("cannot replace myself: the new code does not start (see above); going on with the old")
                self._again_after = _REPLACE_AGAIN
                self._asked = min(self._asked - 1, 1)
                if self._asked:  # meanwhile: it may have been mended since
                    self._try_new_code()
        elif pid == self._agent:
            self._agent = 0
            code = os.waitstatus_to_exitcode(status)
            if not self._ending and (code < 0 or (code > 0 and self._supervisor.runs)):
                say(f"the agent ended with status {code}; starting it again, its jobs go on")
                self._supervisor.loop.at(now() + _AGENT_AGAIN, self._start_agent_again)
                return
            self._status = code if code >= 0 else 128 - code
            self._supervisor.stop()

    def _try_new_code(self) -> None:
        self._supervisor.loop.cancel(self._later)
        self._later = None
        if self._supervisor.stopping:
            return
        try:
            fd = handover.save(self._state())
            try:
                self._probe = handover.probe(fd)
            finally:
                close_all([fd])
        except OSError as error:
            self._replace_later(str(error))
        else:
            self._supervisor.mains[self._probe] = None

    def _replace_later(self, why: str) -> None:
        """What is in the way may pass, as a lack of memory does: whoever asked for new code is not to ask again."""
        if self._again_after == _REPLACE_AGAIN:
            say(f"cannot replace myself now: {why}; going on with the old code, and trying again")
        self._later = self._supervisor.loop.at(now() + self._again_after, self._try_new_code)
        self._again_after = min(self._again_after * 2, _REPLACE_AGAIN_MOST)

    def _replace(self) -> None:
        supervisor = self._supervisor
        if supervisor.stopping:
            return
        if not supervisor.settled:
            supervisor.loop.at(now() + _SETTLE_EVERY, self._replace)
            return
        try:
            for run in supervisor.runs.values():
                run.capture.give_secrets()
            kept = [self._home.lock, supervisor.listener.fileno(), *supervisor.descriptors()]
            kept.append(handover.save(self._state()))
        except OSError as error:
            self._keep_secrets()
            self._replace_later(str(error))
            return
        try:
            handover.inherit(kept, True)
            handover.replace(kept[-1])
        except OSError as error:
            handover.inherit(kept, False)
            close_all(kept[-1:])
            self._keep_secrets()
            self._replace_later(str(error))

    def _keep_secrets(self) -> None:
        for run in self._supervisor.runs.values():
            run.capture.keep_secrets()

    def _state(self) -> dict[str, Any]:
        supervisor = self._supervisor
        return {
            "lock": self._home.lock, "agent": self._agent, "ending": self._ending, "instance": supervisor.instance,
            "policy": self._policy.state(), "listener": supervisor.listener.fileno(), "supervisor": supervisor.state(),
        }  # fmt: skip


if __name__ == "__main__":
    main()
