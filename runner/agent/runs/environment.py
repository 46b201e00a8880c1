"""The environment that the agent adds for a job, beside what the supervisor knows of the user."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from runner.protocol.units import format_time

if TYPE_CHECKING:
    from collections.abc import Mapping

    from runner.agent.runs.run import Execution
    from runner.config import Config

# The agent's own credentials, and how it finds them: a job gets the rights that its own configuration gives it.
# https://docs.aws.amazon.com/sdkref/latest/guide/settings-reference.html
_CREDENTIALS = re.compile(
    r"AWS_(ACCESS_KEY_ID|SECRET_ACCESS_KEY|SESSION_TOKEN|SECURITY_TOKEN|PROFILE|DEFAULT_PROFILE|CREDENTIAL_EXPIRATION"
    r"|CREDENTIAL_FILE|SHARED_CREDENTIALS_FILE|CONFIG_FILE|WEB_IDENTITY_TOKEN_FILE|ROLE_ARN|ROLE_SESSION_NAME"
    r"|CONTAINER_CREDENTIALS_(FULL|RELATIVE)_URI|CONTAINER_AUTHORIZATION_TOKEN(_FILE)?)"
)
# What speaks to the agent's process and to no other.
_OWN = re.compile(
    r"CRON_RUNNER_.*|NOTIFY_SOCKET|WATCHDOG_(PID|USEC)|LISTEN_(FDS|PID|FDNAMES)|INVOCATION_ID|JOURNAL_STREAM"
)
_RUN_ID = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}")
# These come from the target user's account.
_ACCOUNT = frozenset({"HOME", "SHELL", "USER", "LOGNAME"})
_TRACE = "TRACEPARENT"  # the agent's own, if it has any, is no trace of a run


def inherited(names: tuple[str, ...], environ: Mapping[str, str]) -> dict[str, str]:
    """The agent's own variables that jobs are to get: by name, or all with "*". Never credentials."""
    everything = "*" in names
    return {
        name: value
        for name, value in environ.items()
        if (name in names or (everything and name not in _ACCOUNT and name != _TRACE))
        and not _CREDENTIALS.fullmatch(name)
        and not _OWN.fullmatch(name)
    }


def environment_of(execution: Execution, config: Config, environ: Mapping[str, str]) -> dict[str, str]:
    """All variables of a job that are not its user's account's or an env file's."""
    job = execution.job
    scheduled_at = job.scheduled_at
    return {
        **(inherited(config.run.inherit_env, environ) if config.run.inherit_env else {}),
        **job.env,
        **({_TRACE: job.traceparent} if job.traceparent is not None else {}),
        "CRON_RUNNER_JOB": job.job,
        "CRON_RUNNER_RUN_ID": job.run_id,
        "CRON_RUNNER_ATTEMPT": str(execution.attempt),
        "CRON_RUNNER_GROUP": config.group,
        "CRON_RUNNER_SCHEDULED_AT": "" if scheduled_at is None else format_time(scheduled_at),
        **_after(job.labels),
    }


def _after(labels: Mapping[str, str]) -> dict[str, str]:
    """The runs that this one was fired after: who fires it may say so in a label alone, of a signed job, too. Run ids
    and nothing else, since whoever sends to the queue may write a label."""
    said = labels.get("after", "").split()
    return {"CRON_RUNNER_AFTER": " ".join(said)} if said and all(map(_RUN_ID.fullmatch, said)) else {}
