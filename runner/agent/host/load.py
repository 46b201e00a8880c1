"""How large this host is and how busy, for the policy "resources"; nothing here runs under the others.

Inside a container, or a unit with limits, the control group's limits are the host.
"""

from __future__ import annotations

import asyncio
import os
import time
from typing import TYPE_CHECKING

from runner.agent.host.cgroup_limits import Cgroups
from runner.agent.runs.admission.amounts import CPU, MEMORY
from runner.agent.runs.admission.policy import HostLoad

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from runner.agent.host.cgroup_limits import CpuLimit
    from runner.agent.runs.admission.amounts import Amounts
    from runner.agent.runs.process import Usage

# The load of less time than this says little.
SHORTEST_SPAN_S = 0.5


class HostGauge:
    """Reads the host's size and load. Each reading costs about a millisecond.

    `pid` is a process in the control group that the jobs are in: the supervisor's. None: our own.
    """

    def __init__(self, pid: int | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        # Imported here: only this policy needs it.
        import psutil  # noqa: PLC0415

        self._psutil = psutil
        self._clock = clock
        self._cgroups = Cgroups("self" if pid is None else pid)
        self._since: tuple[float, float] | None = None  # when, and the seconds of cpu time used by then
        self._busy: float | None = None

    def read(self) -> HostLoad:
        """The size, and the load since the reading before; without a load where there was none lately."""
        limit = self._cgroups.cpu()
        cpus = os.sched_getaffinity(0)
        cores = float(len(cpus)) if limit is None else min(limit.cores, float(len(cpus)))
        machine = self._psutil.virtual_memory()
        memory, available = machine.total, machine.available
        for group in self._cgroups.memory():
            memory = min(memory, group.allowed)
            available = min(available, group.available)
        return HostLoad(cores, memory, self._measure(limit, cpus), available)

    def _measure(self, limit: CpuLimit | None, cpus: set[int]) -> float | None:
        now = self._clock()
        used = self._used(cpus) if limit is None else limit.used_s
        if self._since is None:
            self._since = now, used
        span = now - self._since[0]
        if span >= SHORTEST_SPAN_S:
            self._busy = max(0.0, used - self._since[1]) / span
            self._since = now, used
        return self._busy

    def _used(self, cpus: set[int]) -> float:
        """Seconds of cpu time that were not idle, on the cpus that we may use."""
        total = 0.0
        for number, times in enumerate(self._psutil.cpu_times(percpu=True)):
            if number in cpus:
                # guest time is in user time already; stolen time is not ours to use.
                total += times.user + times.nice + times.system + times.irq + times.softirq + times.steal
        return total


class RunGauge:
    """What each run uses, from the supervisor's running totals of cpu time."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._before: dict[str, tuple[float, float]] = {}

    def read(self, usage: Mapping[str, Usage], keys: Mapping[str, str]) -> dict[str, Amounts]:
        """Cores and bytes by run id; `keys` has the run id of each key. A run is measured from its second reading."""
        now = self._clock()
        used: dict[str, Amounts] = {}
        before, self._before = self._before, {}
        for key, run_id in keys.items():
            found = usage.get(key)
            if found is None:
                continue
            spent = found.cpu_user_s + found.cpu_system_s
            self._before[key] = now, spent
            since, was = before.get(key, (now, spent))
            cores = max(0.0, spent - was) / (now - since) if now > since else 0.0
            used[run_id] = {CPU: round(cores, 6), MEMORY: found.memory_bytes}
        return used


class Pace:
    """How often to look: each second, and less often where looking itself takes long."""

    EVERY_S = 1.0
    # Measuring may take this share of the time at most.
    SHARE = 0.02

    def __init__(self) -> None:
        self._took = 0.0

    async def wait(self) -> None:
        await asyncio.sleep(max(self.EVERY_S, self._took / self.SHARE))

    def took(self, seconds: float) -> None:
        self._took = seconds
