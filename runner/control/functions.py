"""The two Lambda functions: `runner.control.functions.scheduler` each minute, `….recorder` on the results queue.

Their settings are the table, ``CRON_RUNNER_FLEET__TABLE``, which has the groups and their queues, and
``CRON_RUNNER_AGENT__METRICS``: ``emf`` for metrics in the embedded metric format, in the functions' own log streams.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from dataclasses import asdict
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import structlog

from runner.aws.session import Session
from runner.aws.table import Table
from runner.errors import CronRunnerError

if TYPE_CHECKING:
    from runner.control.definitions import Definitions
    from runner.control.notices.delivery import Delivered
    from runner.control.notices.senders import Senders
    from runner.control.recording.measured import Measured
    from runner.control.recording.recorder import Recorder
    from runner.control.scheduler import Report

TABLE: Final = "CRON_RUNNER_FLEET__TABLE"
METRICS: Final = "CRON_RUNNER_AGENT__METRICS"


class NotScheduled(CronRunnerError):
    """Some group's minute failed; the others' are done, and it is caught up with."""


class _Warm:
    """What a function keeps between invocations."""

    def __init__(self) -> None:
        # Lambda ships what is printed; CloudWatch's queries know the fields of JSON.
        structlog.configure(
            processors=[
                structlog.processors.add_log_level,
                structlog.processors.TimeStamper(fmt="iso", utc=True),
                structlog.processors.dict_tracebacks,
                structlog.processors.JSONRenderer(),
            ]
        )
        self.session = Session()
        self.table = Table(self.session, table_name())

    # Each function loads its own half alone: every new environment of it waits for that.

    @cached_property
    def recorder(self) -> Recorder:
        from runner.control.recording.recorder import Recorder  # noqa: PLC0415

        return Recorder(self.table, self.measured, session=self.session)

    @cached_property
    def measured(self) -> Measured | None:
        if os.environ.get(METRICS, "") != "emf":
            return None
        from runner.control.recording.measured import Measured  # noqa: PLC0415

        return Measured(_to_log)

    @cached_property
    def definitions(self) -> Definitions:
        from runner.control.definitions import Definitions  # noqa: PLC0415

        return Definitions(self.table)

    @cached_property
    def senders(self) -> Senders:
        from runner.control.notices.senders import Senders  # noqa: PLC0415

        return Senders(self.session)


_warm: list[_Warm] = []


def table_name() -> str:
    name = os.environ.get(TABLE, "")
    if not name:
        raise CronRunnerError(f"cannot find the fleet's table: set {TABLE} of the function to its name")
    return name


def scheduler(_event: Any, _context: Any) -> dict[str, Any]:
    """One minute, and what people are to be told; the report of both. An invocation that fails counts for the
    function's alarm; nothing is lost by it."""
    warm = _kept()
    report, told = asyncio.run(_minute(warm))
    if report.failed:
        said = "; ".join(f"{group}: {error}" for group, error in report.failed.items())
        raise NotScheduled(f"cannot schedule everything: {said}")
    return {**asdict(report), "told": asdict(told)}


def recorder(event: Any, _context: Any) -> dict[str, Any]:
    """A batch of the results queue; the messages that are to be delivered again (`ReportBatchItemFailures`)."""
    warm = _kept()
    bodies = [(record["messageId"], record["body"]) for record in event["Records"]]
    failed = asyncio.run(warm.recorder.record(bodies, now=time.time()))
    return {"batchItemFailures": [{"itemIdentifier": message_id} for message_id in failed]}


async def _minute(warm: _Warm) -> tuple[Report, Delivered]:
    from runner.control.notices.delivery import deliver  # noqa: PLC0415 - as in `_Warm`
    from runner.control.scheduler import minute  # noqa: PLC0415

    report = await minute(
        warm.session, warm.table, now=time.time(), definitions=warm.definitions, measured=warm.measured
    )
    return report, await deliver(warm.table, warm.senders, now=time.time())


def _to_log(line: str) -> None:
    sys.stdout.write(f"{line}\n")  # Lambda makes one log event of it


def _kept() -> _Warm:
    if not _warm:
        _warm.append(_Warm())
    return _warm[0]
