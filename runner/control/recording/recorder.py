"""Events of the results queue to run history; whatever their order, and however often they come."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final
from weakref import WeakValueDictionary

import structlog

from runner.control.chains.firing import Firing
from runner.control.recording.change import Known, change_run
from runner.control.recording.remembered import Remembered
from runner.control.recording.run_state import attempt_told
from runner.control.recording.told import NotAnEvent, Told, parse_event
from runner.errors import AwsUnavailable, CronRunnerError
from runner.protocol import table as keys

if TYPE_CHECKING:
    from collections.abc import Sequence

    from runner.aws.attributes import Item
    from runner.aws.session import Session
    from runner.aws.table import Table
    from runner.control.recording.measured import Measured

log: structlog.stdlib.BoundLogger = structlog.get_logger()

_AT_ONCE: Final = 8
_TRANSACTION: Final = 60  # attempts of one run in one transaction; beside them its status, its notices, what it owes
_FIRE_S: Final = 8.0  # a function has half a minute in all
_ENDS: Final = frozenset(("finished", "skipped", "rejected"))
_LATER: Final = "it is owed, and the scheduler does it within some minutes"
_NO_EVENT: Final = (
    "somebody else sends to the results queue; after its deliveries it lies in that queue's dead-letter queue"
)


class Recorder:
    """Records batches of events; one for the life of a process.

    ``session`` sends the messages of jobs that run after one that has ended; without, that is left to the scheduler.
    """

    def __init__(self, table: Table, measured: Measured | None = None, *, session: Session | None = None) -> None:
        self._table = table
        self._session = session
        self._known = Known(measured=measured)
        self._remembered = Remembered()
        # Of jobs whose events are being recorded: several batches may be under way at once.
        self._turns: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()

    async def record(self, bodies: Sequence[tuple[str, str]], *, now: float) -> list[str]:
        """Record (message id, body) pairs; the ids of those that were not, and are to be delivered again.

        What is no event at all is among them: after its deliveries it lies in the dead-letter queue, to be looked at.
        """
        failed: list[str] = []
        of_run: dict[tuple[str, str], list[tuple[str, Told]]] = {}
        for message_id, body in bodies:
            try:
                told = parse_event(body)
            except NotAnEvent as error:
                log.error("not_an_event", message_id=message_id, error=str(error), detail=_NO_EVENT)
                failed.append(message_id)
                continue
            if told is not None:
                of_run.setdefault((told.group, told.run_id), []).append((message_id, told))
        every = [told for entries in of_run.values() for _, told in entries]
        try:
            await self._learn(every)
        except AwsUnavailable as error:
            log.error("events_not_recorded", error=str(error), events=len(every))
            return [message_id for message_id, _ in bodies]
        turns = asyncio.Semaphore(_AT_ONCE)
        of_job: dict[tuple[str, str], list[tuple[str, str]]] = {}
        for key, entries in of_run.items():
            of_job.setdefault((key[0], entries[0][1].job or f"#{key[1]}"), []).append(key)

        async def one(job: tuple[str, str], runs: list[tuple[str, str]]) -> None:
            # Runs of one job that end together change its status: one after another, or they would refuse each other.
            async with self._turns.setdefault(job, asyncio.Lock()), turns:
                for key in runs:
                    failed.extend(await self._carefully(*key, of_run[key], now=now))

        await asyncio.gather(*(one(job, runs) for job, runs in of_job.items()))
        if self._known.measured is not None:
            self._known.measured.flush()
        await self._fire(every, now=now)
        return failed

    async def _learn(self, every: Sequence[Told]) -> None:
        """What is to be known of the jobs of these events."""
        if ended := {told.group for told in every if told.kind in _ENDS}:
            await self._known.look(self._table, ended)
        await self._known.learn(self._table, {keys.job(told.group, told.job) for told in every if told.job})

    async def _fire(self, every: Sequence[Told], *, now: float) -> None:
        """Deal with the children of jobs whose runs have ended; what fails is owed still, and the scheduler's to do."""
        ended = (told for told in every if told.kind in _ENDS and self._known.links.children(told.group, told.job))
        parents = list(dict.fromkeys(keys.children(told.group, told.run_id) for told in ended))
        if self._session is None or not parents:
            return
        firing = Firing(self._table, self._session, self._known, now=now, within=_FIRE_S)
        await firing.settle(parents)
        for group, error in firing.failed.items():
            log.warning("children_not_fired", group=group, error=error, detail=_LATER)

    async def _carefully(self, group: str, run_id: str, entries: list[tuple[str, Told]], *, now: float) -> list[str]:
        """Record the events of a run; the message ids of those that were not."""
        try:
            await self._run(group, run_id, [told for _, told in entries], now=now)
        except Exception as error:  # noqa: BLE001 - whatever is wrong with one event, the others go into history
            ours = isinstance(error, CronRunnerError)
            said = str(error) if ours else f"{type(error).__name__}: {error}"
            log.error("run_not_recorded", run_id=run_id, group=group, error=said)
            # One that was never foreseen, or that the table refuses: without it the others of its run are recorded.
            if len(entries) > 1 and (not ours or getattr(error, "code", "") == "ValidationException"):
                each = [await self._carefully(group, run_id, [entry], now=now) for entry in entries]
                return [message_id for ids in each for message_id in ids]
        else:
            return []
        return [message_id for message_id, _ in entries]

    async def _run(self, group: str, run_id: str, events: Sequence[Told], *, now: float) -> None:
        for start in range(0, len(events), _TRANSACTION):
            part = events[start : start + _TRANSACTION]

            def fold(attempts: dict[str, Item], part: Sequence[Told] = part) -> None:
                for told in part:
                    sk = keys.attempt(group, run_id, told.execution, told.attempt).sk
                    attempts[sk] = attempt_told(attempts.get(sk), told, heard=now)

            await change_run(
                self._table,
                self._known,
                group,
                run_id,
                fold,
                now=now,
                remembered=self._remembered,
                first=_first(part),
            )


def _first(events: Sequence[Told]) -> bool:
    """Whether nothing is in the table yet of a run of which these are told, most likely."""
    return any(
        told.kind not in ("finished", "heartbeat") and (told.attempt, told.data.get("delivery")) == (1, 1)
        for told in events
    )
