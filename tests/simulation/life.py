"""One life of an agent on a host: its real parts, put together as runner.agent.wiring and agent do, on stubs."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
from typing import TYPE_CHECKING, Any

from runner.agent.answers import Answers
from runner.agent.engine.reconcile import Reconciler
from runner.agent.fleet.member import Member
from runner.agent.held import Door
from runner.agent.host.stopping import Manner
from runner.agent.journal.runs import Journal
from runner.agent.journal.spools import Spools
from runner.agent.operator.actions import Operations
from runner.agent.operator.pause_file import Pausing
from runner.agent.reload import reload
from runner.agent.reporting.outbox import Outbox
from runner.agent.runs.table import Roster
from runner.agent.services import Services
from runner.agent.shutdown import Departure
from runner.agent.supervision.link import Link
from runner.agent.wiring import _keeper, intake_of
from runner.config import load
from runner.errors import SupervisorUnavailable
from runner.protocol.event import HostFacts, Source
from runner.signing.load import trust_of
from tests.simulation import signing
from tests.simulation.parts import Database, Shipper
from tests.simulation.queues import DeadLetters, JobQueue, ResultsQueue
from tests.simulation.supervision import Supervision
from tests.simulation.table import FakeTable
from tests.simulation.virtual import LIFE

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from tests.simulation.hosts import Host
    from tests.simulation.world import Kind

_FILE = """
group = "g"
[queue]
url = "https://sqs.eu-central-1.amazonaws.com/1/q{fifo}"
visibility = {visibility}
wait = {wait}
on_lost_lease = "{on_lost}"
[admission]
policy = "{policy}"
max_jobs = {max_jobs}
hold = {hold}
[admission.resources]
cpu = 4
memory = "4G"
named = {{ slots = 2 }}
[agent]
listen = ""
log_level = "{log_level}"
on_stop = "{on_stop}"
drain_timeout = "20s"
[fleet]
table = "{table}"
lease = "30s"
"""


class Life:
    """From the start of an agent's process to its end. `fuse`: so many more callbacks, then it is killed."""

    def __init__(self, host: Host) -> None:
        self.host, self.world = host, host.world
        self.number = host.lives = host.lives + 1
        self.name = f"{host.name}.{self.number}"
        self.dead = self.up = False
        self.began = host.world.wall
        self.booted = host.booted
        self.fuse: int | None = None
        self.when: Callable[[], bool] = lambda: False  # kills it as soon as it holds
        self.context = contextvars.Context()
        self.context.run(LIFE.set, self)
        self._kept: set[asyncio.Task[Any]] = set()
        self._signals = 0
        self._over = False
        host.life = self

    # -- from outside

    def begin(self) -> None:
        self.world.note(self.name, "begins")
        self.task = self.world.loop.create_task(self._main(), context=self.context)
        self.task.add_done_callback(self._ended)

    def kill(self) -> None:
        """SIGKILL."""
        if not self.dead:
            self.world.note(self.name, "SIGKILL")
            self.world.crashes += 1
            self._is_over()

    def _is_over(self) -> None:
        self.dead = True
        self.host.drop_links()
        if self.host.life is self:
            self.host.life = None

    def after_callback(self) -> None:
        if self.fuse is not None:
            self.fuse -= 1
            if self.fuse <= 0:
                self.kill()
        if self.when():
            self.kill()

    def do(self, work: Coroutine[Any, Any, Any]) -> None:
        """Something that is asked of it, such as a cancel."""
        self.context.run(self.keep, work)

    def keep(self, work: Coroutine[Any, Any, Any]) -> None:
        task = self.world.loop.create_task(work)
        self._kept.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._kept.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.world.failed(error)

    def stop(self, manner: Manner) -> None:
        """As a signal does; a second one hurries it."""
        self._signals += 1
        if self._signals == 1 and self.up:
            self.world.note(self.name, "is told to stop:", manner)
            self.do(self._stop(manner))

    def reload(self, kind: Kind) -> None:
        self.world.note(self.name, "reloads", kind)
        configured(self.host, kind)
        self.context.run(reload, self.services, {})

    @property
    def impatient(self) -> bool:
        """Whether the journal is enough to delete a message: the results queue is away, or the agent stops."""
        return bool(vars(type(self.services.outbox))["_impatient"].fget(self.services.outbox))

    # -- from inside

    def _ended(self, task: asyncio.Task[None]) -> None:
        if self.dead or self._over:
            return
        error = None if task.cancelled() else task.exception()
        self.world.failed(error or self.world.violated("the agent ended by itself"))

    async def _main(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            services = self.services = self._assembled(tasks)
            await self._connected(services.link)
            answers = Answers(services, DeadLetters(self))
            self.door = Door(services, answers, fifo=self._queue.fifo)
            self.intake = intake_of(services, self._queue, self.door, answers)  # type: ignore[arg-type]
            self.door.learn(self.world.kind.most_receives)
            self.door.blocked_by = self._blocked
            self.operations = Operations(services, self.door)
            self._standing = services.start_standing_tasks()
            await Reconciler(services).run()
            if services.fleet is not None:
                await services.fleet.first_look(services.pausing)
                self._standing.append(tasks.create_task(services.fleet.obey(services.pausing, self.operations)))
            self._polling = tasks.create_task(self.intake.run())
            self.up = True
            await asyncio.Event().wait()

    async def _connected(self, link: Link) -> None:
        """The daemon ends without a supervisor, and is started again by whoever started it."""
        while not link.connected:
            with contextlib.suppress(SupervisorUnavailable):
                await link.connect()

    def _assembled(self, tasks: asyncio.TaskGroup) -> Services:
        config = configured(self.host, self.world.kind)
        database = Database(self)
        journal = Journal(database, "agent")
        roster, self._queue, self.shipper = Roster(asyncio.Event(), asyncio.Event()), JobQueue(self), Shipper(self)
        services = Services(
            config=config,
            source=Source("g", HostFacts(self.host.name, None, self.host.boot, "os", "v")),
            journal=journal,
            outbox=Outbox(journal, ResultsQueue(self)),
            keeper=_keeper(config, self._queue, roster, journal),
            link=Link(lambda ended: Supervision(self, ended)),
            shipper=self.shipper,
            spools=Spools(journal.database),
            roster=roster,
            pausing=Pausing(self.host.folder),
            tasks=tasks,
            log_place=lambda _tag: None,
            fleet=self._member(roster) if self.world.kind.table else None,
            trust=trust_of(config),
        )
        database.remembered = services.remembered
        return services

    def _member(self, roster: Roster) -> Member:
        def lost(execution: str, why: str) -> None:
            run = roster.by_execution(execution)
            if run is not None:
                run.lease_lost(why)

        return Member(FakeTable(self.world), "g", 30.0, on_lost=lost)

    def _blocked(self) -> str | None:
        if self.services.spool_error is not None:
            return self.services.spool_error
        return None if self.services.link.connected else "supervisor: not connected"

    async def _stop(self, manner: Manner) -> None:
        services = self.services
        services.draining = True
        self.intake.stop()
        services.outbox.hurry()
        await Departure(services, self._polling, lambda: self._signals).go(manner, "the agent was told to stop")
        await services.outbox.flush(5.0)
        self._over = True
        services.abandon()
        for task in self._standing:
            task.cancel()
        await services.link.close()
        await services.journal.database.close()
        self.world.note(self.name, "has stopped")
        self._is_over()


def configured(host: Host, kind: Kind) -> Any:
    """The configuration of such a world, read from a file as ever."""
    path = host.folder / "config.toml"
    text = _FILE.format(
        fifo=".fifo" if kind.fifo else "",
        visibility=kind.visibility,
        wait=kind.wait,
        on_lost=kind.on_lost,
        policy=kind.policy,
        max_jobs=kind.max_jobs,
        hold=kind.hold,
        log_level=host.world.log_level,
        on_stop=kind.on_stop,
        table="fleet" if kind.table else "",
    )
    text += signing.lines(host.folder) if kind.signed else ""
    path.write_text(text)
    return load(path, {})
