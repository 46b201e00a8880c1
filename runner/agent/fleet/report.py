"""This host as the fleet's table shows it: what it reports of itself, now and then, and when it stops."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import structlog

from runner.errors import AwsUnavailable
from runner.protocol import table as keys
from runner.protocol.units import format_time

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from runner.aws.table import Table

log = structlog.get_logger()


class HostReports:
    """`status` gives what `status --json` shows; `every` is in seconds."""

    def __init__(self, table: Table, every: float, status: Callable[[], Awaitable[Mapping[str, Any]]]) -> None:
        self._table = table
        self._every = every
        self._status = status
        self._failed = False

    async def run(self) -> None:
        """Report until cancelled. One that fails is made up for by the next."""
        while True:
            await self.report()
            await asyncio.sleep(self._every)

    async def report(self, state: str = "") -> None:
        """Write the item; `state`: instead of what the status says."""
        told = await self._status()
        item = host_item(told, self._every, time.time())
        if state:
            item["state"] = state
        try:
            await self._table.put_many([item])
        except AwsUnavailable as error:
            if not self._failed:
                log.warning("host_not_reported", error=str(error), detail="it is tried again each [fleet] report")
            self._failed = True
        else:
            self._failed = False


def host_item(status: Mapping[str, Any], every: float, now: float) -> dict[str, Any]:
    """The item of a status. Pure."""
    return {
        **keys.host(status["group"], status["host"]).attributes(),
        "state": status["state"],
        "why": status["waiting_for"],
        "version": status["agent"]["version"],
        "since": status["agent"]["since"],
        "running": len(status["runs"]),
        "held": len(status["held"]),
        "policy": status["admission"]["policy"],
        "offered": dict(status["admission"]["offered"]),
        "used": dict(status["admission"]["used"]),
        "instance_id": status["instance_id"],
        "report_s": every,
        "seen_at": format_time(now),
        keys.EXPIRES: int(now + keys.HOST_KEPT_S),
    }
