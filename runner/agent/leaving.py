"""What a notice of this instance's end sets going: the drain, and Auto Scaling's wait for it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from runner.agent.host.instance_end import watch
from runner.agent.host.lifecycle import see_out
from runner.aws.metadata.instance import end_announced
from runner.aws.metadata.lifecycle import LifecycleHook

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from runner.agent.services import Services
    from runner.aws.session import Session


async def watch_notices(
    services: Services,
    session: Session,
    drained: Callable[[], None],
    owed: Callable[[], Awaitable[tuple[int, float | None] | None]],
) -> None:
    """As `[fleet] notices` and what belongs to it say. ``owed`` are the events that wait, None where nobody knows."""

    async def done() -> bool:
        # What this host alone knows goes with its disk: output and events too, not only the runs.
        if services.roster.all() or services.shipper.backlog():
            return False
        waiting = await owed()
        return waiting is not None and waiting[0] == 0

    fleet = services.config.fleet
    hook = LifecycleHook.of(session, fleet.lifecycle_hook) if fleet.lifecycle_hook else None
    look = partial(end_announced, rebalance=fleet.rebalance)
    await watch(services.pausing, drained, look=look, leave=None if hook is None else lambda: see_out(hook, done))
