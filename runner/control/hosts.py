"""The hosts of the fleet, as each last reported itself to the table. Pure but for the asking."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from runner.control import store
from runner.protocol import table as keys
from runner.protocol.units import format_duration, parse_time

if TYPE_CHECKING:
    from collections.abc import Mapping

    from runner.aws.attributes import Item
    from runner.aws.table import Table

MISSED: Final = 3.0
"""Reports that a host may miss before it is called silent."""
_USUAL_S: Final = 300.0


async def reported(table: Table, group: str | None = None) -> list[Item]:
    """The items of all groups, or of one."""
    names = [group] if group is not None else sorted(await store.groups(table))
    return [item for name in names for item in await table.query("#pk = :pk", {"pk": keys.hosts(name)})]


def host_of(item: Mapping[str, Any], now: float) -> dict[str, Any]:
    """A host, for people and programs; `silent` where it has missed several reports."""
    try:
        seen = parse_time(item.get("seen_at"))
    except ValueError:
        seen = 0.0
    every = float(item.get("report_s") or _USUAL_S)
    silent = item.get("state") != "stopped" and now - seen > MISSED * every
    running = item.get("running")
    return {
        "group": keys.group_of(keys.Key(item["pk"], item["sk"])),
        "host": item["sk"],
        "state": "silent" if silent else str(item.get("state") or "unknown"),
        "version": item.get("version"),
        "running": None if silent or running is None else int(running),
        "held": item.get("held"),
        "policy": item.get("policy"),
        "offered": item.get("offered") or {},
        "used": item.get("used") or {},
        "seen_at": item.get("seen_at"),
        "why": f"for {format_duration(round(now - seen))}" if silent else item.get("why"),
        "instance_id": item.get("instance_id"),
    }
