"""What would run, without running it: the explanation of `run-once --dry-run`."""

from __future__ import annotations

import asyncio
import os
import shlex
import socket
import time
from typing import TYPE_CHECKING, Any

from runner.agent.runs.admission.occupancy import Ledger
from runner.agent.runs.admission.policy import Admit, Hold, NeverFits, decide, terms
from runner.agent.runs.environment import environment_of
from runner.agent.runs.run import Execution
from runner.agent.runs.secrets import MASK, secrets_in, shown
from runner.errors import AwsUnavailable, CronRunnerError
from runner.once.once import Given
from runner.protocol.units import format_duration, format_size, time_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from runner.aws.sqs import Queue
    from runner.config import Config
    from runner.protocol.job import Job

Decided = dict[str, Any]


def explain(
    config: Config, job: Job, *, user: str, cannot_start: Sequence[str], decided: Decided | None
) -> dict[str, Any]:
    """Everything that decides how this job would run, by name; times in words.

    `decided` is what the running agent says; None: there is none, and the answer is of a host where nothing runs.
    """
    secrets = secrets_in(job.env, config.output.redact)
    return {
        "job": job.job,
        "run_id": job.run_id,
        "declared": job.declared,
        "command": shown(job.command, secrets),
        "argv": shown(shlex.join(job.argv), secrets),
        "user": user,
        "unix_group": job.unix_group,
        "umask": None if job.umask is None else f"{job.umask:03o}",
        "nice": job.nice,
        "cwd": job.cwd,
        "stdin": "/dev/null" if job.stdin is None else f"{len(job.stdin.encode())} bytes of the message",
        "environment": _environment(config, job),
        "secrets": dict(job.secrets),
        "env_files": list(config.run.env_files),
        "timeout": format_duration(job.timeout),
        "grace": format_duration(job.grace),
        "stop_signal": job.stop_signal,
        "deadline": f"{format_duration(job.timeout)} after its start, then SIG{job.stop_signal}, "
        f"and SIGKILL {format_duration(job.grace)} later",
        "no_output_timeout": _duration(job.no_output_timeout),
        "min_duration": _duration(job.min_duration),
        "limits": job.limits.to_json(),
        "resources": job.resources.said(),
        "success": job.success.to_json(),
        "retries": job.retries.to_json(),
        "overlap": job.overlap,
        "ack": job.ack,
        "scheduled_at": time_of(job.scheduled_at),
        "not_after": time_of(job.not_after),
        "labels": dict(job.labels),
        "output": _output(config, job),
        "cannot_start": list(cannot_start),
        "admission": decided or _on_an_empty_host(config, job),
    }


def _duration(seconds: float | None) -> str | None:
    return None if seconds is None else format_duration(seconds)


def _output(config: Config, job: Job) -> dict[str, object]:
    place = config.output.cloudwatch
    known = {"job": job.job, "run_id": job.run_id, "attempt": "1", "host": socket.gethostname()}
    stream = place.log_stream
    for name, value in known.items():
        stream = stream.replace(f"{{{name}}}", value)
    in_cloudwatch = "cloudwatch" in config.output.sinks
    return {
        "sinks": list(config.output.sinks),
        "log_group": place.log_group.replace("{group}", config.group) if in_cloudwatch else None,
        "log_stream": stream if in_cloudwatch else None,
        "max": format_size(config.output.max_bytes),
    }


def _environment(config: Config, job: Job) -> dict[str, str]:
    execution = Execution(job, None, 1, None, time.time(), "")
    env = environment_of(execution, config, os.environ)
    secret = set(secrets_in(env, config.output.redact))
    return {name: MASK if value in secret else value for name, value in sorted(env.items())}


def _on_an_empty_host(config: Config, job: Job) -> Decided:
    load = None
    if config.admission.policy == "resources":
        from runner.agent.host.load import HostGauge  # noqa: PLC0415 - only for this policy

        load = HostGauge().read()
    decision = decide(terms(config.admission, load), job, Ledger(), load, time.time())
    said = {"policy": config.admission.policy, "by": "an empty host: no agent of this host was asked"}
    if isinstance(decision, Admit):
        return {**said, "decision": "admitted", "detail": "at once"}
    if isinstance(decision, Hold):
        return {**said, "decision": "held", "detail": decision.reason}
    if isinstance(decision, NeverFits):
        return {**said, "decision": "never", "detail": decision.detail}
    return {**said, "decision": "skipped", "detail": f"{decision.reason}: {decision.detail}"}


def peek(config: Config, wait: float, *, dead_letters: bool = False) -> Given | None:
    """One message of the queue, or of its dead-letter queue, handed back at once: SQS counts a receive all the same.
    None: none came in time."""
    return asyncio.run(_peek(config, wait, dead_letters=dead_letters))


async def _peek(config: Config, wait: float, *, dead_letters: bool) -> Given | None:
    from runner.aws.session import Session  # noqa: PLC0415 - only where the queue is asked
    from runner.aws.sqs import Queue  # noqa: PLC0415

    session = Session(queue_url=config.queue.url)
    try:
        queue = Queue(session, url=config.queue.url, name="" if config.queue.url else config.queue.name)
        if dead_letters:
            queue = Queue(session, url=await dead_letter_url(config, queue))
        deadline = time.monotonic() + wait
        left = wait
        while not (received := await queue.receive(1, min(20.0, left), config.queue.visibility)):
            if left <= 0:
                return None
            left = max(0.0, deadline - time.monotonic())
        await queue.extend([(received[0].receipt, 0)])
        return Given(received[0].body, received[0].message_id)
    except AwsUnavailable as error:
        raise CronRunnerError(f"{error}; check the queue and the credentials") from error
    finally:
        session.close()


async def dead_letter_url(config: Config, queue: Queue) -> str:
    """The queue where dead letters of this one are. Raises CronRunnerError where there is none."""
    if config.queue.dead_letter_url:
        return config.queue.dead_letter_url
    redrive = (await queue.facts()).redrive
    if redrive is None:
        raise CronRunnerError(
            f"cannot read dead letters: {queue.label} has no redrive policy; give it one, or set [queue] "
            "dead_letter_url"
        )
    return await queue.url_of_arn(redrive.target_arn)
