"""What the queue knows of a message that waits, and what is to become of it without a start."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from runner.agent.execution_ids import new_execution_id

if TYPE_CHECKING:
    from runner.agent.runs.admission.policy import Skip
    from runner.agent.runs.lease import Lease
    from runner.aws.sqs import Received
    from runner.protocol.message import InvalidMessage


@dataclass(slots=True, eq=False)
class Ticket:
    """What the queue knows of a waiting message."""

    received: Received
    lease: Lease
    execution: str = field(default_factory=new_execution_id)  # the id that it will have
    cancelled: str | None = None  # by whom, while the fleet is asked
    ending: Skip | InvalidMessage | None = None  # what is told of it instead of a start, when the fleet lets us

    @property
    def ends(self) -> bool:
        """Nothing is to be started for it."""
        return self.cancelled is not None or self.ending is not None
