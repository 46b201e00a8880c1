"""The fleet comes back from outages, and one item's failure is that item's alone: real table, real queues."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from runner.aws.schedules import Schedules
from runner.control import store, turn, watch
from runner.control.applying.apply import Changed, Who, apply, save
from runner.control.applying.files import Wanted
from runner.control.applying.plan import plan
from runner.control.definition import GroupDefinition, JobDefinition
from runner.control.notices.facts import TELL, fact_of
from runner.control.notices.notify import Notify
from runner.control.recording.recorder import Recorder
from runner.control.recording.run_state import is_open
from runner.control.scheduler import minute
from runner.errors import AwsUnavailable
from runner.protocol import table as keys
from runner.protocol.event import HostFacts, RunFacts, Source, run_event
from runner.protocol.message import parse_message
from runner.protocol.units import format_time

from aws import client

if TYPE_CHECKING:
    from runner.aws.session import Session
    from runner.aws.table import Table

    from aws import Aws

T0 = 1_900_000_020.0  # 2030-03-17T17:47:00Z
DAY = 86_400.0
SNS = "arn:aws:sns:eu-west-1:123456789012:ops"


async def put(table: Table, group: GroupDefinition, *jobs: JobDefinition) -> None:
    await table.put(group.item())
    await table.put_many([job.item() for job in jobs])


def taken(aws: Aws, queue: str) -> list[str]:
    found: list[str] = []
    while bodies := aws.take(queue):
        found += [str(parse_message(body).run_id) for body in bodies]
    return sorted(found)


async def told(table: Table) -> list[tuple[str, str]]:
    items = await table.query("#state_key = :tell", {"tell": TELL}, index=keys.BY_STATE)
    return sorted((fact_of(item).news, fact_of(item).run_id or fact_of(item).job) for item in items)


def event(kind: Any, at: float, *, run_id: str = "r", host: str = "a", delivery: int = 1, **data: Any) -> str:
    job, execution = data.pop("job", "j"), data.pop("execution", f"e{delivery}")
    source = Source("web", HostFacts(f"host-{host}", None, "boot", "linux", "1"))
    facts = RunFacts(execution, job, run_id, delivery)
    return run_event(source, facts, kind=kind, attempt=1, sequence=data.pop("sequence", 1), time=at, data=data).body


def ended(at: float, outcome: str = "succeeded", **more: Any) -> str:
    return event("finished", at, outcome=outcome, reason=outcome, finished_at=at, will_retry=False, sequence=2, **more)


# -- what an outage of the scheduler leaves -----------------------------------------------------------------


async def test_a_turn_judges_what_was_missed_by_its_own_clock(
    aws: Aws, table: Table, cloud: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = aws.queue("web")
    jobs = [
        JobDefinition("web", "payroll", schedule="49 17 * * *", missed="skip", since=T0),
        JobDefinition("web", "report", schedule="49 * * * *", missed="last", since=T0),
        JobDefinition("web", "every", schedule="48,49 * * * *", missed="all", since=T0),
    ]
    await put(table, GroupDefinition("web", queue), *jobs)
    await minute(cloud, table, now=T0 + 1)

    async def cut_off(*_: Any) -> bool:
        raise AwsUnavailable("UpdateItem", "ServiceUnavailable", "away")

    # The turn of 17:48 gets to its last call, that of 17:49 sends nothing; then the scheduler is away for ten hours.
    for at, what in ((61, "runner.control.turn.done"), (121, "runner.control.scheduler.insist")):
        with monkeypatch.context() as patch:
            patch.setattr(what, cut_off)
            assert list((await minute(cloud, table, now=T0 + at)).failed) == ["web"]
    assert (await minute(cloud, table, now=T0 + 36_001)).failed == {}
    ids = taken(aws, queue)
    assert [one for one in ids if not one.startswith("every")] == ["report-2030-03-18T02-49-00Z"]
    assert len(ids) == len(set(ids)) == 21
    assert (await minute(cloud, table, now=T0 + 36_031)).enqueued == 0


async def test_a_new_groups_first_turn_notes_where_it_begins(aws: Aws, table: Table, cloud: Session) -> None:
    gone = aws.queue("web").replace("web", "later")
    every = JobDefinition("web", "j", schedule="*/10 * * * *", missed="all", since=T0 - 1)
    often = JobDefinition("web", "often", schedule="* * * * *", missed="skip", since=T0 - 1)
    await put(table, GroupDefinition("web", gone), every, often)
    for at in range(1, 3600, 600):
        assert (await minute(cloud, table, now=T0 + at)).enqueued == 0
    aws.queue("later")
    await minute(cloud, table, now=T0 + 3601)
    assert len([run for run in taken(aws, gone) if run.startswith("j-")]) == 6


async def test_a_group_whose_first_turn_comes_late_begins_with_its_jobs(aws: Aws, table: Table, cloud: Session) -> None:
    """Applied, while the function could not even reach the table."""
    queue = aws.queue("web")
    jobs = [
        JobDefinition("web", "all", schedule="*/10 * * * *", missed="all", since=T0),
        JobDefinition("web", "last", schedule="5 * * * *", since=T0),
    ]
    await put(table, GroupDefinition("web", queue), *jobs)
    await minute(cloud, table, now=T0 + 3601)
    assert len(taken(aws, queue)) == 6 + 1


@pytest.mark.parametrize("aws_server", ["standin"], indirect=True)
async def test_what_is_on_time_does_not_wait_for_what_was_missed(
    aws: Aws, table: Table, cloud: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue, small = aws.queue("web"), aws.queue("small")
    jobs = [JobDefinition("web", f"j{n}", schedule="*/5 * * * *", missed="all", since=T0) for n in range(40)]
    await put(table, GroupDefinition("web", queue), *jobs, JobDefinition("web", "skip", schedule="* * * * *"))
    await put(table, GroupDefinition("small", small), JobDefinition("small", "one", schedule="* * * * *", since=T0))
    await minute(cloud, table, now=T0 + 1)
    # Each turn has time for one slice of what was missed, and comes to an end all the same.
    monkeypatch.setattr("runner.control.pace.Pace.late", lambda _: True)
    end, seen = T0 + 3 * 3600 + 181, list[str]()
    for turns in range(20):
        report = await minute(cloud, table, now=end + 60 * turns)
        assert (report.failed, report.unfinished) == ({}, [])
        got = taken(aws, queue)
        assert f"skip-{format_time(end + 60 * turns - 1)[:19].replace(':', '-')}Z" in got, "this minute's"
        assert taken(aws, small), "every minute"
        seen += [run for run in got if run.startswith("j")]
    times = (3 * 3600 + 180 + 19 * 60 + 120) // 300
    assert len(seen) == len(set(seen)) == 40 * times


@pytest.mark.parametrize("aws_server", ["standin"], indirect=True)
async def test_a_turn_that_dies_in_what_it_catches_up_with_sends_nothing_twice(
    aws: Aws, table: Table, cloud: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = aws.queue("web")
    jobs = [JobDefinition("web", f"j{n:03}", schedule="*/5 * * * *", missed="all", since=T0) for n in range(150)]
    await put(table, GroupDefinition("web", queue), *jobs)
    await minute(cloud, table, now=T0 + 1)
    whole, slices = turn.caught_up, 0

    async def dies(*args: Any) -> bool:
        nonlocal slices
        slices += 1
        noted = await whole(*args)
        if slices % 3 == 0:
            raise AwsUnavailable("UpdateItem", "ServiceUnavailable", "the answer was lost")
        return noted

    monkeypatch.setattr(turn, "caught_up", dies)
    seen: list[str] = []
    for turns in range(12):
        await minute(cloud, table, now=T0 + 3600 + 60 * turns)
        seen += taken(aws, queue)
    assert len(seen) == len(set(seen)) == 150 * 14


# -- one item's failure -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "damage", [{"timezone": "Mars/Olympus"}, {"schedule": "every(tuesday)"}, {"missed": "some"}, {"message": "[]"}]
)
async def test_one_job_that_cannot_be_read_stops_no_other_and_is_told_once(
    aws: Aws, table: Table, cloud: Session, damage: dict[str, Any]
) -> None:
    queue, other = aws.queue("web"), aws.queue("db")
    good = JobDefinition("web", "good", schedule="* * * * *", since=T0)
    await put(table, GroupDefinition("web", queue, notify=Notify((SNS,))), good)
    await put(table, GroupDefinition("db", other), JobDefinition("db", "good", schedule="* * * * *", since=T0))
    await table.put(replace(good, name="bad").item() | damage)
    await table.put({**keys.group("worse").attributes(), "queue": 5, "fire": "by hand"})
    for at in (61, 121):
        report = await minute(cloud, table, now=T0 + at)
        assert (report.failed, list(report.left_out)) == ({}, ["web/bad"])
    assert len(taken(aws, queue)) == len(taken(aws, other)) == 2
    assert await told(table) == [("not-started", "bad")]
    # People are told that it is well again when it is.
    await table.put(replace(good, name="bad").item())
    assert await Recorder(table).record([("m", ended(T0 + 200, job="bad"))], now=T0 + 200) == []
    assert ("recovery", "r") in await told(table)


@pytest.mark.parametrize(
    "change",
    [
        {"host": "web1"},
        {"host": ["web1"]},
        {"finished_at": "yesterday"},
        {"started_at": 5},
        {"labels": "x"},
        {"job": {"name": "j"}},
        {"job": "j" * 3000},
        {"run_id": ""},
        {"run_id": "r" * 3000},
        {"group": None},
        {"attempt": "1"},
        {"attempt": -1},
        {"attempt": 10**30},
        {"sequence": True},
        {"delivery": "first"},
        {"output": "much"},
        {"log": "there"},
        {"outcome": 5},
        {"outcome": None, "will_retry": False},
        {"duration_s": float("nan")},
        {"usage": {"cpu_user_s": float("inf")}},
        {"usage": {"cpu_user_s": 10**60}},
        {"timeout_s": "1h"},
        {"timeout_s": 1e300, "kind": "started"},
        {"heartbeat_s": 1e300, "kind": "started"},
        {"scheduled_at": "12:00"},
        {"reason": {"why": 1}},
        {"detail": 7},
    ],
    ids=lambda change: json.dumps(change)[:40],
)
@pytest.mark.parametrize("aws_server", ["standin"], indirect=True)
async def test_one_malformed_event_keeps_no_other_from_history(table: Table, change: dict[str, Any]) -> None:
    change = dict(change)
    kind = change.pop("kind", "finished")
    whole = json.loads(
        event(kind, T0 + 9, outcome="failed", reason="x", started_at=T0, finished_at=T0 + 9, will_retry=False)
    )
    whole["data"] |= change
    bodies = [
        ("before", event("started", T0, run_id="good", started_at=T0, timeout_s=60.0)),
        ("same run", event("started", T0, started_at=T0, timeout_s=60.0)),
        ("bad", json.dumps(whole)),
        ("list", "[1]"),
        ("deep", "[" * 100_000),
        ("after", ended(T0 + 10, run_id="good")),
    ]
    assert set(await Recorder(table).record(bodies, now=T0 + 10)) == {"bad", "list", "deep"}
    good, same = await table.get(keys.run("web", "good")), await table.get(keys.run("web", "r"))
    assert good is not None
    assert same is not None
    assert (good["state"], same["state"]) == ("succeeded", "running")


async def test_one_run_that_cannot_be_changed_stops_the_watch_for_no_other(
    aws: Aws, table: Table, cloud: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    group = GroupDefinition("web", aws.queue("web"), notify=Notify((SNS,)))
    await put(table, group, *(JobDefinition("web", name, too_long=60.0) for name in "abc"))
    recorder = Recorder(table)
    for name in "abc":
        begun = event("started", T0, run_id=f"{name}-1", job=name, execution=name, started_at=T0, timeout_s=3600.0)
        assert await recorder.record([(name, begun)], now=T0) == []
    transact = table.transact

    async def refuses(puts: Any) -> bool:
        if any(put.item.get("run_id") == "a-1" for put in puts):
            raise AwsUnavailable("TransactWriteItems", "ValidationException", "item too large")
        if any(put.item.get("run_id") == "b-1" for put in puts):
            return False
        return await transact(puts)

    monkeypatch.setattr(table, "transact", refuses)
    monkeypatch.setattr("runner.control.recording.change.pause_s", lambda _: 0.0)
    assert (await minute(cloud, table, now=T0 + 61)).notices == 1
    assert (await minute(cloud, table, now=T0 + 2 * 3600)).lost == 1
    assert await told(table) == [("lost", "c-1"), ("too-long", "c-1")]
    monkeypatch.setattr(table, "transact", transact)
    assert (await minute(cloud, table, now=T0 + 2 * 3600 + 60)).lost == 2


async def test_a_table_that_is_away_ends_the_watchs_look(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = Recorder(table)
    begun = [event("started", T0, run_id=f"r{n}", execution=f"e{n}", started_at=T0, timeout_s=60.0) for n in range(30)]
    assert await recorder.record([(f"{n}", body) for n, body in enumerate(begun)], now=T0) == []
    asked = 0

    async def away(*_: Any, **__: Any) -> Any:
        nonlocal asked
        asked += 1
        raise AwsUnavailable("Query", "ServiceUnavailable", "away")

    monkeypatch.setattr(watch, "change_run", away)
    with pytest.raises(AwsUnavailable):
        await watch.open_runs(table, now=T0 + DAY)
    assert asked < 12


# -- gaps of the scheduler ----------------------------------------------------------------------------------


async def test_after_a_gap_each_run_that_did_not_start_is_told(aws: Aws, table: Table, cloud: Session) -> None:
    job = JobDefinition("web", "j", schedule="* * * * *", start_within=60.0, notify=Notify((SNS,)), since=T0)
    await put(table, GroupDefinition("web", aws.queue("web")), job)
    recorder = Recorder(table)
    ran = [48, 49, 50, 54]
    await minute(cloud, table, now=T0 + 1)
    for at in ran:
        run_id = f"j-2030-03-17T17-{at}-00Z"
        begun = event("started", T0 + 60, run_id=run_id, execution=run_id, started_at=T0 + 60, timeout_s=9000.0)
        assert await recorder.record([("m", begun)], now=T0 + 60) == []
    await minute(cloud, table, now=T0 + 181)
    # Five minutes without a turn; the last run whose time is over has started.
    await minute(cloud, table, now=T0 + 481)
    assert await told(table) == [("not-started", f"j-2030-03-17T17-{at}-00Z") for at in (51, 52, 53)]
    await minute(cloud, table, now=T0 + 482)
    assert len(await told(table)) == 3


async def test_after_a_long_gap_people_are_told_of_the_last_runs_alone(aws: Aws, table: Table, cloud: Session) -> None:
    job = JobDefinition("web", "j", schedule="* * * * *", start_within=60.0, notify=Notify((SNS,)), since=T0)
    await put(table, GroupDefinition("web", aws.queue("web")), job)
    await minute(cloud, table, now=T0 + 1)
    await minute(cloud, table, now=T0 + 2 * DAY)
    assert len(await told(table)) == watch.TOLD


async def test_what_could_not_be_told_is_looked_at_again(
    aws: Aws, table: Table, cloud: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = JobDefinition("web", "j", schedule="48 17 * * *", start_within=60.0, notify=Notify((SNS,)), since=T0)
    queue = aws.queue("web")
    await put(table, GroupDefinition("web", queue), job)
    await minute(cloud, table, now=T0 + 61)
    transact = table.transact

    async def refuses(_: Any) -> bool:
        return False

    monkeypatch.setattr(table, "transact", refuses)
    monkeypatch.setattr(watch, "pause_s", lambda _: 0.0)
    assert list((await minute(cloud, table, now=T0 + 121)).failed) == ["web: watch"]
    monkeypatch.setattr(table, "transact", transact)
    assert (await minute(cloud, table, now=T0 + 181)).failed == {}
    assert await told(table) == [("not-started", "j-2030-03-17T17-48-00Z")]
    assert len(taken(aws, queue)) == 1


# -- ends that are heard of late, and many at once ----------------------------------------------------------


@pytest.mark.parametrize(
    ("of_a", "of_b", "state", "news"),
    [
        ("failed", "succeeded", "succeeded", ["failure", "lost", "recovery"]),
        ("succeeded", "failed", "failed", ["failure", "lost"]),
        ("cancelled", "succeeded", "succeeded", ["lost", "recovery"]),
    ],
)
async def test_an_end_that_is_heard_of_late_takes_its_own_place(
    aws: Aws, table: Table, of_a: str, of_b: str, state: str, news: list[str]
) -> None:
    group = GroupDefinition("web", aws.queue("web"), notify=Notify((SNS,)))
    await put(table, group, JobDefinition("web", "j"))
    recorder = Recorder(table)

    async def say(body: str, now: float) -> None:
        assert await recorder.record([("m", body)], now=now) == []

    for run, at in (("A", T0), ("B", T0 + 70)):
        begun = event("started", at, run_id=run, execution=run, started_at=at, timeout_s=900.0, heartbeat_s=10.0)
        await say(begun, at)
    assert await watch.open_runs(table, now=T0 + 80) == (1, 0)
    await say(ended(T0 + 75, of_b, run_id="B", execution="B"), T0 + 90)
    await say(ended(T0 + 30, of_a, run_id="A", execution="A"), T0 + 120)
    status = await table.get(keys.status("web", "j"))
    assert status is not None
    assert (status["state"], status["run_id"]) == (state, "B")
    assert bool(status["failing_since"]) is (state == "failed")
    assert sorted(one for one, _ in await told(table)) == news


@pytest.mark.parametrize("aws_server", ["standin"], indirect=True)
async def test_runs_of_one_job_that_end_together_are_recorded_at_once(aws: Aws, table: Table) -> None:
    await put(table, GroupDefinition("web", aws.queue("web"), notify=Notify((SNS,))), JobDefinition("web", "j"))
    batches = [
        [(f"{k}-{n}", ended(T0 + n, "failed", run_id=f"r{k}-{n}", execution=f"e{k}-{n}")) for n in range(10)]
        for k in range(3)
    ]
    answers = await asyncio.gather(*(Recorder(table).record(batch, now=T0 + 20) for batch in batches))
    assert answers == [[], [], []]
    assert len(await told(table)) == 30


# -- what the queue says of the order -----------------------------------------------------------------------


@pytest.mark.parametrize("ahead", [600.0, -600.0, 0.0])
async def test_the_later_delivery_speaks_for_a_run_whatever_the_hosts_clocks_say(table: Table, ahead: float) -> None:
    recorder = Recorder(table)
    bodies = [
        event("started", T0 + ahead, started_at=T0 + ahead, timeout_s=60.0, sent_at=T0 - 5),
        event("started", T0 + 130, host="b", delivery=2, started_at=T0 + 130, timeout_s=60.0, sent_at=T0 - 5),
        ended(T0 + 140, host="b", delivery=2, sent_at=T0 - 5),
    ]
    for body in bodies:
        assert await recorder.record([("m", body)], now=T0 + 140) == []
    await watch.open_runs(table, now=T0 + DAY)
    run = await table.get(keys.run("web", "r"))
    assert run is not None
    assert (run["state"], run["host"]) == ("succeeded", "host-b")


async def test_a_message_that_comes_back_from_the_dead_letter_queue_is_later(table: Table) -> None:
    recorder = Recorder(table)
    bodies = [
        ended(T0, "failed", delivery=4, execution="first", sent_at=T0 - 900),
        ended(T0 + DAY, host="b", delivery=1, execution="again", sent_at=T0 + DAY - 60),
    ]
    for body in bodies:
        assert await recorder.record([("m", body)], now=T0 + DAY) == []
    run = await table.get(keys.run("web", "r"))
    assert run is not None
    assert (run["state"], is_open(run["state"])) == ("succeeded", False)


# -- history ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("aws_server", ["standin"], indirect=True)
async def test_history_finds_what_is_asked_for_behind_any_number_of_others(table: Table) -> None:
    def run(name: str, at: float, state: str = "succeeded", group: str = "web", took: float = 5.0) -> dict[str, Any]:
        return {
            **keys.run(group, name).attributes(),
            "group": group,
            "run_id": name,
            "state": state,
            "job": "j",
            "job_key": keys.job_key("j"),
            "scheduled_at": None,
            "started_at": format_time(at),
            "at": format_time(at),
            "ended_at": format_time(at + took),
            "seen_at": format_time(at + took),
        }

    items = [run(f"good-{n}", T0 - 60 * n) for n in range(700)]
    items += [run(f"other-{n}", T0 - 10 * n, "failed", group="db") for n in range(700)]
    items += [run("bad", T0 - 10 * 3600, "failed"), run("long", T0 - 30 * 3600, "failed", took=20 * 3600.0)]
    items += [run("old", T0 - 40 * 3600, "failed")]
    await table.put_many(items)

    async def ids(**asked: Any) -> list[str]:
        found = await store.history(table, "j", **{"limit": 20, "in_group": "web", **asked})
        return [one["run_id"] for one in found]

    assert await ids(failed=True, since=T0 - DAY) == ["bad", "long"]
    assert await ids(failed=True) == ["bad", "long", "old"]
    assert await ids(failed=True, limit=1) == ["bad"]
    assert (await ids(limit=3)) == ["good-0", "good-1", "good-2"]
    assert len(await ids(limit=701)) == 701
    assert len(await ids(failed=True, in_group=None, limit=1000)) == 703
    assert await ids(since=T0 + 60) == []


# -- schedules of EventBridge -------------------------------------------------------------------------------


async def apply_files(table: Table, cloud: Session, group: GroupDefinition, *jobs: JobDefinition) -> None:
    there, groups = await store.jobs(table), await store.groups(table)
    planned = plan(Wanted(jobs, (group,)), there, groups, prune=True)
    await apply(cloud, table, planned, there, groups, Who("ann", T0))


class Cut(Exception):
    """The process ends here."""


@pytest.mark.parametrize("where", ["before the schedule is put", "behind it"])
async def test_a_schedule_whose_apply_was_cut_off_goes_with_its_job(
    aws: Aws, table: Table, cloud: Session, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    group = GroupDefinition("web", aws.queue("web"), fire="eventbridge", role="arn:aws:iam::123456789012:role/s")
    job = JobDefinition("web", "one", message={"command": "true"}, schedule="30 2 * * *")
    whole = Schedules.put

    async def cut_off(self: Schedules, request: Any) -> None:
        if where == "behind it":
            await whole(self, request)
        raise Cut

    with monkeypatch.context() as patch:
        patch.setattr(Schedules, "put", cut_off)
        with pytest.raises(Cut):
            await apply_files(table, cloud, group, job)
    await apply_files(table, cloud, group)
    scheduler = client("scheduler", aws.endpoint)
    try:
        assert scheduler.list_schedules()["Schedules"] == []
        assert await store.jobs(table) == []
    finally:
        scheduler.close()


async def test_a_job_that_is_deleted_while_its_schedule_is_put_leaves_none(
    aws: Aws, table: Table, cloud: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    group = GroupDefinition("web", aws.queue("web"), fire="eventbridge", role="arn:aws:iam::123456789012:role/s")
    job = JobDefinition("web", "one", message={"command": "true"}, schedule="30 2 * * *")
    whole = Schedules.put

    async def beside(self: Schedules, request: Any) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(Schedules, "put", whole)
            await apply_files(table, cloud, group)
        await whole(self, request)

    monkeypatch.setattr(Schedules, "put", beside)
    await apply_files(table, cloud, group, job)
    scheduler = client("scheduler", aws.endpoint)
    try:
        assert scheduler.list_schedules()["Schedules"] == []
    finally:
        scheduler.close()


async def test_a_change_that_has_not_seen_the_mark_of_a_schedule_is_refused(aws: Aws, table: Table) -> None:
    await put(table, GroupDefinition("web", aws.queue("web")), JobDefinition("web", "j"))
    seen = await store.job(table, "j")
    await table.update(seen.key, "SET #scheduled = :s", {"s": "default "})
    with pytest.raises(Changed):
        await save(table, seen, replace(seen, owner="me"), Who("ann", T0))


async def test_a_job_that_cannot_be_read_is_mended_by_applying_it(aws: Aws, table: Table, cloud: Session) -> None:
    group = GroupDefinition("web", aws.queue("web"))
    job = JobDefinition("web", "j", schedule="0 3 * * *", message={"command": "true"})
    other = replace(job, name="other", schedule="0 4 * * *")
    for damage in ({"timezone": "Mars/Olympus"}, {"missed": "some"}, {"revision": "x"}, {"message": "["}):
        await table.put(job.item() | damage)
        await apply_files(table, cloud, group, job, other)
        assert all(one.parsed() is not None for one in await store.jobs(table)), damage
