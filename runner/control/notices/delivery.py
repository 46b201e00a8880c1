"""Delivers the notices that are due: takes each for itself, tells its targets, and takes it out of the index.

Delivered at least once: who crashes between telling and writing it down tells it again. That is why a pager gets the
same key each time. Two that deliver at once never tell the same notice, since taking it is a conditional write; nor
two notices of one job, since a job's are told by who holds its `TELLING` item. So a target hears of them in order.

Each target has its own pace: a few at a time are told something, and one that does not answer is left alone for the
rest of a call. What waits for one target holds up neither another target nor another job.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import structlog

from runner.aws.table import Refused, When
from runner.control.notices.facts import TELL, fact_of
from runner.control.notices.senders import NeverTaken, NotTaken, shown
from runner.control.notices.wording import GOOD
from runner.errors import CronRunnerError
from runner.protocol import table as keys
from runner.protocol.units import format_time, parse_time

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from runner.aws.attributes import Item
    from runner.aws.table import Table
    from runner.control.notices.facts import Fact
    from runner.control.notices.senders import Senders

log: structlog.stdlib.BoundLogger = structlog.get_logger()

AT_MOST: Final = 1000
"""Notices of one call; the others are due still, and the next minute's."""
QUIET_S: Final = 3600.0
"""While a job goes on failing, people are told of it once in this time. Pings count, and are told of every end."""
GIVE_UP_S: Final = 24 * 3600.0
_FIRST_WAIT_S: Final = 60.0  # longer than telling takes: it is the time, too, that others leave a notice alone
_LONGEST_WAIT_S: Final = 3600.0
_AT_ONCE: Final = 16  # calls to the table
_OF_A_TARGET: Final = 2
_SILENT_AFTER: Final = 2
HOLD_S: Final = 90.0
"""How long a job's notices are one deliverer's: longer than telling one takes, which is half a minute at the worst."""
_TRIES: Final = 4
_GIVEN_UP: Final = "nobody is told of it there; correct the target in `notify` of the job or its group, and apply that"
BUDGET_S: Final = 40.0
"""No notice is begun later in one call; one takes half a minute at the worst."""


@dataclass(slots=True)
class Delivered:
    """Counts of notices: told to all, to be tried again, given up for a target, and not told since it is known."""

    told: int = 0
    left: int = 0
    given_up: int = 0
    quiet: int = 0


def wait_s(tries: int) -> float:
    """Seconds from the n-th try (1, 2, …) to the next one."""
    return min(_LONGEST_WAIT_S, _FIRST_WAIT_S * 2.0 ** (tries - 1))


async def deliver(table: Table, senders: Senders, *, now: float) -> Delivered:
    """Deliver what is due at ``now`` (unix seconds); raises AwsUnavailable where the table does not answer."""
    text = "#state_key = :tell AND #state_at <= :now"
    due = await table.query(text, {"tell": TELL, "now": format_time(now)}, index=keys.BY_STATE, limit=AT_MOST)
    call = _Call(table, senders, now)
    answers = await asyncio.gather(*(call.of_a_job(notices) for notices in _by_job(due)), return_exceptions=True)
    for answer in answers:
        if isinstance(answer, BaseException):
            raise answer
    return call.counts


class _Target:
    """One target's pace in one call: so many at a time, and nothing more where it does not answer."""

    def __init__(self) -> None:
        self.turns = asyncio.Semaphore(_OF_A_TARGET)
        self.failed = 0


