"""What follows for a run from what happens to it."""

from __future__ import annotations

from dataclasses import dataclass

from runner.protocol.outcome import Outcome

# After these a further attempt makes sense; the others were decided by somebody, or would end the same way.
RETRIED = frozenset({Outcome.FAILED, Outcome.TIMED_OUT, Outcome.KILLED, Outcome.OOM_KILLED, Outcome.START_FAILED})
# These ended here, but the message says that the run is still wanted: it goes back to the queue.
HANDED_BACK = frozenset({Outcome.INTERRUPTED, Outcome.LOST})


@dataclass(frozen=True, slots=True)
class Stop:
    """Why we stop a run: `cause` is the supervisor's word. `grace` in seconds, None: the job's own."""

    cause: str
    detail: str = ""
    grace: float | None = None
