"""What this host has on offer: the terms of the configuration in use, and the load that is measured for them."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Protocol

import structlog

from runner.agent.runs.admission.policy import HostLoad, Terms, terms

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from runner.agent.host.load import HostGauge
    from runner.agent.runs.process import Hello, Usage
    from runner.agent.runs.table import Roster
    from runner.config import Admission

    class Supervisor(Protocol):
        """Who has the processes of the runs."""

        hello: Hello | None

        async def usage(self) -> Mapping[str, Usage]: ...


log = structlog.get_logger()


class Offer:
    """`admission` is the configuration in use. `load` is None while the policy asks for no measurement."""

    def __init__(self, admission: Callable[[], Admission], roster: Roster, supervisor: Supervisor) -> None:
        self._configured = admission
        self._roster = roster
        self._supervisor = supervisor
        self._admission: Admission | None = None
        self._on = Terms("one-at-a-time", {}, {}, 0.0)
        self._gauge: HostGauge | None = None
        self._measured = asyncio.Event()
        self.load: HostLoad | None = None

    def on(self) -> Terms:
        """The terms of the configuration in use."""
        admission = self._configured()
        if admission is not self._admission:
            self._admission = admission
            if admission.policy == "resources":
                self._begin_measuring()
            else:
                self._gauge = self.load = None
                self._measured.clear()
            self._settle_terms()
        return self._on

    def _settle_terms(self) -> None:
        assert self._admission is not None
        self._on = terms(self._admission, self.load)
        ledger = self._roster.ledger
        ledger.price = self._on.asked
        ledger.reprice()

    def _begin_measuring(self) -> None:
        from runner.agent.host.load import HostGauge  # noqa: PLC0415 - only for this policy

        hello = self._supervisor.hello
        self._gauge = HostGauge(hello.pid if hello else None)
        self.load = self._gauge.read()
        self._measured.set()

    async def measure(self) -> None:
        """Measure while the policy asks for it."""
        from runner.agent.host.load import Pace, RunGauge  # noqa: PLC0415 - only for this policy

        pace, runs = Pace(), RunGauge()
        while True:
            await self._measured.wait()
            await pace.wait()
            began = time.monotonic()
            roster = self._roster
            if roster.taking_room:
                usage = await self._supervisor.usage()
                keys = {run.execution.key: run.execution.run_id for run in roster.active()}
                roster.ledger.measure(runs.read(usage, keys))
            if self._gauge is None:
                continue  # the policy has changed meanwhile
            before = self.load
            try:
                self.load = self._gauge.read()
            except OSError as error:
                # For want of descriptors: what was measured before holds until it can be looked at again.
                log.warning("load_not_measured", error=str(error))
                continue
            pace.took(time.monotonic() - began)
            if before is None or (before.cores, before.memory) != (self.load.cores, self.load.memory):
                self._settle_terms()
            roster.changed.set()
            roster.freed.set()
