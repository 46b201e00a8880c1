"""Puts the parts of an agent together; `run-once` uses the same parts."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from runner.agent.arrivals import Arrivals
from runner.agent.host.facts import host_facts
from runner.agent.intake.dead_letters import DeadLetters
from runner.agent.intake.poll import Intake
from runner.agent.intake.renewals import LeaseKeeper
from runner.agent.journal.database import Database
from runner.agent.journal.runs import Journal
from runner.agent.journal.spools import Spools
from runner.agent.operator.pause_file import Pausing
from runner.agent.output.shipper import Shipper
from runner.agent.output.sinks_in_use import Places, sinks_of
from runner.agent.reporting.outbox import Outbox
from runner.agent.runs.table import Roster
from runner.agent.services import Services
from runner.agent.supervision.connection import Supervision
from runner.agent.supervision.link import Link
from runner.aws.session import Session
from runner.aws.sqs import Queue
from runner.protocol.event import Source
from runner.signing.load import trust_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from runner.agent.answers import Answers
    from runner.agent.fleet.member import Member
    from runner.agent.held import Door
    from runner.agent.runs.lease import Lease
    from runner.agent.runs.process import ExitRecord
    from runner.agent.secret_store import SecretStore
    from runner.config import Config
    from runner.sinks import Sink


@dataclass(frozen=True, slots=True)
class Parts:
    """What the agent itself needs beside what its runs need."""

    services: Services
    session: Session
    queue: Queue
    dead_letters: DeadLetters


async def assemble(
    config: Config,
    tasks: asyncio.TaskGroup,
    *,
    owner: str = "agent",
    state: Path | None = None,
    extra_sinks: Sequence[Sink] = (),
    offline: bool = False,
) -> Parts:
    """Make all parts; nothing is connected or running yet. Raises JournalError, and ConfigError for keys that cannot
    be read.

    `owner` names whose rows of the journal these are. `offline` leaves out every sink and queue of AWS.
    """
    state = state or config.paths.state
    source = Source(config.group, host_facts())
    session = Session(queue_url=config.queue.url, direct=config.agent.aws_client == "direct")
    database = Database(state / "journal.db")
    journal = Journal(database, owner)
    spools = Spools(database)
    results = _queue(session, config.results.url, config.results.name) if not offline else None
    queue = Queue(session, url=config.queue.url, name="" if config.queue.url else config.queue.name or "offline")
    sinks = [*([] if offline else sinks_of(config, session)), *extra_sinks]
    condense = config.output.carriage_return == "condense"
    shipper = Shipper(spool_dir=state / "spool", sinks=sinks, offsets=spools, condense=condense)
    roster = Roster(asyncio.Event(), asyncio.Event())
    services = Services(
        config=config,
        source=source,
        journal=journal,
        outbox=Outbox(journal, results),
        keeper=_keeper(config, queue, roster, journal),
        link=Link(_supervision(config, owner, spools, shipper)),
        shipper=shipper,
        spools=spools,
        roster=roster,
        pausing=Pausing(state),
        tasks=tasks,
        log_place=Places(session, shipper.destination),
        fleet=_member(config, session, roster) if not offline else None,
        trust=trust_of(config),
        secret_store=_no_store if offline else _secret_store(session),
        owner=owner,
        tied=owner != "agent",
    )
    database.remembered = services.remembered
    return Parts(services, session, queue, DeadLetters(session, config.queue.dead_letter_url))


def intake_of(services: Services, queue: Queue, door: Door, answers: Answers) -> Intake:
    """The poll loop, with who decides on what it receives."""
    arrivals = Arrivals(services, door, answers)
    return Intake(queue, lambda: services.config.queue, services.roster, door, arrivals)


def _no_store() -> SecretStore | None:
    """Of a run that asks no AWS."""
    return None


def _secret_store(session: Session) -> Callable[[], SecretStore | None]:
    """Made for the first run that has secrets: nobody else pays for it."""
    made: list[SecretStore] = []

    def store() -> SecretStore:
        if not made:
            from runner.agent.secret_store import SecretStore  # noqa: PLC0415 - for runs with secrets

            made.append(SecretStore(session))
        return made[0]

    return store


def _queue(session: Session, url: str, name: str) -> Queue | None:
    return Queue(session, url=url, name="" if url else name) if url or name else None


def _member(config: Config, session: Session, roster: Roster) -> Member | None:
    if not config.fleet.table:
        return None

    from runner.agent.fleet.member import Member  # noqa: PLC0415 - only for members of a fleet
    from runner.aws.table import Table  # noqa: PLC0415 - as above

    def lost(execution: str, why: str) -> None:
        run = roster.by_execution(execution)
        if run is not None:
            run.lease_lost(why)

    return Member(Table(session, config.fleet.table), config.group, config.fleet.lease, on_lost=lost)


def _keeper(config: Config, queue: Queue, roster: Roster, journal: Journal) -> LeaseKeeper:
    def lost(lease: Lease, why: str) -> None:
        run = roster.get(lease.run_id)
        if run is not None and run.execution.lease is lease:
            run.lease_lost(why)

    def limit(lease: Lease) -> None:
        run = roster.get(lease.run_id)
        if run is not None and run.execution.lease is lease:
            run.reach_limit()

    return LeaseKeeper(queue, config.queue.visibility, on_lost=lost, on_limit=limit, on_renewed=journal.renewed)


def _supervision(
    config: Config, owner: str, spools: Spools, shipper: Shipper
) -> Callable[[Callable[[ExitRecord], None]], Supervision]:
    def grew(sizes: Mapping[str, int]) -> None:
        spools.sizes.update(sizes)
        shipper.grew(sizes)

    def make(ended: Callable[[ExitRecord], None]) -> Supervision:
        return Supervision(
            runtime=config.paths.runtime,
            config_path=config.source,
            owner=owner,
            on_exit=ended,
            on_output=grew,
        )

    return make
