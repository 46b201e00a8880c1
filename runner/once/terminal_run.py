"""What a `run-once` tells the person at the terminal beside the job's own output."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from typing import TYPE_CHECKING

from runner.agent.engine.run import Run
from runner.visible import visible

if TYPE_CHECKING:
    from runner.agent.runs.inputs import Input
    from runner.agent.runs.process import ExitRecord, Started
    from runner.agent.runs.run import Execution
    from runner.agent.services import Services


class Told(Run):
    """A run whose warnings are for the person at the terminal too. `over` is set once its process has ended, and until
    a retry of it."""

    def __init__(self, services: Services, execution: Execution) -> None:
        super().__init__(services, execution)
        self.over = asyncio.Event()
        self._record: ExitRecord | None = None

    @property
    def how(self) -> str:
        """How it has ended: the verdict, or while that waits for the output the process's own end."""
        if self.execution.verdict is not None:
            return f"{self.execution.verdict.outcome} ({self.execution.reason})"
        record = self._record
        if record is None:
            return "lost"
        if record.start_error is not None:
            return record.start_error[1]
        end = f"exit code {record.exit_code}" if record.signal is None else record.signal
        return f"{end} ({record.cause})" if record.cause else end

    async def do_collect(self, happened: Input) -> Input:
        self._record = self._record_of(happened)
        self.over.set()
        return await super().do_collect(happened)

    async def do_wait(self, happened: Input) -> Input:
        self.over.clear()
        return await super().do_wait(happened)

    def say_started(self, started: Started, noted: int | None = None) -> None:
        for warning in started.warnings:
            say(f"warning: {warning}")
        super().say_started(started, noted)


async def owed(services: Services) -> str:
    """What of this process's runs is still to be delivered, in words; "" for nothing."""
    parts = [f"{size} bytes of output"] if (size := services.shipper.backlog()) else []
    if events := await services.journal.unsent_count():
        parts.append("an event" if events == 1 else f"{events} events")
    return " and ".join(parts)


def say(text: str) -> None:
    """One line on standard error; a terminal that was closed is nobody to tell."""
    with contextlib.suppress(OSError):
        sys.stderr.write(f"cron-runner: {visible(text)}\n")
        sys.stderr.flush()
