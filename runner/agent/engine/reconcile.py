"""After a start: what an agent before us left in the journal, at the supervisor and in the spool is taken over.

For each unfinished execution there are four sources of truth, in this order: the supervisor (it is alive, or its
exit record waits), the journal (how far it had come), the boot id and supervisor instance (whether anything can
still be alive), and SQS (whether its message is still held).
"""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from runner.agent.clocks import boottime
from runner.agent.engine.recovered import Recovered
from runner.agent.runs.adoption import adopted, spool_of
from runner.agent.runs.inputs import Found, Seen, seen
from runner.agent.runs.lease import Lease
from runner.agent.runs.run import Execution, MessageState, State
from runner.protocol.job import Job
from runner.protocol.outcome import Outcome, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from runner.agent.journal.runs import RunRow
    from runner.agent.runs.output import SpoolRow
    from runner.agent.runs.process import Known
    from runner.agent.services import Services

log = structlog.get_logger()

_ADOPTED = "the supervisor has this run and the journal does not; it goes on, and its end is told"
ASKED_AT_ONCE = 500
OUTCOMES = frozenset(str(outcome) for outcome in Outcome)


async def take_over_dead(services: Services, *, output: bool) -> None:
    """What run-once processes that are gone have left becomes ours: their runs, messages, events and output. `output`:
    also where it is all that they have left, which is a look at every file that is kept."""
    owners = {*await services.journal.owners(), *(await services.spools.owners() if output else ())}
    for owner in owners:
        if owner != services.owner and not owner_alive(owner):
            await Reconciler(services).adopt(owner)


def own_name() -> str:
    """The owner name of a run-once process: pid, start time and boot, since a bare pid is no identity."""
    return f"run-once/{os.getpid()}/{_start_ticks(os.getpid())}"


def owner_alive(owner: str) -> bool:
    """Whether the process behind an owner name still runs."""
    kind, _, rest = owner.partition("/")
    pid, _, ticks = rest.partition("/")
    return kind == "run-once" and pid.isdigit() and _start_ticks(int(pid)) == ticks


def _start_ticks(pid: int) -> str:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
    return stat.rpartition(")")[2].split()[19]


def _latest(keys: Iterable[str]) -> dict[str, int]:
    """The last attempt of each execution among these keys."""
    found: dict[str, int] = {}
    for key in keys:
        execution, _, attempt = key.rpartition("/")
        found[execution] = max(found.get(execution, 0), int(attempt) if attempt.isdigit() else 0)
    return found


