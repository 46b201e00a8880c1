"""The fleet's table on a real stand-in: conditions, batches, pages, directives, and leases with their fencing."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from runner.aws import directives, leases
from runner.aws.leases import SKEW_S, Held, Taken
from runner.aws.session import Session
from runner.aws.table import ABSENT, PRESENT, Put, Refused, Table, When
from runner.errors import AwsUnavailable
from runner.protocol import table as keys
from runner.protocol.table import Key

NOW = 1_900_000_000.0

# The fast stand-in has to be as moto is: large tests are made on it.
pytestmark = pytest.mark.parametrize("aws_server", ["moto", "standin"], indirect=True)


async def test_an_item_comes_back_as_it_was_written(table: Table) -> None:
    item = {
        **keys.job("web", "nightly").attributes(),
        "text": "é",
        "whole": 3,
        "part": 0.25,
        "yes": True,
        "none": None,
        "list": [1, "two", {"three": 3}],
        "empty": "",
        "map": {},
    }
    assert await table.put(item) is None
    assert await table.get(keys.job("web", "nightly")) == item
    assert await table.get(keys.job("web", "other")) is None
    assert await table.delete(keys.job("web", "nightly"), PRESENT) is None
    assert await table.delete(keys.job("web", "nightly"), PRESENT) == Refused(None)


async def test_a_condition_that_does_not_hold_shows_what_is_there(table: Table) -> None:
    item = {"pk": "a", "sk": "b", "state": "one"}
    assert await table.put(item, ABSENT) is None
    assert await table.put({**item, "state": "two"}, ABSENT) == Refused(item)
    was_one = When("#state = :old", {"old": "one"})
    changed = await table.update(Key("a", "b"), "SET #state = :new", {"new": "x"}, was_one)
    assert changed == {**item, "state": "x"}
    refused = await table.update(Key("a", "b"), "SET #state = :new", {"new": "y"}, was_one)
    assert refused == Refused({**item, "state": "x"})


async def test_many_items_go_in_batches_and_come_back_by_key_and_by_pages(table: Table) -> None:
    items = [
        {"pk": "p", "sk": f"{n:04d}", "state_key": "S", "state_at": f"{n:04d}", "fill": "x" * 9000} for n in range(260)
    ]
    await table.put_many(items)
    found = await table.get_many([*(Key("p", item["sk"]) for item in items), Key("p", "none"), Key("p", "0001")])
    assert len(found) == 260
    assert found[Key("p", "0123")] == items[123]
    assert await table.query("#pk = :pk", {"pk": "p"}) == items  # more than 1 MB: several pages
    newest = await table.query("#state_key = :s", {"s": "S"}, index=keys.BY_STATE, newest_first=True, limit=3)
    assert [item["sk"] for item in newest] == ["0259", "0258", "0257"]


async def test_a_transaction_is_all_or_nothing(table: Table) -> None:
    one, two = {"pk": "t", "sk": "1"}, {"pk": "t", "sk": "2"}
    assert await table.transact([Put(one, ABSENT), Put(two)])
    assert not await table.transact([Put({**two, "new": 1}), Put(one, ABSENT)])
    assert await table.get(Key("t", "2")) == two


async def test_a_table_that_is_not_there_is_a_failure_with_its_name(cloud: Session) -> None:
    missing = Table(cloud, "nowhere")
    with pytest.raises(AwsUnavailable) as caught:
        await missing.get(Key("a", "b"))
    assert caught.value.kind == "missing"


async def test_directives_are_switches_with_who_and_why(table: Table) -> None:
    assert await directives.read(table, "web") == directives.Directives(None, {}, {})
    await directives.pause(table, "web", on=True, by="ann", why="deploy", now=NOW)
    await directives.cancel(table, "web", "nightly-1", by="bob", why="wrong input", now=NOW)
    await directives.maintenance(table, "web", "report", on=True, by="ann", why="", now=NOW)
    await directives.pause(table, "db", on=True, by="eve", why="", now=NOW)

    said = await directives.read(table, "web")
    assert said.paused is not None
    assert (said.paused.by, said.paused.why, said.paused.at) == ("ann", "deploy", NOW)
    assert said.cancelled["nightly-1"].why == "wrong input"
    assert list(said.maintenance) == ["report"]

    await directives.pause(table, "web", on=False, by="bob", why="done", now=NOW + 1)
    await directives.maintenance(table, "web", "report", on=False, by="bob", why="", now=NOW + 1)
    said = await directives.read(table, "web")
    assert (said.paused, said.maintenance) == (None, {})
    trail = await table.query("#pk = :pk", {"pk": "web#AUDIT"})
    assert [(item["by"], item["what"]) for item in trail] == [
        ("bob", "CANCEL#nightly-1 on"),
        ("ann", "MAINTENANCE#report on"),
        ("ann", "pause on"),
        ("bob", "MAINTENANCE#report off"),
        ("bob", "pause off"),
    ]


async def test_a_run_is_claimed_once_and_never_again_when_it_has_ended(table: Table) -> None:
    first = await leases.claim_run(table, "web", "r1", "execution-a", 60, now=NOW)
    assert isinstance(first, Held)
    second = await leases.claim_run(table, "web", "r1", "execution-b", 60, now=NOW + 59)
    assert isinstance(second, Taken)
    assert (second.holder, second.done, second.until) == ("execution-a", False, NOW + 60)
    assert isinstance(
        await leases.claim_run(table, "db", "r1", "execution-c", 60, now=NOW), Held
    )  # another group's run

    assert await leases.finish_run(table, first, now=NOW + 30)
    late = await leases.claim_run(table, "web", "r1", "execution-b", 60, now=NOW + 1_000_000)
    assert isinstance(late, Taken)
    assert late.done
    again = await leases.claim_run(table, "web", "r1", "execution-a", 60, now=NOW + 31)
    assert isinstance(again, Taken)


async def test_a_run_that_is_to_run_again_is_released(table: Table) -> None:
    first = await leases.claim_run(table, "web", "r1", "execution-a", 60, now=NOW)
    assert isinstance(first, Held)
    assert await leases.release(table, first)
    second = await leases.claim_run(table, "web", "r1", "execution-b", 60, now=NOW + 1)
    assert isinstance(second, Held)
    assert second.token > first.token
    assert not await leases.release(table, first)  # too late: it is another's


async def test_a_claim_that_says_of_what_it_is_is_never_taken_for_another_run(table: Table) -> None:
    key = keys.claim("web", "r1")

    async def ask(holder: str, note: str, after: float) -> leases.Held | Taken:
        return await leases.acquire(table, key, holder, 30, now=NOW + after, note=note, marked=True)

    assert isinstance(await ask("old-version", "", 0), Held)
    assert isinstance(await ask("a", "slow command:1", 60), Held)
    other = await ask("b", "other command:2", 120)
    assert isinstance(other, Taken)
    assert other.note == "slow command:1"
    assert isinstance(await ask("c", "slow command:1", 120), Held)
    assert isinstance(await ask("old-version", "", 180), Taken)


async def test_a_lock_that_ran_out_is_taken_and_the_old_holder_is_fenced_off(table: Table) -> None:
    dead = await leases.lock_job(table, "web", "nightly", "host-a", "run-1", 30, now=NOW)
    assert isinstance(dead, Held)
    early = await leases.lock_job(table, "web", "nightly", "host-b", "run-2", 30, now=NOW + 30 + SKEW_S - 1)
    assert isinstance(early, Taken)
    assert early.note == "run-1"
    taken = await leases.lock_job(table, "web", "nightly", "host-b", "run-2", 30, now=NOW + 30 + SKEW_S + 1)
    assert isinstance(taken, Held)
    assert taken.token == dead.token + 1

    fenced = await leases.renew(table, dead, 30, now=NOW + 40)
    assert isinstance(fenced, Taken)
    assert (fenced.holder, fenced.token) == ("host-b", taken.token)
    assert not await leases.finish(table, dead, now=NOW + 40, keep_s=60)
    kept = await leases.renew(table, taken, 30, now=NOW + 50)
    assert isinstance(kept, Held)
    assert kept.until == NOW + 80

    assert await leases.release(table, kept)
    after = await leases.lock_job(table, "web", "nightly", "host-a", "run-3", 30, now=NOW + 51)
    assert isinstance(after, Held)
    assert after.token > taken.token  # the item stays, so that tokens go on rising


async def test_what_ran_out_and_nobody_took_is_renewed(table: Table) -> None:
    held = await leases.lock_job(table, "web", "nightly", "execution-a", "r1", 30, now=NOW)
    assert isinstance(held, Held)
    late = await leases.renew(table, held, 30, now=NOW + 1000)
    assert isinstance(late, Held)
    assert isinstance(await leases.lock_job(table, "web", "nightly", "b", "r2", 30, now=NOW + 1020), Taken)


async def test_an_older_token_of_its_own_holder_gives_up_and_ends(table: Table) -> None:
    first = await leases.claim_run(table, "web", "r1", "execution-a", 60, now=NOW)
    # The answer to this one is lost.
    again = await leases.claim_run(table, "web", "r1", "execution-a", 60, now=NOW + 1)
    assert isinstance(first, Held)
    assert isinstance(again, Held)
    assert again.token > first.token
    renewed = await leases.renew(table, first, 60, now=NOW + 2)
    assert isinstance(renewed, Held)
    assert renewed.token == again.token
    assert await leases.finish_run(table, first, now=NOW + 3)
    assert await leases.run_is_over(table, "web", "r1")
    assert await leases.finish_run(table, first, now=NOW + 4)  # as after an answer that was lost
    assert not await leases.release(table, first)


@pytest.mark.parametrize("after", ["given up", "run out"])
async def test_an_end_counts_where_nobody_holds_the_claim(table: Table, after: str) -> None:
    frozen = await leases.claim_run(table, "web", "r1", "execution-a", 60, now=NOW)
    other = await leases.claim_run(table, "web", "r1", "execution-b", 60, now=NOW + 100)
    assert isinstance(frozen, Held)
    assert isinstance(other, Held)
    assert not await leases.finish_run(table, frozen, now=NOW + 110), "another has it"
    if after == "given up":
        assert await leases.release(table, other)
    ended = NOW + (120 if after == "given up" else 100 + 60 + SKEW_S + 1)
    assert await leases.finish_run(table, frozen, now=ended)
    assert await leases.run_is_over(table, "web", "r1")
    assert isinstance(await leases.renew(table, other, 60, now=ended + 1), Taken)
    assert not await leases.finish_run(table, other, now=ended + 1), "it was ended by another"
    # Forgotten altogether, it is ended all the same.
    assert await leases.finish_run(table, Held(keys.claim("web", "r2"), "execution-a", 0, 0.0), now=NOW)


async def test_a_renewal_moves_the_day_on_which_a_claim_is_forgotten(table: Table) -> None:
    held: Held | Taken = await leases.claim_run(table, "web", "r1", "execution-a", 60, now=NOW)
    for day in (14, 28):
        assert isinstance(held, Held)
        held = await leases.renew(table, held, 60, now=NOW + day * keys.DAY_S)
        item = await table.get(keys.claim("web", "r1"))
        assert item is not None
        assert item[keys.EXPIRES] == int(NOW + day * keys.DAY_S + keys.CLAIM_KEPT_S)
    lock = await leases.lock_job(table, "web", "nightly", "execution-a", "r1", 60, now=NOW)
    assert isinstance(lock, Held)
    await leases.renew(table, lock, 60, now=NOW + 1)
    item = await table.get(keys.lock("web", "nightly"))
    assert item is not None
    assert keys.EXPIRES not in item


async def test_a_word_goes_with_its_run_and_a_change_has_another_number(table: Table) -> None:
    assert await directives.number(table, "web") is None
    await directives.cancel(table, "web", "r1", by="ann", why="", now=NOW)
    first = await directives.number(table, "web")
    await directives.cancel(table, "web", "r2", by="ann", why="", now=NOW)
    second = await directives.number(table, "web")
    assert None not in (first, second)
    assert first != second
    await directives.forget_cancel(table, "web", "r1")
    await directives.forget_cancel(table, "web", "never-there")
    assert list((await directives.read(table, "web")).cancelled) == ["r2"]
    trail = await table.query("#pk = :pk", {"pk": "web#AUDIT"})
    assert [item["what"] for item in trail] == ["CANCEL#r1 on", "CANCEL#r2 on"]


async def test_any_number_of_items_is_deleted(table: Table) -> None:
    await table.put_many([{**Key("a", f"{number:03}").attributes()} for number in range(60)])
    await table.delete_many(Key("a", f"{number:03}") for number in range(5, 80))
    assert [item["sk"] for item in await table.query("#pk = :pk", {"pk": "a"})] == [f"{n:03}" for n in range(5)]


async def test_of_many_who_want_a_lock_at_once_one_has_it(table: Table) -> None:
    answers = await asyncio.gather(
        *(leases.lock_job(table, "web", "nightly", f"host-{n}", f"run-{n}", 30, now=NOW) for n in range(12))
    )
    held = [answer for answer in answers if isinstance(answer, Held)]
    assert len(held) == 1
    assert {answer.holder for answer in answers} == {held[0].holder}


async def test_a_step_of_making_the_table_that_was_refused_is_made_by_the_next_call(
    table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Made, but its items would never expire: that is not an existing table with which all is well."""
    real, calls = Table._call, []  # noqa: SLF001 - a stand-in refuses no single call

    async def refusing(self: Table, action: str, *rest: Any) -> Any:
        calls.append(action)
        if action == "UpdateTimeToLive" and calls.count(action) == 1:
            raise AwsUnavailable(action, "AccessDenied", "no", "denied")
        return await real(self, action, *rest)

    monkeypatch.setattr(Table, "_call", refusing)
    other = Table(table._session, "made-in-steps")  # noqa: SLF001 - the same stand-in
    with pytest.raises(AwsUnavailable, match="UpdateTimeToLive"):
        await other.make()
    assert await other.make() is False
    assert calls == ["CreateTable", "UpdateTimeToLive"] * 2
    assert await other.make() is False, "what is in force already is no fault"
