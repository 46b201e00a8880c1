"""What the supervisor does about what fails: it says so on stderr, and tries again what may pass."""

from __future__ import annotations

import contextlib
import sys

TYPE_CHECKING = False  # not imported from typing, which costs a megabyte
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    T = TypeVar("T")

_TRIES = 4


def say(text: str) -> None:
    """One line. A full disk under it, or a closed pipe, is no reason to do less."""
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.write(f"cron-runner-supervisor: {text}\n")
        sys.stderr.flush()


def persistently(call: Callable[[], T]) -> T:
    """Its result, at once but at the fourth trial at the latest; then its OSError. For what nobody comes back to."""
    for _ in range(_TRIES - 1):
        with contextlib.suppress(OSError):
            return call()
    return call()
