"""Auto Scaling waits while this host is drained, and no longer: a heartbeat for its life-cycle hook, then its end."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, Protocol

import structlog

from runner.errors import AwsUnavailable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    class Hook(Protocol):
        """`runner.aws.metadata.lifecycle.LifecycleHook`."""

        async def heartbeat(self) -> None: ...

        async def complete(self) -> None: ...


log = structlog.get_logger()

# A hook waits for 30 seconds at least.
HEARTBEAT_EVERY_S: Final = 20.0
LOOK_EVERY_S: Final = 1.0
_UNTOLD: Final = "it is told again; until then Auto Scaling waits for as long as the hook's own timeout"


async def see_out(hook: Hook, done: Callable[[], Awaitable[bool]]) -> None:
    """Hold Auto Scaling until ``done`` says that this host owes nothing, then let it go on. An outage is waited out."""
    said = ""
    log.info("lifecycle_hook_held", detail="auto scaling waits until what runs here has ended and is told")
    while True:
        over = await done()
        call = hook.complete if over else hook.heartbeat
        try:
            await call()
        except AwsUnavailable as error:
            # Also while Auto Scaling has announced it and does not wait yet.
            if error.code != said:
                log.warning("lifecycle_hook_not_told", error=str(error), retry_in=HEARTBEAT_EVERY_S, detail=_UNTOLD)
            said = error.code
            await asyncio.sleep(HEARTBEAT_EVERY_S)
            continue
        if over:
            log.info("lifecycle_hook_completed")
            return
        for _ in range(int(HEARTBEAT_EVERY_S / LOOK_EVERY_S)):
            await asyncio.sleep(LOOK_EVERY_S)
            if await done():
                break
