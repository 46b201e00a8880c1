"""Journals of older versions, as they are checked in under tests/contract/journals, load and are reconciled."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from runner.agent.journal.schema import MIGRATIONS

from waiting import wait_for

if TYPE_CHECKING:
    from fleet import Fleet

JOURNALS = sorted((Path(__file__).parent.parent / "contract" / "journals").glob("*.sql"))
LOST = {"accepted", "running", "taken-over", "run-once"}


@pytest.mark.parametrize("dump", JOURNALS, ids=[path.stem for path in JOURNALS])
def test_an_old_journal_is_taken_over(fleet: Fleet, dump: Path) -> None:
    host = fleet.host()
    spool = host.state / "spool"
    spool.mkdir(parents=True)
    (spool / "ended-unsent.out").write_text("line 1\nline 2\n")
    (spool / "running.out").write_text("hidden-value\nlast words")
    with closing(sqlite3.connect(host.state / "journal.db")) as connection:
        connection.executescript(dump.read_text())
    host.start()
    ended = fleet.events.wait_ended([*LOST, "backoff", "ended-leased", "ended-unsent", "skipped"])
    outcomes = {event["subject"]: event["data"].get("outcome") for event in ended}
    assert outcomes == dict.fromkeys(LOST, "lost") | {
        "backoff": "succeeded",
        "ended-leased": "succeeded",
        "ended-unsent": "succeeded",
        "skipped": None,
    }
    # The retry is a further attempt of the old execution, and its events go on from the old ones.
    [failed, again] = fleet.events.of("backoff", "finished")
    assert (failed["data"]["attempt"], again["data"]["attempt"]) == (1, 2)
    assert again["data"]["sequence"] > failed["data"]["sequence"]
    assert not fleet.events.of("ended-gone")  # had been delivered
    fleet.wait_lines("old", "ended-unsent", ["line 2"])  # from the offset that was committed
    fleet.wait_lines("old", "running", ["***", "last words"])
    assert [event for event in fleet.events.seen if event["type"].endswith("agent.started")]

    def owed() -> list[object]:
        with closing(sqlite3.connect(host.state / "journal.db", timeout=10)) as connection:
            assert connection.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS),)
            return [
                *connection.execute(
                    "SELECT run_id, state, message, owner FROM runs "
                    "WHERE state != 'ended' OR message = 'leased' OR owner != 'agent'"
                ),
                *connection.execute(
                    "SELECT key, record FROM spools WHERE record IS NULL OR record NOT LIKE '%\"settled\": true%'"
                ),
                *connection.execute("SELECT key, sink, offset FROM offsets"),
                *connection.execute("SELECT id FROM events WHERE sent_at IS NULL"),
            ]

    wait_for(lambda: not owed(), "nothing is owed any more", detail=lambda: f"{owed()}\n{host.log()}")
    # What ended before is answered from the old journal.
    fleet.send({"job": "old", "run_id": "ended-gone", "command": "echo again; exit 0"})
    answer = fleet.events.wait("ended-gone", "finished")
    assert answer["id"] == "000000000000000000000006/1/cron-runner.run.finished"
    fleet.wait_empty()
    assert host.stop() == 0, host.log()
