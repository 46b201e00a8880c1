"""A host: its disk, its processes and the supervisor that has them. They outlive an agent that is killed; processes
and what was not flushed do not outlive a power cut."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from runner.agent.journal.schema import migrate
from runner.agent.journal.statements import execute
from runner.agent.runs.process import ExitRecord, Known, Started, StartSpec
from tests.simulation import aside, checkers
from tests.simulation.virtual import CLOCK

if TYPE_CHECKING:
    import asyncio

    from tests.simulation.life import Life
    from tests.simulation.supervision import Supervision
    from tests.simulation.world import World

PID = 7


@dataclass(slots=True)
class Process:
    """A run's process. `at` is unix seconds, `boottime` the host's."""

    key: str
    run: str
    job: str
    at: float
    boottime: float
    end: asyncio.TimerHandle


class Host:
    """`disk` is what an agent finds; `safe` what a power cut leaves, kept where power can fail."""

    def __init__(self, world: World, name: str) -> None:
        self.world, self.name = world, name
        self.folder = world.folder / name
        self.folder.mkdir()
        self.disk, self.safe = _empty(), _empty()
        self._unflushed: list[Any] = []
        self._committed = self._flushed = 0
        self.boots, self.instances = 1, 1
        self.booted = CLOCK.mono - 5000.0
        self.alive: dict[str, Process] = {}
        self.records: dict[str, ExitRecord] = {}
        self.notes: dict[str, tuple[str, str, str]] = {}  # of each start: run, job, and what is to be given back
        self.aside = 0  # journals
        self.told_aside: set[str] = set()  # events of journals that were put aside under an agent
        self.answered_aside: set[str] = set()  # runs that such a journal answered for
        self.starts: dict[str, int] = {}
        self.links: list[Supervision] = []
        self.life: Life | None = None
        self.lives = 0

    @property
    def boot(self) -> str:
        return f"{self.name}-boot{self.boots}"

    @property
    def instance(self) -> str:
        return f"{self.name}-supervisor{self.instances}"

    # -- the disk

    def commit(self, works: list[Any]) -> tuple[list[Any], int]:
        """One transaction; what each work returns, and the number to flush for it."""
        results = _transaction(self.disk, works)
        self._committed += 1
        if self.world.kind.power:
            self._unflushed.append(works)
        return results, self._committed

    def flush(self, commit: int) -> None:
        """All up to this commit survives a power cut."""
        while self._flushed < commit:
            self._flushed += 1
            if self.world.kind.power:
                _transaction(self.safe, self._unflushed.pop(0))

    def rows(self, sql: str, *values: object) -> list[Any]:
        """From the disk as it is."""
        return self.disk.execute(sql, values).fetchall()

    def safe_rows(self, sql: str, *values: object) -> list[Any]:
        """From what a power cut would leave."""
        return (self.safe if self.world.kind.power else self.disk).execute(sql, values).fetchall()

    def begin_journal(self) -> None:
        """In the place of one that is put aside; nothing of that is flushed any more."""
        self.disk, self.safe = _empty(), _empty()
        self._unflushed.clear()
        self._flushed = self._committed
        self.aside += 1

    # -- processes

    def start(self, spec: StartSpec, lasts: float, code: int) -> Process:
        """A new process for this key."""
        checkers.may_start(self, spec)
        self._begun(spec)
        self.world.note("starts", spec.key, spec.run_id, f"for {lasts} s")
        end = self.world.loop.later(lasts, self._ends, spec.key, code)
        boottime = CLOCK.mono - self.booted
        process = Process(spec.key, spec.run_id, spec.job, self.world.wall, boottime, end)
        self.alive[spec.key] = process
        return process

    def never_started(self, spec: StartSpec) -> ExitRecord:
        """The command cannot be executed: that is an end, and kept as one."""
        checkers.may_start(self, spec)
        self._begun(spec)
        now = self.world.wall
        record = ExitRecord(spec.key, start_error=(2, "no such file"), started_at=now, finished_at=now)
        self.records[spec.key] = record
        return record

    def _begun(self, spec: StartSpec) -> None:
        self.starts[spec.key] = self.starts.get(spec.key, 0) + 1
        self.notes[spec.key] = spec.run_id, spec.job, spec.note

    def _ends(self, key: str, code: int) -> None:
        self.ends(key, exit_code=code)

    def ends(self, key: str, **how: Any) -> None:
        process = self.alive.pop(key)
        process.end.cancel()
        now = self.world.wall
        record = ExitRecord(key, pid=PID, started_at=process.at, finished_at=now, duration_s=now - process.at, **how)
        self.records[key] = record
        self.world.note("ended", key, how)
        for link in self.links:
            link.told(record)

    def started(self, process: Process) -> Started:
        return Started(process.key, pid=PID, started_at=process.at, started_boottime=process.boottime, user="u")

    def known(self) -> list[Known]:
        alive = [self._known(key, process.at, process.boottime) for key, process in self.alive.items()]
        return alive + [self._known(key, record.started_at, exit=record) for key, record in self.records.items()]

    def _known(self, key: str, at: float, boottime: float = 0.0, exit: ExitRecord | None = None) -> Known:  # noqa: A002 - the field
        run, job, note = self.notes[key]
        return Known(key, PID, 0, at, boottime, "u", job=job, run_id=run, note=note, exit=exit)

    # -- what can happen to it

    def drop_links(self) -> None:
        links, self.links = self.links, []
        for link in links:
            link.lose()

    def supervisor_dies(self) -> None:
        """And its processes with it; the next one knows nothing of them."""
        self.world.note(self.name, "the supervisor dies")
        self.world.crashes += 1
        self.instances += 1
        if self.aside:
            aside.forget_unadopted(self)
        for process in self.alive.values():
            process.end.cancel()
        self.alive.clear()
        self.records.clear()
        self.drop_links()

    def power_cut(self) -> None:
        """Of what was not flushed the disk has some, in its order."""
        self.world.note(self.name, "power cut")
        if self.life is not None:
            self.life.kill()
        self.supervisor_dies()
        self.flush(self._flushed + self.world.one_of(range(len(self._unflushed) + 1)))
        self._unflushed.clear()
        self._flushed = self._committed
        self.disk.close()
        self.disk = sqlite3.connect(":memory:", isolation_level=None)
        self.safe.backup(self.disk)
        self.boots += 1
        self.booted = CLOCK.mono


def _empty() -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    migrate(connection)
    return connection


def _transaction(connection: sqlite3.Connection, works: list[Any]) -> list[Any]:
    connection.execute("BEGIN")
    results = []
    for work in works:
        if callable(work):
            results.append(work(connection))
        else:
            execute(connection, work)
            results.append(None)
    connection.execute("COMMIT")
    return results
