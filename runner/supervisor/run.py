"""One run, from its process's first moment to its record.

    running ──main process ends──► ending ──nothing is left──► ended
       └─stop: signal, grace, kill of everything─┘

Every stop (timeout, silence, a request) takes the one path of `Run.stop`. What the main process leaves behind is
stopped in the same way before the run has ended.

Any call of the system may fail at any moment, for want of a descriptor or of memory. So the next look is armed before
anything is tried, and what was not done is done at that look; and each step of the end is made whatever became of the
one before it. What failed is said once, and is in the run's record.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time

from runner.supervisor.failing import persistently, say
from runner.supervisor.loop import now
from runner.supervisor.marks import Marks
from runner.supervisor.placing import processes
from runner.supervisor.report import exit_record
from runner.supervisor.request import STOP_SIGNALS

TYPE_CHECKING = False  # not imported from typing, which costs a megabyte
if TYPE_CHECKING:
    from collections.abc import Callable
    from resource import struct_rusage
    from typing import Any, Protocol

    from runner.supervisor.capture import Capture
    from runner.supervisor.loop import Loop, Timer
    from runner.supervisor.placing.place import Place
    from runner.supervisor.request import StartRequest
    from runner.supervisor.wire import Connection

    class Host(Protocol):
        loop: Loop

        def discard(self, run: Run, pipe: int) -> None: ...
        def began(self, run: Run) -> None: ...
        def grew(self, run: Run) -> None: ...
        def ended(self, run: Run) -> None: ...


_SETTLE = 0.005  # a signalled pipeline needs a moment to be gone before its members count as left behind
_PROBE_MOST = 0.1
_MOST_FAULTS = 8  # kept of one run
_REST = 16 << 20  # of the pipe's rest, at the end: a pipe holds at most 1 MiB, but what is left may go on writing


class Run:
    """The facts of one run and what is waited for. All its methods are called from the loop's thread."""

    __slots__ = (
        "_deadline", "_host", "_kill_timer", "_probe", "_probe_delay", "_silence", "announced", "asked", "asked_by",
        "capture", "cause", "cause_detail", "ended_at", "faults", "grace", "job", "keep", "key", "kill_at", "killing",
        "last_output", "leftovers", "marks", "no_output_timeout", "note", "owner", "passing", "pid", "place", "record",
        "run_id", "secrets", "start_error", "started_at", "started_boottime", "stop_signal", "tied", "timeout",
        "usage", "user", "wait_status", "warnings",
    )  # fmt: skip

    def __init__(self, request: StartRequest, owner: str, host: Host, place: Place, capture: Capture) -> None:
        self._host = host
        self.key, self.job, self.run_id, self.owner = request.key, request.job, request.run_id, owner
        self.timeout, self.no_output_timeout = request.timeout, request.no_output_timeout
        self.grace, self.stop_signal = request.grace, STOP_SIGNALS[request.stop_signal]
        self.keep = request.keep_leftovers
        self.tied = False
        self.note = request.note  # the client's own words on it, for its successor
        self.announced = False  # whether its start has been answered, so that its end is news
        self.asked_by: tuple[Connection, Any] | None = None  # who waits for that answer, and its number
        self.passing = False  # it could not be started for a lack that passes
        self.place, self.capture = place, capture
        capture.keep_free = request.keep_free
        self.pid = 0
        self.user = ""
        self.warnings: list[str] = []
        self.secrets: list[str] = []
        self.started_at = time.time()
        self.started_boottime = now()
        self.start_error: tuple[int, str] | None = None
        self.wait_status: int | None = None
        self.usage = (0.0, 0.0, 0)  # user and system seconds, most resident bytes
        self.ended_at = 0.0
        self.cause: str | None = None
        self.cause_detail = ""
        self.leftovers = 0
        self.record: dict[str, Any] | None = None
        self.last_output = self.started_boottime
        self.marks = Marks()
        self.kill_at: float | None = None
        self.killing = False
        self.faults: list[str] = []  # what failed on the way, in words
        self.asked = False  # those left behind have had their stop signal
        self._deadline: Timer | None = None
        self._silence: Timer | None = None
        self._kill_timer: Timer | None = None
        self._probe: Timer | None = None
        self._probe_delay = _SETTLE

    def begin(self, pid: int) -> None:
        """The process exists: note who it is and watch over it."""
        self.pid = pid
        self.place.started(pid)
        self._host.began(self)
        self.watch()

    @property
    def start_ticks(self) -> int:
        """When the main process started, in ticks since boot; 0 once it has been reaped."""
        return processes.start_ticks(self.pid) if self.place.main else 0

    def watch(self) -> None:
        """Arm what is waited for: also after self-replacement, from the facts alone."""
        loop = self._host.loop
        if self.capture.pipe >= 0:
            loop.watch(self.capture.pipe, 1, self._on_output)
        if self.wait_status is None and self.timeout is not None:
            self._deadline = loop.at(self.started_boottime + self.timeout, self._on_timeout)
        if self.wait_status is None and self.no_output_timeout is not None:
            self._silence = loop.at(self.last_output + self.no_output_timeout, self._on_silence)
        if self.kill_at is not None:
            self._kill_timer = loop.at(self.kill_at, self._kill)
        if self.wait_status is not None or self.killing:
            self._probe = loop.at(0, self._look)

    def _fault(self, what: str, error: Exception) -> None:
        """It goes on without. Said once, and kept for the record."""
        text = f"{what}: {error}"
        if text not in self.faults and len(self.faults) < _MOST_FAULTS:
            self.faults.append(text)
            say(f"run {self.key}: cannot {text}")

    def _on_output(self, _events: int) -> None:
        before = self.capture.offset
        open_still = self.capture.take()  # where the pipe cannot be read now, the loop comes back to it
        if self.capture.offset != before:
            self.last_output = now()
            self.marks.add(time.time(), self.capture.offset)
            self._host.grew(self)
        if not open_still:
            self._close_pipe()

    def _close_pipe(self) -> None:
        if self.capture.pipe >= 0:
            self._host.loop.unwatch(self.capture.pipe)
            self.capture.close_pipe()

    def _on_timeout(self) -> None:
        self._deadline = None
        self.stop("timeout", "")

    def _on_silence(self) -> None:
        assert self.no_output_timeout is not None  # the timer exists only with it
        due = self.last_output + self.no_output_timeout
        if due > now():
            self._silence = self._host.loop.at(due, self._on_silence)
            return
        self._silence = None
        self.stop("no_output", "")

    def stop(self, cause: str, detail: str, grace: float | None = None) -> None:
        """Stop signal to the main process group, then after the grace the kill of everything.

        The first cause stays; a repetition can only bring the kill forward.
        """
        if self.record is not None:
            return
        grace = self.grace if grace is None else grace
        kill_at = now() + grace
        if self.cause is None and self.wait_status is None:
            self.cause, self.cause_detail = cause, detail
            if grace > 0:
                self._signal_group(self.stop_signal)
        if self.killing:
            self._look_again(0.0)
            return
        if self.kill_at is not None and self.kill_at <= kill_at:
            return
        self.kill_at = kill_at
        self._host.loop.cancel(self._kill_timer)
        if grace <= 0:
            self._kill()
        else:
            self._kill_timer = self._host.loop.at(kill_at, self._kill)

    def _signal_group(self, number: int) -> None:
        # The leader is our child and not reaped yet: its number cannot be another's. Until it has made its session
        # it has no group of its own.
        for target in (number, signal.SIGCONT):
            try:
                os.killpg(self.pid, target)
            except OSError:
                with contextlib.suppress(OSError):
                    os.kill(self.pid, target)

    def _kill(self) -> None:
        """Kill everything, and again until nothing is left: what is being killed may be forking."""
        self._kill_timer = None
        self.killing = True
        self._look_again()
        self._kill_now()

    def _kill_now(self) -> None:
        try:
            self.place.kill()
        except OSError as error:
            self._fault("kill it at once", error)
            if self.place.main:  # which needs no descriptor
                self._signal_group(signal.SIGKILL)

    def main_ended(self, status: int, usage: struct_rusage) -> None:
        """The main process was reaped. The run's result is fixed; what it leaves behind is not yet."""
        self.wait_status, self.ended_at = status, now()
        self.usage = (usage.ru_utime, usage.ru_stime, usage.ru_maxrss * 1024)
        self.place.main = 0
        self._host.loop.cancel(self._deadline)
        self._host.loop.cancel(self._silence)
        self._look_again()
        self._guarded("read the rest of its output", self._take_rest)
        # A signalled pipeline needs a moment to be gone: only the next look asks what is left to go.
        self._guarded("look after what is left of it", self._end_if_gone)

    def _look_again(self, delay: float | None = None) -> None:
        self._host.loop.cancel(self._probe)
        self._probe = self._host.loop.at(now() + (self._probe_delay if delay is None else delay), self._look)
        self._probe_delay = min(self._probe_delay * 2, _PROBE_MOST)

    def _look(self) -> None:
        """Is anything left? Kill it, if it is time; after the main process's end ask it to go once, before."""
        self._look_again()
        if self.killing:
            self._kill_now()
        if not self.place.main:
            self._guarded("look after what is left of it", self._end_or_ask)

    def _end_or_ask(self) -> None:
        if self._end_if_gone() or self.killing or self.asked:
            return
        if self.kill_at is None:
            self.kill_at = now() + self.grace
            self._kill_timer = self._host.loop.at(self.kill_at, self._kill)
        self.leftovers = self.place.signal(self.stop_signal)
        self.asked = True

    def _end_if_gone(self) -> bool:
        gone = self.place.gone()
        if self.keep and self.cause is None:
            self.leftovers = 0 if gone else self.place.count()
        elif not gone:
            return False
        self._finish()
        return True

    def _guarded(self, what: str, step: Callable[[], object]) -> None:
        try:
            step()
        except Exception as error:  # noqa: BLE001 - whatever it is, the run is to end
            self._fault(what, error)

    def _take_rest(self) -> None:
        open_still = self.capture.pipe < 0 or persistently(lambda: self.capture.take(_REST))
        self.marks.add(time.time(), self.capture.offset)
        if not open_still:
            self._close_pipe()

    def _finish(self) -> None:
        """Nothing is left, or what is may stay. A ring is laid out piece by piece, in turns with the loop's others."""
        self._guarded("read the rest of its output", self._take_rest)
        self._guarded("write the rest of its output", self.capture.flush)
        kept = self.leftovers > 0 and self.keep and self.cause is None
        if self.capture.pipe >= 0:
            self._host.loop.unwatch(self.capture.pipe)
            if kept:
                self._host.discard(self, self.capture.give_pipe())
            self.capture.close_pipe()
        if not self.capture.settle():
            self._look_again(0.0)
            return
        for timer in (self._kill_timer, self._probe):
            self._host.loop.cancel(timer)
        self._guarded("close its output", self.capture.finish)
        self.place.remove()
        self.record = exit_record(self)
        self._host.ended(self)

    def withdraw(self) -> None:
        """It was never started: what was made for it goes."""
        self._guarded("close its output", self.capture.finish)
        self.place.remove()

    def failed(self, number: int, text: str, *, passing: bool) -> None:
        """The command could not be executed; ``passing``: it may be, later."""
        self.passing = passing and not self.announced
        self.start_error = (number, text)
        self.ended_at = now()
        self.place.main = 0
        self._host.loop.cancel(self._deadline)
        self._host.loop.cancel(self._silence)
        self._look_again()
        self._finish()
