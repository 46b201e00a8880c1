"""One attempt as values: what the supervisor and the shipper are told of it, and the verdict on its end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runner.agent.runs.adoption import note_of
from runner.agent.runs.process import StartSpec
from runner.protocol.outcome import Ending, RuleFacts, Verdict, decide, lost

if TYPE_CHECKING:
    from collections.abc import Mapping

    from runner.agent.runs.output import OutputReport
    from runner.agent.runs.process import ExitRecord
    from runner.agent.runs.run import Execution
    from runner.config import Config
    from runner.sinks import Tag


def spec_of(
    execution: Execution,
    config: Config,
    env: Mapping[str, str],
    tag: Tag,
    *,
    tied: bool,
    keep_free: int = 0,
    secrets: Mapping[str, str] | None = None,
) -> StartSpec:
    """What the supervisor starts; `env` is what the agent adds to the job's environment (`environment_of`), `secrets`
    what was fetched for it."""
    job = execution.job
    return StartSpec(
        key=execution.key,
        job=job.job,
        run_id=job.run_id,
        argv=job.argv,
        env=env,
        env_files=config.run.env_files,
        user=job.user,
        group=job.unix_group,
        umask=job.umask,
        nice=job.nice,
        cwd=job.cwd,
        stdin=job.stdin,
        timeout=job.timeout,
        grace=job.grace,
        stop_signal=job.stop_signal,
        no_output_timeout=job.no_output_timeout,
        max_bytes=config.output.max_bytes,
        limits={"memory": job.limits.memory, "cpu": job.limits.cpu, "pids": job.limits.pids},
        leftovers=config.run.leftovers,
        redact=config.output.redact,
        tied=tied,
        note="" if tied else note_of(execution, tag),
        keep_free=keep_free,
        secrets=secrets or {},
    )


def judge(execution: Execution, record: ExitRecord | None, report: OutputReport, why_lost: str) -> Verdict:
    """The verdict on an attempt, noted in its execution; without a record it was lost."""
    if record is None:
        verdict = lost(why_lost)
    else:
        verdict = decide(
            execution.job,
            Ending(
                exit_code=record.exit_code,
                signal=record.signal,
                cause=record.cause,
                cause_detail=record.cause_detail,
                start_error=record.start_error,
                oom=record.oom,
                duration=record.duration_s,
            ),
            RuleFacts(failed_on=report.failed_on, missing=report.missing),
        )
    execution.verdict = verdict
    execution.outcome = verdict.outcome
    execution.reason = verdict.reason
    if execution.lease_lost and record is not None and record.cause != "lost_lease":
        execution.reason += "; its lease was lost meanwhile and the job was left running"
    return verdict
