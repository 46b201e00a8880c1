"""The life-cycle hook of Auto Scaling: a heartbeat, which changes nothing where nothing waits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runner.aws.metadata.lifecycle import LifecycleHook
from runner.check.finding import Finding, failed, ok, warning
from runner.check.refusals import refusal
from runner.errors import AwsUnavailable

if TYPE_CHECKING:
    from runner.aws.session import Session
    from runner.config import Config

_ELSEWHERE = "run the check on an instance of the group; set [fleet] notices = false where there is no metadata service"
_NAMES = "correct [fleet] lifecycle_hook, GROUP/HOOK, the account and AWS_REGION"


async def lifecycle_hook(session: Session, config: Config) -> list[Finding]:
    """Whether the heartbeat is allowed; that the hook exists is told by Auto Scaling only while it waits."""
    setting = config.fleet.lifecycle_hook
    if not setting:
        return []
    try:
        await LifecycleHook.of(session, setting).heartbeat()
    except AwsUnavailable as error:
        if error.call == "instance metadata":
            return [warning("lifecycle", f"{error}, so the hook {setting} cannot be asked for", _ELSEWHERE)]
        if error.code == "ValidationError":
            if "no active lifecycle action" in error.detail.lower():
                return [ok("lifecycle", f"RecordLifecycleActionHeartbeat for {setting} is allowed")]
            return [failed("lifecycle", f"{setting}: {error.detail}", _NAMES)]
        permission = "autoscaling:RecordLifecycleActionHeartbeat"
        return [refusal("lifecycle", error, permission=permission, where=f"life-cycle hook {setting}")]
    return [ok("lifecycle", f"auto scaling waits for {setting} now")]