class _Call:
    """One call of `deliver`."""

    def __init__(self, table: Table, senders: Senders, now: float) -> None:
        self.counts = Delivered()
        self._table = table
        self._senders = senders
        self._now = now
        self._targets: dict[str, _Target] = {}
        self._turns = asyncio.Semaphore(_AT_ONCE)
        self._deadline = time.monotonic() + BUDGET_S

    async def of_a_job(self, notices: Sequence[Item]) -> None:
        """A job's notices, in their order: a pager has to hear of the failure before it hears of the recovery."""
        fact = notices[0]["fact"]
        key, holder = keys.notice(f"TELLING#{fact['group']}#{fact['job']}"), uuid.uuid4().hex
        async with self._turns:
            if time.monotonic() > self._deadline or not await self._hold(key, holder):
                return
        ends: list[asyncio.Task[None]] = []
        last: dict[str, asyncio.Task[CronRunnerError | None]] = {}
        try:
            for place, notice in enumerate(notices):
                # Within the hold's time: whoever waits behind it must not overtake what is being told.
                if time.monotonic() > self._deadline or (place and not await self._hold(key, holder)):
                    break
                ends += await self._begin(notice, last)
        finally:
            results = await asyncio.gather(*ends, return_exceptions=True)
            over = {"until": format_time(0.0), "holder": holder}
            await self._table.update(key, "SET #until = :until", over, When("#holder = :holder"))
        for result in results:
            if isinstance(result, BaseException):
                raise result

    async def _hold(self, key: keys.Key, holder: str) -> bool:
        """Take, or keep, a job's notices; False where another deliverer has them. By this host's clock alone: the
        call's own stands still while a target hangs."""
        now = self._now + BUDGET_S - (self._deadline - time.monotonic())
        free = When(
            "attribute_not_exists(#until) OR #until < :now OR #holder = :holder",
            {"now": format_time(now), "holder": holder},
        )
        item = {**key.attributes(), "holder": holder, "until": format_time(now + HOLD_S)}
        return await self._table.put(item | {keys.EXPIRES: int(now + keys.DAY_S)}, free) is None

    async def _begin(
        self, notice: Item, last: dict[str, asyncio.Task[CronRunnerError | None]]
    ) -> list[asyncio.Task[None]]:
        """Take a notice and begin to tell it, to each target behind what it is told of the job before; its end."""
        key, tries = keys.Key(notice["pk"], notice["sk"]), int(notice["tries"]) + 1
        async with self._turns:
            taken = await self._table.update(
                key,
                "SET #tries = :tries, #state_at = :next",
                {"tries": tries, "next": format_time(self._now + wait_s(tries))},
                When("#state_key = :tell AND #state_at = :seen", {"tell": TELL, "seen": notice["state_at"]}),
            )
            if isinstance(taken, Refused):
                return []  # another one had it: the index is a moment behind
            fact = fact_of(taken)
            targets = list(taken["to"])
            if not await _is_news(self._table, fact, taken["made_at"], now=self._now):
                self.counts.quiet += 1
                targets = [target for target in targets if target.startswith("ping:")]
        for target in targets:
            last[target] = asyncio.create_task(self._tell(fact, target, last.get(target)))
        telling = {target: last[target] for target in targets}
        return [asyncio.create_task(self._end(key, tries, fact, taken["made_at"], telling))]

    async def _end(
        self,
        key: keys.Key,
        tries: int,
        fact: Fact,
        made_at: str,
        telling: Mapping[str, asyncio.Task[CronRunnerError | None]],
    ) -> None:
        """Write down who has been told, and who is left."""
        results = {target: await task for target, task in telling.items()}
        left = [target for target, result in results.items() if isinstance(result, NotTaken)]
        refused = [target for target, result in results.items() if isinstance(result, NeverTaken)]
        if left and self._now - parse_time(made_at) >= GIVE_UP_S:
            left, refused = [], [*refused, *left]
        for target in refused:
            log.error("notice_given_up", notice=fact.id, target=shown(target), tries=tries, detail=_GIVEN_UP)
        self.counts.given_up += bool(refused)
        self.counts.left += bool(left)
        self.counts.told += not left and not refused
        # One that was not even asked, since it did not answer a moment ago, has not been tried.
        waits = bool(left) and all(isinstance(results[target], _Silent) for target in left)
        async with self._turns:
            await _write_down(self._table, key, tries, left, now=self._now, waits=waits)

    async def _tell(
        self, fact: Fact, target: str, before: asyncio.Task[CronRunnerError | None] | None
    ) -> CronRunnerError | None:
        if before is not None:
            await asyncio.wait([before])
        pace = self._targets.setdefault(target, _Target())
        async with pace.turns:
            if pace.failed >= _SILENT_AFTER or time.monotonic() > self._deadline:
                return _Silent("it did not answer a moment ago")
            result = await _tell(self._senders, fact, target)
            pace.failed = pace.failed + 1 if isinstance(result, NotTaken) else 0
            return result


