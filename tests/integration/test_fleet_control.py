"""Scheduler, recorder and watch on a real table and real queues, with time as an argument."""

from __future__ import annotations

import asyncio
import json
import random
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from runner.aws.table import Table
from runner.control import functions, store, turn, watch
from runner.control.applying.apply import Changed, Who, apply, save
from runner.control.applying.eventbridge import NoSchedule, as_fired, request_for
from runner.control.applying.files import Wanted
from runner.control.applying.plan import plan
from runner.control.definition import GroupDefinition, JobDefinition
from runner.control.notices.delivery import deliver
from runner.control.notices.facts import TELL, fact_of
from runner.control.notices.notify import Notify
from runner.control.notices.payloads import PAGERDUTY_URL
from runner.control.notices.senders import Pool, Senders
from runner.control.recording.recorder import Recorder
from runner.control.scheduler import minute
from runner.errors import CronRunnerError, JobFilesInvalid
from runner.protocol import table as keys
from runner.protocol.event import HostFacts, RunFacts, Source, run_event
from runner.protocol.message import parse_message
from runner.protocol.units import format_time

from aws import Aws, client

if TYPE_CHECKING:
    from collections.abc import Iterator

    from runner.aws.attributes import Item
    from runner.aws.session import Session
    from runner.control.notices.payloads import HttpRequest

    from receiver import Receiver

T0 = 1_900_000_020.0  # 2030-03-17T17:47:00Z
WHO = Who("ann", T0)
SNS = "arn:aws:sns:eu-west-1:123456789012:ops"


async def put(table: Table, session: Session, group: GroupDefinition, *jobs: JobDefinition, now: float = T0) -> None:
    """Apply a group and its jobs."""
    there, groups = await store.jobs(table), await store.groups(table)
    planned = plan(Wanted(jobs, (group,)), there, groups, prune=True)
    await apply(session, table, planned, there, groups, Who("ann", now))


def taken(aws: Aws, queue: str) -> list[str]:
    """The run ids on the queue, which is empty then."""
    found: list[str] = []
    while bodies := aws.take(queue):
        found += [str(parse_message(body).run_id) for body in bodies]
    return sorted(found)


async def notices(table: Table) -> list[tuple[str, str]]:
    """(news, run id) of what is to be told."""
    items = await table.query("#state_key = :tell", {"tell": TELL}, index=keys.BY_STATE)
    return sorted((fact_of(item).news, fact_of(item).run_id or "") for item in items)


async def test_each_fire_time_is_enqueued_once_whoever_asks_how_often(aws: Aws, table: Table, cloud: Session) -> None:
    queue = aws.queue("web")
    job = JobDefinition("web", "each", message={"command": "true", "labels": {"a": "b"}}, schedule="* * * * *")
    off = JobDefinition("web", "off", schedule="* * * * *", enabled=False)
    await put(table, cloud, GroupDefinition("web", queue), job, off)

    first = await minute(cloud, table, now=T0 + 61)
    assert (first.enqueued, first.failed) == (1, {})
    (body,) = aws.take(queue)
    assert json.loads(body) == {
        "job": "each",
        "run_id": "each-2030-03-17T17-48-00Z",
        "scheduled_at": "2030-03-17T17:48:00Z",
        "command": "true",
        "labels": {"a": "b"},
    }
    again = await asyncio.gather(*(minute(cloud, table, now=T0 + 62) for _ in range(4)))
    assert sum(report.enqueued for report in again) == 0
    both = await asyncio.gather(*(minute(cloud, table, now=T0 + 121) for _ in range(4)))
    assert sum(report.enqueued for report in both) == 1
    assert taken(aws, queue) == ["each-2030-03-17T17-49-00Z"]


@pytest.mark.parametrize(("missed", "expected"), [("skip", 3), ("last", 3), ("all", 60)])
async def test_an_outage_is_caught_up_with_by_each_jobs_policy(
    aws: Aws, table: Table, cloud: Session, missed: Any, expected: int
) -> None:
    queue = aws.queue("web")
    await put(
        table, cloud, GroupDefinition("web", queue), JobDefinition("web", "j", schedule="* * * * *", missed=missed)
    )
    await minute(cloud, table, now=T0 + 1)
    report = await minute(cloud, table, now=T0 + 3601)
    assert (report.enqueued, report.dropped) == (expected, 60 - expected)
    assert taken(aws, queue)[-1] == "j-2030-03-17T18-47-00Z"


