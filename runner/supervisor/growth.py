"""That spool files have grown: said at most every `OUTPUT_EVERY` seconds, for all runs together."""

from __future__ import annotations

from runner.supervisor.loop import now

TYPE_CHECKING = False  # not imported from typing, which costs a megabyte
if TYPE_CHECKING:
    from runner.supervisor.clients import Clients
    from runner.supervisor.loop import Loop
    from runner.supervisor.run import Run

OUTPUT_EVERY = 0.25


class Growth:
    """The runs whose files have grown since it was last said."""

    def __init__(self, loop: Loop, clients: Clients) -> None:
        self._loop = loop
        self._clients = clients
        self._grown: dict[str, Run] = {}
        self._last = 0.0

    def add(self, run: Run) -> None:
        if not self._grown:
            self._loop.at(max(now(), self._last + OUTPUT_EVERY), self._tell)
        self._grown[run.key] = run

    def drop(self, run: Run) -> None:
        """It has ended: its record says it all."""
        self._grown.pop(run.key, None)

    def _tell(self) -> None:
        self._last = now()
        by_owner: dict[str, dict[str, int]] = {}
        for run in self._grown.values():
            by_owner.setdefault(run.owner, {})[run.key] = run.capture.offset
        self._grown = {}
        for owner, sizes in by_owner.items():
            self._clients.notify(owner, {"notice": "output", "sizes": sizes})
