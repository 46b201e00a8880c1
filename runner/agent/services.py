"""What every run needs of the agent, made once at its start."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import structlog

from runner.agent.reporting.counts import Counts
from runner.agent.runs.burden import Burden, weight
from runner.agent.runs.run import MessageState
from runner.agent.runs.secrets import is_short, matches
from runner.log import SHORTEST_SECRET
from runner.protocol.units import format_size

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence

    from runner.agent.fleet.member import Member
    from runner.agent.intake.renewals import LeaseKeeper
    from runner.agent.journal.runs import Journal
    from runner.agent.journal.spools import Spools
    from runner.agent.journal.statements import Statement
    from runner.agent.output.shipper import Shipper
    from runner.agent.reporting.outbox import Outbox
    from runner.agent.runs.output import LogPlace
    from runner.agent.runs.pause import Pausing
    from runner.agent.runs.run import Execution
    from runner.agent.runs.table import Roster
    from runner.agent.secret_store import SecretStore
    from runner.agent.supervision.link import Link
    from runner.aws.sqs import Received
    from runner.config import Config
    from runner.config.changes import Reload
    from runner.protocol.event import Event, Source
    from runner.protocol.job import Job
    from runner.protocol.message import Trust
    from runner.sinks import Tag

log = structlog.get_logger()


async def _at_once(_job: Job, _say: Callable[[str], None], _stopping: asyncio.Event) -> None:
    """A run that comes back to its room, where nobody counts it."""


@dataclass(slots=True)
class Services:
    """`tied` runs end with this process (run-once); `tasks` is the agent's group: a task that dies takes it down."""

    config: Config
    source: Source
    journal: Journal
    outbox: Outbox
    keeper: LeaseKeeper
    link: Link
    shipper: Shipper
    spools: Spools
    roster: Roster
    pausing: Pausing
    tasks: asyncio.TaskGroup
    log_place: Callable[[Tag], LogPlace | None]
    owner: str = "agent"
    tied: bool = False
    draining: bool = False  # the agent was told to stop
    may_go_back: Callable[[int], bool] = field(default=lambda _delivery: False)  # whether the redrive policy allows it
    keep_free: Callable[[], int] = field(default=lambda: 0)  # bytes of the disk that no output may take
    spool_error: str | None = None  # why no spool file can be made now
    counts: Counts = field(default_factory=Counts)
    burden: Burden = field(default_factory=Burden)
    fleet: Member | None = None  # None: this host knows nothing of others
    trust: Trust | None = None  # None: this host knows no keys, and takes what is not signed
    reload: Reload | None = None  # what the last one came to
    secret_store: Callable[[], SecretStore | None] = field(default=lambda: None)  # None: no AWS is asked
    come_back: Callable[[Job, Callable[[str], None], asyncio.Event], Awaitable[None]] = field(default=_at_once)
    spawned: set[asyncio.Task[None]] = field(default_factory=set)
    reconciled: asyncio.Event = field(default_factory=asyncio.Event)  # set: all runs of an agent before us are known
    short_secrets: set[str] = field(default_factory=set)  # names that were warned of
    now: Callable[[], float] = field(default=time.time)

    def commit(
        self, execution: Execution, *events: Event, terminal: bool = False, kept: bool = False
    ) -> asyncio.Future[None]:
        """Write how an execution stands and what is to be told of it; the outbox hears of it after the commit."""
        committed = self.journal.save(execution, *events, terminal=terminal, kept=kept)
        if events:
            committed.add_done_callback(lambda _: self.outbox.committed(len(events)))
        return committed

    def remembered(self) -> list[Statement]:
        """All that this process answers for: what a journal begins with that is begun in the place of a lost one."""
        self.outbox.rescan()  # the new one counts its events from one
        runs, undelivered = self.roster.all(), list(self.outbox.undelivered)
        owed = {event.execution for event in undelivered}
        told = [run.execution for run in runs if run.end_told and run.execution.id not in owed]
        statements = self.journal.whole([run.execution for run in runs], undelivered, told)
        return statements + self.spools.whole(self.shipper.followed)

    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = self.tasks.create_task(work, name=name)
        self.spawned.add(task)
        task.add_done_callback(self.spawned.discard)
        return task

    def answer(self, message: Received, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """As `spawn`, for what a received message still asks for; it counts against the room to receive."""
        size = weight(message)
        self.burden.add(size)
        task = self.spawn(work, name)
        task.add_done_callback(lambda _: self.burden.remove(size))
        return task

    def start_standing_tasks(self) -> list[asyncio.Task[None]]:
        """What goes on while there are runs, in the agent and in a run-once; the caller cancels it at its end."""
        standing = [
            ("link", self.link.run()),
            ("renewals", self.keeper.renew_forever()),
            ("deletions", self.keeper.delete_forever()),
            ("outbox", self.outbox.run()),
            ("shipper", self.shipper.run()),
        ]
        if self.fleet is not None:
            standing.append(("stakes", self.fleet.stakes.renew_forever()))
        return [self.tasks.create_task(work, name=name) for name, work in standing]

    def abandon(self) -> None:
        """The process goes away: what still waits for AWS or for a job is the next agent's to repeat."""
        for task in list(self.spawned):
            task.cancel()

    def leaves_retry(self, execution: Execution) -> str | None:
        """Why another host makes its next attempt; None where this one does."""
        lease = execution.lease
        if lease is None or execution.message is not MessageState.LEASED:
            return None  # this host answers for the run alone
        if self.draining:
            return "the agent is draining"
        pause = self.pausing.current
        if pause is not None and pause.drain and self.may_go_back(lease.delivery):
            return f"the host is drained by {pause.by}"
        return None

    def leave_fleet(self, execution: Execution, *, again: bool) -> asyncio.Task[None] | None:
        """It has ended: others of the fleet may have its job now, and `again` the run itself. None outside of one."""
        if self.fleet is None:
            return None
        return self.spawn(self.fleet.leave(execution.id, execution.run_id, again=again), f"leave {execution.run_id}")

    def instance(self) -> str | None:
        """The supervisor that an attempt would be given to now."""
        return self.link.hello.instance if self.link.hello else None

    def why_lost(self, execution: Execution) -> str:
        if execution.boot_id != self.source.host.boot_id:
            return "the host was restarted under it"
        if execution.supervisor is not None and execution.supervisor == self.instance():
            return "the process that ran it went away"
        return "the supervisor went away under it"

    def output_bytes(self, key: str) -> int:
        return self.spools.sizes.get(key, 0)

    def spool_full(self) -> str | None:
        """Why nothing may be received while this much output is not shipped; None while there is room."""
        backlog, most = self.shipper.backlog(), self.config.output.spool_max_bytes
        if backlog < most:
            return None
        return f"spool: {format_size(backlog)} of output not shipped yet, output.spool_max_bytes is {format_size(most)}"

    def warn_of_short_secrets(self, env: Mapping[str, str], unnamed: Sequence[str] = ()) -> None:
        """Values that look like secrets and are too short to be masked: said once for each name. `unnamed` are values
        of env files, whose names only the supervisor knows."""
        names = [name for name, value in env.items() if matches(name, self.config.output.redact) and is_short(value)]
        if any(is_short(value) for value in unnamed):
            names.append("a variable of run.env_files")
        if new := sorted(set(names) - self.short_secrets):
            self.short_secrets.update(new)
            detail = f"a value of fewer than {SHORTEST_SECRET} characters is not masked"
            log.warning("secret_not_masked", names=new, detail=detail)

    async def settle_output(self, key: str) -> None:
        """Wait until every sink has all of this output; then nothing of it has to be remembered."""
        await self.shipper.settled(key)
        await self.spools.settled(key)
        self.shipper.forget(key)
