"""News come in order whoever delivers them, and one target's silence is that target's alone; on a real table."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from runner.control.notices.delivery import HOLD_S, deliver
from runner.control.notices.facts import TELL, Fact, notice_item
from runner.control.notices.senders import NotTaken
from runner.protocol import table as keys

if TYPE_CHECKING:
    from runner.aws.table import Table

AT = 1_900_000_000.0
pytestmark = pytest.mark.parametrize("aws_server", ["standin"], indirect=True)


class Targets:
    """Stands for `Senders`: what each target took, in order; `dead` ones hang until they are let go."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str, str]] = []
        self.tried: list[str] = []
        self.gone = asyncio.Event()
        self.slow = 0.0

    async def send(self, fact: Fact, target: str) -> None:
        self.tried.append(target)
        if "dead" in target:
            await self.gone.wait()
            raise NotTaken("no answer")
        await asyncio.sleep(self.slow)
        self.told.append((fact.job, fact.news, target))


async def write(table: Table, job: str, *news: str, to: tuple[str, ...] = ("https://alive/x",)) -> None:
    for place, one in enumerate(news):
        fact = Fact(id=f"{one}/{job}", news=one, group="web", job=job, at=AT + place)  # type: ignore[arg-type]
        await table.put(notice_item(fact, to, now=AT, made_at=AT + place))


async def left(table: Table) -> int:
    return len(await table.query("#state_key = :tell", {"tell": TELL}, index=keys.BY_STATE))


@pytest.mark.parametrize("deliverers", [2, 5])
async def test_of_those_who_deliver_at_once_none_overtakes_another(table: Table, deliverers: int) -> None:
    await write(table, "j", "failure", "recovery")
    targets = Targets()
    targets.slow = 0.3
    calls = []
    for _ in range(deliverers):
        calls.append(asyncio.create_task(deliver(table, targets, now=AT + 1)))  # type: ignore[arg-type]
        await asyncio.sleep(0.05)
    await asyncio.gather(*calls)
    assert [news for _, news, _ in targets.told] == ["failure", "recovery"]
    assert await left(table) == 0


async def test_the_news_of_who_died_over_them_are_told_when_its_hold_is_over(table: Table) -> None:
    await write(table, "j", "failure", "recovery")
    targets = Targets()
    targets.slow = 60.0
    dies = asyncio.create_task(deliver(table, targets, now=AT + 1))  # type: ignore[arg-type]
    while not targets.tried:
        await asyncio.sleep(0.01)
    dies.cancel()
    await asyncio.wait([dies])
    targets.slow = 0.0
    for later in (2, HOLD_S / 2, HOLD_S + 2):
        await deliver(table, targets, now=AT + later)  # type: ignore[arg-type]
    await deliver(table, targets, now=AT + 2 * HOLD_S)  # type: ignore[arg-type]
    assert [news for _, news, _ in targets.told] in (["failure", "recovery"], ["recovery"])
    assert await left(table) == 0


@pytest.mark.parametrize("dead", [16, 120])
async def test_a_target_that_hangs_holds_up_no_other_and_no_other_job(table: Table, dead: int) -> None:
    for number in range(dead):
        await write(table, f"d{number}", "failure", to=("https://dead/x",))
    await write(table, "both", "failure", "recovery", to=("https://dead/x", "https://alive/x"))
    await write(table, "pay", "failure")
    targets = Targets()
    call = asyncio.create_task(deliver(table, targets, now=AT + 1))  # type: ignore[arg-type]
    for _ in range(1000):
        if len(targets.told) == 3:
            break
        await asyncio.sleep(0.02)
    assert not call.done(), "the dead one hangs still"
    alive = "https://alive/x"
    assert sorted(targets.told) == [("both", "failure", alive), ("both", "recovery", alive), ("pay", "failure", alive)]
    targets.gone.set()
    counts = await call
    assert (counts.told, counts.left) == (1, dead + 2)
    assert targets.tried.count("https://dead/x") == 2, "it was not asked more often than to find that it is silent"
    assert await left(table) == dead + 2
