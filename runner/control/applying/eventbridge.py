"""A job as a schedule of EventBridge Scheduler that sends straight to the group's queue. Pure.

Of five fields AWS's six are made where they can say the same. The changes of the clock are AWS's then: a time that
is left out is skipped.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from runner.control.signatures import body
from runner.control.timetable.aws_cron import AwsCron
from runner.control.timetable.cron import Cron
from runner.control.timetable.schedule import At, Rate, Schedule, local, midnight, parse_schedule
from runner.errors import CronRunnerError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from runner.control.definition import GroupDefinition, JobDefinition
    from runner.control.timetable.firing import Timetable

SCHEDULED_TIME: Final = "<aws.scheduler.scheduled-time>"
LONGEST_NAME: Final = 64
_LATEST_S: Final = {"skip": 60, "last": 86_400, "all": 86_400}
"""How long AWS goes on trying to send; it has no outage policy of its own beside this."""
_DAYS: Final = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")


_MORE_STRETCHES: Final = (
    "cannot give the days of job {job} to EventBridge Scheduler: it has no word for `{field}` but a first and a last"
    ' day, and these days are not in one stretch; let its group fire = "scheduler"'
)


class NoSchedule(CronRunnerError):
    """The schedule cannot be said in EventBridge Scheduler's words."""


def schedule_name(group: str, job: str) -> str:
    """The name of a job's schedule: `GROUP.JOB`, its end a digest where it would be too long."""
    name = f"{group}.{job}"
    if len(name) <= LONGEST_NAME:
        return name
    return f"{name[: LONGEST_NAME - 13]}-{hashlib.sha256(name.encode()).hexdigest()[:12]}"


def request_for(job: JobDefinition, group: GroupDefinition, queue_arn: str, *, now: float) -> dict[str, Any]:
    """CreateSchedule's and UpdateSchedule's parameters; raises NoSchedule."""
    said = body(
        job.name,
        job.sent(),
        job.signed,
        {"run_id": f"{job.name}-{SCHEDULED_TIME}", "scheduled_at": SCHEDULED_TIME},
    )
    target: dict[str, Any] = {
        "Arn": queue_arn,
        "RoleArn": group.role,
        "Input": said,
        "RetryPolicy": {"MaximumEventAgeInSeconds": _LATEST_S[job.missed], "MaximumRetryAttempts": 185},
    }
    if queue_arn.endswith(".fifo"):
        target["SqsParameters"] = {"MessageGroupId": job.name}
    request: dict[str, Any] = {
        "Name": schedule_name(group.name, job.name),
        "GroupName": group.schedules,
        "ScheduleExpression": expression(job),
        "ScheduleExpressionTimezone": job.timezone,
        "FlexibleTimeWindow": _window(job),
        "State": "ENABLED" if job.enabled else "DISABLED",
        "Description": f"cron-runner job {job.name} of group {group.name}",
        "Target": target,
    }
    return request | _begin_and_end(job, request, now)


