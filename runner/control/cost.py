"""What AWS bills for a fleet in a month: counts of what it does, times prices. Pure.

The counts are those of `tests/bench/fleet.py`, whose stand-in counts as DynamoDB bills: an item's size is rounded up
to 1 KiB, a transaction is twice, and an index is written, too. Of SQS the most is said: nothing travels in batches, as
with runs that are minutes apart. Jobs' output, EC2 and what people are told by are not among it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from runner.control.chains.chain import in_order
from runner.control.definition import Unreadable
from runner.protocol import table as keys

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from runner.control.definition import JobDefinition
    from runner.control.timetable.firing import Timetable
    from runner.control.timetable.schedule import Schedule

MONTH_S: Final = 30 * keys.DAY_S
PRICES_OF: Final = "2025-11, us-east-1, on demand, no free tier, in USD"
"""When and where; most regions are dearer by up to a half."""

_MILLION: Final = 1e6
PRICES: Final = {
    "table writes": 0.625 / _MILLION,  # a write request unit; https://aws.amazon.com/dynamodb/pricing/on-demand/
    "table reads": 0.125 / _MILLION,  # a read request unit
    "table storage": 0.25,  # a GB for a month
    "queues": 0.40 / _MILLION,  # a request; https://aws.amazon.com/sqs/pricing/
    "function calls": 0.20 / _MILLION,  # https://aws.amazon.com/lambda/pricing/
    "function time": 0.0000166667,  # a GB second
    "schedules": 1.00 / _MILLION,  # an invocation; https://aws.amazon.com/eventbridge/pricing/
}

# -- counts

RECORDED_WRITES: Final = 17.0  # units of a run whose start and end come apart; together 10
RECORDED_READS: Final = 1.25  # where another environment of the function recorded the start; else next to none
CLAIM_WRITES: Final = 2.0  # and as many for a lock; one more for each renewal
RENEWED_EVERY_S: Final = 40.0
LOOK_EVERY_S: Final = 5.0
LOOK_READS: Final = 0.5
_POLL_S: Final = 20.0
_QUEUE_REQUESTS: Final = 7.0  # a run: sent, received, deleted; its two events sent, received together and deleted
_LAMBDAS_POLLS: Final = 5.0  # by which Lambda asks an idle queue (its guide, "Using Lambda with Amazon SQS")
MINUTE_WRITES: Final = 2.0  # of a group
MINUTE_READS: Final = 1.5  # and half a unit of a group
_RECORDER_GB_S: Final = 0.5 * 0.05  # an event: memory of the template, and time with a table of a few milliseconds
_SCHEDULER_GB_S: Final = 1.0 * 0.3  # a minute
_RUN_KB: Final = 3.0  # a run, its attempt and both indexes
_CLAIM_KB: Final = 0.4
_CLAIM_KEPT: Final = 0.5  # months


@dataclass(frozen=True, slots=True)
class Fleet:
    """What is to be paid for; `runs` are those of a month."""

    hosts: int
    groups: int
    jobs: int
    runs: float
    locked_runs: float = 0.0
    by_eventbridge: float = 0.0
    run_s: float = 60.0
    kept_s: float = 90 * keys.DAY_S


@dataclass(frozen=True, slots=True)
class Line:
    """One position of the bill: who causes it, what AWS counts, how much of that, and USD."""

    by: str
    what: str
    count: float
    usd: float


def bill(fleet: Fleet) -> list[Line]:
    """The positions of a month; their sum is the bill."""
    minutes, looks = MONTH_S / 60, MONTH_S / LOOK_EVERY_S * fleet.hosts
    renewals = fleet.runs * (fleet.run_s // RENEWED_EVERY_S)
    claims = CLAIM_WRITES * (fleet.runs + fleet.locked_runs) + renewals * (1 + fleet.locked_runs / max(fleet.runs, 1))
    gigabytes = fleet.runs * (_RUN_KB * fleet.kept_s / MONTH_S + _CLAIM_KB * _CLAIM_KEPT) / 1e6
    turns = fleet.groups * minutes
    counts = [
        ("hosts", "table reads", looks * LOOK_READS),
        ("hosts", "queues", MONTH_S / _POLL_S * fleet.hosts),
        ("runs", "table writes", RECORDED_WRITES * fleet.runs + claims),
        ("runs", "table reads", RECORDED_READS * fleet.runs),
        ("runs", "table storage", gigabytes),
        ("runs", "queues", _QUEUE_REQUESTS * fleet.runs),
        ("runs", "function calls", 2 * fleet.runs),
        ("runs", "function time", 2 * fleet.runs * _RECORDER_GB_S),
        ("runs", "schedules", fleet.by_eventbridge),
        ("minutes", "table writes", MINUTE_WRITES * turns),
        ("minutes", "table reads", MINUTE_READS * minutes + 0.5 * turns),
        ("minutes", "function calls", minutes),
        ("minutes", "function time", minutes * _SCHEDULER_GB_S),
        ("minutes", "queues", _LAMBDAS_POLLS * MONTH_S / _POLL_S),
    ]
    return [Line(by, what, count, count * PRICES[what]) for by, what, count in counts if count]


def hosts_alone(hosts: int, runs: float) -> float:
    """USD of the table for claims and directives of so many hosts: what it costs that they are a fleet."""
    lines = bill(Fleet(hosts, 1, 0, runs))
    looks = sum(line.usd for line in lines if (line.by, line.what) == ("hosts", "table reads"))
    renewals = runs * (60.0 // RENEWED_EVERY_S)
    return looks + (CLAIM_WRITES * runs + renewals) * PRICES["table writes"]


def fleet_of(
    jobs: Iterable[JobDefinition], fire: Callable[[str], str], *, hosts: int, run_s: float, now: float
) -> Fleet:
    """The fleet of these jobs as their schedules, and their parents', have it; ``fire`` is how a group's fire. What is
    triggered by hand, and what cannot be read, is not counted."""
    runs = locked = by_eventbridge = kept = 0.0
    groups, counted, known = set[str](), 0, dict[tuple[str | None, ...], float]()
    each: dict[tuple[str, str], float] = {}
    for job in in_order(jobs):
        groups.add(job.group)
        counted += 1
        key = (job.schedule, job.timezone, *job.timing.calendars.values(), *job.timing.but, *job.timing.only)
        if key not in known:
            known[key] = _of_a_month(job, now)
        # What runs after others runs as often as they all do.
        often = min((each.get((job.group, name), 0.0) for name in job.after), default=known[key])
        each[job.group, job.name] = mine = often if job.enabled and not job.fault else 0.0
        runs += mine
        kept += mine * job.retention
        locked += mine if job.message.get("overlap", "allow") != "allow" else 0.0
        by_eventbridge += mine if job.schedule and fire(job.group) == "eventbridge" else 0.0
    kept_s = kept / runs if runs else 0.0
    return Fleet(hosts, len(groups), counted, runs, locked, by_eventbridge, run_s, kept_s)


def _of_a_month(job: JobDefinition, now: float) -> float:
    try:
        timetable = job.timetable()
    except Unreadable:
        return 0.0
    if timetable is None:
        return 0.0
    return a_month(timetable.schedule if timetable.allowed.every else timetable, now)


def a_month(fired: Schedule | Timetable, now: float, most: int = 100) -> float:
    """How often it fires in 30 days; of one that fires often the next ``most`` times say it."""
    times = [one if isinstance(one, float) else one.scheduled for one in fired.coming(now, most)]
    if len(times) == most and times[-1] < now + MONTH_S:
        return most * MONTH_S / (times[-1] - now)
    return float(sum(at <= now + MONTH_S for at in times))
