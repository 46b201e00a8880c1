"""Notices of AWS that this instance is about to end: the host is drained, so that what comes goes to others.

What runs goes on; the shutdown of the host stops it, and hands its messages back.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Protocol

import structlog

from runner.agent.runs.pause import Pause
from runner.aws.metadata.instance import end_announced
from runner.errors import AwsUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from runner.aws.metadata.instance import Notice

    class Pausing(Protocol):
        """What holds on this host, by who says so."""

        def told(self, source: str) -> Pause | None: ...

        def tell(self, source: str, pause: Pause | None) -> None: ...


log = structlog.get_logger()

_AWAY = "no notice is seen; let the agent reach the metadata service, or set [fleet] notices = false"

# AWS gives two minutes, and asks to look every five seconds.
LOOK_EVERY_S = 5.0
AWAY_EVERY_S = 60.0


async def watch(
    pausing: Pausing,
    drained: Callable[[], None],
    *,
    look: Callable[[], Notice | None] = end_announced,
    leave: Callable[[], Coroutine[None, None, None]] | None = None,
) -> None:
    """Look every few seconds; a notice that is taken back ends the drain. `drained` is called when one has begun.

    `leave` tells Auto Scaling, where it waits for this host, that it need not any more, and ends then.
    """
    async with asyncio.TaskGroup() as tasks:
        await _watch(pausing, drained, look, lambda: tasks.create_task(leave(), name="lifecycle") if leave else None)


async def _watch(
    pausing: Pausing,
    drained: Callable[[], None],
    look: Callable[[], Notice | None],
    leave: Callable[[], asyncio.Task[None] | None],
) -> None:
    away, leaving = False, None
    while True:
        try:
            notice = await asyncio.to_thread(look)
        except AwsUnavailable as error:
            if not away:
                log.warning("instance_metadata_unavailable", error=str(error), retry_in=AWAY_EVERY_S, detail=_AWAY)
            away = True
            await asyncio.sleep(AWAY_EVERY_S)
            continue
        away = False
        told = pausing.told("notice")
        if leaving is not None and (notice is None or not notice.hook):
            leaving.cancel()
            leaving = None
        if notice is None:
            pausing.tell("notice", None)
        elif told is None or told.note != notice.text:
            pausing.tell("notice", Pause("AWS", time.time(), notice.text, drain=True))
            drained()
        if notice is not None and notice.hook and leaving is None:
            leaving = leave()
        await asyncio.sleep(LOOK_EVERY_S)
