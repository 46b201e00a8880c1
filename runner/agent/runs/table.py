"""Who is here: the executions that this agent answers for, and the room they leave."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from runner.agent.runs.admission.occupancy import Ledger

if TYPE_CHECKING:
    from collections.abc import Iterable

    from runner.agent.runs.run import Execution
    from runner.agent.runs.step import Stop
    from runner.sinks import Tag


class Signal(Protocol):
    """Wakes those who wait for it: an asyncio.Event where there is a loop."""

    def set(self) -> None: ...

    def is_set(self) -> bool: ...

    def clear(self) -> None: ...

    async def wait(self) -> object: ...


class Run(Protocol):
    """A run as those see it who did not start it."""

    execution: Execution
    stopped: Stop | None
    running_since: float | None
    user: str
    lacks: str  # what its start waits for, of its own

    @property
    def active(self) -> bool: ...

    @property
    def leaving_fleet(self) -> bool: ...

    @property
    def end_told(self) -> bool: ...

    def tag(self) -> Tag: ...

    def secrets(self) -> tuple[str, ...]: ...

    async def stop(self, cause: str, detail: str = "", grace: float | None = None) -> None: ...

    def leave(self) -> None: ...

    def lease_lost(self, why: str) -> None: ...

    def reach_limit(self) -> None: ...


class Roster:
    """Runs by run id, from their acceptance until nothing is owed to the queue.

    A run takes room until its last process has ended and no further attempt is to come; `ledger` sums up how much.
    `changed` (for the poll loop) and `freed` (for those who wait) are set whenever room may have become free.
    """

    def __init__(self, changed: Signal, freed: Signal) -> None:
        self._runs: dict[str, Run] = {}
        self._room: dict[str, Run] = {}
        self.changed = changed
        self.freed = freed
        self.ledger = Ledger()
        self.total = 0
        self.weight = 0  # bytes of memory of all their messages

    def add(self, run: Run) -> None:
        self._runs[run.execution.run_id] = run
        self._room[run.execution.id] = run
        execution, job = run.execution, run.execution.job
        self.ledger.add(job.run_id, job.job, job.resources, execution.group)
        self.total += 1
        self.weight += run.execution.weight

    def get(self, run_id: str) -> Run | None:
        return self._runs.get(run_id)

    def no_more_attempts(self, run: Run) -> None:
        """No process of it is left, or none is to come: its room is free."""
        self._free(run)

    def ended(self, run: Run) -> None:
        """Nothing is owed any more: a later message with its run id is answered from the journal."""
        self._free(run)
        if self._runs.get(run.execution.run_id) is run:
            del self._runs[run.execution.run_id]
            self.weight -= run.execution.weight
            self.changed.set()

    def _free(self, run: Run) -> None:
        if self._room.pop(run.execution.id, None) is not None:
            self.ledger.remove(run.execution.run_id)
            self.changed.set()
            self.freed.set()

    def not_started(self, run_id: str) -> None:
        """What was admitted does not start after all; the room that it had is free."""
        self.ledger.remove(run_id)
        self.changed.set()
        self.freed.set()

    def by_execution(self, execution: str) -> Run | None:
        return next((run for run in self._runs.values() if run.execution.id == execution), None)

    @property
    def taking_room(self) -> int:
        return len(self._room)

    @property
    def owed(self) -> int:
        """How many take no room any more, and still owe the queue their message's deletion."""
        return len(self._runs) - len(self._room)

    def active(self) -> Iterable[Run]:
        """Runs that take room, oldest first."""
        return list(self._room.values())

    def all(self) -> Iterable[Run]:
        """Also those whose end is still being told."""
        return list(self._runs.values())

    def of_job(self, job: str) -> list[Run]:
        """Active runs of one job, oldest first."""
        return [run for run in self._room.values() if run.execution.job.job == job]