def _window(job: JobDefinition) -> dict[str, Any]:
    """A splay as a flexible time window; raises NoSchedule."""
    splay = job.timing.splay
    if splay is None:
        return {"Mode": "OFF"}
    if splay % 60 or not splay:
        raise NoSchedule(
            f"cannot give the splay of job {job.name} to EventBridge Scheduler: its windows are of whole minutes, 1 to"
            f' 1440; say splay = "{max(1, int(splay // 60))}m", or let its group fire = "scheduler"'
        )
    return {"Mode": "FLEXIBLE", "MaximumWindowInMinutes": int(splay // 60)}


def _begin_and_end(job: JobDefinition, request: Mapping[str, Any], now: float) -> dict[str, Any]:
    """StartDate and EndDate: of days in one stretch, and of rates; raises NoSchedule for days that are more."""
    schedule = job.parsed()
    assert schedule is not None
    found: dict[str, Any] = {}
    begin = now
    if not (allowed := job.timing.allowed).every:
        today = local(now, job.timezone).date()
        stretches = allowed.stretches(today)
        if len(stretches) > 1:
            raise NoSchedule(_MORE_STRETCHES.format(job=job.name, field="only" if job.timing.only else "except"))
        if not stretches or (isinstance(schedule.rule, At) and schedule.rule.local.date() not in allowed):
            return {"State": "DISABLED"}  # no day of its calendars is to come
        first, last = stretches[0]
        if first > today:
            begin = midnight(first, job.timezone)
            found["StartDate"] = datetime.fromtimestamp(begin, UTC)
            found["Description"] = f"{request['Description']}, from {first} on"  # a start alone tells no change
            begin -= 1.0
        if last is not None:
            found["EndDate"] = datetime.fromtimestamp(midnight(last + timedelta(days=1), job.timezone) - 1.0, UTC)
    if isinstance(schedule.rule, Rate):
        # Counted from the same beginning as the scheduler function counts, so that both mean the same times.
        found["StartDate"] = datetime.fromtimestamp(schedule.coming(begin, 1)[0], UTC)
    return found


def as_fired(job: JobDefinition, group: GroupDefinition) -> Schedule | None:
    """The job's schedule with the fire times of whoever fires it: EventBridge Scheduler's cron has AWS's changes of
    the clock. None where it has none, or one that cannot be given to it."""
    schedule = job.parsed()
    if group.fire == "scheduler" or schedule is None or not isinstance(schedule.rule, Cron):
        return schedule
    try:
        return parse_schedule(expression(job), job.timezone)
    except NoSchedule:
        return None


def timetable_of(job: JobDefinition, group: GroupDefinition | None) -> Timetable | None:
    """When it is fired by whoever fires its group: EventBridge Scheduler's flexible window has another delay each time.
    None as with `as_fired`."""
    timetable = job.timetable()
    if group is None or group.fire == "scheduler" or timetable is None:
        return timetable
    schedule = as_fired(job, group)
    if schedule is None:
        return None
    return replace(timetable, schedule=schedule, delay=0.0, within=job.timing.splay or 0.0, moved=None)


def digest(request: dict[str, Any]) -> str:
    """Tells whether a schedule is what was asked for; not its start, which moves with time."""
    lasting = {name: value for name, value in request.items() if name != "StartDate"}
    return hashlib.sha256(json.dumps(lasting, sort_keys=True, default=str).encode()).hexdigest()[:32]


def refuse_what_it_cannot(job: JobDefinition, now: float) -> None:
    """Raise NoSchedule for what EventBridge Scheduler has no words for, Unreadable for what cannot be read."""
    expression(job)
    _window(job)
    _begin_and_end(job, {"Description": ""}, now)


def expression(job: JobDefinition) -> str:
    """The schedule in EventBridge Scheduler's words; raises NoSchedule."""
    schedule = job.parsed()
    match schedule.rule if schedule is not None else None:
        case Rate() as rate:
            return f"rate({rate.text})"
        case At() as at:
            return f"at({at.local:%Y-%m-%dT%H:%M:%S})"
        case AwsCron() as cron:
            return f"cron({cron.said})"
        case Cron() as cron:
            return f"cron({_six(job.name, cron.fields)})"
    raise NoSchedule(f"cannot make a schedule of job {job.name}: it has none")


def _six(job: str, five: str) -> str:
    minute, hour, day, month, weekday = five.upper().split()
    if day != "*" and weekday != "*":
        # Cron means either (or, behind a star, both); AWS has no word for it.
        raise NoSchedule(
            f"cannot give the schedule of job {job} to EventBridge Scheduler: it names days of the month and of the"
            ' week; make two jobs of it, or let its group fire = "scheduler"'
        )
    days = day if day in ("*", "L") else _listed(job, day, 1, 31)
    weekdays = "?" if weekday == "*" else _weekday(job, weekday)
    fields = (
        _listed(job, minute, 0, 59),
        _listed(job, hour, 0, 23),
        "?" if weekday != "*" else days,
        month if month == "*" else _listed(job, month, 1, 12),
        weekdays,
        "*",
    )
    return " ".join(fields)


def _listed(job: str, field: str, low: int, high: int) -> str:
    """The numbers of a field of cron, as AWS writes them."""
    from cronsim.cronsim import Field  # noqa: PLC0415 - for those who look at a schedule

    kind = {59: Field.MINUTE, 23: Field.HOUR, 31: Field.DAY, 12: Field.MONTH}[high]
    items = kind.parse(field)
    numbers = sorted(item for item in items if isinstance(item, int))
    if len(numbers) < len(items) or numbers[0] < low:
        raise NoSchedule(f"cannot give the schedule of job {job} to EventBridge Scheduler: it has no word for {field}")
    if len(numbers) == high - low + 1:
        return "*"
    step = numbers[1] - numbers[0] if len(numbers) > 1 else 0
    if step > 1 and numbers == list(range(numbers[0], high + 1, step)):
        return f"{numbers[0]}/{step}"
    return ",".join(map(str, numbers))


def _weekday(job: str, field: str) -> str:
    from cronsim.cronsim import CronSim, Field  # noqa: PLC0415

    items = list(Field.DOW.parse(field))
    if len(items) == 1 and isinstance(items[0], tuple):
        number, which = items[0]
        return f"{number % 7 + 1}{'L' if which == CronSim.LAST else f'#{which}'}"
    if any(isinstance(item, tuple) for item in items):
        raise NoSchedule(
            f"cannot give the schedule of job {job} to EventBridge Scheduler: {field} is more than one # or L"
        )
    numbers = sorted({item % 7 for item in items if isinstance(item, int)})
    return "*" if len(numbers) == 7 else ",".join(_DAYS[number] for number in numbers)
