"""The clocks that the agent lives by, each for what it is good for.

`time.time`: what people and other hosts are told; it jumps. `time.monotonic`: how long something has been so; it stands
while the host is suspended. `boottime`: what AWS counts too, such as the hold on a message.
"""

from __future__ import annotations

import time


def boottime() -> float:
    """Seconds since boot, suspended time included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
