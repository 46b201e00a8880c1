"""Both functions as one process: the scheduler at each minute, the recorder on the results queue, the same code."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Final

import structlog

from runner.aws.backoff import pause, retrying
from runner.control.definitions import Definitions
from runner.control.notices.delivery import deliver
from runner.control.notices.senders import Senders
from runner.control.recording.recorder import Recorder
from runner.control.scheduler import minute
from runner.errors import AwsUnavailable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from runner.aws.messages import Received
    from runner.aws.session import Session
    from runner.aws.sqs import Queue
    from runner.aws.table import Table
    from runner.control.recording.measured import Measured

log: structlog.stdlib.BoundLogger = structlog.get_logger()

_VISIBILITY_S: Final = 60.0
_POLL_S: Final = 5.0
_IN_FLIGHT: Final = 16
"""Batches that are being recorded at once; events of one job are recorded in the order in which they came."""


async def serve(
    session: Session,
    table: Table,
    results: Queue,
    *,
    every: float,
    stop: asyncio.Event,
    measured: Measured | None = None,
) -> None:
    """Run until ``stop``; an outage is waited out. ``every`` is 60 s but in a demo. ``measured`` makes metrics of it.

    Who is to be told is told beside the scheduler: a target that hangs holds up no minute.
    """
    async with asyncio.TaskGroup() as tasks:
        definitions = Definitions(table)
        tasks.create_task(_each("minute", lambda: _minute(session, table, definitions, measured), every, stop))
        senders = Senders(session)
        tasks.create_task(_each("delivery", lambda: _deliver(table, senders), every, stop))
        tasks.create_task(_record(Recorder(table, measured, session=session), results, stop))


async def _each(name: str, work: Callable[[], Awaitable[None]], every: float, stop: asyncio.Event) -> None:
    """Do it now and at each full ``every`` seconds; what fails once is done again the next time."""
    while True:
        try:
            async for attempt in retrying(stop=stop, on_failure=_say):
                with attempt:
                    await work()
        except AwsUnavailable:
            return  # told to stop in an outage
        except Exception as error:  # whatever one minute has met, the others come; it is logged whole
            log.error("not_done", what=name, error=f"{type(error).__name__}: {error}", exc_info=error)
        now = time.time()
        if await pause((now // every + 1) * every - now, stop):
            return


async def _minute(session: Session, table: Table, definitions: Definitions, measured: Measured | None) -> None:
    report = await minute(session, table, now=time.time(), definitions=definitions, measured=measured)
    if report.enqueued or report.notices or report.lost or report.failed:
        log.info("minute", enqueued=report.enqueued, notices=report.notices, lost=report.lost, failed=report.failed)


async def _deliver(table: Table, senders: Senders) -> None:
    await deliver(table, senders, now=time.time())


async def _record(recorder: Recorder, results: Queue, stop: asyncio.Event) -> None:
    places = asyncio.Semaphore(_IN_FLIGHT)

    async def batch(received: Sequence[Received]) -> None:
        try:
            await _batch(recorder, results, received)
        finally:
            places.release()

    async with asyncio.TaskGroup() as batches:  # what was received before the stop is recorded
        while not stop.is_set():
            await places.acquire()
            try:
                async for attempt in retrying(stop=stop, on_failure=_say):
                    with attempt:
                        received = await results.receive(10, _POLL_S, _VISIBILITY_S)
            except AwsUnavailable:
                return  # told to stop in an outage
            if received:
                batches.create_task(batch(received))
            else:
                places.release()


async def _batch(recorder: Recorder, results: Queue, received: Sequence[Received]) -> None:
    bodies = [(one.message_id, one.body) for one in received]
    try:
        failed = set(await recorder.record(bodies, now=time.time()))
    except Exception as error:  # the next batch is another one; this one comes again
        log.error("not_done", what="recorder", error=f"{type(error).__name__}: {error}", exc_info=error)
        return
    done = [one.receipt for one in received if one.message_id not in failed]
    log.info("recorded", events=len(done), failed=len(failed))
    with contextlib.suppress(AwsUnavailable):  # what is not deleted comes again, and changes nothing
        await results.delete(done)


def _say(error: AwsUnavailable, wait: float) -> None:
    log.warning("aws_unavailable", call=error.call, code=error.code, detail=error.detail, wait_s=round(wait, 1))
