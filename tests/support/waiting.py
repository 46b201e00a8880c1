"""Waiting for the world with a deadline, so that a test neither sleeps blindly nor hangs."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

# A loaded machine is slow, and a passing test never waits this long.
PATIENCE_S = 30.0
_LOOK_EVERY_S = 0.02


class NeverHappenedError(AssertionError):
    """What a test waited for did not come to pass in time."""


def wait_for(
    condition: Callable[[], T | None | bool],
    what: str,
    within: float = PATIENCE_S,
    detail: Callable[[], str] = str,
) -> T:
    """Call ``condition`` until it gives something true, and return that.

    Raises:
        NeverHappenedError: it did not within ``within`` seconds; says ``what`` and ``detail()``.
    """
    deadline = time.monotonic() + within
    while True:
        found = condition()
        if found:
            return found  # type: ignore[return-value]
        if time.monotonic() > deadline:
            raise NeverHappenedError(f"not within {within:g} s: {what}\n{detail()}")
        time.sleep(_LOOK_EVERY_S)
