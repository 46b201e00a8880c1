"""Worlds of the scheduler: outages, deaths, two at once, lost answers. Each job's `missed` is the promise."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from runner.control.definition import GroupDefinition, JobDefinition, run_id_at
from runner.control.due import ON_TIME_S
from runner.control.scheduler import minute
from runner.control.timetable.timing import Timing
from runner.protocol import table as keys
from runner.protocol.units import parse_time

from .cloud import Outage, Session, Violation
from .virtual import BEGIN, EPOCH, Clock, now

if TYPE_CHECKING:
    import random

    from .cloud import World

QUEUE = "https://sqs.eu-west-1.amazonaws.com/1/"
OFF = f"{datetime.fromtimestamp(EPOCH, UTC):%Y-%m-%d}/{datetime.fromtimestamp(EPOCH + 86_400, UTC):%Y-%m-%d}"
SCHEDULES = ("* * * * *", "*/5 * * * *", "rate(3 minutes)", "7 * * * *", "*/10 * * * *")
_SLACK_S = 70.0  # the clocks of those who send, and how long one takes


async def seed(world: World, groups: list[GroupDefinition], jobs: list[JobDefinition]) -> None:
    """What was applied before the world begins, without its faults."""
    faults, outages = world.faults, world.outages
    world.faults, world.outages = False, []
    table = world.table()
    for item in [*groups, *jobs]:
        await table.put(item.item())
    world.faults, world.outages = faults, outages


def random_world(world: World) -> None:
    draw = world.random
    world.faults = draw.random() < 0.8
    world.fails_before, world.fails_after = draw.choice((0.0, 0.01, 0.05)), draw.choice((0.0, 0.01, 0.05))
    world.entry_faults = draw.choice((0, 0, 0.05))
    horizon = draw.choice((15, 40, 90)) * 60
    groups = [GroupDefinition(name, QUEUE + name) for name in ("a", "b")[: draw.randint(1, 2)]]
    jobs = [
        JobDefinition(
            group.name,
            f"j{number}",
            schedule=draw.choice(SCHEDULES),
            missed=draw.choice(("skip", "last", "all")),
            since=now() - 600,
            timing=_timing(draw),
        )
        for group in groups
        for number in range(draw.choice((1, 2, 3, 3, 3, 3, 3, 230)))
    ]
    for _ in range(draw.choice((0, 0, 1, 2))):
        begin = Clock.mono + draw.uniform(0, horizon)
        end = begin + draw.choice((70, 200, 1000, 5000))
        world.outages.append(Outage(draw.choice(("*", "table", "enqueue")), "", begin, end, draw.choice((0.01, 5.0))))
    world.run(_history(world, groups, jobs, horizon))


def _timing(draw: random.Random) -> Timing:
    """Most jobs have neither splay nor days; some are left out on the very day of the world, or on none of its days."""
    days = draw.choice((None, None, None, OFF, "2031-01-01"))
    return Timing(
        splay=draw.choice((None, None, 90.0, 600.0)),
        but=("off",) if days else (),
        calendars={"off": days} if days else {},
    )


async def _history(world: World, groups: list[GroupDefinition], jobs: list[JobDefinition], horizon: float) -> None:
    well = not world.faults and not world.outages
    begin = now()
    await seed(world, groups, jobs)
    await asyncio.gather(*(_function(world, BEGIN + horizon) for _ in range(world.random.choice((1, 2, 3)))))
    world.faults, world.outages = False, []
    await asyncio.sleep(61)
    for _ in range(4):
        await minute(Session(world), world.table(), now=now())  # type: ignore[arg-type]
        await asyncio.sleep(60)
    sent, skipped = _sent(world), _skipped(world)
    for job in jobs:
        left_out = job.timing.calendars.get("off") == OFF
        if left_out and any(group == job.group and run_id.startswith(f"{job.name}-") for group, run_id in sent):
            raise Violation(f"{job.name} was sent on a day that its calendar leaves out")
        _check(job, skipped if left_out else sent, begin, EPOCH + BEGIN + horizon)
    if both := sent.keys() & skipped.keys():
        raise Violation(f"{both.pop()} was sent, and told as skipped")
    if well and (twice := [run for run, times in sent.items() if len(times) > 1]):
        raise Violation(f"{twice[0]} was sent twice without any fault")


async def _function(world: World, end: float) -> None:
    """One that is invoked each minute, with a clock of its own, and dies now and then."""
    draw = world.random
    ahead = draw.choice((0, 0, 0, 1.5, -1.5))
    await asyncio.sleep(draw.uniform(0, 60))
    while Clock.mono < end:
        began = Clock.mono
        dies = draw.choice((None, None, None, None, 0.02, 0.1, 0.5, 3.0)) if world.faults else None
        work = minute(Session(world), world.table(), now=now() + ahead)  # type: ignore[arg-type]
        world.note("minute", await world.process(work, dies_after=dies or 120.0, ahead=ahead))
        world.figures.decisions += 1
        late = draw.uniform(-1, 1) if draw.random() < 0.3 else 0.0
        await asyncio.sleep(max(0.0, 60 - (Clock.mono - began) + late))


def _sent(world: World) -> dict[tuple[str, str], list[float]]:
    """When each run id was sent, by (group, run id)."""
    sent: dict[tuple[str, str], list[float]] = {}
    for at, queue, message in world.sqs.sent:
        if "scheduled_at" not in message:
            continue  # started by hand, or after such a run
        due = parse_time(message["scheduled_at"])
        if EPOCH + at < due - 2.5:
            raise Violation(f"{message['run_id']} was sent before its time")
        sent.setdefault((queue.removeprefix(QUEUE), message["run_id"]), []).append(EPOCH + at)
    return sent


def _skipped(world: World) -> dict[tuple[str, str], list[float]]:
    """When each run was told as skipped, by (group, run id)."""
    found = {}
    for item in world.dynamo.items.values():
        if item["sk"] == keys.RUN and item["state"] == "skipped":
            if not item["reason"].startswith("calendar: "):
                raise Violation(f"{item['run_id']} is skipped as {item['reason']}")
            found[item["group"], item["run_id"]] = [parse_time(item["ended_at"])]
    return found


def _check(job: JobDefinition, sent: dict[tuple[str, str], list[float]], begin: float, end: float) -> None:
    schedule: Any = job.parsed()
    delay = job.timing.delay(job.name)
    times = schedule.due(begin - delay, end - delay)
    got = [at for at in times if (job.group, run_id_at(job.name, at)) in sent]
    for at in got:
        late = sent[job.group, run_id_at(job.name, at)][0] - at - delay
        if late < -2.5:
            raise Violation(f"{job.name} was sent {-late:.0f} s before its splay was over")
        if job.missed == "skip" and late > ON_TIME_S + _SLACK_S:
            raise Violation(f"{job.name} skips what was missed, and was sent {late:.0f} s late")
    if job.missed == "all" and got != times:
        raise Violation(f"{job.name} fires all, and {len(times) - len(got)} of {len(times)} are lost")
    later = schedule.due(times[-1] - 0.1, now() - delay) if times else []
    if job.missed == "last" and times and not any((job.group, run_id_at(job.name, at)) in sent for at in later):
        raise Violation(f"{job.name} has lost its latest time")
