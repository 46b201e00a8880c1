"""The requests of the control socket: what each may say, checked, and who answers it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from runner.agent.operator.status import RECENT, pause_entry
from runner.errors import Refused
from runner.protocol.job import Job
from runner.protocol.units import LONGEST

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from runner.agent.operator.actions import Operations
    from runner.agent.operator.peers import Peer
    from runner.agent.operator.standing import Standing
    from runner.agent.operator.status import Overview
    from runner.agent.services import Services

    Request = Mapping[str, Any]


class Requests:
    """Operations by name: `status`, `run`, `admission`, `cancel`, `pause`, `drain`, `resume`."""

    def __init__(self, services: Services, operations: Operations, overview: Overview, standing: Standing) -> None:
        self._services = services
        self._operations = operations
        self._overview = overview
        self._standing = standing
        self._known: dict[str, Callable[[Request, Peer], Awaitable[dict[str, Any]]]] = {
            "status": self._status,
            "run": self._run,
            "admission": self._admission,
            "cancel": self._cancel,
            "pause": self._pause,
            "drain": self._drain,
            "resume": self._resume,
        }

    async def answer(self, op: str, request: Request, peer: Peer) -> dict[str, Any]:
        """The answer to one request. Raises Refused, or what the operation raises."""
        if op not in self._known:
            known = ", ".join(self._known)
            raise Refused("unknown_op", f"cannot do {op[:40]!r}: this agent knows {known}; is it of another version?")
        return await self._known[op](request, peer)

    async def _status(self, request: Request, _: Peer) -> dict[str, Any]:
        return await self._overview.gather(int(_number(request, "recent", RECENT) or 0))

    async def _run(self, request: Request, _: Peer) -> dict[str, Any]:
        """`standing`: with its phase, what it waits for and what it owes."""
        found = await self._operations.find(run_id := _text(request, "run_id"))
        return {**found, **await self._standing.of(run_id)} if request.get("standing") is True else found

    async def _admission(self, request: Request, _: Peer) -> dict[str, Any]:
        """What would become of a job that came now. `job`: one as the journal keeps it."""
        given = request.get("job")
        try:
            job = Job.from_json(given if isinstance(given, dict) else {})
        except (KeyError, TypeError, ValueError, AttributeError):
            raise Refused("invalid", 'cannot read the request: "job" is not a job') from None
        return await self._operations.foresee(job)

    async def _cancel(self, request: Request, peer: Peer) -> dict[str, Any]:
        """One run (`run_id`), those of a `job`, or `all`."""
        note, grace = _text(request, "note", ""), _number(request, "grace", None)
        if request.get("all") is True:
            run_ids = self._operations.wanted()
        elif "job" in request:
            run_ids = self._operations.wanted(job=_text(request, "job"))
        else:
            run_ids = [_text(request, "run_id")]
        return {
            "runs": [await self._operations.cancel(one, by=peer.name, note=note, grace=grace) for one in run_ids],
        }

    async def _pause(self, request: Request, peer: Peer) -> dict[str, Any]:
        lasts = _number(request, "for_s", None)
        if lasts is not None and lasts < 1:
            raise Refused("invalid", 'cannot pause for less than a second: give "for_s" from 1, or leave it out')
        until = None if lasts is None else self._services.now() + lasts
        made = self._operations.pause(by=peer.name, note=_text(request, "note", ""), until=until)
        return self._paused(pause_entry(made))

    async def _drain(self, request: Request, peer: Peer) -> dict[str, Any]:
        made = self._operations.drain(by=peer.name, note=_text(request, "note", ""))
        return self._paused(pause_entry(made))

    async def _resume(self, _: Request, peer: Peer) -> dict[str, Any]:
        was = self._operations.resume(by=peer.name)
        return {**self._paused(pause_entry(self._services.pausing.current)), "was": pause_entry(was)}

    def _paused(self, pause: dict[str, Any] | None) -> dict[str, Any]:
        """How the host stands now, and how many of its runs are not over."""
        return {"pause": pause, "runs": len(self._operations.wanted())}


def _text(request: Request, key: str, default: str | None = None) -> str:
    value = request.get(key, default)
    if not isinstance(value, str) or (default is None and not value):
        raise Refused("invalid", f'cannot read the request: "{key}" is not a text')
    return value


def _number(request: Request, key: str, default: float | None) -> float | None:
    value = request.get(key)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= LONGEST:
        raise Refused("invalid", f'cannot read the request: "{key}" is not a number from 0')
    return float(value)
