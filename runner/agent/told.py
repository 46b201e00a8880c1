"""What a `run-once` tells the person at the terminal beside the job's own output."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING

from runner.agent.run import Run

if TYPE_CHECKING:
    from runner.agent.supervision_types import Started


class Told(Run):
    """A run whose warnings are for the person at the terminal too."""

    def say_started(self, started: Started) -> None:
        for warning in started.warnings:
            say(f"warning: {warning}")
        super().say_started(started)


def say(text: str) -> None:
    """One line on standard error; a terminal that was closed is nobody to tell."""
    with contextlib.suppress(OSError):
        sys.stderr.write(f"cron-runner: {text}\n")
        sys.stderr.flush()
