"""The journal on real SQLite files: group commit, faults of the disk, retention."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from executions import JOB, NOW, event, execution

from runner.agent.journal import database as database_module
from runner.agent.journal.database import Database
from runner.agent.journal.pruning import DAY_S, RETENTION_S
from runner.agent.journal.runs import Journal
from runner.agent.runs.run import Execution, MessageState, State
from runner.errors import JournalError
from runner.protocol.job import Job, Limits, Retries, Success
from runner.protocol.outcome import Outcome, Verdict

V1 = Path(__file__).parent.parent / "contract" / "journals" / "v1.sql"


def end(run: Execution, outcome: Outcome = Outcome.SUCCEEDED) -> None:
    run.state = State.ENDED
    run.ended_at = NOW + 1
    run.verdict = Verdict(outcome, "exit code 0", 0)
    run.outcome, run.reason = outcome, "exit code 0"


async def test_what_is_written_is_there_for_the_next_agent(tmp_path: Path) -> None:
    database = Database(tmp_path / "journal.db")
    journal = Journal(database, "agent")
    run = execution()
    await journal.accept(run)
    run.state, run.pid, run.started_at, run.supervisor = State.RUNNING, 42, NOW + 0.5, "s1"
    await journal.save(run, event("e/1/started"))
    await database.close()

    database = Database(tmp_path / "journal.db")
    journal = Journal(database, "agent")
    (row,) = await journal.unfinished()
    assert (row.execution, row.state, row.pid, row.supervisor, row.receipt) == (run.id, "running", 42, "s1", "receipt")
    assert [unsent.id for unsent in await journal.unsent(0, 10)] == ["e/1/started"]
    await database.close()


async def test_many_waiting_writes_share_few_commits(tmp_path: Path) -> None:
    database = Database(tmp_path / "journal.db")
    journal = Journal(database, "agent")
    await asyncio.gather(*(journal.accept(execution(f"r-{index}")) for index in range(200)))
    assert database.commits < 50
    assert len(await journal.unfinished()) == 200
    await database.close()


async def test_a_faulty_write_fails_alone(tmp_path: Path) -> None:
    database = Database(tmp_path / "journal.db")
    journal = Journal(database, "agent")
    run = execution()
    written = [
        journal.accept(execution("r-1")),
        database.write(("INSERT INTO nowhere VALUES (1)", ())),
        journal.accept(run),
        database.write(("INSERT INTO spools VALUES (NULL, '', NULL)", ())),
    ]
    results = await asyncio.gather(*written, return_exceptions=True)
    assert results[0] is None
    assert isinstance(results[1], sqlite3.OperationalError)
    assert results[2] is None
    assert isinstance(results[3], sqlite3.IntegrityError)
    assert len(await journal.unfinished()) == 2
    await database.close()


async def test_a_full_disk_is_waited_out_and_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database_module, "RETRY_S", 0.02)
    database = Database(tmp_path / "journal.db")
    journal = Journal(database, "agent")
    pages = await database.call(lambda connection: connection.execute("PRAGMA page_count").fetchone()[0])
    await database.call(lambda connection: connection.execute(f"PRAGMA max_page_count = {pages}").fetchone())
    written = [journal.accept(execution(f"r-{index}")) for index in range(50)]
    async with asyncio.timeout(10):
        while database.blocked_since is None:
            await asyncio.sleep(0.01)
    assert not all(future.done() for future in written)  # a first small commit may have found room
    assert "full" in database.blocked_by
    database._connection.execute("PRAGMA max_page_count = 100000")  # noqa: SLF001 - there is room again
    async with asyncio.timeout(10):
        await asyncio.gather(*written)
    assert database.blocked_since is None
    assert len(await journal.unfinished()) == 50
    await database.close()


@pytest.mark.parametrize("content", [b"no database at all, for sure" * 100, b"SQLite format 3\0" + b"\xff" * 8192])
async def test_a_corrupt_journal_is_put_aside(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "journal.db"
    path.write_bytes(content)
    database = Database(path, now=lambda: 17.0)
    await Journal(database, "agent").accept(execution())
    await database.close()
    assert (tmp_path / "journal.db.corrupt-17").read_bytes() == content


async def test_a_journal_from_the_future_is_refused_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    await Database(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(JournalError, match="later cron-runner"):
        Database(path)
    assert not list(tmp_path.glob("*.corrupt-*"))


async def test_an_unwritable_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(JournalError, match=r"check that .*nowhere exists"):
        Database(tmp_path / "nowhere" / "journal.db")


async def test_final_events_stay_after_they_were_sent_and_others_go(tmp_path: Path) -> None:
    database = Database(tmp_path / "journal.db")
    journal = Journal(database, "agent")
    run = execution()
    await journal.accept(run)
    started, finished = f"{run.id}/1/started", f"{run.id}/1/finished"
    await journal.save(run, event(started))
    end(run)
    await journal.save(run, event(finished, '{"b":2}'), terminal=True)
    await journal.sent([started, finished], NOW)
    assert await journal.unsent(0, 10) == []
    assert await journal.final_event(run.id) == (finished, '{"b":2}')
    assert await database.call(lambda connection: connection.execute("SELECT id FROM events").fetchall()) == [
        (finished,)
    ]
    (row,) = await journal.latest(["b-1", "b-2"])
    assert (row.outcome, row.exit_code) == ("succeeded", 0)
    await database.close()


async def test_runs_are_remembered_for_longer_than_sqs_keeps_a_message(tmp_path: Path) -> None:
    assert RETENTION_S >= 15 * DAY_S
    database = Database(tmp_path / "journal.db")
    journal = Journal(database, "agent")
    for run_id in ("sent", "unsent", "leased"):
        run = execution(run_id)
        end(run)
        run.message = MessageState.LEASED if run_id == "leased" else MessageState.GONE
        await journal.accept(run, event(f"{run.id}/1/finished"), terminal=True)
        if run_id != "unsent":
            await journal.sent([f"{run.id}/1/finished"], NOW)
    assert await journal.prune(NOW + RETENTION_S) == 0
    assert await journal.prune(NOW + RETENTION_S + 10) == 1
    assert {row.run_id for row in await journal.latest(["sent", "unsent", "leased"])} == {"unsent", "leased"}
    assert await database.call(lambda connection: connection.execute("SELECT count(*) FROM events").fetchone()) == (2,)
    await database.close()


async def test_beyond_its_quota_the_journal_drops_texts_and_keeps_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runner.agent.journal.pruning.KEPT_BYTES", 200_000)
    database = Database(tmp_path / "journal.db")
    journal = Journal(database, "agent")
    for index in range(100):
        run = execution(f"r-{index}")
        end(run)
        run.message = MessageState.GONE
        await journal.accept(run, event(f"{index}/1/finished", "x" * 4000), terminal=True)
    await journal.sent([f"{index}/1/finished" for index in range(100)], NOW)
    assert await journal.prune(NOW) > 0
    assert len(await journal.latest([f"r-{index}" for index in range(100)])) == 100
    await database.close()


async def test_what_senders_write_is_kept_in_bounded_bytes_and_never_at_the_cost_of_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Standard input, arguments, environment, labels, and what could be read of a refused message alike."""
    monkeypatch.setattr("runner.agent.journal.pruning.KEPT_LARGE_BYTES", 2_000_000)
    monkeypatch.setattr("runner.agent.journal.runs.CROWDED_BYTES", 1_000_000)
    database = Database(tmp_path / "journal.db")
    journal = Journal(database, "agent")
    text = "x" * 300_000
    fields: list[dict[str, Any]] = [
        {"stdin": text},
        {"argv": ("a", text), "command": ("a", text)},
        {"env": {"A": text}},
        {"labels": {"a": text}},
        {"success": Success(fail_on=(text,))},
    ]
    runs = [execution(f"r-{index}", job=replace(JOB, run_id=f"r-{index}", **fields[index % 5])) for index in range(60)]
    for index, run in enumerate(runs):
        journal.accept(run)
        end(run)
        run.ended_at = NOW + index
        run.message = MessageState.LEASED if index == 0 else MessageState.GONE
        event_id = f"{run.id}/1/finished"
        journal.save(run, event(event_id, f"how {index} ended"), terminal=True)
        journal.sent([event_id], NOW)
        if journal.crowded.is_set():
            while await journal.prune(NOW):
                pass
            assert not journal.crowded.is_set()
    while await journal.prune(NOW):
        pass
    assert (tmp_path / "journal.db").stat().st_size < 8_000_000  # of 18 MB that came
    rows = {row.run_id: row for row in await journal.latest([run.run_id for run in runs])}
    assert len(rows) == 60
    for run in runs:
        recorded = await journal.final_event(run.id)
        assert recorded is not None
        assert recorded[1].startswith("how ")
    # What is still owed, and the newest, are whole; of the others it is said that nothing is kept.
    assert Job.from_json(json.loads(rows["r-0"].spec)) == runs[0].job
    assert Job.from_json(json.loads(rows["r-59"].spec)) == runs[59].job
    gone = Job.from_json(json.loads(rows["r-5"].spec))
    assert (gone.job, gone.run_id, gone.argv) == (JOB.job, "r-5", ())
    await database.close()


