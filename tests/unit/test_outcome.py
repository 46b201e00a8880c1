from __future__ import annotations

import errno
import os
import signal
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runner.protocol import Ending, Job, Outcome, RuleFacts, Verdict, decide, exit_status, lost
from runner.protocol.message import Limits, Success

# A busy machine is slow, not wrong.
PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

JOB = Job("x", "r", ("/bin/sh", "-c", "a"), "a", timeout=3600.0, no_output_timeout=600.0)
QUIET = RuleFacts()


def verdict(ending: Ending, rules: RuleFacts = QUIET, job: Job = JOB) -> tuple[str, str]:
    found = decide(job, ending, rules)
    assert (found.exit_code, found.signal) == (ending.exit_code, ending.signal)
    return found.outcome.value, found.reason


@pytest.mark.parametrize(
    ("ending", "expected"),
    [
        (Ending(exit_code=0), ("succeeded", "exit code 0")),
        (Ending(exit_code=3), ("failed", "exit code 3")),
        (Ending(exit_code=127), ("failed", "exit code 127")),
        (Ending(signal="SIGSEGV"), ("killed", "killed by SIGSEGV")),
        (Ending(signal="SIGKILL", oom=True), ("oom_killed", "out of memory")),
        (Ending(exit_code=137, oom=True), ("oom_killed", "out of memory")),
        (Ending(exit_code=0, oom=True), ("succeeded", "exit code 0")),
        (Ending(signal="SIGTERM", cause="timeout"), ("timed_out", "timed out after 1h")),
        (Ending(exit_code=0, cause="timeout"), ("timed_out", "timed out after 1h")),
        (Ending(signal="SIGTERM", cause="no_output"), ("failed", "silent for 10m")),
        (Ending(signal="SIGTERM", cause="cancel", cause_detail="by root"), ("cancelled", "cancelled by root")),
        (Ending(signal="SIGTERM", cause="cancel"), ("cancelled", "cancelled")),
        (Ending(exit_code=0, cause="replace", cause_detail="by run r2"), ("cancelled", "replaced by run r2")),
        (Ending(signal="SIGTERM", cause="shutdown"), ("interrupted", "the host was shutting down")),
        (Ending(signal="SIGTERM", cause="lost_lease"), ("interrupted", "lost the lease on its message")),
        (Ending(), ("lost", "the exit status is unknown")),
    ],
)
def test_outcome(ending: Ending, expected: tuple[str, str]) -> None:
    assert verdict(ending) == expected


def test_memory_limit_is_named() -> None:
    job = replace(JOB, limits=Limits(memory=512 << 20))
    assert verdict(Ending(signal="SIGKILL", oom=True), job=job) == ("oom_killed", "memory limit 512M")


def test_rules_fail_what_exited_0() -> None:
    ending = Ending(exit_code=0, duration=1.5)
    job = replace(JOB, min_duration=60.0)
    assert verdict(ending, RuleFacts("ERROR", "done"), job) == ("failed", "output matched fail_on /ERROR/")
    assert verdict(ending, RuleFacts(None, "done"), job) == ("failed", "output did not match require /done/")
    assert verdict(ending, job=job) == ("failed", "ended after 1.5s, sooner than min_duration 1m")
    assert verdict(Ending(exit_code=0, duration=60.0), job=job) == ("succeeded", "exit code 0")


def test_exit_code_comes_before_the_rules() -> None:
    assert verdict(Ending(exit_code=3), RuleFacts("ERROR", "done")) == ("failed", "exit code 3")


def test_other_exit_codes_can_mean_success() -> None:
    job = replace(JOB, success=Success(exit_codes=(3,)))
    assert verdict(Ending(exit_code=3), job=job) == ("succeeded", "exit code 3")
    assert verdict(Ending(exit_code=0), job=job) == ("failed", "exit code 0")


@pytest.mark.parametrize(
    ("number", "text", "code"),
    [
        (errno.ENOENT, "cannot execute /no/such: No such file or directory", 127),
        (errno.EACCES, "cannot execute /etc/passwd: Permission denied", 126),
        (errno.E2BIG, "Argument list too long", 126),
        (errno.ENOTDIR, "cannot enter cwd /no/such: No such file or directory", 126),
    ],
)
def test_start_failed(number: int, text: str, code: int) -> None:
    found = decide(JOB, Ending(start_error=(number, text)), QUIET)
    assert found == Verdict(Outcome.START_FAILED, text, code, None)
    assert exit_status(found) == code
    assert os.strerror(number)


@pytest.mark.parametrize(
    ("found", "status"),
    [
        (Verdict(Outcome.SUCCEEDED, "", 0), 0),
        (Verdict(Outcome.SUCCEEDED, "", 3), 3),
        (Verdict(Outcome.FAILED, "", 3), 3),
        (Verdict(Outcome.FAILED, "", 0), 1),
        (Verdict(Outcome.FAILED, "", None, "SIGTERM"), 143),
        (Verdict(Outcome.TIMED_OUT, "", None, "SIGKILL"), 124),
        (Verdict(Outcome.TIMED_OUT, "", 0), 124),
        (Verdict(Outcome.KILLED, "", None, "SIGSEGV"), 139),
        (Verdict(Outcome.OOM_KILLED, "", None, "SIGKILL"), 137),
        (Verdict(Outcome.CANCELLED, "", 0), 1),
        (Verdict(Outcome.CANCELLED, "", None, "SIGINT"), 130),
        (Verdict(Outcome.KILLED, "", None, "SIGRTMIN+1"), 128 + signal.SIGRTMIN + 1),
        (Verdict(Outcome.KILLED, "", None, "SIG40"), 168),
        (Verdict(Outcome.KILLED, "", None, "SIGODD"), 125),
        (lost("reboot"), 125),
    ],
)
def test_exit_status(found: Verdict, status: int) -> None:
    assert exit_status(found) == status


ENDINGS = st.builds(
    Ending,
    exit_code=st.none() | st.integers(0, 255),
    signal=st.none() | st.sampled_from([s.name for s in signal.Signals]),
    cause=st.none() | st.sampled_from(["timeout", "no_output", "cancel", "replace", "shutdown", "lost_lease", "new"]),
    start_error=st.none() | st.tuples(st.integers(1, 130), st.text()),
    oom=st.booleans(),
    duration=st.floats(0, 1e6),
)


@PATIENT
@given(ENDINGS, st.builds(RuleFacts, st.none() | st.text(), st.none() | st.text()))
def test_every_ending_has_an_outcome_and_only_success_exits_0(ending: Ending, rules: RuleFacts) -> None:
    found = decide(JOB, ending, rules)
    status = exit_status(found)
    assert 0 <= status <= 255
    assert (status == 0) == (found.outcome is Outcome.SUCCEEDED)
