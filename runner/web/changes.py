"""Changes, asked for by a form of the page or by the API: who may, what is asked, and each only once.

A key (`Idempotency-Key`, or the form's own) that was seen from the same person is answered with what came of it, and
refused where it is given to something else.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

import structlog

from runner.errors import CronRunnerError
from runner.web.sources.source import Asker, Change, NotPossible

if TYPE_CHECKING:
    from runner.web.access import Person
    from runner.web.sources.source import Source

log: structlog.stdlib.BoundLogger = structlog.get_logger()

KEPT_S: Final = 24 * 3600.0
MOST_KEPT: Final = 2_000
LONGEST_KEY: Final = 200
LONGEST_NOTE: Final = 256


class Forbidden(CronRunnerError):
    """They are known, and may not."""

    def __init__(self, text: str, change: Change) -> None:
        self.change = change
        super().__init__(text)


class KeyInUse(CronRunnerError):
    """The key was given to another request."""


@dataclass(slots=True)
class _Done:
    """What came of a key: of which request, when, and the answer once there is one."""

    of: str
    at: float
    answer: asyncio.Future[dict[str, Any]] = field(repr=False)


class Changes:
    """Carries out changes for people."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._done: dict[tuple[str, str], _Done] = {}

    async def make(self, change: Change, person: Person, key: str = "") -> dict[str, Any]:
        """Raises Forbidden, KeyInUse, NotPossible, Unknown, SourceAway."""
        asker = Asker(person.name, person.role, person.way)
        change = await self._placed(change)
        given = any(change.more.get(name) for name in ("args", "env", "command", "params"))
        if not person.may(change.op, change.group, change.job, given=given):
            needed = "run" if given else "operate"
            try:
                await self._source.refused(change, asker)
            except CronRunnerError as error:  # refused it is all the same, and that is what they are told
                log.warning("refusal_not_recorded", op=change.op, subject=change.subject, error=str(error))
            where = f"{change.group or '*'}/{change.job or '*'}"
            raise Forbidden(f"to {change.op} {change.subject} takes role {needed} for {where}", change)
        if not change.note.strip():
            raise NotPossible(f"cannot {change.op} {change.subject}: a note is missing; say why", "note_missing")
        if len(change.note) > LONGEST_NOTE:
            raise NotPossible(f"cannot take a note above {LONGEST_NOTE} characters; say it shorter", "invalid")
        if not key:
            return await self._source.change(change, asker)
        return await self._once(change, asker, key)

    async def _placed(self, change: Change) -> Change:
        """A run's change is one of its job, and a host's one of its group: what may be done follows from that."""
        if change.run_id and not change.job:
            run = await self._source.run(change.run_id)
            return _with(change, run.get("group") or "", run.get("job") or "")
        if change.host:
            return _with(change, await self._source.group(), "")
        return change

    async def _once(self, change: Change, asker: Asker, key: str) -> dict[str, Any]:
        if len(key) > LONGEST_KEY or not key.isprintable():
            raise NotPossible(
                f"cannot take that Idempotency-Key: at most {LONGEST_KEY} printable characters", "invalid"
            )
        said = [change.op, change.subject, change.host, change.note, dict(change.more)]
        of = hashlib.sha256(json.dumps(said, sort_keys=True, default=str).encode()).hexdigest()
        self._forget()
        known = self._done.get((asker.name, key))
        if known is not None:
            if known.of != of:
                raise KeyInUse("this Idempotency-Key was given to another request; make a new one")
            return await asyncio.shield(known.answer)
        future: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._done[asker.name, key] = _Done(of, time.monotonic(), future)
        try:
            answer = await self._source.change(change, asker)
        except BaseException as error:
            # It may be tried again under the key: nothing is known to have been done.
            self._done.pop((asker.name, key), None)
            if not future.done():
                future.set_exception(error if isinstance(error, CronRunnerError) else CronRunnerError(str(error)))
                future.exception()  # somebody may wait for it, or nobody
            raise
        future.set_result(answer)
        return answer

    def _forget(self) -> None:
        """What is old, or too much."""
        edge = time.monotonic() - KEPT_S
        while self._done:
            first = next(iter(self._done))
            if len(self._done) < MOST_KEPT and self._done[first].at >= edge:
                return
            del self._done[first]


def _with(change: Change, group: str, job: str) -> Change:
    # `subject` still names the run: what is done is done to it, and not to the job.
    return replace(change, group=group, job=job)
