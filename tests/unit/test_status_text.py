"""The text of `status`, from its JSON: what is shown, how it is cut, and that it is safe on a terminal."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from runner.cli.host.status_text import lines, short

OVERVIEW: dict[str, Any] = {
    "schema": 1,
    "time": "2026-11-24T12:00:00.000000Z",
    "agent": {
        "version": "0.1.0",
        "pid": 812,
        "since": "2026-11-21T08:00:00.000000Z",
        "up_s": 273_600.0,
        "supervisor_version": "0.1.0",
        "supervisor_pid": 811,
    },
    "host": "web-3",
    "instance_id": None,
    "group": "web",
    "queue": "cron-web",
    "state": "polling",
    "waiting_for": None,
    "health": {"ok": True, "reasons": [], "notes": []},
    "aws": {
        "reachable": True,
        "since": "2026-11-24T11:59:00.000000Z",
        "last_receive": "2026-11-24T11:59:56.000000Z",
        "error": None,
        "results_away_since": None,
        "results_error": None,
    },
    "pause": None,
    "admission": {
        "policy": "resources",
        "offered": {"cpu": 3.5, "memory": 8_053_063_680, "db_slots": 4},
        "used": {"cpu": 2, "memory": 1_288_490_188, "db_slots": 1},
        "max_load": 0.9,
        "load": {"cores": 4.0, "busy_cores": 1.3, "memory_bytes": 8_589_934_592, "available_bytes": 6_000_000_000},
    },
    "runs": [],
    "held": [],
    "recent": [],
    "backlog": {"output_bytes": 0, "events": 0, "ended_runs": 0},
}
RUN: dict[str, Any] = {
    "run_id": "nightly-2030-01-31T06-00-00Z",
    "job": "backup-of-the-database",
    "state": "running",
    "execution": "e1",
    "attempt": 1,
    "attempts": 3,
    "user": "app",
    "pid": 99,
    "accepted": "2026-11-24T11:50:00.000000Z",
    "since": "2026-11-24T11:50:00.000000Z",
    "running_s": 600.0,
    "deadline": "2026-11-24T12:50:00.000000Z",
    "next_attempt": None,
    "last_outcome": None,
    "cpu_s": 60.0,
    "memory_bytes": 134_217_728,
    "processes": 3,
    "delivery": 1,
    "lease_lost": False,
    "stopping": None,
}
HELD: dict[str, Any] = {
    "run_id": "af548275-06a8-4a53-a5e9-6012017308af",
    "job": "import",
    "since": "2026-11-24T11:59:48.000000Z",
    "waited_s": 12.0,
    "kind": "memory",
    "reason": "memory 8G asked, 6.3G free",
    "delivery": 2,
}
ENDED: dict[str, Any] = {
    "run_id": "r0",
    "job": "report",
    "outcome": "failed",
    "reason": "exit code 3; its lease was lost meanwhile and the job was left running",
    "exit_code": 3,
    "attempt": 1,
    "since": "2026-11-24T11:00:00.000000Z",
    "ended": "2026-11-24T11:30:00.000000Z",
    "duration_s": 1800.0,
}


def overview(**changed: Any) -> dict[str, Any]:
    return {**copy.deepcopy(OVERVIEW), **changed}


def test_the_whole_at_80_columns() -> None:
    backoff = {
        **RUN,
        "run_id": "r2",
        "job": "sync",
        "state": "backoff",
        "since": None,
        "running_s": None,
        "deadline": None,
        "next_attempt": "2026-11-24T12:00:30.000000Z",
        "cpu_s": None,
        "memory_bytes": None,
    }
    shown = lines(overview(runs=[RUN, backoff], held=[HELD], recent=[ENDED]), width=80)
    assert (
        "\n".join(shown)
        == """\
cron-runner 0.1.0 on web-3, group web, up 3d4h, pid 812
queue      cron-web
aws        answering for 1m00s; last receive 4s ago
state      polling
policy     resources: cpu 2 of 3.5, memory 1.2G of 7.5G, db_slots 1 of 4, load …

RUNNING 2
RUN
  JOB                     USER  STATE    FOR    LEFT  TRY  CPU   MEM
nightly-2030-01-31T06-00-00Z
  backup-of-the-database  app   running  10m     50m  1/3  10%  128M
r2
  sync                    app   backoff    -  in 30s  1/3    -     -

HELD 1
RUN                                   JOB     FOR  WAITS FOR
af548275-06a8-4a53-a5e9-6012017308af  import  12s  memory 8G asked, 6.3G free

