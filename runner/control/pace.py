"""How a minute of the scheduler shares its time: what is on time first, and no loop that holds all others."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

from runner.control.due import Due, due

if TYPE_CHECKING:
    from collections.abc import Sequence

    from runner.control.definition import JobDefinition
    from runner.control.due import Fire, Span

BUDGET_S: Final = 45.0
"""A function that still has fires to send by then leaves them to the next minute."""
CATCH_UP_CPU_S: Final = 10.0
"""CPU that a minute has used when it leaves what was missed to the next one."""
_PIECE: Final = 50  # jobs that are looked at in one go: some milliseconds


class Pace:
    """How long a minute may go on: by the clock, and with what was missed by the CPU, too.

    Its loops give way between two pieces of work, so that one of many jobs holds neither another group's nor, in one
    process with it, the recorder's.
    """

    def __init__(self) -> None:
        self._deadline = time.monotonic() + BUDGET_S
        self._cpu = time.process_time() + CATCH_UP_CPU_S

    def over(self) -> bool:
        return time.monotonic() > self._deadline

    def late(self) -> bool:
        """Whether what can wait has to."""
        return self.over() or time.process_time() > self._cpu

    async def due(self, jobs: Sequence[JobDefinition], after: float, until: float, *, listed: bool) -> Due:
        """`due` of many jobs, in pieces."""
        fires: list[Fire] = []
        spans: list[Span] = []
        faults: list[tuple[JobDefinition, str]] = []
        behind = False
        for start in range(0, len(jobs), _PIECE):
            found = due(jobs[start : start + _PIECE], after, until, listed=listed)
            fires += found.fires
            spans += found.spans
            faults += found.faults
            behind = behind or found.behind
            await asyncio.sleep(0)
        fires.sort()
        return Due(tuple(fires), tuple(spans), tuple(faults), behind)

    async def left_out(self, spans: Sequence[Span]) -> tuple[int, bool]:
        """How many fire times they leave out, and whether these are all: to count them is work that can wait."""
        count = 0
        for span in spans:
            if self.late():
                return count, False
            count += span.left_out()
            await asyncio.sleep(0)
        return count, True
