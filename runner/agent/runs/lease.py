"""The hold on one message, as a value. Times are CLOCK_BOOTTIME seconds (`runner.agent.clocks`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from runner.aws.sqs import Received

# SQS holds a message for 12 hours from its receive, whatever is renewed; the run is taken over well before.
# https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-visibility-timeout.html
SQS_LIMIT_S = 12 * 3600.0
TAKE_OVER_S = SQS_LIMIT_S - 1800.0


@dataclass(slots=True, eq=False)
class Lease:
    """The hold on one message. `taken` and `until` are CLOCK_BOOTTIME seconds."""

    message_id: str
    run_id: str
    receipt: str
    delivery: int
    taken: float
    until: float
    visibility: float
    execution: str | None = None
    lost: bool = False

    @classmethod
    def of(cls, received: Received, visibility: float, *, run_id: str = "", execution: str | None = None) -> Self:
        """The hold that a receive began, from before the request: SQS may have granted it at any moment since."""
        return cls(
            message_id=received.message_id,
            run_id=run_id,
            receipt=received.receipt,
            delivery=received.delivery,
            taken=received.asked_at,
            until=received.asked_at + visibility,
            visibility=visibility,
            execution=execution,
        )

    def due(self) -> float:
        """When the next renewal is due: at a third of the visibility."""
        return self.until - self.visibility * 2 / 3

    def adopt(self, received: Received, at: float, visibility: float) -> None:
        """A redelivery of a message whose run is active here: the newest receipt is the valid one."""
        self.receipt = received.receipt
        self.delivery = received.delivery
        self.taken = at
        self.until = at + visibility
        self.visibility = visibility
        self.lost = False


def extension(lease: Lease, now: float, seconds: float) -> int:
    """The visibility to ask for: SQS refuses what would pass 12 hours since the receive. At least 1 s."""
    left = SQS_LIMIT_S - (now - lease.taken) - 5.0
    return max(1, int(min(seconds, left)))
