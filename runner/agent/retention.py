"""Which spool files of finished runs are kept for `cron-runner logs`, and which go."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from runner.agent import spool

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet
    from pathlib import Path

    from runner.agent.offsets import OffsetStore

log = structlog.get_logger()


async def trim(directory: Path, offsets: OffsetStore, active: AbstractSet[Path]) -> None:
    """Keep finished files within their quota, and forget the rows of those that are gone.

    What is not settled is nobody's to remove, whoever ships it: an agent and a run-once share the directory, and
    after a start not every file is active yet.
    """
    known = await offsets.known()
    unsettled = {spool.path_of(directory, tag) for tag, settled in known if not settled}
    try:
        removed = spool.trim(directory, active | unsettled)
    except OSError as error:
        log.warning("spool_not_trimmed", error=str(error))
        return
    if not removed:
        return
    gone = [tag.key for tag, settled in known if settled and not spool.path_of(directory, tag).exists()]
    if gone:
        await offsets.removed(gone)
    log.debug("spool_trimmed", files=removed)
