"""The chain that a run is part of, for history and the page: the runs that it was fired after, and what it fired."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from runner.control.chains.chain import AFTER
from runner.protocol import table as keys

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from runner.aws.attributes import Item
    from runner.aws.table import Table


def after_of(run: Mapping[str, Any]) -> list[str]:
    """The ids of its parents' runs; none of a run that was fired after no other."""
    return str((run.get("labels") or {}).get(AFTER) or "").split()


async def children_of(table: Table, runs: Sequence[Mapping[str, Any]]) -> dict[tuple[str, str], list[Item]]:
    """By (group, run id), what became of the children of these runs' jobs: {job, run_id, said: fired, skipped or
    waits, why}."""
    found = await table.get_many(keys.children(run["group"], run["run_id"]) for run in runs)
    children = {
        (item["group"], item["run_id"]): [{"job": name, **one} for name, one in sorted(item["children"].items())]
        for item in found.values()
        if item.get("children")
    }
    await _waiting(table, children)
    return children


async def _waiting(table: Table, children: Mapping[tuple[str, str], Iterable[Item]]) -> None:
    """What waited for its other parents then may have been decided since."""
    waiting = [(keys.decided(group, one["run_id"]), one) for (group, _), of in children.items() for one in of]
    waiting = [(key, one) for key, one in waiting if one["said"] == "waits"]
    decided = await table.get_many(key for key, _ in waiting)
    for key, one in waiting:
        if key in decided:
            one.update(told_of(decided[key]))


def told_of(decided: Mapping[str, Any]) -> Item:
    """What is said of a child whose run is decided."""
    if decided["said"] == "fire":
        return {"said": "fired"}
    reason, detail = decided["why"]
    return {"said": "skipped", "why": f"{reason}: {detail}" if detail else reason}


def in_words(children: Iterable[Mapping[str, Any]]) -> str:
    """``load, report; skipped: alarm``: the fired first."""
    by: dict[str, list[str]] = {}
    for one in children:
        by.setdefault(one["said"], []).append(one["job"])
    fired = by.pop("fired", [])
    words = [", ".join(fired)] if fired else []
    return "; ".join([*words, *(f"{said}: {', '.join(names)}" for said, names in sorted(by.items()))])
