"""Worlds that seeds draw, and the histories: each in a process of its own, which is put on virtual time for good."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
WORLDS = 400
AT_ONCE = 25
HISTORIES = (
    "a_further_attempt_that_was_not_started_is_not_forgotten",
    "a_run_whose_row_has_no_end_is_no_repeat",
    "a_message_outlives_the_agent_until_its_event_is_delivered",
    "a_rejected_message_outlives_the_agent_until_its_event_is_delivered",
    "what_was_not_delivered_is_sent_after_a_restart_whatever_else_happens",
    "the_end_of_an_attempt_is_acknowledged_after_a_crash_in_backoff",
    "the_end_of_a_run_is_acknowledged_after_a_crash",
    "messages_of_one_run_that_is_skipped_are_one_run",
    "another_jobs_message_with_the_same_run_id_is_rejected",
    "a_deletion_whose_answer_is_lost_is_no_lost_lease",
    "a_run_that_is_taken_over_can_be_cancelled_at_once",
    "a_run_of_more_than_twelve_hours_is_taken_over",
    "what_was_told_survives_a_power_cut",
    "a_run_that_is_cancelled_while_the_disk_is_full_shuts_nobody_out",
    "an_end_of_which_the_lost_journal_alone_had_the_event_is_told",
    "what_the_lost_journal_alone_knew_is_adopted_from_the_supervisor",
    "a_run_that_is_adopted_twice_is_told_under_the_same_numbers",
    "what_nobody_signed_and_what_is_replayed_starts_nothing",
    "a_message_that_comes_again_while_its_run_is_active_is_held_by_its_newest_receipt",
    "a_message_that_comes_again_while_it_waits_is_held_by_its_newest_receipt",
    "a_message_that_comes_again_while_it_is_answered_is_held_by_its_newest_receipt",
    "a_message_runs_where_the_lost_journal_alone_knew_why_it_was_rejected",
    "a_rejection_that_was_told_stands_whatever_has_changed_of_its_ground",
    "the_group_of_a_run_whose_message_is_gone_is_known_over_restarts",
    "a_message_with_the_run_id_of_another_hosts_run_is_rejected_there",
)


def simulate(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tests.simulation", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("first", range(0, WORLDS, AT_ONCE))
def test_worlds_come_to_rest_with_all_that_was_promised(first: int) -> None:
    done = simulate("--seed", str(first), "--count", str(AT_ONCE))
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr
    assert done.stdout.startswith(f"{AT_ONCE} worlds, ")


@pytest.mark.parametrize("name", HISTORIES)
def test_history(name: str) -> None:
    done = simulate("--history", name)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr


def test_all_histories_are_lived_through() -> None:
    assert sorted(simulate("--list").stdout.split()) == sorted(HISTORIES)


def test_a_seed_draws_the_same_world_in_every_process() -> None:
    first, second = (simulate("--seed", "7", "--trace").stdout for _ in range(2))
    assert first == second
    assert "is at rest" in first


def test_worlds_find_a_fault_that_is_planted() -> None:
    """Some that the first worlds show; all of them by hand, `python -m tests.simulation.planted`."""
    names = ("started_before_its_row_is_written", "record_forgotten", "instance_not_compared")
    words = [word for name in names for word in ("--name", name)]
    line = [sys.executable, "-m", "tests.simulation.planted", "--count", "25", *words]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("3 faults, 0 missed\n")
