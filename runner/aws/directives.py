"""What agents are told from anywhere: cancel a run, pause the group, maintenance of a job. Written here, read here.

A directive is a switch with who, why and since when; switched off it stays for a while, so that a look at the table
shows who resumed. A cancel goes when the run that it is about is over. Each change is also kept in the group's audit
trail, and gives the group another number, so that a look need not read what it knows.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING

from runner.protocol import table as keys
from runner.protocol.units import format_time, parse_time

if TYPE_CHECKING:
    from runner.aws.attributes import Item
    from runner.aws.table import Table


@dataclass(frozen=True, slots=True)
class Directive:
    """One switch: who turned it on and why; ``at`` is unix seconds, as is ``until``, when it ends by itself. ``number``
    is another one at each change."""

    by: str
    why: str
    at: float
    number: str
    until: float | None = None

    def holds(self, now: float) -> bool:
        return self.until is None or now < self.until


@dataclass(frozen=True, slots=True)
class Directives:
    """All that is on in a group: the pause, runs to cancel by run id, jobs under maintenance by name. What ends by
    itself may have ended. ``unread`` are items that are none, by sort key: somebody wrote them by hand, or a version
    that has others."""

    paused: Directive | None
    cancelled: dict[str, Directive]
    maintenance: dict[str, Directive]
    unread: tuple[str, ...] = ()

    def pause_at(self, now: float) -> Directive | None:
        """The pause that holds now."""
        return self.paused if self.paused is not None and self.paused.holds(now) else None

    def under_maintenance(self, job: str, now: float) -> Directive | None:
        """The maintenance of a job that holds now."""
        said = self.maintenance.get(job)
        return said if said is not None and said.holds(now) else None


async def number(table: Table, group: str, *, consistent: bool = True) -> str | None:
    """Another one after each change; None where there was none yet. Read it before `read`: what changes between the
    two is seen next time. Where it need not be ``consistent``, and may be about a second old, it is half the price."""
    key = keys.changed(group)
    # A query, as hosts are allowed no other read.
    items = await table.query("#pk = :pk AND #sk = :sk", {"pk": key.pk, "sk": key.sk}, consistent=consistent)
    return _text(items[0], "number") or None if items else None


async def read(table: Table, group: str) -> Directives:
    """What is on now: one query of one partition, a single page but for hundreds of cancels."""
    items = await table.query("#pk = :pk", {"pk": keys.directives(group)}, consistent=True)
    on: dict[str, Directive] = {}
    unread = []
    for item in items:
        switched = item.get("on")
        if switched is True:
            on[item["sk"]] = _directive(item)
        elif switched is not False:
            unread.append(item["sk"])
    return Directives(
        paused=on.get(keys.PAUSE),
        cancelled=_named(on, keys.CANCEL),
        maintenance=_named(on, keys.MAINTENANCE),
        unread=tuple(sorted(unread)),
    )


async def cancel(table: Table, group: str, run_id: str, *, by: str, why: str, now: float) -> None:
    """Ask whichever host has the run to cancel it, or not to start it."""
    await _switch(table, group, keys.cancel(group, run_id), on=True, by=by, why=why, now=now)


async def forget_cancel(table: Table, group: str, run_id: str) -> None:
    """The run is over: nobody needs to be told any more. The audit trail keeps who asked for it."""
    await table.delete_many([keys.cancel(group, run_id)])


async def pause(
    table: Table, group: str, *, on: bool, by: str, why: str, now: float, until: float | None = None
) -> None:
    """Let no host of the group start a run, for a time or until somebody ends it; or let them again.

    A host that is older than ``until`` keeps to it until somebody ends it.
    """
    await _switch(table, group, keys.pause(group), on=on, by=by, why=why, now=now, until=until)


async def maintenance(
    table: Table, group: str, job: str, *, on: bool, by: str, why: str, now: float, until: float | None = None
) -> None:
    """Let runs of the job be skipped (`maintenance`), for a time or until somebody ends it; or run again.

    A host that is older than ``until`` keeps to it until somebody ends it.
    """
    await _switch(table, group, keys.maintenance(group, job), on=on, by=by, why=why, now=now, until=until)


async def record(table: Table, group: str, what: str, *, by: str, why: str, now: float) -> None:
    """Add a line to the group's audit trail."""
    await table.put(_audit(group, what, by=by, why=why, now=now))


async def _switch(
    table: Table, group: str, key: keys.Key, *, on: bool, by: str, why: str, now: float, until: float | None = None
) -> None:
    item: Item = {
        **key.attributes(),
        "on": on,
        "by": by,
        "why": why,
        "changed_at": format_time(now),
        "number": uuid.uuid4().hex,
    }
    if until is not None:
        item["until"] = format_time(until)
        # One that has ended by itself is of no use, either; it stays for as long as one that somebody ended.
        item[keys.EXPIRES] = int(until + keys.DIRECTIVE_KEPT_S)
    # A pause and a maintenance hold until somebody ends them; all else is of no use once its run is forgotten.
    if not on or key.sk.startswith(keys.CANCEL):
        item[keys.EXPIRES] = int(now + keys.DIRECTIVE_KEPT_S)
    what = f"{key.sk.replace('#', ' ').lower() if key.sk == keys.PAUSE else key.sk} {'on' if on else 'off'}"
    await table.put_many([item, _audit(group, what, by=by, why=why, now=now)])
    # After it, or a host might take this number for one that it has read. `on`: older hosts ask each item for it.
    await table.put_many([{**keys.changed(group).attributes(), "on": False, "number": item["number"]}])


def _audit(group: str, what: str, *, by: str, why: str, now: float) -> Item:
    at = format_time(now)
    return {
        **keys.audit(group, at, what).attributes(),
        "what": what,
        "by": by,
        "why": why,
        "changed_at": at,
        keys.EXPIRES: int(now + keys.AUDIT_KEPT_S),
    }


def _directive(item: Item) -> Directive:
    """What is switched on is on, whatever else its item lacks: an end that nobody can read is none."""
    return Directive(
        _text(item, "by") or "somebody",
        _text(item, "why"),
        _moment(item, "changed_at") or 0.0,
        _text(item, "number"),
        _moment(item, "until"),
    )


def _text(item: Item, name: str) -> str:
    said = item.get(name)
    return said if isinstance(said, str) else ""


def _moment(item: Item, name: str) -> float | None:
    try:
        return parse_time(_text(item, name))
    except ValueError:
        return None


def _named(on: dict[str, Directive], prefix: str) -> dict[str, Directive]:
    return {sk.removeprefix(prefix): said for sk, said in on.items() if sk.startswith(prefix)}
