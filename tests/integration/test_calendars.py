"""Calendars and splay on a real table and real queues: what is sent when, and what history says of what is not."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from runner.control import store
from runner.control.applying.apply import Who, apply
from runner.control.applying.eventbridge import NoSchedule, digest, request_for
from runner.control.applying.files import Wanted
from runner.control.applying.plan import plan
from runner.control.definition import GroupDefinition, JobDefinition
from runner.control.scheduler import minute
from runner.control.timetable.timing import Timing, delay_of
from runner.errors import JobFilesInvalid
from runner.protocol.message import parse_message

from aws import Aws

if TYPE_CHECKING:
    from runner.aws.session import Session
    from runner.aws.table import Table

T0 = 1_900_000_020.0  # 2030-03-17T17:47:00Z
HOLIDAY = Timing(but=("holidays",), calendars={"holidays": "2030-03-17"})
ARN = "arn:aws:sqs:eu-west-1:123456789012:web"


async def put(table: Table, session: Session, group: GroupDefinition, *jobs: JobDefinition, now: float = T0) -> None:
    there, groups = await store.jobs(table), await store.groups(table)
    await apply(session, table, plan(Wanted(jobs, (group,)), there, groups, prune=True), there, groups, Who("ann", now))


def taken(aws: Aws, queue: str) -> list[str]:
    found: list[str] = []
    while bodies := aws.take(queue):
        found += [str(parse_message(body).run_id) for body in bodies]
    return sorted(found)


@pytest.mark.parametrize("missed", ["skip", "last", "all"])
async def test_a_day_that_is_left_out_is_in_history_and_nothing_is_sent(
    aws: Aws, table: Table, cloud: Session, missed: Any
) -> None:
    queue = aws.queue("web")
    off = JobDefinition("web", "off", schedule="* * * * *", timing=HOLIDAY, missed=missed)
    only = replace(off, name="on", timing=Timing(only=("holidays",), calendars=HOLIDAY.calendars))
    await put(table, cloud, GroupDefinition("web", queue), off, only)
    for now in (T0 + 61, T0 + 62, T0 + 121):
        report = await minute(cloud, table, now=now)
        assert report.failed == {}
    assert taken(aws, queue) == ["on-2030-03-17T17-48-00Z", "on-2030-03-17T17-49-00Z"]
    runs = await store.history(table, "off", limit=10)
    assert [(run["run_id"], run["state"], run["scheduled_at"]) for run in runs] == [
        ("off-2030-03-17T17-49-00Z", "skipped", "2030-03-17T17:49:00.000000Z"),
        ("off-2030-03-17T17-48-00Z", "skipped", "2030-03-17T17:48:00.000000Z"),
    ]
    assert {run["reason"] for run in runs} == {"calendar: 2030-03-17 is in holidays"}


async def test_a_fire_time_is_sent_its_delay_later_under_its_own_name(aws: Aws, table: Table, cloud: Session) -> None:
    queue = aws.queue("web")
    name = next(f"j{n}" for n in range(100) if 120 < delay_of(f"j{n}", 600.0) < 180)
    job = JobDefinition("web", name, schedule="48 17 * * *", timing=Timing(splay=600.0))
    await put(table, cloud, GroupDefinition("web", queue), job)
    at = T0 + 60 + delay_of(name, 600.0)
    assert (await minute(cloud, table, now=at - 1)).enqueued == 0
    # The splay is taken back between the fire time and when it is sent: it stays with what it was.
    await put(table, cloud, GroupDefinition("web", queue), replace(job, timing=Timing()), now=at - 0.5)
    assert (await minute(cloud, table, now=at + 1)).enqueued == 1
    assert taken(aws, queue) == [f"{name}-2030-03-17T17-48-00Z"]
    assert (await minute(cloud, table, now=at + 600)).enqueued == 0


async def test_what_eventbridge_cannot_say_of_days_is_refused_before_anything_is_written(
    aws: Aws, table: Table, cloud: Session
) -> None:
    group = GroupDefinition("web", aws.queue("web"), fire="eventbridge", role="arn:aws:iam::123456789012:role/r")
    two = Timing(but=("holidays",), calendars={"holidays": "2030-03-20,2030-04-01"})
    odd = JobDefinition("web", "odd", schedule="0 3 * * *", timing=Timing(splay=90.0))
    with pytest.raises(JobFilesInvalid) as caught:
        await put(table, cloud, group, JobDefinition("web", "days", schedule="0 3 * * *", timing=two), odd)
    days, splay = sorted(caught.value.faults)
    assert "days of job days" in days
    assert 'fire = "scheduler"' in days
    assert "splay of job odd" in splay
    assert await store.jobs(table) == []


def test_eventbridge_says_what_it_can_a_window_a_first_and_a_last_day() -> None:
    group = GroupDefinition("web", "q", fire="eventbridge", role="r")
    job = JobDefinition("web", "j", schedule="0 3 * * *", timezone="Europe/Berlin")

    def asked(timing: Timing) -> dict[str, Any]:
        return request_for(replace(job, timing=timing), group, ARN, now=T0)

    plain = asked(Timing())
    assert plain["FlexibleTimeWindow"] == {"Mode": "OFF"}
    assert not {"StartDate", "EndDate"} & plain.keys()
    assert asked(Timing(splay=600.0))["FlexibleTimeWindow"] == {"Mode": "FLEXIBLE", "MaximumWindowInMinutes": 10}
    sprint = asked(Timing(only=("c",), calendars={"c": "2030-03-01/2030-03-03,2030-04-01/2030-04-09"}))
    assert sprint["StartDate"] == datetime(2030, 3, 31, 22, tzinfo=UTC), "midnight in Berlin, in summer"
    assert sprint["EndDate"] == datetime(2030, 4, 9, 21, 59, 59, tzinfo=UTC)
    later = asked(Timing(only=("c",), calendars={"c": "2030-04-02/2030-04-09"}))
    assert digest(later) != digest(sprint), "a start alone is a change, too"
    freeze = asked(Timing(but=("c",), calendars={"c": "2030-03-10/2030-03-19"}))
    assert freeze["StartDate"] == datetime(2030, 3, 19, 23, tzinfo=UTC)
    assert "EndDate" not in freeze
    over = asked(Timing(only=("c",), calendars={"c": "2030-03-01"}))
    assert over["State"] == "DISABLED"
    with pytest.raises(NoSchedule, match="not in one stretch"):
        asked(Timing(but=("c",), calendars={"c": "2030-03-19"}))
    rate = request_for(
        replace(job, schedule="rate(2 days)", timing=Timing(only=("c",), calendars={"c": "2030-04-01/2030-04-30"})),
        group,
        ARN,
        now=T0,
    )
    assert rate["StartDate"].timestamp() % (2 * 86_400) == 0
    assert datetime(2030, 3, 31, 22, tzinfo=UTC) <= rate["StartDate"] < datetime(2030, 4, 3, tzinfo=UTC)


async def test_what_runs_after_it_hears_that_a_calendar_left_it_out(aws: Aws, table: Table, cloud: Session) -> None:
    queue = aws.queue("web")
    off = JobDefinition("web", "off", schedule="48 17 * * *", timing=HOLIDAY)
    child = JobDefinition("web", "child", after=("off",))
    told = replace(child, name="told", after_when="any")
    await put(table, cloud, GroupDefinition("web", queue), off, child, told)
    for now in (T0 + 61, T0 + 121, T0 + 400):
        assert (await minute(cloud, table, now=now)).failed == {}
    assert taken(aws, queue) == ["told-2030-03-17T17-48-00Z"]
    (run,) = await store.history(table, "child", limit=10)
    assert (run["state"], run["run_id"]) == ("skipped", "child-2030-03-17T17-48-00Z")
    assert run["reason"].startswith("upstream: off")
