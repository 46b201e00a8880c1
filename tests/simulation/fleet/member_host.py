"""A host as far as a message goes: the real `Member` and `Clearing`, and what the door around them would do."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from runner.agent.clearing import Clearing
from runner.agent.fleet.member import Member
from runner.agent.runs.admission.line import Waiting
from runner.agent.runs.ticket import Ticket

from .claims_host import Job
from .virtual import Clock

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from .cloud import World


@dataclass(slots=True)
class Run:
    """What the roster has of a run here."""

    execution: str
    job: Job
    stopped: str | None = None
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    async def stop(self, cause: str, _detail: str = "") -> None:
        self.stopped = cause
        self.ended.set()


class MemberHost:
    """`said` has what became of each message here: (run id, word). `obeying` is the agent's look at the directives."""

    def __init__(self, world: World, name: str = "one", *, lease_s: float = 60.0) -> None:
        self.said: list[tuple[str, str]] = []
        self.runs: dict[str, Run] = {}
        self.pauses: dict[str, Any] = {}
        self._loop = asyncio.get_running_loop()
        self.member = Member(world.table(name), "g", lease_s, on_lost=lambda *_: None)
        self.services: Any = SimpleNamespace(
            pausing=SimpleNamespace(tell=self.pauses.__setitem__),
            roster=SimpleNamespace(not_started=lambda _: None, get=self.runs.get),
            keeper=SimpleNamespace(hold=lambda _: None, drop=lambda _: None, release=self._released),
            spawn=self._spawn,
            answer=lambda _message, work, name: self._spawn(work, name),
            may_go_back=lambda _: False,
            config=SimpleNamespace(admission=SimpleNamespace(hold=60.0)),
        )
        answers: Any = SimpleNamespace(skip=self._skip, reject=self._reject, delete_held=self._delete)
        self.clearing = Clearing(
            self.services,
            answers,
            self.member,
            begin=self._begin,
            back=lambda waiting: self._said(waiting, "back"),
            hand_back=lambda effect: self._said(effect.waiting, "handed back"),
            welcome=lambda waiting: not self.pauses.get("group") and waiting.job.job not in self.member.maintenance,
        )
        self._operations: Any = SimpleNamespace(has=self._has, cancel=self._cancel, replace=self._replace)
        self._tasks: set[asyncio.Task[Any]] = set()

    async def join(self) -> None:
        """What the agent does at its start."""
        await self.member.first_look(self.services.pausing)
        self._spawn(self.member.obey(self.services.pausing, self._operations), "obey")
        self._spawn(self.member.stakes.renew_forever(), "stakes")

    def message(self, job: Job, *, ending: Any = None, waiting: Waiting[Ticket] | None = None) -> Waiting[Ticket]:
        """Its turn has come; `ending`, to be told without a start."""
        lease: Any = SimpleNamespace(lost=False)
        received: Any = SimpleNamespace()
        if waiting is None:
            ticket = Ticket(received, lease, ending=ending)
            waiting = Waiting(job, ticket, Clock.mono, 1)  # type: ignore[arg-type]
        self.clearing.ask(waiting)
        return waiting

    async def until_said(self, run_id: str, within: float = 300.0) -> list[str]:
        """What became of it, once something has."""
        end = Clock.mono + within
        while Clock.mono < end and not (words := [word for said, word in self.said if said == run_id]):
            await asyncio.sleep(0.5)
        return words

    def _spawn(self, work: Coroutine[Any, Any, Any], _name: str) -> asyncio.Task[Any]:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _said(self, waiting: Any, word: str) -> None:
        self.said.append((waiting.job.run_id, word))

    def _begin(self, waiting: Any) -> None:
        ticket, job = waiting.ticket, waiting.job
        if ticket.cancelled is not None:
            self._said(waiting, "cancelled")
            self._spawn(self.member.leave(ticket.execution, job.run_id, again=False), "leave")
            return
        self._said(waiting, "started")
        run = self.runs[job.run_id] = Run(ticket.execution, job)
        self._spawn(self._until_its_end(run), "run")

    async def _until_its_end(self, run: Run) -> None:
        await run.ended.wait()
        del self.runs[run.job.run_id]
        await self.member.leave(run.execution, run.job.run_id, again=run.stopped == "interrupted")

    def _has(self, run_id: str) -> bool:
        return run_id in self.runs or self.clearing.find(run_id) is not None

    async def _cancel(self, run_id: str, *, by: str, note: str) -> None:
        asked = self.clearing.find(run_id)
        if asked is not None:
            asked.ticket.cancelled = f"by {by}: {note}"
        elif run_id in self.runs:
            await self.runs[run_id].stop("cancel")

    def _replace(self, run_id: str, *, by: str) -> None:
        run = self.runs.get(run_id)
        if run is not None and run.stopped is None:
            self._spawn(run.stop("replace", f"by {by}"), f"replace {run_id}")

    async def _skip(self, job: Job, _received: Any, skip: Any, _lease: Any) -> None:
        self.said.append((job.run_id, f"skipped: {skip.reason}"))

    async def _reject(self, _received: Any, error: Any, _lease: Any) -> None:
        self.said.append((error.run_id, f"rejected: {error.reason}"))

    async def _delete(self, _lease: Any) -> None:
        self.said.append(("", "deleted"))

    async def _released(self, _leases: Any, _delay: float) -> None:
        self.said.append(("", "released"))