async def test_where_all_is_too_much_messages_go_before_finished_events(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = Database(tmp_path / "journal.db")
    journal = Journal(database, "agent")
    runs = [execution(f"r-{index}", job=replace(JOB, run_id=f"r-{index}", stdin="x" * 7000)) for index in range(200)]
    for run in runs:
        end(run)
        run.message = MessageState.GONE
    told = [journal.accept(run, event(f"{run.id}/1/finished", "y" * 1000), terminal=True) for run in runs]
    await asyncio.gather(*told, journal.sent([f"{run.id}/1/finished" for run in runs], NOW))
    monkeypatch.setattr("runner.agent.journal.pruning.KEPT_BYTES", 1_500_000)
    while await journal.prune(NOW):
        pass
    kept = (
        "SELECT count(*), sum(body != ''), max(length(spec)) FROM events, runs WHERE events.execution = runs.execution"
    )
    count, bodies, longest = await database.call(lambda connection: connection.execute(kept).fetchone())
    assert (count, bodies) == (200, 200)
    assert longest < 200
    await database.close()


async def test_a_job_is_read_back_whole_and_its_defaults_take_no_room(tmp_path: Path) -> None:
    database = Database(tmp_path / "journal.db")
    journal = Journal(database, "agent")
    plain = replace(JOB, labels={})
    jobs = [
        plain,
        replace(plain, run_id="b-2", env={"A": "1"}, timeout=5.0, retries=Retries(max=2), user="app", declared=True),
        replace(plain, run_id="b-3", command=("true",), limits=Limits(pids=7), success=Success(exit_codes=(0, 3))),
    ]
    for job in jobs:
        await journal.accept(execution(job.run_id, job=job))
    rows = {row.run_id: row.spec for row in await journal.unfinished()}
    assert [Job.from_json(json.loads(rows[job.run_id])) for job in jobs] == jobs
    assert json.loads(rows["b-1"]) == {"job": "backup", "run_id": "b-1", "argv": ["true"], "command": "true"}
    await database.close()


async def test_what_ended_before_an_upgrade_is_known_and_forgotten_in_its_time(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "journal.db")) as connection:
        connection.executescript(V1.read_text())
        [ended] = connection.execute("SELECT max(ended_at) FROM runs").fetchone()
    database = Database(tmp_path / "journal.db")
    journal = Journal(database, "agent")
    await journal.accept(execution())
    (row,) = await journal.latest(["ended-gone"])
    assert row.outcome == "succeeded"
    assert await journal.final_event(row.execution) is not None
    before = [found.run_id for found in await journal.recent(100)]
    assert "ended-gone" in before
    assert [found.run_id for found in await journal.recent(1)] == before[:1]
    later = execution("later")
    end(later)
    later.ended_at = ended + 1
    await journal.accept(later, event(f"{later.id}/1/finished"))
    assert [found.run_id for found in await journal.recent(2)] == ["later", before[0]]
    assert await journal.prune(ended + RETENTION_S + 1) > 0
    assert await journal.latest(["ended-gone"]) == []
    assert await journal.final_event(row.execution) is None
    assert "ended-leased" in {found.run_id for found in await journal.unfinished()}
    await database.close()


async def test_what_a_dead_process_left_is_taken_over(tmp_path: Path) -> None:
    database = Database(tmp_path / "journal.db")
    other, journal = Journal(database, "run-once/1/2"), Journal(database, "agent")
    await other.accept(execution(owner="run-once/1/2"), event())
    assert await journal.unfinished() == []
    assert await journal.owners() == ["run-once/1/2"]
    await journal.take_over_from("run-once/1/2")
    assert len(await journal.unfinished()) == 1
    assert len(await journal.unsent(0, 10)) == 1
    await database.close()


async def test_only_its_owner_may_read_it(tmp_path: Path) -> None:
    """It holds the environments of jobs."""
    database = Database(tmp_path / "journal.db")
    await Journal(database, "agent").accept(execution())
    assert {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {
        "journal.db": 0o600,
        "journal.db-wal": 0o600,
        "journal.db-shm": 0o600,
    }
    await database.close()
