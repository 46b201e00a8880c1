"""The life-cycle hook by which EC2 Auto Scaling waits for an instance that it is about to terminate.

Source: docs.aws.amazon.com, EC2 Auto Scaling user guide, "Complete a lifecycle action in an Auto Scaling group", and
the API reference of RecordLifecycleActionHeartbeat and CompleteLifecycleAction.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from runner.aws.metadata.instance import instance_id

if TYPE_CHECKING:
    from runner.aws.session import Session


@dataclass(frozen=True, slots=True)
class LifecycleHook:
    """A hook of an Auto Scaling group, for this instance. Every method raises `AwsUnavailable`; none retries."""

    session: Session
    group: str
    name: str

    @classmethod
    def of(cls, session: Session, setting: str) -> LifecycleHook:
        """Of ``GROUP/HOOK``, as in the configuration."""
        group, _, name = setting.rpartition("/")
        return cls(session, group, name)

    async def heartbeat(self) -> None:
        """Have it wait anew, for as long as the hook says. Code ``ValidationError`` where nothing waits."""
        await self._call("RecordLifecycleActionHeartbeat", "record_lifecycle_action_heartbeat")

    async def complete(self) -> None:
        """Let the instance go."""
        await self._call("CompleteLifecycleAction", "complete_lifecycle_action", LifecycleActionResult="CONTINUE")

    async def _call(self, action: str, method: str, **more: str) -> None:
        own = await asyncio.to_thread(instance_id)
        request = {"AutoScalingGroupName": self.group, "LifecycleHookName": self.name, "InstanceId": own, **more}

        def do(client: Any) -> Any:
            return getattr(client, method)(**request)

        await self.session.call("scaling", action, do, lambda _: None)
