"""Leases in the fleet's table: the claim of a run, and the lock of a job, each held by one host at a time.

A lease is an item with its holder, the end of its time and a token that rises by one whenever it is taken. Who
holds one renews it; who finds it run out takes it. The holder fences, being one life of one use: who was thought dead
and comes back finds another's name at its next renewal. An answer that was lost may have taken it once more for its
own holder, so no token is compared here; whoever acts on somebody's word can compare them.

Ends are wall-clock times of the hosts, which keep them within seconds of each other (`check` says so where one does
not): another host takes a lease only ``SKEW_S`` after its end, and a holder counts it lost at its end by its own
clock, which is sooner.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from runner.aws.table import Refused, When
from runner.protocol import table as keys
from runner.protocol.units import format_time, parse_time

if TYPE_CHECKING:
    from runner.aws.attributes import Item
    from runner.aws.table import Table

SKEW_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Held:
    """The lease is ours until ``until`` (unix seconds), under ``token``."""

    key: keys.Key
    holder: str
    token: int
    until: float
    keep_s: float = 0.0  # the item is forgotten that long after its last change; 0: never


@dataclass(frozen=True, slots=True)
class Taken:
    """The lease is another's, or was ended for good (``done``); ``note`` is what its holder left (a run id…)."""

    holder: str
    token: int
    until: float
    note: str
    done: bool


async def acquire(
    table: Table,
    key: keys.Key,
    holder: str,
    lease_s: float,
    *,
    now: float,
    note: str = "",
    keep_s: float = 0.0,
    marked: bool = False,
) -> Held | Taken:
    """Take a lease that nobody holds, that has run out, or that is ours already (then it is renewed).

    ``holder`` names one life of one use of it (an execution id), never a host alone. With ``keep_s`` the item is
    removed that long after its last change; without, it stays, so that its token goes on rising. ``marked``: one whose
    note is another than ``note`` is not taken, however long ago its time was over; an empty one says nothing.
    """
    values: dict[str, object] = {
        "holder": holder,
        "until": format_time(now + lease_s),
        "note": note,
        "one": 1,
        "zero": 0,
        "over": format_time(now - SKEW_S),
        "yes": True,
    }
    run_out = "#until < :over"
    if marked:
        values["blank"] = ""
        run_out += " AND (attribute_not_exists(#note) OR #note = :blank OR #note = :note)"
    free = When(
        "attribute_not_exists(#pk) OR attribute_not_exists(#holder)"
        f" OR ((({run_out}) OR #holder = :holder) AND (attribute_not_exists(#done) OR #done <> :yes))",
    )
    change = "SET #holder = :holder, #until = :until, #note = :note, #token = if_not_exists(#token, :zero) + :one"
    if keep_s:
        change += f", #{keys.EXPIRES} = :expires"
        values["expires"] = int(now + keep_s)
    answer = await table.update(key, change, values, free)
    if isinstance(answer, Refused):
        return _taken(answer.item or {})
    return Held(key, holder, answer["token"], now + lease_s, keep_s)


async def renew(table: Table, held: Held, lease_s: float, *, now: float) -> Held | Taken:
    """Hold it for ``lease_s`` from now; `Taken` where it is not ours any more: another's, or nobody's."""
    change, values = "SET #until = :until", {"until": format_time(now + lease_s)} | _ours(held)
    if held.keep_s:
        # A run may go on for longer than its claim is kept.
        change += f", #{keys.EXPIRES} = :expires"
        values["expires"] = int(now + held.keep_s)
    answer = await table.update(held.key, change, values, _STILL_OURS)
    if isinstance(answer, Refused):
        return _taken(answer.item or {})
    return Held(held.key, held.holder, answer.get("token", held.token), now + lease_s, held.keep_s)


async def release(table: Table, held: Held) -> bool:
    """Let the next one have it at once; False where it was not ours any more."""
    answer = await table.update(held.key, "REMOVE #holder, #until, #note", _ours(held), _STILL_OURS)
    return not isinstance(answer, Refused)


async def finish(table: Table, held: Held, *, now: float, keep_s: float) -> bool:
    """End it for good: nobody takes it any more, until it is forgotten after ``keep_s``. It need not be held any more,
    as long as nobody else holds it; False where another does, or has ended it."""
    values = {
        "yes": True,
        "expires": int(now + keep_s),
        "over": format_time(now - SKEW_S),
        "one": 1,
        "zero": 0,
    } | _ours(held)
    free = When(
        "attribute_not_exists(#holder) OR #holder = :mine"
        " OR (#until < :over AND (attribute_not_exists(#done) OR #done <> :yes))"
    )
    change = (
        f"SET #holder = :mine, #done = :yes, #{keys.EXPIRES} = :expires, #token = if_not_exists(#token, :zero) + :one"
    )
    return not isinstance(await table.update(held.key, change, values, free), Refused)


async def claim_run(table: Table, group: str, run_id: str, holder: str, lease_s: float, *, now: float) -> Held | Taken:
    """Claim a run for an execution, before its process is started: a copy of its message elsewhere starts none.

    `Taken` with ``done``: it ran to an end, drop the message. Without: another host runs it; hand the message back
    with a delay and look again. Renew while it runs, `finish_run` when it has ended, `release` where it is to run
    again (interrupted, or never started).
    """
    key = keys.claim(group, run_id)
    return await acquire(table, key, holder, lease_s, now=now, keep_s=keys.CLAIM_KEPT_S)


async def finish_run(table: Table, held: Held, *, now: float) -> bool:
    """The run has ended and is never to run again."""
    return await finish(table, held, now=now, keep_s=keys.CLAIM_KEPT_S)


async def run_is_over(table: Table, group: str, run_id: str) -> bool:
    """Whether the run has ended and is never to run again."""
    key = keys.claim(group, run_id)
    # A query, as hosts are allowed no other read.
    items = await table.query("#pk = :pk AND #sk = :sk", {"pk": key.pk, "sk": key.sk}, consistent=True)
    return bool(items and items[0].get("done"))


async def lock_job(
    table: Table, group: str, job: str, holder: str, run_id: str, lease_s: float, *, now: float
) -> Held | Taken:
    """Lock a job for one run of it, fleet-wide; `Taken.note` is the run id that has it."""
    return await acquire(table, keys.lock(group, job), holder, lease_s, now=now, note=run_id)


_STILL_OURS: Final = When("#holder = :mine AND (attribute_not_exists(#done) OR #done <> :ended)", {"ended": True})


def _ours(held: Held) -> dict[str, object]:
    return {"mine": held.holder}


def _taken(item: Item) -> Taken:
    """Of what is there, as far as it is what a lease has: no item of one run or job ends those of others."""
    holder, token, note = (item.get(name) for name in ("holder", "token", "note"))
    try:
        until = parse_time(item.get("until"))
    except ValueError:
        until = 0.0
    return Taken(
        holder=holder if isinstance(holder, str) else "",
        token=token if isinstance(token, int) else 0,
        until=until,
        note=note if isinstance(note, str) else "",
        done=bool(item.get("done")),
    )
