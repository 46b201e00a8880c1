"""CloudWatch Logs: what the agent does there, in a stream of the check's own.

It leaves the stream ``~check/HOST`` with one line for each check, and the log group where there was none: with the
retention that the agent gives it too.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from runner.check.finding import Finding, ok, warning
from runner.check.refusals import OF_THE_PLACE, refusal
from runner.errors import AwsUnavailable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from runner.aws.logs import Logs

STREAM = "~check/{host}"
_MISSING = "ResourceNotFoundException"


async def log_group(name: str, logs: Logs, group: str, host: str, retention_days: int | None) -> list[Finding]:
    """CreateLogStream and PutLogEvents; CreateLogGroup and PutRetentionPolicy only where the group is missing, as no
    other way tells whether they are allowed without changing it."""
    stream = STREAM.replace("{host}", host.translate(str.maketrans(":*", "--")))
    findings: list[Finding] = []
    try:
        await logs.create_stream(group, stream)
    except AwsUnavailable as error:
        if error.code != _MISSING:
            findings.append(refusal(name, error, permission="logs:CreateLogStream", where=group))
            if error.kind in OF_THE_PLACE:
                return findings
        else:
            made = await _make(name, logs, group, retention_days)
            findings += made
            if any(finding.status == "failed" for finding in made):
                return findings
            failure = await _try(name, "CreateLogStream", group, lambda: logs.create_stream(group, stream))
            if failure is not None:
                return [*findings, failure]
            findings.append(ok(name, f"CreateLogStream in {group} is allowed"))
    else:
        findings.append(ok(name, f"CreateLogStream in {group} is allowed"))
    line = f"cron-runner check on {host}"
    now = int(time.time() * 1000)
    failure = await _try(name, "PutLogEvents", group, lambda: logs.put_events(group, stream, [(now, line)]))
    findings.append(failure or ok(name, f"PutLogEvents to {group} is allowed: one line in its stream {stream}"))
    return findings


async def _make(name: str, logs: Logs, group: str, retention_days: int | None) -> list[Finding]:
    failure = await _try(name, "CreateLogGroup", group, lambda: logs.create_group(group))
    if failure is not None:
        return [failure]
    findings = [ok(name, f"CreateLogGroup is allowed: {group} was missing and is there now")]
    if retention_days:
        failure = await _try(name, "PutRetentionPolicy", group, lambda: logs.set_retention(group, retention_days))
        if failure is None:
            findings.append(ok(name, f"PutRetentionPolicy on {group} is allowed: {retention_days} days"))
        else:  # the output arrives all the same, and is kept for ever
            findings.append(warning(name, failure.detail, failure.remedy))
    return findings


async def _try(name: str, action: str, group: str, call: Callable[[], Awaitable[object]]) -> Finding | None:
    try:
        await call()
    except AwsUnavailable as error:
        return refusal(name, error, permission=f"logs:{action}", where=group)
    return None
