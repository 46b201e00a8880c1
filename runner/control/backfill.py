"""Fire times of a job that are to be run after all: which they are, what there is of them, and their messages.

Their runs have the ids that the scheduler gives them, so what has run, or is on its way, is not run again.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any, Final

from runner.control.applying.eventbridge import timetable_of
from runner.control.definition import message_at, run_id_at, time_in_id
from runner.control.signatures import signed_run
from runner.control.timetable.schedule import midnight
from runner.errors import CronRunnerError
from runner.protocol import table as keys
from runner.protocol.units import parse_time

if TYPE_CHECKING:
    from collections.abc import Sequence

    from runner.aws.table import Table
    from runner.control.definition import GroupDefinition, JobDefinition
    from runner.control.timetable.firing import Timetable
    from runner.protocol.signed import Signer

MOST: Final = 10_000
"""Fire times of one backfill: a look at each, and a message."""
_LASTS_S: Final = 12 * 3600.0
_PIECE_S: Final = 7 * keys.DAY_S


@dataclass(frozen=True, slots=True)
class Found:
    """``missing`` are fire times (unix seconds) of which nothing is known, in order; ``there`` has the runs that there
    are, by id, with their states; ``left_out`` are fire times on days that the job's calendars leave out."""

    missing: tuple[float, ...]
    there: dict[str, str]
    left_out: tuple[float, ...]


def moment(text: str, timezone: str, *, end: bool) -> float:
    """A time with its offset, or a day of the job's own zone: its first moment, or, as the ``end``, its last one.
    Raises ValueError."""
    try:
        day = date.fromisoformat(text) if len(text) == 10 else None
    except ValueError:
        day = None
    if day is None:
        return parse_time(text)
    return midnight(day + timedelta(days=1), timezone) - 1.0 if end else midnight(day, timezone)


async def look(table: Table, job: JobDefinition, group: GroupDefinition, begin: float, end: float, now: float) -> Found:
    """The fire times from ``begin`` up to ``end``, both included, as far as they are over; raises CronRunnerError."""
    timetable = timetable_of(job, group)
    if timetable is None:
        raise CronRunnerError(
            f"cannot backfill {job.name}: it has no schedule that could be looked at; `cron-runner jobs trigger"
            f" {job.name}` runs it"
        )
    times, left_out = _fire_times(job.name, timetable, begin, end, now)
    runs = await table.get_many(keys.run(group.name, run_id_at(job.name, at)) for at in times)
    there = {str(run["run_id"]): str(run["state"]) for run in runs.values()}
    missing = tuple(at for at in times if run_id_at(job.name, at) not in there)
    return Found(missing, dict(sorted(there.items())), tuple(left_out))


def _fire_times(
    name: str, timetable: Timetable, begin: float, end: float, now: float
) -> tuple[list[float], list[float]]:
    """Those that are fired and those that are left out, of which each should have been sent by now."""
    found: list[float] = []
    left_out: list[float] = []
    start = begin - 1.0
    while start < end:
        stop = min(start + _PIECE_S, end)
        for at in timetable.schedule.due(start, stop):
            if timetable.sent_at(at) <= now:
                (found if timetable.on(at) else left_out).append(at)
        if len(found) > MOST:
            raise CronRunnerError(
                f"cannot backfill {name}: these are more than {MOST} fire times; give a shorter stretch"
            )
        start = stop
    return found, left_out


def messages(job: JobDefinition, times: Sequence[float], signer: Signer | None, *, now: float) -> list[tuple[str, str]]:
    """(run id, message) of fire times, as the scheduler makes them: a signed job as it was signed. With a signer each
    is signed for itself."""
    if signer is None:
        return [(run_id_at(job.name, at), message_at(job, at)) for at in times]
    until = now + _LASTS_S
    return [
        (
            run_id_at(job.name, at),
            signed_run(
                job.name,
                job.group,
                job.sent(),
                {"run_id": run_id_at(job.name, at), "scheduled_at": time_in_id(at)},
                signer,
                until=until,
            ),
        )
        for at in times
    ]


def as_json(job: JobDefinition, found: Found, sent: Sequence[str]) -> dict[str, Any]:
    """What was, or would be, sent, and what was there."""
    return {
        "job": job.name,
        "group": job.group,
        "missing": [run_id_at(job.name, at) for at in found.missing],
        "sent": list(sent),
        "there": found.there,
        "left_out": [run_id_at(job.name, at) for at in found.left_out],
    }
