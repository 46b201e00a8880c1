"""Both functions as one process: the scheduler at each minute, the recorder on the results queue, the same code."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Final

import structlog

from runner.aws.backoff import pause, retrying
from runner.control.delivery import deliver
from runner.control.recorder import Recorder
from runner.control.scheduler import minute
from runner.control.senders import Senders
from runner.errors import AwsUnavailable

if TYPE_CHECKING:
    from runner.aws.session import Session
    from runner.aws.sqs import Queue
    from runner.aws.table import Table

log: structlog.stdlib.BoundLogger = structlog.get_logger()

_VISIBILITY_S: Final = 60.0
_POLL_S: Final = 5.0


async def serve(session: Session, table: Table, results: Queue, *, every: float, stop: asyncio.Event) -> None:
    """Run until ``stop``; an outage is waited out. ``every`` is 60 s but in a demo."""
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(_schedule(session, table, every, stop))
        tasks.create_task(_record(table, results, stop))


async def _schedule(session: Session, table: Table, every: float, stop: asyncio.Event) -> None:
    senders = Senders(session)
    while True:
        try:
            async for attempt in retrying(stop=stop, on_failure=_say):
                with attempt:
                    report = await minute(session, table, now=time.time())
                    await deliver(table, senders, now=time.time())
        except AwsUnavailable:
            return  # told to stop in an outage
        if report.enqueued or report.notices or report.lost or report.failed:
            log.info("minute", enqueued=report.enqueued, notices=report.notices, lost=report.lost, failed=report.failed)
        now = time.time()
        if await pause((now // every + 1) * every - now, stop):
            return


async def _record(table: Table, results: Queue, stop: asyncio.Event) -> None:
    recorder = Recorder(table)
    while not stop.is_set():
        try:
            async for attempt in retrying(stop=stop, on_failure=_say):
                with attempt:
                    received = await results.receive(10, _POLL_S, _VISIBILITY_S)
        except AwsUnavailable:
            return  # told to stop in an outage
        if not received:
            continue
        failed = set(await recorder.record([(one.message_id, one.body) for one in received], now=time.time()))
        done = [one.receipt for one in received if one.message_id not in failed]
        log.info("recorded", events=len(done), failed=len(failed))
        with contextlib.suppress(AwsUnavailable):  # what is not deleted comes again, and changes nothing
            await results.delete(done)


def _say(error: AwsUnavailable, wait: float) -> None:
    log.warning("aws_unavailable", call=error.call, code=error.code, detail=error.detail, wait_s=round(wait, 1))
