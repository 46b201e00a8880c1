"""SQS as the scheduler sees it: a batch of messages of which single entries may fail."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from .virtual import Clock

if TYPE_CHECKING:
    from .cloud import World


class Sqs:
    """`sent` has every message that was taken: when, to which queue, its body."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.sent: list[tuple[float, str, dict[str, Any]]] = []

    def send_message_batch(self, QueueUrl: str, Entries: list[dict[str, Any]]) -> dict[str, Any]:  # noqa: N803
        good, bad = [], []
        for entry in Entries:
            if self._world.faults and self._world.random.random() < self._world.entry_faults:
                bad.append({"Id": entry["Id"], "SenderFault": False, "Code": "InternalError"})
            else:
                good.append({"Id": entry["Id"]})
                self.sent.append((Clock.mono, QueueUrl, json.loads(entry["MessageBody"])))
        return {"Successful": good, "Failed": bad}
