"""Fire times that are left out on purpose: written into history as runs that were skipped, and why.

They go through the recorder's own step, so what follows from a run's end follows from theirs.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from runner.control.definition import run_id_at
from runner.control.recording.change import Known, change_run, pause_s
from runner.control.recording.run_state import attempt_told
from runner.control.recording.told import Told
from runner.errors import AwsUnavailable
from runner.protocol import table as keys
from runner.protocol.units import format_time

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from runner.aws.attributes import Item
    from runner.aws.table import Table
    from runner.control.definition import GroupDefinition
    from runner.control.due import Fire

CALENDAR: Final = "calendar"
EXECUTION: Final = "scheduler"
"""The execution of a run of which no host was asked."""
_AT_ONCE: Final = 8
_TRIES: Final = 4


async def record(table: Table, group: GroupDefinition, fires: Sequence[Fire], *, now: float) -> None:
    """Write each of these fire times as a run that was skipped. Again it changes nothing; raises CronRunnerError."""
    known = Known(groups={group.name: group}, jobs={fire.job.key: fire.job for fire in fires})
    await _insist(lambda: known.look(table, [group.name]))  # what runs after them hears of it
    turns = asyncio.Semaphore(_AT_ONCE)

    async def one(fire: Fire) -> None:
        told = _told(group.name, fire)
        sk = keys.attempt(group.name, told.run_id, EXECUTION, told.attempt).sk

        def skipped(attempts: dict[str, Item]) -> None:
            attempts.setdefault(sk, attempt_told(None, told))

        async with turns:
            await _insist(lambda: change_run(table, known, group.name, told.run_id, skipped, now=now, first=True))

    for answer in await asyncio.gather(*(one(fire) for fire in fires), return_exceptions=True):
        if isinstance(answer, BaseException):
            raise answer


async def _insist(step: Callable[[], Awaitable[object]]) -> None:
    """A step that changes nothing when it is done again: one answer that is lost is not to hold up all others."""
    for turn in range(_TRIES - 1):
        try:
            await step()
        except AwsUnavailable:
            await asyncio.sleep(pause_s(turn))
        else:
            return
    await step()


def _told(group: str, fire: Fire) -> Told:
    """The event that a host would have sent."""
    run_id = run_id_at(fire.name, fire.scheduled)
    return Told(
        id=f"{EXECUTION}/{run_id}/skipped",
        kind="skipped",
        at=fire.at,
        group=group,
        run_id=run_id,
        execution=EXECUTION,
        attempt=1,
        sequence=0,
        data={"job": fire.name, "reason": CALENDAR, "detail": fire.why, "scheduled_at": format_time(fire.scheduled)},
    )