RECENT
RUN  JOB     OUTCOME  AGO  TOOK  REASON
r0   report  failed   30m   30m  exit code 3; its lease was lost meanwhile and …"""
    )


@pytest.mark.parametrize("width", [24, 40, 60, 80, 100, 132, 200])
def test_only_an_id_is_wider_than_the_terminal_and_it_is_never_cut(width: int) -> None:
    ids = ["x" * 128, "y" * 128, "z" * 128, RUN["run_id"], HELD["run_id"]]
    runs = [RUN, {**RUN, "run_id": ids[0], "job": "j" * 128, "user": "u" * 32, "state": "stopping"}]
    held = [HELD, {**HELD, "run_id": ids[1], "reason": "r" * 500}]
    recent = [{**ENDED, "run_id": ids[2], "reason": "r" * 500}]
    shown = lines(overview(runs=runs, held=held, recent=recent, queue="https://" + "q" * 200), width=width)
    assert {line for line in shown if len(line) > width} <= set(ids)
    assert all(any(name in line.split() for line in shown) for name in ids)


def test_in_a_pipe_nothing_is_cut() -> None:
    long = "x" * 128
    shown = "\n".join(lines(overview(runs=[{**RUN, "run_id": long}], recent=[ENDED]), width=None))
    assert long in shown
    assert ENDED["reason"] in shown
    assert "\x1b" not in shown


def test_what_is_wrong_is_said_with_since_when() -> None:
    away = {**OVERVIEW["aws"], "reachable": False, "error": "cannot call ReceiveMessage: ExpiredToken: renew it"}
    shown = lines(
        overview(
            state="away",
            aws=away,
            health={
                "ok": False,
                "reasons": ["no answer to a receive for 95 s"],
                "notes": ["the clock is 40 s behind AWS's"],
            },
            backlog={"output_bytes": 5 << 20, "events": 1, "ended_runs": 2},
        ),
        width=None,
    )
    assert "aws        AWAY since 1m00s: cannot call ReceiveMessage: ExpiredToken: renew it" in shown
    assert "unhealthy  no answer to a receive for 95 s" in shown
    assert "note       the clock is 40 s behind AWS's" in shown
    assert "backlog    1 event unsent, 5M of output not shipped, 2 ended runs not settled with the queue" in shown


def test_a_pause_says_who_and_why_and_until_when() -> None:
    pause = {
        "kind": "pause",
        "by": "anna",
        "since": "2026-11-24T11:00:00.000000Z",
        "note": "new disk",
        "until": "2026-11-24T14:00:00.000000Z",
    }
    health = {"ok": True, "reasons": [], "notes": ["paused by anna since 2026-11-24T11:00:00Z: new disk"]}
    told = overview(state="paused", waiting_for="paused by anna since …", pause=pause, health=health)
    shown = lines(told, width=None)
    assert sum("anna" in line for line in shown) == 1
    assert "state      paused: by anna, 1h00m ago, for another 2h00m: new disk" in shown
    drain = {**pause, "kind": "drain", "until": None, "note": ""}
    assert "state      draining: by anna, 1h00m ago" in lines(overview(state="draining", pause=drain), width=None)


def test_what_it_waits_for_is_said() -> None:
    full = overview(state="full", waiting_for="max_jobs: 3 of 3 are running")
    assert "state      full: max_jobs: 3 of 3 are running" in lines(full, width=None)


def test_cpu_is_the_share_since_the_look_before() -> None:
    def cpu(now: dict[str, Any], before: dict[str, Any] | None) -> str:
        [row] = [line for line in lines(now, width=None, before=before) if "nightly" in line]
        return row.split()[-2]

    now = overview(runs=[RUN])
    before = overview(time="2026-11-24T11:59:58.000000Z", runs=[{**RUN, "cpu_s": 57.0}])
    assert cpu(now, None) == "10%"  # of its whole life
    assert cpu(now, before) == "150%"
    other = overview(time="2026-11-24T11:59:58.000000Z", runs=[{**RUN, "attempt": 2, "cpu_s": 57.0}])
    assert cpu(now, other) == "10%"
    assert cpu(overview(runs=[{**RUN, "cpu_s": None}]), before) == "-"


def test_nothing_of_a_reason_reaches_the_terminal_raw() -> None:
    nasty = {**ENDED, "reason": "\x1b]0;owned\x07 and\nmore", "job": "a\rb"}
    shown = lines(overview(recent=[nasty], queue="q\x1b[2J"), width=None)
    assert all(line.isprintable() for line in shown)


def test_colours_only_where_they_are_wanted() -> None:
    away = {**OVERVIEW["aws"], "reachable": False, "error": "gone"}
    plain = lines(overview(aws=away, recent=[ENDED]), width=80)
    painted = lines(overview(aws=away, recent=[ENDED]), width=80, colours=True)
    assert any("\x1b[31m" in line for line in painted)
    stripped = [line.replace("\x1b[0m", "") for line in painted]
    for code in ("1", "2", "31", "32", "33"):
        stripped = [line.replace(f"\x1b[{code}m", "") for line in stripped]
    assert stripped == plain


def test_a_journal_that_does_not_answer() -> None:
    shown = lines(overview(recent=None, backlog={"output_bytes": 0, "events": None, "ended_runs": 0}), width=None)
    assert "RECENT: the journal does not answer" in shown
    assert "backlog    events unknown, the journal does not answer" in shown


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0s"),
        (0.04, "0s"),
        (0.42, "0.4s"),
        (0.96, "1s"),
        (59.4, "59s"),
        (59.6, "1m00s"),
        (190.0, "3m10s"),
        (615.0, "10m"),
        (7_500.0, "2h05m"),
        (86_399.0, "23h59m"),
        (356_400.0, "4d3h"),
    ],
)
def test_durations_in_two_units_at_most(seconds: float, text: str) -> None:
    assert short(seconds) == text


@pytest.mark.parametrize(
    ("start", "line"),
    [
        ("direct", "starting   jobs directly"),
        ("fork: clone3 is refused here", "starting   jobs by fork: clone3 is refused here"),
        ("", None),
        (None, None),
    ],
)
def test_how_jobs_are_started_is_said(start: str | None, line: str | None) -> None:
    said = lines(overview(agent={**OVERVIEW["agent"], "supervisor_start": start}), width=None)
    assert [text for text in said if text.startswith("starting")] == ([line] if line else [])
