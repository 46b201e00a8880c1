"""Ids of runs that somebody asks for by hand."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime
from typing import Final

_LONGEST: Final = 128


def by_hand(job: str, now: float) -> str:
    """JOB-TIME-CHANCE. It is never the id of a fire time (JOB-TIME), or the scheduled run would be its repeat."""
    ending = f"-{datetime.fromtimestamp(now, UTC).strftime('%Y-%m-%dT%H-%M-%SZ')}-{secrets.token_hex(3)}"
    return job[: _LONGEST - len(ending)] + ending
