"""Runs that gave their room up while they waited for their secrets, and come back for it: before those in the line, and
when there is room, as if they had never left."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from runner.agent.runs.admission.policy import Kept, lack_of
from runner.aws.backoff import pause

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from runner.agent.host.measuring import Offer
    from runner.agent.runs.admission.line import Line
    from runner.agent.runs.table import Roster
    from runner.protocol.job import Job

LOOK_EVERY_S = 0.5


class Returning:
    """`settle` lets the line decide anew, beside the room that is kept for the first of them."""

    def __init__(self, roster: Roster, line: Line[Any], offer: Offer, settle: Callable[[], None]) -> None:
        self._roster = roster
        self._line = line
        self._offer = offer
        self._settle = settle
        self._waiting: list[Job] = []

    async def come_back(self, job: Job, say: Callable[[str], None], stopping: asyncio.Event) -> None:
        """Wait until its room is its own again, or it is stopped; `say` is told what it waits for."""
        self._waiting.append(job)
        ledger = self._roster.ledger
        try:
            while not stopping.is_set():
                if self._waiting[0] is job:
                    on = self._offer.on()
                    lack = lack_of(on, job, ledger, self._offer.load)
                    if lack is None:
                        ledger.come_back(job.run_id)
                        return
                    say(lack.reason)
                    self._keep(Kept(job.run_id, on.asked(job.resources)))
                await pause(LOOK_EVERY_S, stopping)
        finally:
            self._waiting = [other for other in self._waiting if other is not job]
            say("")
            self._keep(None)

    def _keep(self, kept: Kept | None) -> None:
        if kept != self._line.before:
            self._line.before = kept
            self._settle()
            self._roster.changed.set()