# moto takes a quarter of a second for a batch of messages and seconds for a page of an index, AWS some milliseconds.
@pytest.mark.parametrize("aws_server", ["standin"], indirect=True)
async def test_a_turn_that_dies_is_taken_up_where_it_was(aws: Aws, table: Table, cloud: Session) -> None:
    queue = aws.queue("web")
    jobs = [JobDefinition("web", f"job-{n:04}", schedule="* * * * *") for n in range(450)]
    await put(table, cloud, GroupDefinition("web", queue), *jobs)
    held = await turn.take(table, "web", now=T0 + 60)
    assert held is not None
    # It has sent 200 and noted it, then died.
    assert await turn.reached(table, held, f"{T0 + 60:015.3f} job-0199")
    beside = await minute(cloud, table, now=T0 + 90)
    assert (beside.enqueued, beside.busy) == (0, ["web"])
    after = await minute(cloud, table, now=T0 + 119)
    assert (after.enqueued, after.failed) == (250, {})
    ids = taken(aws, queue)
    assert ids[0].startswith("job-0200-")
    assert len(ids) == len(set(ids)) == 250
    # The one that was thought dead finds that it has nothing to say any more.
    assert not await turn.reached(table, held, "x")


async def test_a_group_whose_queue_is_gone_holds_up_no_other(aws: Aws, table: Table, cloud: Session) -> None:
    queue = aws.queue("web")
    gone = queue.replace("web", "gone")
    await put(table, cloud, GroupDefinition("web", queue), JobDefinition("web", "j", schedule="* * * * *"))
    await put(table, cloud, GroupDefinition("db", gone), JobDefinition("db", "j", schedule="* * * * *", missed="all"))
    report = await minute(cloud, table, now=T0 + 61)
    assert report.enqueued == 1
    assert list(report.failed) == ["db"]
    aws.queue("gone")
    report = await minute(cloud, table, now=T0 + 121)
    assert (report.enqueued, report.failed) == (3, {})
    assert taken(aws, gone) == ["j-2030-03-17T17-48-00Z", "j-2030-03-17T17-49-00Z"]


@pytest.mark.parametrize("aws_server", ["standin"], indirect=True)
async def test_five_thousand_jobs_of_one_minute(aws: Aws, table: Table, cloud: Session) -> None:
    jobs = [
        JobDefinition("web", f"job-{n:04}", message={"command": "true"}, schedule="48 17 * * *", since=T0)
        for n in range(5000)
    ]
    queue = aws.queue("web")
    await table.put(GroupDefinition("web", queue).item())
    await table.put_many([job.item() for job in jobs])
    before = cloud.stats.requests.copy()
    report = await minute(cloud, table, now=T0 + 61)
    made = cloud.stats.requests - before
    assert (report.enqueued, report.failed, report.unfinished) == (5000, {}, []), made
    assert made["SendMessageBatch"] == 500
    assert made["UpdateItem"] < 30
    assert aws.depth(queue) == 5000


def event(
    kind: Any,
    at: float,
    *,
    run_id: str,
    job: str = "nightly",
    sequence: int = 1,
    **data: Any,
) -> str:
    source = Source("web", HostFacts("host-a", None, "boot", "linux", "1"))
    facts = RunFacts("e1", job, run_id, 1)
    return run_event(source, facts, kind=kind, attempt=1, sequence=sequence, time=at, data=data).body


def story(run_id: str, at: float, outcome: str, job: str = "nightly") -> list[str]:
    """The events of a run that took 10 s."""
    return [
        event("started", at, run_id=run_id, job=job, started_at=at, timeout_s=60.0),
        event("heartbeat", at + 5, run_id=run_id, job=job, sequence=2),
        event(
            "finished",
            at + 10,
            run_id=run_id,
            job=job,
            sequence=3,
            outcome=outcome,
            reason=outcome,
            exit_code=0,
            started_at=at,
            finished_at=at + 10,
            duration_s=10.0,
            will_retry=False,
        ),
    ]


