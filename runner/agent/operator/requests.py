"""The requests of the control socket: what each may say, checked, and who answers it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from runner.agent.operator.status import RECENT, pause_entry
from runner.errors import Refused
from runner.protocol.job import Job
from runner.protocol.units import LONGEST

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from runner.agent.again import Again
    from runner.agent.held import Door
    from runner.agent.operator.actions import Operations
    from runner.agent.operator.audit import Asker, Audit
    from runner.agent.operator.peers import Peer
    from runner.agent.operator.records import Records
    from runner.agent.operator.standing import Standing
    from runner.agent.operator.status import Overview
    from runner.agent.services import Services
    from runner.aws.sqs import Queue

    Request = Mapping[str, Any]

PAGE = 100
MOST_SIGNAL = 64.0
MOST_REFUSALS = 30
SIGKILL = 9
LONGEST_OUTPUT = float(1 << 53)  # bytes: what JSON's numbers hold exactly


class Requests:
    """Operations by name; docs/status.md has what each takes and answers."""

    def __init__(
        self,
        services: Services,
        door: Door,
        operations: Operations,
        overview: Overview,
        standing: Standing,
        queue: Queue,
    ) -> None:
        self._services = services
        self._queue = queue
        self._kept: tuple[Again, Audit] | None = None
        self._door = door
        self._made: Records | None = None
        self._refusals = (0, 0)  # the minute, and how many were told in it
        self._operations = operations
        self._overview = overview
        self._standing = standing
        self._known: dict[str, Callable[[Request, Peer], Awaitable[dict[str, Any]]]] = {
            "status": self._status,
            "run": self._run,
            "show": self._show,
            "runs": self._runs,
            "output": self._output,
            "admission": self._admission,
            "cancel": self._cancel,
            "signal": self._signal,
            "pause": self._pause,
            "drain": self._drain,
            "resume": self._resume,
            "audit": self._audit,
            "refused": self._refused,
            "jobs": self._jobs,
            "rerun": self._rerun,
            "start": self._start,
        }

    async def answer(self, op: str, request: Request, peer: Peer) -> dict[str, Any]:
        """The answer to one request. Raises Refused, or what the operation raises."""
        if op not in self._known:
            known = ", ".join(self._known)
            raise Refused("unknown_op", f"cannot do {op[:40]!r}: this agent knows {known}; is it of another version?")
        return await self._known[op](request, peer)

    async def _status(self, request: Request, _: Peer) -> dict[str, Any]:
        most = _number(request, "most", None)
        recent = int(_number(request, "recent", RECENT) or 0)
        return await self._overview.gather(recent, None if most is None else int(most))

    async def _run(self, request: Request, _: Peer) -> dict[str, Any]:
        """`standing`: with its phase, what it waits for and what it owes."""
        found = await self._operations.find(run_id := _text(request, "run_id"))
        return {**found, **await self._standing.of(run_id)} if request.get("standing") is True else found

    @property
    def _records(self) -> Records:
        """Made when somebody asks: what it needs costs an agent that nobody asks nothing."""
        from runner.agent.operator.records import Records  # noqa: PLC0415

        self._made = self._made or Records(self._services, self._door, self._standing)
        return self._made

    @property
    def _by_hand(self) -> tuple[Again, Audit]:
        """What changes by hand need, made when somebody makes one, as the records are."""
        from runner.agent.again import Again  # noqa: PLC0415
        from runner.agent.operator.audit import Audit  # noqa: PLC0415

        self._kept = self._kept or (Again(self._services, self._queue), Audit(self._services))
        return self._kept

    @property
    def _again(self) -> Again:
        return self._by_hand[0]

    @property
    def _trail(self) -> Audit:
        return self._by_hand[1]

    @staticmethod
    def _by(request: Request, peer: Peer) -> Asker:
        from runner.agent.operator.audit import asker  # noqa: PLC0415 - as above

        return asker(request, peer)

    async def _show(self, request: Request, _: Peer) -> dict[str, Any]:
        return await self._records.one(_text(request, "run_id"))

    async def _runs(self, request: Request, _: Peer) -> dict[str, Any]:
        """Those that ended from `since` to `until` (unix seconds), of a `job`, with one of these `outcomes`."""
        state, outcomes = _text(request, "state", ""), request.get("outcomes")
        if state not in ("", "open", "ended"):
            raise Refused("invalid", 'cannot read the request: "state" is neither open nor ended')
        if outcomes is not None and not (isinstance(outcomes, list) and all(isinstance(one, str) for one in outcomes)):
            raise Refused("invalid", 'cannot read the request: "outcomes" is no list of texts')
        since, until = _number(request, "since", None), _number(request, "until", None)
        from runner.agent.journal.history import Wanted  # noqa: PLC0415 - as above

        wanted = Wanted(_text(request, "job", "") or None, outcomes, since, until)
        limit = int(_number(request, "limit", PAGE) or 0)
        return await self._records.page(wanted, state, _text(request, "cursor", ""), limit)

    async def _output(self, request: Request, _: Peer) -> dict[str, Any]:
        """From the byte `from` on, at most `limit` bytes."""
        start, most = (int(_number(request, key, 0, LONGEST_OUTPUT) or 0) for key in ("from", "limit"))
        marks = request.get("marks") is True
        return await self._records.output(_text(request, "run_id"), start, most, marks=marks)

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
        by = self._by(request, peer)
        told = [await self._operations.cancel(one, by=by.name, note=note, grace=grace) for one in run_ids]
        for one in told:
            await self._trail.note(by, "cancel", one["run_id"], note, "done" if one["cancelled"] else "not running")
        return {"runs": told}

    async def _signal(self, request: Request, peer: Peer) -> dict[str, Any]:
        number = int(_number(request, "number", None, MOST_SIGNAL) or 0)
        if not number or number == SIGKILL:
            raise Refused("invalid", 'cannot send that: "number" is no signal from 1, or it is SIGKILL: cancel the run')
        by, note, run_id = self._by(request, peer), _text(request, "note", ""), _text(request, "run_id")
        told = await self._operations.signal(run_id, number, by=by.name, note=note)
        result = "not running" if told["processes"] is None else f"done: signal {number}"
        await self._trail.note(by, "signal", run_id, note, result)
        return told

    async def _pause(self, request: Request, peer: Peer) -> dict[str, Any]:
        lasts = _number(request, "for_s", None)
        if lasts is not None and lasts < 1:
            raise Refused("invalid", 'cannot pause for less than a second: give "for_s" from 1, or leave it out')
        until = None if lasts is None else self._services.now() + lasts
        by, note = self._by(request, peer), _text(request, "note", "")
        made = self._operations.pause(by=by.name, note=note, until=until)
        await self._trail.note(by, "pause", "", note)
        return self._paused(pause_entry(made))

    async def _drain(self, request: Request, peer: Peer) -> dict[str, Any]:
        by, note = self._by(request, peer), _text(request, "note", "")
        made = self._operations.drain(by=by.name, note=note)
        await self._trail.note(by, "drain", "", note)
        return self._paused(pause_entry(made))

    async def _resume(self, request: Request, peer: Peer) -> dict[str, Any]:
        by = self._by(request, peer)
        was = self._operations.resume(by=by.name)
        await self._trail.note(by, "resume", "", _text(request, "note", ""))
        return {**self._paused(pause_entry(self._services.pausing.current)), "was": pause_entry(was)}

    # -- runs that people ask for, and who changed what

    async def _audit(self, request: Request, _: Peer) -> dict[str, Any]:
        return await self._trail.lines(_number(request, "before", None), _number(request, "limit", PAGE))

    async def _refused(self, request: Request, peer: Peer) -> dict[str, Any]:
        """The page has refused somebody something. So many in a minute are written down: the trail keeps a number of
        lines, and nobody may push the others out of it by trying."""
        minute = int(self._services.now() // 60)
        self._refusals = (minute, self._refusals[1] + 1 if self._refusals[0] == minute else 1)
        if self._refusals[1] > MOST_REFUSALS:
            return {"noted": False}
        what, subject = _text(request, "what"), _text(request, "subject", "")
        await self._trail.note(self._by(request, peer), what, subject, _text(request, "note", ""), "refused")
        return {"noted": True}

    async def _jobs(self, _: Request, __: Peer) -> dict[str, Any]:
        return {"jobs": self._again.declared()}

    async def _rerun(self, request: Request, peer: Peer) -> dict[str, Any]:
        by, note, run_id = self._by(request, peer), _text(request, "note", ""), _text(request, "run_id")
        made = await self._again.rerun(run_id, by=by.name)
        await self._trail.note(by, "rerun", run_id, note, f"done: {made['run_id']}")
        return made

    async def _start(self, request: Request, peer: Peer) -> dict[str, Any]:
        by, note, job = self._by(request, peer), _text(request, "note", ""), _text(request, "job")
        args, env, params = (request.get(name) for name in ("args", "env", "params"))
        made = await self._again.start(job, args=args, env=env, params=params, by=by.name)
        await self._trail.note(by, "run", job, note, f"done: {made['run_id']}")
        return made

    def _paused(self, pause: dict[str, Any] | None) -> dict[str, Any]:
        """How the host stands now, and how many of its runs are not over."""
        return {"pause": pause, "runs": len(self._operations.wanted())}


def _text(request: Request, key: str, default: str | None = None) -> str:
    value = request.get(key, default)
    if not isinstance(value, str) or (default is None and not value):
        raise Refused("invalid", f'cannot read the request: "{key}" is not a text')
    return value


def _number(request: Request, key: str, default: float | None, most: float = LONGEST) -> float | None:
    value = request.get(key)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most:
        raise Refused("invalid", f'cannot read the request: "{key}" is not a number from 0')
    return float(value)
