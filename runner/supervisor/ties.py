"""Tied runs: they end with their client, as run-once promises for Ctrl-C and for its own death.

A client is gone when its last connection has closed. After self-replacement all connections are closed by us: then it
has a few seconds to come back, and only who does not is gone.
"""

from __future__ import annotations

from runner.supervisor.loop import now

TYPE_CHECKING = False  # not imported from typing, which costs a megabyte
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from runner.supervisor.clients import Clients
    from runner.supervisor.loop import Loop

BACK_WITHIN = 5.0  # seconds; a client connects again at once


class Ties:
    """Which keys, of runs or of their records, are tied to which owner. ``end`` ends one, whatever it is by then."""

    def __init__(self, loop: Loop, clients: Clients, end: Callable[[str, str], None]) -> None:
        self._loop = loop
        self._clients = clients
        self._end = end
        self._owners: dict[str, str] = {}

    def __contains__(self, key: str) -> bool:
        return key in self._owners

    def tie(self, key: str, owner: str) -> None:
        self._owners[key] = owner

    def forget(self, key: str) -> None:
        """Its record was acknowledged."""
        self._owners.pop(key, None)

    def gone(self, owner: str) -> None:
        """A connection of this owner has closed."""
        if not self._clients.attended(owner):
            for key in [key for key, whose in self._owners.items() if whose == owner]:
                del self._owners[key]
                self._end(owner, key)

    def state(self) -> list[tuple[str, str]]:
        """For `take_over`."""
        return list(self._owners.items())

    def take_over(self, state: Iterable[tuple[str, str]]) -> None:
        """The ties from before self-replacement, whose clients are to come back."""
        self._owners.update(state)
        if self._owners:
            self._loop.at(now() + BACK_WITHIN, self._look)

    def _look(self) -> None:
        for owner in set(self._owners.values()):
            self.gone(owner)
