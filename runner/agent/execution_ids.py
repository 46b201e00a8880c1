"""The names of executions."""

from __future__ import annotations

import os
import time

_RANDOM_BYTES = 6
_random = bytearray()


def new_execution_id() -> str:
    """Random, so that no two acceptances anywhere share it, behind its millisecond.

    What is new then stands together in the journal's indexes, and a million old rows cost a new one nothing.
    """
    if not _random:
        _random.extend(os.urandom(64 * _RANDOM_BYTES))  # the kernel is asked for many at a time
    taken = _random[-_RANDOM_BYTES:].hex()
    del _random[-_RANDOM_BYTES:]
    return f"{time.time_ns() // 1_000_000 & 0xFFFFFFFFFFFF:012x}{taken}"
