"""How a run ended: from the facts of its end to the outcome, its reason in words, and an exit status."""

from __future__ import annotations

import errno
import re
import signal
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from runner.protocol.units import format_duration, format_size

if TYPE_CHECKING:
    from runner.protocol.job import Job

NOT_FOUND: Final = 127  # as POSIX shells report it
NOT_EXECUTABLE: Final = 126
TIMED_OUT: Final = 124  # as timeout(1) reports it
RUNNER_FAILED: Final = 125
RULE_FAILED: Final = 1
SIGNAL_BASE: Final = 128


_CANCELLATIONS: Final = {"cancel": "cancelled", "replace": "replaced"}
# After a lost lease the queue gives the message to another host, or to this one again: like any
# interrupted run it must be free to run a second time.
_INTERRUPTIONS: Final = {
    "shutdown": "the host was shutting down",
    "lost_lease": "lost the lease on its message",
}


class Outcome(StrEnum):
    """How a run ended."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    CANCELLED = "cancelled"
    KILLED = "killed"
    OOM_KILLED = "oom_killed"
    START_FAILED = "start_failed"
    LOST = "lost"
    INTERRUPTED = "interrupted"


@dataclass(frozen=True, slots=True)
class Ending:
    """The facts of one attempt's end, from the supervisor's record.

    `cause` is why we stopped it: None, "timeout", "no_output", "cancel", "replace", "shutdown" or
    "lost_lease"; `cause_detail` says who or what for, such as "by root". `start_error` is errno and text
    of a command that could not be executed. `duration` is in seconds.
    """

    exit_code: int | None = None
    signal: str | None = None
    cause: str | None = None
    cause_detail: str = ""
    start_error: tuple[int, str] | None = None
    oom: bool = False
    duration: float = 0.0


@dataclass(frozen=True, slots=True)
class RuleFacts:
    """What the output said: the fail_on pattern that matched, the require pattern that never did."""

    failed_on: str | None = None
    missing: str | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """An outcome with its reason in words, as the finished event reports them."""

    outcome: Outcome
    reason: str
    exit_code: int | None = None
    signal: str | None = None


def decide(job: Job, ending: Ending, rules: RuleFacts) -> Verdict:
    """The verdict on one attempt.

    What we did to the run comes before what it did: a job that exits 0 while it is being stopped for its
    timeout has timed out.
    """
    if ending.start_error is not None:
        return _start_failed(*ending.start_error)
    if ending.cause is not None:
        outcome, reason = _stopped(job, ending.cause, ending.cause_detail)
    elif ending.exit_code is None and ending.signal is None:
        return lost("the exit status is unknown")
    elif ending.oom and ending.exit_code not in job.success.exit_codes:
        outcome, reason = Outcome.OOM_KILLED, _memory_reason(job)
    elif ending.signal is not None:
        outcome, reason = Outcome.KILLED, f"killed by {ending.signal}"
    else:
        fault = _rule_fault(job, ending, rules)
        outcome = Outcome.SUCCEEDED if fault is None else Outcome.FAILED
        reason = fault or f"exit code {ending.exit_code}"
    return Verdict(outcome, reason, ending.exit_code, ending.signal)


def lost(reason: str) -> Verdict:
    """The verdict on a run whose end nobody saw."""
    return Verdict(Outcome.LOST, reason)


def exit_status(verdict: Verdict) -> int:
    """What `run-once` exits with: the job's own code, or the shell's and timeout(1)'s conventions.

    Never 0 unless the run succeeded.
    """
    if verdict.outcome is Outcome.LOST:
        return RUNNER_FAILED
    if verdict.outcome is Outcome.TIMED_OUT:
        return TIMED_OUT
    if verdict.signal is not None:
        return _signal_status(verdict.signal)
    if verdict.exit_code is None:
        return RUNNER_FAILED
    if verdict.exit_code == 0 and verdict.outcome is not Outcome.SUCCEEDED:
        return RULE_FAILED
    return verdict.exit_code


def _start_failed(number: int, text: str) -> Verdict:
    # The supervisor reports ENOENT for the command only, never for a missing cwd or file of variables.
    return Verdict(Outcome.START_FAILED, text, NOT_FOUND if number == errno.ENOENT else NOT_EXECUTABLE)


def _stopped(job: Job, cause: str, detail: str) -> tuple[Outcome, str]:
    if cause == "timeout":
        return Outcome.TIMED_OUT, f"timed out after {format_duration(job.timeout)}"
    if cause == "no_output":
        silent = job.no_output_timeout
        return (
            Outcome.FAILED,
            "silent for too long" if silent is None else f"silent for {format_duration(silent)}",
        )
    if cause in _INTERRUPTIONS:
        return Outcome.INTERRUPTED, detail or _INTERRUPTIONS[cause]
    return Outcome.CANCELLED, f"{_CANCELLATIONS.get(cause, f'stopped ({cause})')} {detail}".rstrip()


def _memory_reason(job: Job) -> str:
    limit = job.limits.memory
    return "out of memory" if limit is None else f"memory limit {format_size(limit)}"


def _rule_fault(job: Job, ending: Ending, rules: RuleFacts) -> str | None:
    if ending.exit_code not in job.success.exit_codes:
        return f"exit code {ending.exit_code}"
    if rules.failed_on is not None:
        return f"output matched fail_on /{rules.failed_on}/"
    if rules.missing is not None:
        return f"output did not match require /{rules.missing}/"
    if job.min_duration is not None and ending.duration < job.min_duration:
        took, least = format_duration(ending.duration), format_duration(job.min_duration)
        return f"ended after {took}, sooner than min_duration {least}"
    return None


def _signal_status(name: str) -> int:
    known = signal.Signals.__members__.get(name)
    if known is not None:
        return SIGNAL_BASE + known
    # Real-time signals between the first and the last have no name of their own.
    offset = re.fullmatch(r"SIGRTMIN\+(\d{1,2})", name)
    if offset:
        return SIGNAL_BASE + signal.SIGRTMIN + int(offset[1])
    number = re.fullmatch(r"(?:SIG)?(\d{1,2})", name)
    return SIGNAL_BASE + int(number[1]) if number else RUNNER_FAILED
