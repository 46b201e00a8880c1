"""What health says of given facts, and when the watchdog is fed: pure, with time as numbers."""

from __future__ import annotations

import os
import socket
import time
from typing import TYPE_CHECKING, Any

import pytest

from runner.agent.host.systemd import Notifier
from runner.agent.operator.health import DEAF_AFTER_S, STUCK_AFTER_S, Facts, alive, judge, status_line

if TYPE_CHECKING:
    from pathlib import Path

POLLING: dict[str, Any] = {"queue": "cron-web", "receive_age_s": 3.0, "asking_for_s": 500.0, "message_age_s": 12.0}


def facts(**changes: Any) -> Facts:
    return Facts(**{**POLLING, **changes})


DEAF = {"receive_age_s": 70.0, "receive_failing_s": 68.0, "receive_error": "ReceiveMessage: ExpiredToken: no"}


@pytest.mark.parametrize(
    ("kind", "changes", "words"),
    [
        ("receive", DEAF, "no answer to a receive for 70 s: ReceiveMessage: ExpiredToken: no"),
        ("receive", {"receive_age_s": 70.0}, "no answer to a receive for 70 s: the poll does not end"),
        # It has never heard anything, since its start.
        ("receive", {"receive_age_s": None, "asking_for_s": 61.0}, "no answer to a receive for 61 s"),
        ("results", {"results_failing_s": 65.0, "results_error": "gone"}, "no event delivered for 65 s: gone"),
        ("receive", {"blocked": "disk: full", "blocked_s": 61.0}, "nothing is received for 61 s: disk: full"),
        ("journal", {"journal_blocked_s": 2.0, "journal_error": "disk full"}, "written for 2 s: disk full"),
        ("supervisor", {"supervisor_away_s": 6.0}, "the supervisor does not answer for 6 s"),
    ],
)
def test_red(kind: str, changes: dict[str, Any], words: str) -> None:
    health = judge(facts(**changes))
    assert not health.ok
    [problem] = health.problems
    assert problem.kind == kind
    assert words in problem.text
    assert health.reasons == (problem.text,)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"receive_age_s": DEAF_AFTER_S},
        # Full, paused, or blocked: nothing is asked for, however long ago the last answer was.
        {"receive_age_s": 7000.0, "asking_for_s": None, "waiting_for": "one-at-a-time: another run is active"},
        {"receive_age_s": 7000.0, "asking_for_s": None, "paused": "paused by ann"},
        {"receive_age_s": 7000.0, "asking_for_s": None, "blocked": "spool: full", "blocked_s": 59.0},
        # It was full for long, and has only begun to ask again.
        {"receive_age_s": 7000.0, "asking_for_s": 20.0},
        {**DEAF, "draining": True},
        {"results_failing_s": 59.0, "results_error": "gone"},
        {"supervisor_connected": False, "supervisor_away_s": 1.0},
        {"unshipped_age_s": 5000.0, "spool_bytes": 1000},
    ],
)
def test_not_red(changes: dict[str, Any]) -> None:
    assert judge(facts(**changes)).reasons == ()


def test_what_a_person_should_know_although_all_is_well_is_noted() -> None:
    health = judge(
        facts(
            paused="paused by ann",
            unshipped_age_s=300.0,
            spool_bytes=2 << 20,
            output_error="PutLogEvents: AccessDenied",
            clock_ahead_s=-40.0,
            reload="restart to change queue.url",
        )
    )
    assert health.ok
    assert health.notes == (
        "paused by ann",
        "restart to change queue.url",
        "2M of output not shipped, the oldest for 300 s: PutLogEvents: AccessDenied",
        "the clock is 40 s behind AWS's",
    )
    assert judge(facts(unshipped_age_s=10.0, spool_bytes=9, clock_ahead_s=2.0)).notes == ()


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"running": 3, "held": 1}, "3 running, 1 held; polling cron-web; last message 12 s ago"),
        ({"message_age_s": None}, "0 running, 0 held; polling cron-web; no message yet"),
        ({"message_age_s": 7500.0}, "0 running, 0 held; polling cron-web; last message 2h5m ago"),
        ({"paused": "paused by ann since noon: patching"}, "0 running, 0 held; paused by ann since noon: patching"),
        (
            {"receive_age_s": 180.0, "receive_failing_s": 182.0, "receive_error": "no\nway"},
            "0 running, 0 held; AWS away for 3m: no way",
        ),
        ({"receive_age_s": 100.0}, "0 running, 0 held; no answer to a receive for 100 s: the poll does not end"),
        ({"running": 1, "waiting_for": "max_jobs: 1 of 1"}, "1 running, 0 held; waits for room: max_jobs: 1 of 1"),
        ({"running": 2, "draining": True}, "2 running, 0 held; stopping: waits for the running jobs"),
        (
            {"results_failing_s": 90.0, "results_error": "gone", "reload": "restart to change group"},
            "0 running, 0 held; polling cron-web; last message 12 s ago; no event delivered for 90 s: gone; "
            "restart to change group",
        ),
    ],
)
def test_the_status_line_says_what_goes_on(changes: dict[str, Any], line: str) -> None:
    assert status_line(facts(**changes)) == line


def test_the_watchdog_is_fed_while_both_loops_go_round() -> None:
    assert alive(STUCK_AFTER_S - 1, STUCK_AFTER_S - 1)
    assert not alive(STUCK_AFTER_S, 0)
    assert not alive(0, STUCK_AFTER_S)


# -- what systemd is told


@pytest.fixture
def systemd(tmp_path: Path) -> Any:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "notify"))
        sock.settimeout(10)
        yield sock


def told(sock: socket.socket) -> dict[str, str]:
    return dict(line.split("=", 1) for line in sock.recv(65536).decode().splitlines())


def test_a_reload_is_told_with_its_time_and_its_end(systemd: socket.socket) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": systemd.getsockname()})
    notifier.ready("up", started=True)
    assert told(systemd) == {"READY": "1", "STATUS": "up"}
    before = time.monotonic_ns() // 1000
    notifier.reloading()
    said = told(systemd)
    assert said["RELOADING"] == "1"
    assert before <= int(said["MONOTONIC_USEC"]) <= time.monotonic_ns() // 1000
    notifier.ready("again")
    assert told(systemd) == {"READY": "1", "STATUS": "again"}


def test_a_reload_before_the_start_or_in_a_stop_says_nothing_that_is_not_so(systemd: socket.socket) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": systemd.getsockname()})
    notifier.reloading()
    notifier.ready("not yet")
    notifier.ready("up", started=True)
    assert told(systemd)["STATUS"] == "up"
    notifier.stopping("going", 60.0)
    assert told(systemd) == {"STOPPING": "1", "STATUS": "going", "EXTEND_TIMEOUT_USEC": "60000000"}
    notifier.reloading()
    notifier.ready("still here")
    notifier.send(STATUS="the end")
    assert told(systemd) == {"STATUS": "the end"}


@pytest.mark.parametrize(
    ("environ", "every"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_the_watchdog_is_fed_twice_in_its_time(environ: dict[str, str], every: float | None) -> None:
    assert Notifier(environ).watchdog_every == every


def test_nobody_to_notify_is_no_fault(tmp_path: Path) -> None:
    Notifier({}).send(READY=1)
    Notifier({"NOTIFY_SOCKET": str(tmp_path / "nobody")}).send(READY=1)
