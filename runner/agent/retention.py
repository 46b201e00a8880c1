"""Which spool files of finished runs are kept for `cron-runner logs`, and which go."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import structlog

from runner.agent import spool

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet
    from pathlib import Path

    from runner.agent.offsets import OffsetStore

log = structlog.get_logger()


async def trim(directory: Path, offsets: OffsetStore, active: AbstractSet[str]) -> None:
    """Keep finished files within their quota, and forget the rows of those that are gone. `active` are file names.

    What is not settled is nobody's to remove, whoever ships it: an agent and a run-once share the directory, and
    after a start not every file is active yet.
    """
    known = await offsets.known()
    try:
        there = _names(directory)
        unsettled = {spool.name_of(tag, there) for tag, settled in known if not settled}
        removed = spool.trim(directory, active | unsettled)
        left = _names(directory) if removed else there
    except OSError as error:
        log.warning("spool_not_trimmed", error=str(error))
        return
    if not removed:
        return
    gone = [tag.key for tag, settled in known if settled and spool.name_of(tag, left) not in left]
    if gone:
        await offsets.removed(gone)
    log.debug("spool_trimmed", files=removed)


def _names(directory: Path) -> frozenset[str]:
    try:
        return frozenset(os.listdir(directory))  # noqa: PTH208 - names, not Paths
    except FileNotFoundError:
        return frozenset()
