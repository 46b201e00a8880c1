"""What clients are told about a run: while it goes on, and how it ended. Shapes only."""

from __future__ import annotations

import os
import signal

TYPE_CHECKING = False  # not imported from typing, which costs a megabyte
if TYPE_CHECKING:
    from typing import Any, Protocol

    from runner.supervisor.capture import Capture
    from runner.supervisor.marks import Marks
    from runner.supervisor.placing.place import Place

    class Run(Protocol):
        """The facts of a run that are told."""

        key: str
        job: str
        run_id: str
        note: str
        pid: int
        user: str
        started_at: float
        started_boottime: float
        ended_at: float
        secrets: list[str]
        warnings: list[str]
        announced: bool
        asked_by: Any
        wait_status: int | None
        start_error: tuple[int, str] | None
        usage: tuple[float, float, int]
        cause: str | None
        cause_detail: str
        leftovers: int
        faults: list[str]
        record: dict[str, Any] | None
        capture: Capture
        marks: Marks
        place: Place

        @property
        def start_ticks(self) -> int: ...


def started(run: Run) -> dict[str, Any]:
    """The answer to its start. What is empty is not said, here and below: that is most of it, mostly."""
    said: dict[str, Any] = {
        "key": run.key, "pid": run.pid, "started_at": run.started_at, "started_boottime": run.started_boottime,
        "user": run.user,
    }  # fmt: skip
    if run.secrets:
        said["secrets"] = run.secrets
    if run.warnings:
        said["warnings"] = run.warnings
    if run.record is not None:
        said["exit"] = run.record
    return said


def facts(run: Run) -> dict[str, Any]:
    """The same, for somebody who did not start it."""
    said: dict[str, Any] = {
        **started(run), "job": run.job, "run_id": run.run_id, "start_ticks": run.start_ticks,
        "bytes": run.capture.offset, **({"marks": run.marks.flat()} if run.record is None else {}),
    }  # fmt: skip
    if run.note:
        said["note"] = run.note
    if run.asked_by is not None and not run.announced and run.record is None:
        said["pending"] = True  # whether it is the job yet, or can be, is not known
    return said


def exit_record(run: Run) -> dict[str, Any]:
    """How it ended. What is missing is none, zero or false."""
    duration = max(run.ended_at - run.started_boottime, 0.0)
    offset, refused, gap = run.capture.offset, run.capture.refused, run.capture.gap
    record: dict[str, Any] = {
        "key": run.key, "pid": run.pid, "wait_status": run.wait_status, "started_at": run.started_at,
        "finished_at": run.started_at + duration, "duration_s": duration, "cpu_user_s": run.usage[0],
        "cpu_system_s": run.usage[1], "max_rss_bytes": run.usage[2], "bytes_total": offset + refused,
        "bytes_written": offset,
    }  # fmt: skip
    if offset:
        record["marks"] = run.marks.flat()
    if run.start_error is not None:
        record["start_error"] = run.start_error
    elif run.wait_status is not None:
        record.update(_decoded(run.wait_status))
    if run.cause is not None:
        record["cause"], record["cause_detail"] = run.cause, run.cause_detail
    if run.leftovers:
        record["leftovers"] = run.leftovers
    if gap or refused:
        lost = gap[1] - gap[0] if gap else 0
        record["gap"], record["disk_full_dropped"], record["bytes_dropped"] = gap, refused, refused + lost
    if run.faults:
        record["faults"] = run.faults
    if run.capture.rest:
        record["rest"] = run.capture.rest.decode("utf-8", "surrogateescape")
    if run.place.oom():
        record["oom"] = True
    record.update(run.place.account())
    return record


def _decoded(status: int) -> dict[str, int | str]:
    """Exit code, or the signal's name."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        try:
            return {"signal": signal.Signals(number).name}
        except ValueError:
            return {"signal": f"SIG{number}"}
    return {"exit_code": os.waitstatus_to_exitcode(status)}
