"""What clients are told about a run: while it goes on, and how it ended. Shapes only."""

from __future__ import annotations

import os
import signal

TYPE_CHECKING = False  # not imported from typing, which costs a megabyte
if TYPE_CHECKING:
    from typing import Any

    from runner.supervisor.run import Run


def facts(run: Run) -> dict[str, Any]:
    """What clients are told about it."""
    return {
        "key": run.key, "job": run.job, "run_id": run.run_id, "pid": run.pid,
        "start_ticks": run.start_ticks, "started_at": run.started_at,
        "started_boottime": run.started_boottime, "user": run.user, "secrets": run.secrets,
        "warnings": run.warnings, "bytes": run.capture.offset, "exit": run.record,
    }  # fmt: skip


def exit_record(run: Run, gap: tuple[int, int] | None) -> dict[str, Any]:
    code, name = _decoded(run.wait_status) if run.start_error is None else (None, None)
    duration = max(run.ended_at - run.started_boottime, 0.0)
    capture = run.capture
    record: dict[str, Any] = {
        "key": run.key, "pid": run.pid, "wait_status": run.wait_status, "exit_code": code, "signal": name,
        "start_error": run.start_error, "cause": run.cause, "cause_detail": run.cause_detail,
        "started_at": run.started_at, "finished_at": run.started_at + duration, "duration_s": duration,
        "cpu_user_s": run.usage[0], "cpu_system_s": run.usage[1], "max_rss_bytes": run.usage[2],
        "oom": run.place.oom(),
        "leftovers": run.leftovers, "bytes_total": capture.offset + capture.refused,
        "bytes_written": capture.offset, "bytes_dropped": capture.refused + (gap[1] - gap[0] if gap else 0),
        "gap": gap, "disk_full_dropped": capture.refused,
    }  # fmt: skip
    record.update(run.place.account())
    return record


def _decoded(status: int | None) -> tuple[int | None, str | None]:
    """Exit code, or the signal's name."""
    if status is None:
        return None, None
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        try:
            return None, signal.Signals(number).name
        except ValueError:
            return None, f"SIG{number}"
    return os.waitstatus_to_exitcode(status), None