def deliveries(bodies: list[str]) -> list[tuple[str, str]]:
    return [(f"m{n}", body) for n, body in enumerate(bodies)]


async def test_shuffled_and_repeated_events_of_many_runs_give_each_its_state(table: Table) -> None:
    expected = {f"nightly-{n}": ("succeeded", "failed", "timed_out")[n % 3] for n in range(20)}
    bodies = [body for n, (run, outcome) in enumerate(expected.items()) for body in story(run, T0 + 100 * n, outcome)]
    chance = random.Random(7)
    bodies += chance.sample(bodies, len(bodies) // 3)
    chance.shuffle(bodies)
    # Two recorders side by side, as Lambda has them.
    recorders = [Recorder(table), Recorder(table)]
    parts = [bodies[start : start + 10] for start in range(0, len(bodies), 10)]
    for one, two in zip(parts[::2], [*parts[1::2], []], strict=False):
        failed = await asyncio.gather(
            recorders[0].record(deliveries(one), now=T0), recorders[1].record(deliveries(two), now=T0)
        )
        assert failed == [[], []]
    runs = await store.history(table, "nightly", limit=100)
    assert {run["run_id"]: run["state"] for run in runs} == expected
    assert [run["run_id"] for run in runs[:2]] == ["nightly-19", "nightly-18"]
    assert {run["duration_s"] for run in runs} == {10}
    failed_runs = await store.ended_since(table, T0, T0 + 3000, failed=True)
    assert {run["run_id"] for run in failed_runs} == {
        run for run, outcome in expected.items() if outcome != "succeeded"
    }
    assert len(await store.attempts(table, "web", "nightly-3")) == 1
    assert await table.query("#state_key = :open", {"open": keys.OPEN}, index=keys.BY_STATE) == []


async def test_what_is_no_event_alone_is_delivered_again(table: Table) -> None:
    bodies = [("bad", "not json"), ("agent", json.dumps({"type": "cron-runner.agent.started", "data": {}}))]
    bodies += [("good", story("r", T0, "succeeded")[0])]
    assert await Recorder(table).record(bodies, now=T0) == ["bad"]
    assert (await store.run(table, "r", "web"))["state"] == "running"


async def test_failure_and_recovery_are_noticed_once(aws: Aws, table: Table, cloud: Session) -> None:
    group = GroupDefinition("web", aws.queue("web"), notify=Notify((SNS, "ping:https://hc-ping.com/x")))
    await put(table, cloud, group, JobDefinition("web", "nightly", owner="ann"))
    bad, good = story("r1", T0, "failed"), story("r2", T0 + 100, "succeeded")
    recorder = Recorder(table)
    for _ in range(3):
        for body in (*bad, *good):
            assert await recorder.record([("m", body)], now=T0 + 200) == []
    told = await notices(table)
    assert told == [("failure", "r1"), ("recovery", "r2"), ("started", "r1"), ("started", "r2"), ("success", "r2")]
    items = await table.query("#state_key = :tell", {"tell": TELL}, index=keys.BY_STATE)
    to = {fact_of(item).news: item["to"] for item in items}
    assert to["failure"] == [SNS, "ping:https://hc-ping.com/x"]
    assert (to["recovery"], to["started"]) == ([SNS], ["ping:https://hc-ping.com/x"])


async def test_the_first_failure_of_a_job_that_was_just_applied_is_noticed(
    aws: Aws, table: Table, cloud: Session
) -> None:
    recorder = Recorder(table)
    assert await recorder.record(deliveries(story("r1", T0, "failed")), now=T0) == []
    assert await notices(table) == []
    group = GroupDefinition("web", aws.queue("web"), notify=Notify((SNS,)))
    await put(table, cloud, group, JobDefinition("web", "nightly"))
    assert await recorder.record(deliveries(story("r2", T0 + 100, "failed")), now=T0 + 100) == []
    assert await notices(table) == [("failure", "r2")]


async def test_what_did_not_happen_in_time_is_noticed_once(aws: Aws, table: Table, cloud: Session) -> None:
    queue = aws.queue("web")
    job = JobDefinition(
        "web", "nightly", schedule="50 17 * * *", start_within=120.0, finish_within=600.0, notify=Notify((SNS,))
    )
    await put(table, cloud, GroupDefinition("web", queue), job)
    for at in range(0, 900, 60):
        await minute(cloud, table, now=T0 + at + 1)
    run_id = "nightly-2030-03-17T17-50-00Z"
    assert await notices(table) == [("not-finished", run_id), ("not-started", run_id)]
    assert taken(aws, queue) == [run_id]


async def test_a_run_in_time_is_no_news(aws: Aws, table: Table, cloud: Session) -> None:
    job = JobDefinition(
        "web", "nightly", schedule="50 17 * * *", start_within=120.0, finish_within=600.0, notify=Notify((SNS,))
    )
    await put(table, cloud, GroupDefinition("web", aws.queue("web")), job)
    recorder = Recorder(table)
    for at in range(0, 900, 60):
        await minute(cloud, table, now=T0 + at + 1)
        if at == 240:
            bodies = story("nightly-2030-03-17T17-50-00Z", T0 + 190, "succeeded")
            assert await recorder.record(deliveries(bodies), now=T0 + at) == []
    assert await notices(table) == []


async def test_a_run_that_takes_too_long_and_then_falls_silent(aws: Aws, table: Table, cloud: Session) -> None:
    job = JobDefinition("web", "nightly", too_long=120.0, notify=Notify((SNS,)))
    await put(table, cloud, GroupDefinition("web", aws.queue("web")), job)
    beats = [
        event("started", T0, run_id="r", started_at=T0, timeout_s=3600.0, heartbeat_s=30.0),
        *(event("heartbeat", T0 + 30 * n, run_id="r", sequence=1 + n) for n in range(1, 8)),
    ]
    recorder = Recorder(table)
    assert await recorder.record(deliveries(beats), now=T0 + 210) == []
    assert await watch.open_runs(table, now=T0 + 119) == (0, 0)
    assert await watch.open_runs(table, now=T0 + 211) == (0, 1)
    assert await watch.open_runs(table, now=T0 + 212) == (0, 0)
    assert await notices(table) == [("too-long", "r")]
    assert await watch.open_runs(table, now=T0 + 299) == (0, 0)
    assert await watch.open_runs(table, now=T0 + 301) == (1, 0)
    assert await watch.open_runs(table, now=T0 + 302) == (0, 0)
    run: Item = await store.run(table, "r", "web")
    assert run["state"] == "lost"
    assert await notices(table) == [("lost", "r"), ("too-long", "r")]
    # It was only slow to tell.
    late = event(
        "finished", T0 + 250, run_id="r", sequence=20, outcome="succeeded", finished_at=T0 + 250, will_retry=False
    )
    assert await recorder.record([("m", late)], now=T0 + 400) == []
    assert (await store.run(table, "r", "web"))["state"] == "succeeded"
    assert ("recovery", "r") in await notices(table)


class Pager:
    """Incidents as PagerDuty keeps them, by what is sent there: by HTTP, to a receiver in its place."""

    def __init__(self, receiver: Receiver) -> None:
        self.receiver = receiver
        self.pool = Pool()

    async def __call__(self, request: HttpRequest) -> tuple[int, str]:
        assert request.url == PAGERDUTY_URL
        return await self.pool(replace(request, url=self.receiver.url))

    def open(self) -> set[str]:
        found: set[str] = set()
        for event in self.receiver.bodies():
            (found.discard if event["event_action"] == "resolve" else found.add)(event["dedup_key"])
        return found


@pytest.fixture
def pager(receiver: Receiver) -> Iterator[Pager]:
    made = Pager(receiver)
    yield made
    made.pool.close()


async def test_an_incident_is_open_while_something_is_wrong_and_no_longer(
    aws: Aws, table: Table, cloud: Session, pager: Pager
) -> None:
    job = JobDefinition("web", "nightly", schedule="50 17 * * *", start_within=120.0, too_long=300.0)
    await put(table, cloud, GroupDefinition("web", aws.queue("web"), notify=Notify(("pagerduty:KEY",))), job)
    recorder, senders = Recorder(table), Senders(cloud, http=pager)
    due, run_id = T0 + 180, "nightly-2030-03-17T17-50-00Z"
    incident = {"cron-runner/web/nightly"}

    async def at(seconds: float, *bodies: str) -> bool:
        """A minute of the scheduler and what it tells, behind these events; whether an incident is open."""
        assert await recorder.record(deliveries(list(bodies)), now=due + seconds) == []
        await minute(cloud, table, now=due + seconds)
        await deliver(table, senders, now=due + seconds)
        assert pager.open() <= incident
        return bool(pager.open())

    begun, beat, ended = story(run_id, due + 130, "succeeded")
    assert not await at(-179)
    assert not await at(119)
    assert await at(121), "it has not started in time"
    # By hand, since then: it says nothing of the one that is missing.
    assert await at(125, *story("by-hand", due - 60, "succeeded"))
    assert await at(131, begun), "it has to show that it is well"
    assert not await at(141, beat, ended), "it succeeded"

    long = [event("started", due + 200, run_id="long", started_at=due + 200, timeout_s=3600.0)]
    assert not await at(200, *long)
    assert await at(501), "it takes too long"
    assert await at(520, *story("beside", due + 505, "succeeded")), "another one succeeds, that one hangs still"
    over = event("finished", due + 600, run_id="long", sequence=9, outcome="succeeded", finished_at=due + 600)
    assert not await at(601, over)
    assert [body["event_action"] for body in pager.receiver.bodies()] == ["trigger", "resolve"] * 2

    assert await at(700, *story("bad", due + 680, "failed"))
    assert not await at(800, *story("good", due + 780, "succeeded"))
    # The one before is heard of when the one behind it is known.
    assert not await at(900, *story("slow-to-tell", due + 760, "failed"))
    assert not await at(960)


async def test_a_run_that_ends_while_it_is_told_of_is_told_of_as_over(
    aws: Aws, table: Table, cloud: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = JobDefinition("web", "nightly", schedule="50 17 * * *", finish_within=60.0)
    await put(table, cloud, GroupDefinition("web", aws.queue("web"), notify=Notify(("pagerduty:KEY",))), job)
    recorder, run_id, due = Recorder(table), "nightly-2030-03-17T17-50-00Z", T0 + 180
    begun, _, ended = story(run_id, due, "succeeded")
    await minute(cloud, table, now=due)
    await recorder.record(deliveries([begun]), now=due)
    transact = table.transact

    async def later(puts: Any) -> bool:
        # Its end comes between the watch's look and its word.
        monkeypatch.setattr(table, "transact", transact)
        assert await recorder.record(deliveries([ended]), now=due + 61) == []
        return await transact(puts)

    monkeypatch.setattr(table, "transact", later)
    report = await minute(cloud, table, now=due + 61)
    assert (report.failed, report.notices) == ({}, 0)
    status = await table.get(keys.status("web", "nightly"))
    assert status is not None
    assert (status["state"], status["failing_since"], status["troubles"]) == ("succeeded", None, [])


async def test_apply_keeps_schedules_of_eventbridge_in_step(aws: Aws, table: Table, cloud: Session) -> None:
    queue = aws.queue("web")
    group = GroupDefinition("web", queue, fire="eventbridge", role="arn:aws:iam::123456789012:role/s")
    one = JobDefinition("web", "one", message={"command": "true"}, schedule="30 2 * * 1-5", timezone="Europe/Berlin")
    two = JobDefinition("web", "two", schedule="rate(5 minutes)")
    await put(table, cloud, group, one, two)
    scheduler = client("scheduler", aws.endpoint)
    try:
        made = scheduler.get_schedule(Name="web.one")
        assert made["ScheduleExpression"] == "cron(30 2 ? * MON,TUE,WED,THU,FRI *)"
        assert made["ScheduleExpressionTimezone"] == "Europe/Berlin"
        assert made["Target"]["Arn"] == aws.arn(queue)
        assert json.loads(made["Target"]["Input"])["run_id"] == "one-<aws.scheduler.scheduled-time>"
        assert scheduler.get_schedule(Name="web.two")["ScheduleExpression"] == "rate(5 minutes)"
        # Nothing of ours fires beside it.
        assert (await minute(cloud, table, now=T0 + 3600)).enqueued == 0

        before = cloud.stats.requests["UpdateSchedule"]
        await put(table, cloud, group, one, two, now=T0 + 60)
        assert cloud.stats.requests["UpdateSchedule"] == before
        await put(table, cloud, group, replace(one, enabled=False), now=T0 + 120)
        assert scheduler.get_schedule(Name="web.one")["State"] == "DISABLED"
        assert [found["Name"] for found in scheduler.list_schedules()["Schedules"]] == ["web.one"]
        # One that somebody deleted comes back; a group that fires otherwise has none.
        scheduler.delete_schedule(Name="web.one")
        await put(table, cloud, group, one, now=T0 + 180)
        assert scheduler.get_schedule(Name="web.one")["State"] == "ENABLED"
        await put(table, cloud, replace(group, fire="scheduler"), one, now=T0 + 240)
        assert scheduler.list_schedules()["Schedules"] == []
    finally:
        scheduler.close()


async def test_what_eventbridge_has_no_words_for_is_refused_before_anything_is_written(
    aws: Aws, table: Table, cloud: Session
) -> None:
    group = GroupDefinition("web", aws.queue("web"), fire="eventbridge", role="arn:aws:iam::123456789012:role/s")
    jobs = [JobDefinition("web", name, schedule="0 0 1 * 1") for name in ("a", "b")]
    with pytest.raises(JobFilesInvalid) as caught:
        await put(table, cloud, group, *jobs, JobDefinition("web", "c", schedule="@daily"))
    assert len(caught.value.faults) == 2
    assert await store.groups(table) == {}
    assert await store.jobs(table) == []


async def test_a_queue_that_would_take_nothing_from_eventbridge_is_refused_before_anything_is_written(
    aws: Aws, table: Table, cloud: Session
) -> None:
    queue = aws.queue("web.fifo")
    group = GroupDefinition("web", queue, fire="eventbridge", role="arn:aws:iam::123456789012:role/s")
    job = JobDefinition("web", "a", schedule="@daily")
    with pytest.raises(CronRunnerError, match="ContentBasedDeduplication=true"):
        await put(table, cloud, group, job)
    assert (await store.groups(table), await store.jobs(table)) == ({}, [])
    await put(table, cloud, group, replace(job, schedule=None))  # nothing that EventBridge Scheduler would send
    aws.sqs.set_queue_attributes(QueueUrl=queue, Attributes={"ContentBasedDeduplication": "true"})
    await put(table, cloud, group, job, now=T0 + 60)
    scheduler = client("scheduler", aws.endpoint)
    try:
        assert scheduler.get_schedule(Name="web.a")["Target"]["SqsParameters"] == {"MessageGroupId": "a"}
    finally:
        scheduler.close()


async def test_two_who_change_a_job_at_once_are_told(aws: Aws, table: Table, cloud: Session) -> None:
    await put(table, cloud, GroupDefinition("web", aws.queue("web")), JobDefinition("web", "j"))
    job = await store.job(table, "j")
    await save(table, job, job, WHO)
    with pytest.raises(Changed):
        await save(table, job, job, WHO)


def test_a_group_that_eventbridge_fires_has_its_days_of_a_change() -> None:
    job = JobDefinition("web", "j", schedule="30 2 * * *", timezone="Europe/Berlin")
    start, end = 1_774_738_800.0, 1_774_738_800.0 + 86_400  # 2026-03-28T23:00Z: 02:30 is left out
    ours, aws_own = (as_fired(job, GroupDefinition("web", "q", fire=fire)) for fire in ("scheduler", "eventbridge"))
    assert ours is not None
    assert aws_own is not None
    assert ours.due(start, end) == [1_774_746_000.0]
    assert aws_own.due(start, end) == []


def test_every_five_field_schedule_that_can_be_said_in_six_is() -> None:
    group = GroupDefinition("web", "https://q", fire="eventbridge", role="r")

    def said(schedule: str) -> str:
        job = JobDefinition("web", "j", schedule=schedule)
        return str(request_for(job, group, "arn", now=T0)["ScheduleExpression"])

    assert said("*/15 8-17 * * *") == "cron(0/15 8,9,10,11,12,13,14,15,16,17 * * ? *)"
    assert said("0 0 L * *") == "cron(0 0 L * ? *)"
    assert said("0 0 1,15 jan *") == "cron(0 0 1,15 1 ? *)"
    assert said("0 0 * * 0") == said("0 0 * * 7") == "cron(0 0 ? * SUN *)"
    assert said("0 0 * * 5L") == "cron(0 0 ? * 6L *)"
    assert said("0 0 * * 1#2") == "cron(0 0 ? * 2#2 *)"
    assert said("cron(0 3 * * ? *)") == "cron(0 3 * * ? *)"
    assert said("at(2031-01-01T00:00:00)") == "at(2031-01-01T00:00:00)"
    for schedule in ("0 0 1 * 1", "0 0 LW * *", "0 0 * * 1#1,2#2"):
        with pytest.raises(NoSchedule):
            said(schedule)


def test_the_functions_as_lambda_calls_them(aws: Aws, cloud: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    queue = aws.queue("web")
    clock = [T0 + 61]
    monkeypatch.setattr(functions, "_warm", [])
    monkeypatch.setattr(functions, "time", SimpleNamespace(time=lambda: clock[0]))
    monkeypatch.delenv("CRON_RUNNER_FLEET__TABLE", raising=False)
    with pytest.raises(CronRunnerError, match="set CRON_RUNNER_FLEET__TABLE"):
        functions.scheduler({}, None)
    monkeypatch.setenv("CRON_RUNNER_FLEET__TABLE", "cron")
    fleet_table = Table(cloud, "cron")

    async def prepare() -> None:
        await fleet_table.make()
        await put(fleet_table, cloud, GroupDefinition("web", queue), JobDefinition("web", "j", schedule="* * * * *"))

    asyncio.run(prepare())
    assert [functions.scheduler({}, None)["enqueued"] for _ in range(2)] == [1, 0]
    records = [{"messageId": f"m{n}", "body": body} for n, body in enumerate([*story("r", T0, "succeeded"), "x"])]
    assert functions.recorder({"Records": records}, None) == {"batchItemFailures": [{"itemIdentifier": "m3"}]}
    assert asyncio.run(store.run(fleet_table, "r", "web"))["state"] == "succeeded"

    aws.sqs.delete_queue(QueueUrl=queue)
    clock[0] += 60
    with pytest.raises(functions.NotScheduled, match="web: cannot call SendMessageBatch"):
        functions.scheduler({}, None)


@pytest.mark.parametrize(
    "item",
    [
        {},
        {"job": 7, "group": None},
        {"group": "web", "run_id": "bad", "state": "running", "job": "nightly", "seen_at": "x"},
        {"group": "web", "run_id": "bad", "state": 1, "job": ["nightly"], "seen_at": None, "ended_at": 7},
    ],
)
async def test_an_item_that_is_no_run_and_no_status_holds_up_no_other(
    aws: Aws, table: Table, cloud: Session, item: dict[str, object]
) -> None:
    """The watch, and whoever asks for runs: what somebody wrote by hand is left out."""
    job = JobDefinition("web", "nightly", schedule="@daily", message={"command": "x"})
    await put(table, cloud, GroupDefinition("web", aws.queue("web")), job)
    await Recorder(table).record(deliveries(story("good", T0, "succeeded")[:1]), now=T0)
    day = format_time(T0)[:10]
    for name, state in ("open", keys.OPEN), ("failed", f"FAILED#{day}"), ("well", f"GOOD#{day}"):
        about = {"state_key": state, "state_at": format_time(T0), "job_key": keys.job_key("nightly")}
        await table.put({"at": format_time(T0), **item, **about, **keys.run("web", name).attributes()})
    assert await watch.open_runs(table, now=T0 + keys.DAY_S) == (1, 0)
    assert await store.open_runs(table) == []
    found = await store.ended_since(table, T0 - 1, T0 + keys.DAY_S, failed=True)
    assert [run["run_id"] for run in found] == ["good"]
    assert await store.ended_since(table, T0 - 1, T0 + keys.DAY_S, failed=False) == []
    assert [run["run_id"] for run in await store.history(table, "nightly", limit=9)] == ["good"]
    await table.put({**item, **keys.status("web", "nightly").attributes()})
    assert await store.statuses(table, [job]) == {}
    with pytest.raises(store.NotFound):
        await store.run(table, "open", "web")
