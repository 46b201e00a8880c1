"""The pipes of runs that have ended and left something behind that may stay: a closed pipe would kill it.

What is still written goes nowhere, as the run's output has its end. It is counted, and told to the run's owner.
"""

from __future__ import annotations

import os

from runner.supervisor.failing import say
from runner.supervisor.loop import READ, now
from runner.supervisor.wire import close_all

TYPE_CHECKING = False  # not imported from typing, which costs a megabyte
if TYPE_CHECKING:
    from typing import Any

    from runner.supervisor.clients import Clients
    from runner.supervisor.loop import Loop
    from runner.supervisor.run import Run

_TELL_FIRST = 1.0  # seconds after the first bytes; later ones are told together
_TELL_EVERY = 60.0


class Remnants:
    """Reads, counts and drops what is still written, until nobody has the other end any more."""

    def __init__(self, loop: Loop, clients: Clients) -> None:
        self._loop = loop
        self._clients = clients
        self._open: dict[int, dict[str, Any]] = {}
        self._telling = False

    def __len__(self) -> int:
        return len(self._open)

    def add(self, run: Run, pipe: int) -> None:
        self._watch(
            pipe, {"owner": run.owner, "key": run.key, "job": run.job, "run_id": run.run_id, "bytes": 0, "told": 0}
        )

    def pipes(self) -> list[int]:
        return sorted(self._open)

    def state(self) -> list[tuple[int, dict[str, Any]]]:
        """For `restore`, in another life of this process."""
        return sorted(self._open.items(), key=lambda item: item[0])

    def restore(self, pipes: list[int], state: list[tuple[int, dict[str, Any]]]) -> None:
        """``pipes`` is all that a version before this one handed over."""
        known = dict(state)
        for pipe in pipes:
            self._watch(pipe, known.get(pipe, {"owner": "", "key": "", "job": "", "run_id": "", "bytes": 0, "told": 0}))

    def _watch(self, pipe: int, entry: dict[str, Any]) -> None:
        self._open[pipe] = entry
        self._loop.watch(pipe, READ, lambda _events: self._drop(pipe))

    def _drop(self, pipe: int) -> None:
        try:
            size = len(os.read(pipe, 65536))
        except BlockingIOError:
            return
        entry = self._open[pipe]
        entry["bytes"] += size
        if size:
            self._tell_later(_TELL_FIRST)
            return
        self._loop.unwatch(pipe)
        del self._open[pipe]
        close_all([pipe])
        self._tell(entry)
        if entry["bytes"] > entry["told"]:
            say(f"run {entry['key']}: what it left behind printed {entry['bytes']} bytes after its end; none were kept")

    def _tell_later(self, delay: float) -> None:
        if not self._telling:
            self._telling = True
            self._loop.at(now() + delay, self._tell_all)

    def _tell_all(self) -> None:
        self._telling = False
        for entry in self._open.values():
            self._tell(entry)
        if any(entry["bytes"] for entry in self._open.values()):
            self._tell_later(_TELL_EVERY)

    def _tell(self, entry: dict[str, Any]) -> None:
        """What has come since it was last told, where there is somebody to be told."""
        if entry["bytes"] > entry["told"] and self._clients.attended(entry["owner"]):
            said = {name: entry[name] for name in ("key", "job", "run_id", "bytes")}
            self._clients.notify(entry["owner"], {"notice": "leftover_output", **said})
            entry["told"] = entry["bytes"]
