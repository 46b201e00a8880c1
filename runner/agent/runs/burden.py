"""What is held of messages beside the runs that take room: counted, so that no sender decides how much it is.

A message that cannot run takes no room, and yet a lease, a task and its body until its answer is told, its copy is in
the dead-letter queue and it is deleted. While AWS is away or refuses, that is for as long as it lasts.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from runner.aws.sqs import Received

MOST: Final = 500
MOST_BYTES: Final = 48 << 20
_LARGEST: Final = 1 << 20  # of one message: whether the next ones are as large is not known before they are here


@dataclass(slots=True)
class Burden:
    """`also` says (number, bytes) of what others hold. `eased` is called whenever it has become less."""

    also: Callable[[], tuple[int, int]] = lambda: (0, 0)
    eased: Callable[[], None] = lambda: None
    number: int = 0
    bytes: int = 0

    def add(self, size: int) -> None:
        self.number += 1
        self.bytes += size

    def remove(self, size: int) -> None:
        self.number -= 1
        self.bytes -= size
        self.eased()

    def room(self) -> tuple[int, str]:
        """How many messages may be received beside what is held, and why none."""
        number, size = self.also()
        number, size = number + self.number, size + self.bytes
        left = min(MOST - number, (MOST_BYTES - size) // _LARGEST)
        if left > 0:
            return left, ""
        return 0, f"{number} messages of {max(1, size >> 20)}M that are held and being answered"

    @property
    def heavy(self) -> bool:
        """Whether what is held leaves less than half of the room."""
        number, size = self.also()
        return number + self.number > MOST // 2 or size + self.bytes > MOST_BYTES // 2


def weight(message: Received) -> int:
    """Bytes of memory that a received message takes."""
    attributes = sum(sys.getsizeof(value) for said in message.attributes.values() for value in said.values())
    return sys.getsizeof(message.body) + attributes + 1024
