"""As whom this host calls AWS, and for how long."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from runner.aws.identity import Identity, caller_identity
from runner.check.finding import Finding, failed, ok, warning
from runner.check.refusals import no_credentials, refusal
from runner.check.unit import environment_of_units
from runner.errors import AwsUnavailable
from runner.protocol.units import format_duration

if TYPE_CHECKING:
    from runner.aws.session import Session
    from runner.aws.settings import Credentials

_ENDS_SOON_S = 3600.0
# Found in the same way by every user of the host.
_OF_THE_HOST = frozenset(("iam-role", "container-role"))


async def find_credentials(session: Session) -> tuple[Credentials | None, list[Finding]]:
    """The credentials, or None with the line that says why there are none."""
    try:
        return await session.credentials(), []
    except AwsUnavailable as error:
        return None, [no_credentials(error, environment_of_units())]


async def identity(session: Session, credentials: Credentials, agent: str = "") -> list[Finding]:
    """Who AWS says that we are. The agent never asks that, so an STS that cannot be reached is no fault.

    ``agent`` is the user that the agent runs as, where that is another than ours.
    """
    try:
        caller = await caller_identity(session)
    except AwsUnavailable as error:
        if error.kind in ("credentials", "clock"):
            return [refusal("credentials", error, permission="", where="this host's credentials")]
        return [judge(credentials, None, time.time(), agent)]
    return [judge(credentials, caller, time.time(), agent)]


def judge(credentials: Credentials, caller: Identity | None, now: float, agent: str = "") -> Finding:
    """Credentials that work now: are they the agent's as well, and will they work tomorrow?"""
    who = f"{caller.arn}, from {credentials.method}" if caller else f"from {credentials.method}; STS does not say whose"
    if credentials.temporary and not credentials.renewed:
        left = credentials.expires - now if credentials.expires is not None else None
        end = f"end in {format_duration(max(0, round(left)))}" if left is not None else "end within hours"
        detail = f"{who}: temporary ones that {end} and that nobody renews"
        remedy = "use an instance role, or a profile that names one, for a daemon"
        return (failed if left is not None and left <= 0 else warning)("credentials", detail, remedy)
    if credentials.expires is not None and credentials.expires - now < -_ENDS_SOON_S:
        return warning("credentials", f"{who}: expired and not renewed", "check the instance role and its metadata")
    if agent and credentials.method not in _OF_THE_HOST:
        detail = f"{who}: those of this shell, and the agent runs as {agent} with those that it finds itself"
        remedy = (
            f"give the agent some (instance role, /etc/cron-runner/environment), and check as it: `sudo -u {agent}`"
        )
        return warning("credentials", detail, remedy)
    return ok("credentials", who)
