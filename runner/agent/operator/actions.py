"""What a person, or a directive, can do to a running agent: cancel, pause, resume, drain.

Whoever calls says who asked (`by`) and why (`note`): both are logged, and told in the events that follow.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import structlog

from runner.agent.runs.admission.policy import Hold, NeverFits, Skip
from runner.agent.runs.run import State
from runner.agent.runs.step import HANDED_BACK
from runner.agent.supervision.connection import StartRefused
from runner.errors import Refused
from runner.protocol.units import time_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from runner.agent.held import Door
    from runner.agent.journal.runs import RunRow
    from runner.agent.runs.pause import Pause
    from runner.agent.runs.table import Run
    from runner.agent.services import Services
    from runner.protocol.job import Job

log = structlog.get_logger()

LONGEST_NOTE = 256
_STATES = {State.ACCEPTED: "starting", State.RUNNING: "running", State.BACKOFF: "backoff", State.ENDED: "ended"}


def state_of(run: Run) -> str:
    """A word for people: starting, running, stopping, backoff or ended."""
    if run.stopped is not None and run.active:
        return "stopping"
    return _STATES[run.execution.state]


class Operations:
    """Called on the agent's event loop."""

    def __init__(self, services: Services, door: Door) -> None:
        self._services = services
        self._door = door

    # -- runs

    def has(self, run_id: str) -> bool:
        """Whether it runs, or waits to, on this host."""
        run = self._services.roster.get(run_id)
        return self._door.find(run_id) is not None or (run is not None and run.active)

    async def find(self, run_id: str) -> dict[str, Any]:
        """Where a run stands, or how it ended. `state`: held, starting, running, stopping, backoff, ended, elsewhere
        (a run-once on this host has it), unknown."""
        held = self._door.find(run_id)
        if held is not None:
            return {"run_id": run_id, "state": "held", "job": held.job.job, "reason": held.reason}
        run = self._services.roster.get(run_id)
        if run is not None:
            return self._found(run)
        rows = await self._services.journal.latest([run_id])
        return await self._recorded(rows[0]) if rows else {"run_id": run_id, "state": "unknown"}

    async def _recorded(self, row: RunRow) -> dict[str, Any]:
        """What the journal says of a run that was not here when it was asked."""
        run_id = row.run_id
        if row.state == State.ENDED:
            return {
                "run_id": run_id,
                "state": "ended",
                "job": row.job,
                "attempt": row.attempt,
                "outcome": row.outcome,
                "reason": row.reason,
                "ended_at": time_of(row.ended_at),
            }
        if row.owner != self._services.owner:
            return {"run_id": run_id, "state": "elsewhere", "job": row.job, "owner": row.owner}
        # Ours: either it is being taken over from an agent before us, or it came while the journal was asked.
        await self._services.reconciled.wait()
        run = self._services.roster.get(run_id)
        if run is not None:
            return self._found(run)
        return {"run_id": run_id, "state": _STATES[State(row.state)], "job": row.job, "attempt": row.attempt}

    def _found(self, run: Run) -> dict[str, Any]:
        execution = run.execution
        found = {
            "run_id": execution.run_id,
            "state": state_of(run),
            "job": execution.job.job,
            "attempt": execution.attempt,
            "grace_s": execution.job.grace,
            "stop_signal": execution.job.stop_signal,
        }
        if not run.active:
            found |= {"outcome": execution.outcome, "reason": execution.reason, "ended_at": time_of(execution.ended_at)}
        return found

    async def foresee(self, job: Job) -> dict[str, Any]:
        """What would become of a job that came now: `decision` is admitted, held, skipped, never or known (its run is
        active here or has ended here), `detail` says why."""
        known = await self.find(job.run_id)
        if known["state"] not in ("unknown", "ended"):
            return {"decision": "known", "detail": f"run {job.run_id} is {known['state']} here: nothing would start"}
        if known["state"] == "ended" and known["outcome"] not in HANDED_BACK:
            return {
                "decision": "known",
                "detail": f"run {job.run_id} has ended here ({known['outcome']}): it would be answered, not run again",
            }
        decision = self._door.foresee(job)
        if isinstance(decision, Hold):
            return {"decision": "held", "detail": decision.reason}
        if isinstance(decision, Skip):
            return {"decision": "skipped", "detail": f"{decision.reason}: {decision.detail}"}
        if isinstance(decision, NeverFits):
            return {"decision": "never", "detail": decision.detail}
        replaced = ", ".join(decision.replaces)
        return {"decision": "admitted", "detail": f"in place of run {replaced}" if replaced else "at once"}

    async def cancel(self, run_id: str, *, by: str, note: str = "", grace: float | None = None) -> dict[str, Any]:
        """End a run: what runs by stop signal, grace (its own, or this many seconds) and kill; what waits here for
        room, or for its next attempt, at once. Its outcome is `cancelled`, its reason `cancelled by BY`.

        Returns what `find` says of it before, with `cancelled`: whether there was something to end. The end itself
        comes later; `find` knows of it.
        """
        note = checked_note(note)
        before = await self.find(run_id)
        detail = f"by {by}: {note}" if note else f"by {by}"
        run = self._services.roster.get(run_id)
        if self._door.cancel(run_id, detail):
            cancelled = True
        elif run is not None and run.active:
            cancelled = True
            self._services.spawn(run.stop("cancel", detail, grace), f"cancel {run_id}")
        else:
            cancelled = False
        if cancelled:
            log.warning("run_cancelled", run_id=run_id, job=before.get("job"), by=by, note=note, was=before["state"])
        if cancelled and grace is not None:
            before["grace_s"] = grace
        return {**before, "cancelled": cancelled}

    def replace(self, run_id: str, *, by: str) -> None:
        """End a run for a newer one of its job, unless it is being ended."""
        run = self._services.roster.get(run_id)
        if run is not None and run.stopped is None:
            self._services.spawn(run.stop("replace", f"by {by}"), f"replace {run_id}")

    async def signal(self, run_id: str, number: int, *, by: str, note: str = "") -> dict[str, Any]:
        """Send all processes of a run a signal. Returns what `find` says of it, with `processes`: how many there were,
        None where none runs. What follows is the job's: a run that it ends was `killed`."""
        note = checked_note(note)
        run, found = self._services.roster.get(run_id), await self.find(run_id)
        reached = None
        if run is not None and run.execution.state is State.RUNNING:
            try:
                reached = await self._services.link.signal(run.execution.key, number)
            except StartRefused as error:
                why = f"cannot send run {run_id} a signal: {error}; upgrade the supervisor"
                raise Refused("failed", why) from error
            log.warning("run_signalled", run_id=run_id, job=found.get("job"), signal=number, by=by, note=note)
        return {**found, "processes": reached}

    def wanted(self, *, job: str | None = None) -> Sequence[str]:
        """The run ids of all that runs, or waits to, on this host; of one job, or of any."""
        runs = [run.execution.job for run in self._services.roster.all() if run.active]
        jobs = [*runs, *(waiting.job for waiting in self._door.held)]
        return [one.run_id for one in jobs if job is None or one.job == job]

    # -- the host

    def pause(self, *, by: str, note: str = "", until: float | None = None) -> Pause:
        """Receive nothing, and hand back what waits here; what runs goes on, retries included.

        It lasts over restarts, until it is over by itself (`until`, unix seconds) or somebody resumes it.
        Raises CronRunnerError where it cannot be kept.
        """
        return self._services.pausing.pause(by, checked_note(note), until)

    def drain(self, *, by: str, note: str = "") -> Pause:
        """Empty the host: a pause in which further attempts are handed back for other hosts to make.

        One that may not be handed back (the redrive policy would take it away, or this host alone answers for it)
        is still made here.
        """
        made = self._services.pausing.pause(by, checked_note(note), drain=True)
        self.hand_back_retries()
        return made

    def hand_back_retries(self) -> None:
        """Further attempts are another host's to make, where the host is being emptied."""
        services = self._services
        for run in services.roster.all():
            if run.execution.state is not State.BACKOFF or run.stopped is not None:
                continue
            if (why := services.leaves_retry(run.execution)) is not None:
                services.spawn(run.stop("shutdown", why), f"hand back {run.execution.run_id}")

    def resume(self, *, by: str) -> Pause | None:
        """End a pause or a drain of this host; returns the one that there was. One that comes from elsewhere (the
        whole group's, a notice of AWS) holds until it ends there."""
        was = self._services.pausing.own
        self._services.pausing.resume(by)
        return was


def checked_note(note: str) -> str:
    """A note as one printable line. Raises Refused for a long one."""
    line = " ".join("".join(char if char.isprintable() else " " for char in note).split())
    if len(line) > LONGEST_NOTE:
        raise Refused("invalid", f"cannot take a note of {len(line)} characters; give at most {LONGEST_NOTE}")
    return line
