"""What runs here and takes room: its sums are kept up to date, so that a decision costs the same at any number."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from runner.agent.runs.admission.amounts import JOBS, MEMORY, Amounts, exact, less, plus

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from runner.protocol.job import Resources


@dataclass(slots=True)
class Entry:
    """One run: what it asked for, and what it was last measured to use (None: not yet). `aside`: it waits for something
    else than room, and takes none until it can go on."""

    job: str
    resources: Resources
    asked: Amounts
    used: Amounts | None = None
    group: str | None = None
    aside: bool = False

    @property
    def counted(self) -> Amounts:
        """Asked or measured, the larger."""
        if self.used is None:
            return self.asked
        return {name: max(amount, self.used.get(name, 0.0)) for name, amount in self.asked.items()}

    @property
    def untouched(self) -> float:
        """Memory that it has asked for and does not use yet, in bytes."""
        used = self.used.get(MEMORY, 0.0) if self.used is not None else 0.0
        return max(0.0, self.asked.get(MEMORY, 0.0) - used)


def _one_place(_: Resources) -> Amounts:
    return {JOBS: 1}


@dataclass(slots=True)
class Ledger:
    """Runs by run id, oldest first. `price` says what a run counts for; `reprice` after it has changed."""

    price: Callable[[Resources], Amounts] = _one_place
    taken: Amounts = field(default_factory=dict)
    untouched: float = 0.0
    _entries: dict[str, Entry] = field(default_factory=dict)
    _of_job: dict[str, dict[str, None]] = field(default_factory=dict)
    _of_group: dict[str, dict[str, None]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, run_id: object) -> bool:
        return run_id in self._entries

    def add(self, run_id: str, job: str, resources: Resources, group: str | None = None) -> None:
        """From now on it takes room, and its group's next message waits. A run that is known already stays as it is."""
        if run_id in self._entries:
            return
        entry = self._entries[run_id] = Entry(job, resources, self.price(resources), group=group)
        if group is not None:
            self._of_group.setdefault(group, {})[run_id] = None
        self._of_job.setdefault(job, {})[run_id] = None
        self.taken = plus(self.taken, entry.asked)
        self.untouched += entry.untouched

    def remove(self, run_id: str) -> None:
        """Its room is free."""
        entry = self._entries.pop(run_id, None)
        if entry is None:
            return
        _leave(self._of_job, entry.job, run_id)
        if entry.group is not None:
            _leave(self._of_group, entry.group, run_id)
        self.taken = {**self.taken, **less({name: self.taken[name] for name in entry.counted}, entry.counted)}
        self.untouched -= entry.untouched

    def measure(self, used: Mapping[str, Amounts]) -> None:
        """What the runs use now, by run id; one that is left out counts as it did before."""
        for run_id, amounts in used.items():
            entry = self._entries.get(run_id)
            if entry is not None:
                entry.used = amounts
        self._sum_up()

    def reprice(self) -> None:
        """Prices have changed (another configuration, or a host of another size)."""
        for entry in self._entries.values():
            entry.asked = {} if entry.aside else self.price(entry.resources)
        self._sum_up()

    def groups(self) -> dict[str, str]:
        """Groups of a FIFO queue whose next message waits, each with the oldest run that it waits for."""
        return {group: next(iter(runs)) for group, runs in self._of_group.items()}

    def step_aside(self, run_id: str) -> None:
        """Its room is free for others; it stays a run of its job."""
        self._change(run_id, aside=True)

    def come_back(self, run_id: str) -> None:
        """It takes its room again, whether there is any or not."""
        self._change(run_id, aside=False)

    def is_aside(self, run_id: str) -> bool:
        entry = self._entries.get(run_id)
        return entry is not None and entry.aside

    def _change(self, run_id: str, *, aside: bool) -> None:
        entry = self._entries.get(run_id)
        if entry is not None and entry.aside is not aside:
            entry.aside, entry.used = aside, None
            self.reprice()

    def of_job(self, job: str) -> tuple[str, ...]:
        """The runs of one job, oldest first."""
        return tuple(self._of_job.get(job, ()))

    def counted(self, run_ids: Iterable[str]) -> Amounts:
        """What these runs take together."""
        total: dict[str, float] = {}
        for run_id in run_ids:
            for name, amount in self._entries[run_id].counted.items():
                total[name] = total.get(name, 0.0) + amount
        return {name: exact(amount) for name, amount in total.items()}

    def untouched_by(self, run_ids: Iterable[str]) -> float:
        """Memory that these have asked for and do not use yet, in bytes."""
        return sum(self._entries[run_id].untouched for run_id in run_ids)

    def _sum_up(self) -> None:
        self.taken = self.counted(self._entries)
        self.untouched = self.untouched_by(self._entries)


def _leave(runs_of: dict[str, dict[str, None]], name: str, run_id: str) -> None:
    same = runs_of[name]
    del same[run_id]
    if not same:
        del runs_of[name]