class Reconciler:
    """Used when the agent is connected to the supervisor: `run` once, before anything is received."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._now = boottime()

    async def run(self) -> None:
        services = self._services
        begun = services.journal.database.begun
        rows = await services.journal.unfinished()
        spools = {row.tag.key: row for row in await services.spools.unsettled(services.owner)}
        known = set(services.link.known_keys())
        attempts = _latest(known)
        for row in rows:
            execution = self._execution(row)
            if attempts.get(execution.id, 0) > execution.attempt:
                # The journal has lost its latest pages: further than the supervisor's knowledge nobody was.
                execution.attempt, execution.state = attempts[execution.id], State.ACCEPTED
            if execution.state in (State.ACCEPTED, State.RUNNING):
                known.discard(execution.key)  # the end of any other attempt is told, and is acknowledged below
            # Of one that has ended only what its message is owed is still to be done.
            spool = None if execution.state is State.ENDED else spools.pop(execution.key, None)
            await self._resume(Recovered(services, execution), spool)
        for spool in spools.values():
            await self._ship_rest(spool)
        if services.journal.database.begun != begun:
            # The journal was put aside while it was read, and the new one began with what was taken over by then.
            await services.journal.database.write(*services.remembered())
        await self._compare([there for key in sorted(known) if (there := services.link.knows(key)) is not None])
        services.reconciled.set()

    async def _compare(self, known: Sequence[Known]) -> None:
        """What the supervisor has beside what the journal has as unfinished.

        Mostly ends that are in the journal, of which it was not told any more. Of the others this journal knows
        nothing: the one that did was lost, or is damaged. What lives is never forgotten, whatever the journal says.
        """
        services = self._services
        rows: dict[str, RunRow] = {}
        executions = [there.key.rpartition("/")[0] for there in known]
        for start in range(0, len(executions), ASKED_AT_ONCE):
            for row in await services.journal.of(executions[start : start + ASKED_AT_ONCE]):
                rows[row.execution] = row
        done = []
        # What lives comes last: it has the run id, where an earlier execution of the run is still to be told.
        for there in sorted(known, key=lambda there: (there.exit is None, there.key)):
            found = rows.get(there.key.rpartition("/")[0])
            if found is not None and (there.exit is not None or found.state != State.ENDED):
                done.append(there.key)
            else:
                await self._adopt(there, found)
        if done:
            log.info("supervisor_told", runs=len(done))
            services.link.acknowledge(done)

    async def _adopt(self, there: Known, row: RunRow | None) -> None:
        """Answer for a run that only the supervisor knows of, or that the journal takes for ended while it lives."""
        services = self._services
        if row is None:
            execution = adopted(there, services.config, services.source, services.instance(), boottime())
        else:
            execution = self._execution(row)
            execution.state, execution.attempt = State.ACCEPTED, int(there.key.rpartition("/")[2])
        execution.owner = services.owner
        log.warning(
            "run_adopted",
            run_id=execution.run_id,
            job=execution.job.job,
            alive=there.exit is None,
            detail=_ADOPTED,
        )
        run = Recovered(services, execution)
        spool = spool_of(there, execution, run.tag(), run.secrets())
        beats = 0
        if every := services.config.results.heartbeat:
            beats = 1 + int(max(0.0, services.now() - there.started_at) / every)  # as many as can have been sent
        if row is None:
            # Its start may have been told too: no word of whoever finds this row, and no more, has the number of that.
            execution.sequence += 1 + beats
            accepted = services.journal.accept(execution)
            execution.sequence -= 1 + beats
            await accepted
        await services.spools.opened(spool.tag, spool.secrets, spool.rules)
        await self._resume(run, spool)
        execution.sequence += beats

    async def adopt(self, owner: str) -> None:
        """Answer for a process that is gone. Its job was tied to it, so it has ended, and nobody knows how."""
        services = self._services
        rows = await services.journal.unfinished(owner)
        spools = {row.tag.key: row for row in await services.spools.unsettled(owner)}
        log.warning("taken_over_from", owner=owner, runs=len(rows))
        await services.journal.take_over_from(owner)
        for row in rows:
            execution = self._execution(row)
            execution.owner = services.owner
            spool = None
            if execution.state is not State.ENDED:
                execution.state, spool = State.RUNNING, spools.pop(execution.key, None)
            await Recovered(services, execution).take_up(Found(Seen.NOTHING, False, False, spool=spool), "run")
        for spool in spools.values():
            await self._ship_rest(spool)
        services.outbox.rescan()

    def _execution(self, row: RunRow) -> Execution:
        services, lease = self._services, None
        if row.message == MessageState.LEASED and row.receipt and row.message_id:
            same_boot = row.boot_id == services.source.host.boot_id
            lease = Lease(
                message_id=row.message_id,
                run_id=row.run_id,
                receipt=row.receipt,
                delivery=row.delivery,
                taken=row.lease_taken if same_boot else self._now - max(0.0, services.now() - row.accepted_at),
                # Another boot, another clock: nothing is known of the lease, so SQS is asked at once.
                until=row.lease_until if same_boot else self._now + 1.0,
                visibility=services.config.queue.visibility,
                execution=row.execution,
            )
        verdict = None
        if row.outcome is not None and row.outcome in OUTCOMES:
            verdict = Verdict(Outcome(row.outcome), row.reason or "", row.exit_code)
        return Execution(
            job=Job.from_json(json.loads(row.spec)),
            message_id=row.message_id,
            delivery=row.delivery,
            sent_at=row.sent_at,
            accepted_at=row.accepted_at,
            boot_id=row.boot_id,
            owner=row.owner,
            id=row.execution,
            state=State(row.state),
            attempt=row.attempt,
            sequence=row.sequence,
            message=MessageState(row.message),
            lease=lease,
            supervisor=row.supervisor,
            pid=row.pid,
            started_at=row.started_at,
            ended_at=row.ended_at,
            verdict=verdict,
            outcome=row.outcome,
            reason=row.reason,
            group=row.message_group,
        )

    async def _resume(self, run: Recovered, spool: SpoolRow | None) -> None:
        """Ask the table what follows of what is known of it."""
        services, execution = self._services, run.execution
        there = services.link.knows(execution.key)
        found = Found(
            seen(there),
            same=execution.supervisor == services.instance() and execution.boot_id == services.source.host.boot_id,
            over=execution.lease is not None and execution.lease.until <= self._now,
            there=there,
            spool=spool,
        )
        await run.take_up(found, "run")

    async def _ship_rest(self, spool: SpoolRow) -> None:
        """The run has ended; what is left is to bring its output to the sinks."""
        services = self._services
        await services.shipper.resume(spool.tag, secrets=spool.secrets, rules=spool.rules, end=spool.end)
        if spool.end is None:
            await services.shipper.finish(spool.tag.key, None, within=0.0)
        services.spawn(services.settle_output(spool.tag.key), f"output {spool.tag.key}")
        await asyncio.sleep(0)
