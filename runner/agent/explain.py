"""What would run, without running it: the explanation of `run-once --dry-run`."""

from __future__ import annotations

import asyncio
import os
import shlex
import time
from typing import TYPE_CHECKING

from runner.agent.admission import Admit, Hold, NeverFits, decide, terms
from runner.agent.environment import environment_of
from runner.agent.events import secrets_in, shown
from runner.agent.execution import Execution
from runner.agent.ledger import Ledger
from runner.agent.once import Given
from runner.agent.redact import MASK
from runner.agent.refusal import job_of
from runner.errors import AwsUnavailable, CronRunnerError
from runner.protocol.units import format_duration, format_time

if TYPE_CHECKING:
    from runner.config import Config
    from runner.protocol.job import Job

Line = tuple[str, object]


def explain(config: Config, body: str, message_id: str) -> list[Line]:
    """Name and value of everything that decides how this message would run. Raises MessageRejected."""
    job = job_of(config, body, message_id)
    secrets = secrets_in(job.env, config.output.redact)
    return [
        ("job", job.job),
        ("run_id", job.run_id),
        ("declared", job.declared),
        ("command", shown(job.command, secrets)),
        ("argv", shown(shlex.join(job.argv), secrets)),
        ("user", job.user or "the supervisor's default (cron-runner-job under root, else its own)"),
        ("cwd", job.cwd),
        ("environment", _environment(config, job)),
        ("env_files", list(config.run.env_files)),
        ("timeout", format_duration(job.timeout)),
        ("grace", format_duration(job.grace)),
        ("stop_signal", job.stop_signal),
        ("limits", {"memory": job.limits.memory, "cpu": job.limits.cpu, "pids": job.limits.pids}),
        ("retries", job.retries.max),
        ("overlap", job.overlap),
        ("ack", job.ack),
        ("scheduled_at", None if job.scheduled_at is None else format_time(job.scheduled_at)),
        ("admission", _admission(config, job)),
    ]


def _environment(config: Config, job: Job) -> dict[str, str]:
    execution = Execution(job, None, 1, None, time.time(), "")
    env = environment_of(execution, config, os.environ)
    secret = set(secrets_in(env, config.output.redact))
    return {name: MASK if value in secret else value for name, value in sorted(env.items())}


def _admission(config: Config, job: Job) -> str:
    policy = config.admission.policy
    load = None
    if policy == "resources":
        from runner.agent.load import HostGauge  # noqa: PLC0415 - only for this policy

        load = HostGauge().read()
    decision = decide(terms(config.admission, load), job, Ledger(), load, time.time())
    if isinstance(decision, Admit):
        return f"{policy}: it would start at once on a host where nothing runs"
    if isinstance(decision, Hold):
        return f"{policy}: it would be held: {decision.reason}"
    if isinstance(decision, NeverFits):
        return f"{policy}: it can never run on this host: {decision.detail}"
    return f"{policy}: it would be skipped ({decision.reason}): {decision.detail}"


def peek(config: Config, wait: float) -> Given | None:
    """One message of the queue, handed back at once: SQS counts a receive all the same. None: none came in time."""
    return asyncio.run(_peek(config, wait))


async def _peek(config: Config, wait: float) -> Given | None:
    from runner.aws.session import Session  # noqa: PLC0415 - only where the queue is asked
    from runner.aws.sqs import Queue  # noqa: PLC0415

    session = Session(queue_url=config.queue.url)
    try:
        queue = Queue(session, url=config.queue.url, name="" if config.queue.url else config.queue.name)
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
