"""All that asks AWS: credentials first, then the places side by side."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from runner.agent.journal.pruning import RETENTION_S
from runner.aws.logs import Logs
from runner.aws.permissions import output_group
from runner.aws.session import Session, Timeouts
from runner.aws.sqs import Queue
from runner.check import queue_rules
from runner.check.finding import Finding, failed, ok
from runner.check.fleet_table import fleet_table
from runner.check.identity import find_credentials, identity
from runner.check.lifecycle import lifecycle_hook
from runner.check.log_groups import log_group
from runner.check.queues import Seen, job_queue, sending
from runner.check.refusals import refusal
from runner.check.secrets import secrets
from runner.errors import AwsUnavailable

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from typing import Any

    from runner.config import Config

TIMEOUTS = Timeouts(connect=4.0, answer=8.0, slack=10.0)
"""Shorter than the agent's: somebody waits for the answer."""


async def check_aws(config: Config, host: str, agent: str = "") -> list[Finding]:
    """One line for each action; the job queue's first, then results, dead letters, output, clock.

    ``agent`` is the user that the agent runs as, where its credentials may be others than ours.
    """
    session = Session(queue_url=config.queue.url, timeouts=TIMEOUTS)
    try:
        credentials, findings = await find_credentials(session)
        if credentials is None:
            return findings
        places = await asyncio.gather(
            _alone("credentials", identity(session, credentials, agent)),
            _alone("queue", _queues(session, config)),
            _alone("output", _output(session, config, host)),
            _alone("agent-log", _agent_log(session, config, host)),
            _alone("fleet", fleet_table(session, config)),
            _alone("lifecycle", lifecycle_hook(session, config)),
            _alone("secret", secrets(session, config)),
        )
        found = [finding for place in places for finding in place]
        # A host's clock is compared once something has answered, which may be a refusal.
        answered = session.stats.clock_ahead is not None or session.stats.last_success.keys() - {"identity"}
        return [
            *found,
            *([queue_rules.clock(session.stats.clock_ahead)] if answered else []),
            *([region] if (region := queue_rules.region(session.notes)) is not None else []),
        ]
    finally:
        session.close()


async def _alone(name: str, work: Coroutine[Any, Any, list[Finding]]) -> list[Finding]:
    """A place whose check has a fault of its own must not hide what the others found."""
    try:
        return await work
    except Exception as error:  # noqa: BLE001 - shown as a finding
        return [crashed(name, error)]


def crashed(name: str, error: BaseException) -> Finding:
    """The line of a check that has a fault itself."""
    detail = f"this check failed itself: {type(error).__name__}: {error}"
    return failed(name, detail, "please report it; what it looks at was not checked")


async def _queues(session: Session, config: Config) -> list[Finding]:
    queue = Queue(session, url=config.queue.url, name="" if config.queue.url else config.queue.name)
    seen, (results_url, results) = await asyncio.gather(job_queue(queue), _results(session, config))
    own_timeouts = Timeouts()
    rules = queue_rules.timing(config, own_timeouts.connect + own_timeouts.answer)
    if seen.facts is not None:
        rules += [queue_rules.redrive(config, seen.facts), queue_rules.retention(config, seen.facts, RETENTION_S)]
    dead_url, dead = await _dead_letters(session, config, queue, seen)
    return [*seen.findings, *rules, *dead, *results, *queue_rules.loops(seen.url, results_url, dead_url)]


async def _results(session: Session, config: Config) -> tuple[str, list[Finding]]:
    url, name = config.results.url, config.results.name
    if not url and not name:
        return "", [ok("results", "no results queue: events go to the agent's log only")]
    found, finding = await sending("results", Queue(session, url=url, name="" if url else name))
    return found, [finding]


async def _dead_letters(session: Session, config: Config, queue: Queue, seen: Seen) -> tuple[str, list[Finding]]:
    url = config.queue.dead_letter_url
    if not url:
        if seen.facts is None or seen.facts.redrive is None:
            return "", []  # not known, or nowhere: the redrive policy's line says so
        target = seen.facts.redrive.target_arn
        try:
            url = await queue.url_of_arn(target)
        except AwsUnavailable as error:
            return "", [refusal("dead-letter", error, permission="sqs:GetQueueUrl", where=target)]
    found, finding = await sending("dead-letter", Queue(session, url=url))
    return found, [finding]


async def _output(session: Session, config: Config, host: str) -> list[Finding]:
    if "cloudwatch" not in config.output.sinks:
        return []
    retention = config.output.cloudwatch.retention_days
    return await log_group("output", Logs(session), output_group(config), host, retention)


async def _agent_log(session: Session, config: Config, host: str) -> list[Finding]:
    group = config.agent.cloudwatch_log_group
    return await log_group("agent-log", Logs(session), group, host, None) if group else []
