"""What every run needs of the agent, made once at its start."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Coroutine

    from runner.agent.events import LogPlace
    from runner.agent.execution import Execution
    from runner.agent.journal import Journal
    from runner.agent.lease import LeaseKeeper
    from runner.agent.link import Link
    from runner.agent.outbox import Outbox
    from runner.agent.output import Shipper
    from runner.agent.roster import Roster
    from runner.agent.spools import Spools
    from runner.config import Config
    from runner.protocol.event import Event, Source
    from runner.sinks import Tag


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
    tasks: asyncio.TaskGroup
    log_place: Callable[[Tag], LogPlace | None]
    owner: str = "agent"
    tied: bool = False
    draining: bool = False
    now: Callable[[], float] = field(default=time.time)

    def commit(self, execution: Execution, *events: Event, terminal: bool = False) -> asyncio.Future[None]:
        """Write how an execution stands and what is to be told of it; the outbox hears of it after the commit."""
        committed = self.journal.save(execution, *events, terminal=terminal)
        if events:
            committed.add_done_callback(lambda _: self.outbox.committed())
        return committed

    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        return self.tasks.create_task(work, name=name)

    def instance(self) -> str | None:
        """The supervisor that an attempt would be given to now."""
        return self.link.hello.instance if self.link.hello else None

    def why_lost(self, execution: Execution) -> str:
        if execution.boot_id != self.source.host.boot_id:
            return "the host was restarted under it"
        return "the supervisor went away under it"

    def output_bytes(self, key: str) -> int:
        return self.spools.sizes.get(key, 0)

    async def settle_output(self, key: str) -> None:
        """Wait until every sink has all of this output; then nothing of it has to be remembered."""
        await self.shipper.settled(key)
        await self.spools.settled(key)
        self.shipper.forget(key)
