"""Delivers the notices that are due: takes each for itself, tells its targets, and takes it out of the index.

Delivered at least once: who crashes between telling and writing it down tells it again. That is why a pager gets the
same key each time. Two that deliver at once never tell the same notice, since taking it is a conditional write.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import structlog

from runner.aws.table import Refused, When
from runner.control.facts import TELL, fact_of
from runner.control.senders import NeverTaken, NotTaken, shown
from runner.control.wording import GOOD
from runner.errors import CronRunnerError
from runner.protocol import table as keys
from runner.protocol.units import format_time, parse_time

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from runner.aws.attributes import Item
    from runner.aws.table import Table
    from runner.control.facts import Fact
    from runner.control.senders import Senders

log: structlog.stdlib.BoundLogger = structlog.get_logger()

AT_MOST: Final = 200
"""Notices of one call; the others are due still, and the next minute's."""
QUIET_S: Final = 3600.0
"""While a job goes on failing, people are told of it once in this time. Pings count, and are told of every end."""
GIVE_UP_S: Final = 24 * 3600.0
_FIRST_WAIT_S: Final = 60.0  # longer than telling takes: it is the time, too, that others leave a notice alone
_LONGEST_WAIT_S: Final = 3600.0
_AT_ONCE: Final = 8
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
    counts = Delivered()
    turns = asyncio.Semaphore(_AT_ONCE)
    deadline = time.monotonic() + BUDGET_S

    async def of_a_job(notices: Sequence[Item]) -> None:
        # One after another: a pager has to hear of the failure before it hears of the recovery.
        for notice in notices:
            async with turns:
                if time.monotonic() > deadline:
                    return
                await _deliver_one(table, senders, notice, counts, now=now)

    await asyncio.gather(*(of_a_job(notices) for notices in _by_job(due)))
    return counts


def _by_job(due: Iterable[Item]) -> list[list[Item]]:
    jobs: dict[tuple[str, str], list[Item]] = {}
    for notice in due:
        jobs.setdefault((notice["fact"]["group"], notice["fact"]["job"]), []).append(notice)
    for notices in jobs.values():
        notices.sort(key=lambda notice: (str(notice["made_at"]), float(notice["fact"]["at"])))
    return list(jobs.values())


async def _deliver_one(table: Table, senders: Senders, notice: Item, counts: Delivered, *, now: float) -> None:
    key, tries = keys.Key(notice["pk"], notice["sk"]), int(notice["tries"]) + 1
    taken = await table.update(
        key,
        "SET #tries = :tries, #state_at = :next",
        {"tries": tries, "next": format_time(now + wait_s(tries))},
        When("#state_key = :tell AND #state_at = :seen", {"tell": TELL, "seen": notice["state_at"]}),
    )
    if isinstance(taken, Refused):
        return  # another one has it, or had it: the index is a moment behind
    fact = fact_of(taken)
    targets = list(taken["to"])
    if not await _is_news(table, fact, taken["made_at"], now=now):
        counts.quiet += 1
        targets = [target for target in targets if target.startswith("ping:")]
    results = await asyncio.gather(*(_tell(senders, fact, target) for target in targets))
    left = [target for target, result in zip(targets, results, strict=True) if isinstance(result, NotTaken)]
    refused = [target for target, result in zip(targets, results, strict=True) if isinstance(result, NeverTaken)]
    if left and now - parse_time(taken["made_at"]) >= GIVE_UP_S:
        left, refused = [], [*refused, *left]
    for target in refused:
        log.error("notice_given_up", notice=fact.id, target=shown(target), tries=tries, detail=_GIVEN_UP)
    counts.given_up += bool(refused)
    counts.left += bool(left)
    counts.told += not left and not refused
    await _write_down(table, key, tries, left, now=now)


async def _write_down(table: Table, key: keys.Key, tries: int, left: list[str], *, now: float) -> None:
    ours = When("#tries = :ours", {"ours": tries})
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