class _Silent(NotTaken):
    """A target was not asked, since others found that it does not answer, or since time is over."""


def _by_job(due: Iterable[Item]) -> list[list[Item]]:
    jobs: dict[tuple[str, str], list[Item]] = {}
    for notice in due:
        jobs.setdefault((notice["fact"]["group"], notice["fact"]["job"]), []).append(notice)
    for notices in jobs.values():
        notices.sort(key=lambda notice: (str(notice["made_at"]), float(notice["fact"]["at"])))
    return list(jobs.values())


async def _write_down(
    table: Table, key: keys.Key, tries: int, left: list[str], *, now: float, waits: bool = False
) -> None:
    ours = When("#tries = :ours", {"ours": tries})
    if left and waits:
        change, values = "SET #to = :to, #tries = :before, #state_at = :next", {"to": left, "before": tries - 1}
        await table.update(key, change, values | {"next": format_time(now + _FIRST_WAIT_S)}, ours)
        return
    if left:
        await table.update(key, "SET #to = :to", {"to": left}, ours)
        return
    done = "SET #to = :to, #done_at = :now REMOVE #state_key, #state_at"
    await table.update(key, done, {"to": [], "now": format_time(now)}, ours)


async def _tell(senders: Senders, fact: Fact, target: str) -> CronRunnerError | None:
    try:
        await senders.send(fact, target)
    except CronRunnerError as error:
        log.warning("notice_not_taken", notice=fact.id, target=shown(target), error=str(error))
        # A variable that is not set, say, is set by somebody who reads of it.
        return error if isinstance(error, NeverTaken) else NotTaken(str(error))
    log.info("notice_told", notice=fact.id, news=fact.news, job=fact.job, target=shown(target))
    return None


async def _is_news(table: Table, fact: Fact, made_at: str, *, now: float) -> bool:
    """Whether people are to be told, by what they were told of the job last, which is kept beside the notices."""
    key = keys.notice(f"LAST#{fact.group}#{fact.job}")
    for _ in range(_TRIES):
        last = await table.get(key) or {}
        news, then = still_news(last, fact, made_at)
        if then == last:
            return news
        version = last.get("version")
        unchanged = When("attribute_not_exists(#version)") if version is None else When("#version = :v", {"v": version})
        then |= {**key.attributes(), "version": (version or 0) + 1, keys.EXPIRES: int(now + 30 * keys.DAY_S)}
        if await table.put(then, unchanged) is None:
            return news
    return True  # others tell of the same job all the time: rather twice than not at all


def still_news(last: Mapping[str, Any], fact: Fact, made_at: str) -> tuple[bool, dict[str, Any]]:
    """Whether a fact is news to those who were told ``last`` of its job, and what they know when they are told it.

    It is none where a later word has overtaken it, while its target was away: a trouble that is over must open no
    incident any more, a recovery that others have followed must close none. A failure is none, too, of a job that
    went on failing. Pure.
    """
    then = dict(last)
    if fact.news in GOOD:
        if fact.news != "recovery":
            return True, then
        if last.get("trouble_at", "") > made_at:
            return False, then
        then.pop("told_at", None)
        return True, then | {"over_at": max(last.get("over_at", ""), made_at)}
    if last.get("over_at", "") >= made_at:
        return False, then
    then["trouble_at"] = max(last.get("trouble_at", ""), made_at)
    if fact.news != "failure":
        return True, then
    told_at = last.get("told_at")
    news = last.get("id") == fact.id or told_at is None or told_at <= fact.at - QUIET_S
    return news, then | {"id": fact.id, "told_at": fact.at} if news else then
