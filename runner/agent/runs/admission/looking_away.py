"""Leaving a run to the other hosts: who cannot ever run it looks away when it comes back to the queue.

A message that was handed back would otherwise be received by the same host again and again, until its deliveries
are used up, although another host has the room: both poll, and SQS gives it to either.
"""

from __future__ import annotations

# A short while at first; then longer and longer, as the hosts that could run it seem to be busy.
FIRST_S = (10.0, 15.0)
FACTOR = 6.0
LONGEST_S = 900.0
# Around the moment at which it can be received again; the other hosts' polls are under way all the time.
BEFORE_S = 1.0
AFTER_S = 4.0


class Yields:
    """The moments (monotonic seconds) at which something comes back that this host leaves to others."""

    def __init__(self) -> None:
        self._moments: list[float] = []

    def plan(self, clock: float, delivery: int, draw: float) -> float:
        """Seconds until the message shall come back; `draw` is a random number in [0, 1).

        One moment serves many messages: a host that gets a great many of them still polls most of the time.
        """
        low, high = (min(LONGEST_S, bound * FACTOR ** (delivery - 1)) for bound in FIRST_S)
        for moment in self._moments:
            if low <= moment - clock <= 2 * high:
                return moment - clock
        delay = float(round(low + draw * (high - low)))
        self._moments.append(clock + delay)
        return delay

    def quiet_for(self, clock: float) -> float:
        """Seconds for which nothing should be received now; 0 where nothing comes back just now."""
        self._moments = [moment for moment in self._moments if moment + AFTER_S > clock]
        return max((moment + AFTER_S - clock for moment in self._moments if moment - BEFORE_S <= clock), default=0.0)

    def longest_poll(self, clock: float, wait: float) -> float:
        """Seconds that a poll begun now may take, so that it ends before it would bring something back."""
        starts = (moment - BEFORE_S - clock for moment in self._moments if moment + AFTER_S > clock)
        return max(0.0, float(int(min([wait, *starts]))))
