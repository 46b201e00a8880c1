"""The stub of an agent's connection to its supervisor: late, lost, refusing, but never lying."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from runner.agent.runs.process import ExitRecord, Hello, Known, Started, StartSpec
from runner.agent.supervision.connection import StartRefused
from runner.errors import SupervisorUnavailable
from tests.simulation import checkers

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from tests.simulation.life import Life


class Supervision:
    """Stands in for runner.agent.supervision.connection.Supervision."""

    def __init__(self, life: Life, on_exit: Callable[[ExitRecord], None]) -> None:
        self._life, self._host, self._world = life, life.host, life.world
        self._on_exit = on_exit
        self._closed = asyncio.Event()
        self._lost = False

    async def _hop(self) -> None:
        await asyncio.sleep(self._world.one_of((0, 0.001, 0.02)))
        if self._lost:
            raise SupervisorUnavailable("cannot reach the supervisor: the connection is lost")

    async def connect(self) -> Hello:
        await asyncio.sleep(0.01)
        self._host.links.append(self)
        return Hello(1, "v", 1, "boot", self._host.instance, 0, "u")

    async def list(self) -> list[Known]:
        await self._hop()
        return self._host.known()

    async def start(self, spec: StartSpec, _spool_fd: int) -> Started:
        await self._hop()
        host, world = self._host, self._world
        if spec.key in host.records:
            started = Started(spec.key, pid=7, user="u", exit=host.records[spec.key])
        elif spec.key in host.alive:
            started = host.started(host.alive[spec.key])
        elif world.goes_wrong(0.02):
            raise StartRefused("full", "too many ends that nobody asked for")
        elif world.goes_wrong(0.02):
            started = Started(spec.key, exit=host.never_started(spec))
        else:
            kind = world.kind
            started = host.started(host.start(spec, world.one_of(kind.lasts), world.one_of(kind.codes)))
        await self._hop()
        return started

    async def stop(self, key: str, cause: str, detail: str = "", _grace: float | None = None) -> bool:
        await self._hop()
        if key not in self._host.alive:
            return False
        self._world.note("stop", key, cause)
        self._host.ends(key, signal="SIGTERM", cause=cause, cause_detail=detail)
        return True

    def ack(self, keys: Collection[str]) -> asyncio.Future[dict[str, Any]]:
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._life.keep(self._ack(list(keys), answer))
        return answer

    async def _ack(self, keys: list[str], answer: asyncio.Future[dict[str, Any]]) -> None:
        try:
            await self._hop()
            for key in keys:
                if key in self._host.records:
                    checkers.may_forget(self._host, key)
                    del self._host.records[key]
                    self._world.note("acknowledged", key)
            await self._hop()
        except SupervisorUnavailable as error:
            if not answer.done():
                answer.set_exception(error)
                answer.exception()
            return
        if not answer.done():
            answer.set_result({})

    async def usage(self) -> dict[str, Any]:
        return {}

    def told(self, record: ExitRecord) -> None:
        """A run has ended: the agent hears of it if it is there, and the connection too."""
        self._world.loop.later(self._world.one_of((0, 0.001, 0.05)), self._tell, record)

    def _tell(self, record: ExitRecord) -> None:
        if not self._lost and not self._life.dead:
            self._life.context.run(self._on_exit, record)

    def lose(self) -> None:
        self._lost = True
        if not self._life.dead:
            self._closed.set()

    async def wait_closed(self) -> None:
        await self._closed.wait()

    async def close(self) -> None:
        self.lose()
