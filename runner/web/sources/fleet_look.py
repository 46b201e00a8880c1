"""One look at the table: what all pages of the fleet are made of."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from runner.aws import directives
from runner.control import store
from runner.protocol import table as keys

if TYPE_CHECKING:
    from runner.aws.table import Table


async def look(table: Table) -> dict[str, Any]:
    """`groups` by name, `jobs`, `status` by key, `directives` by group, `open` runs, `hosts`."""
    groups, jobs, open_ = await asyncio.gather(store.groups(table), store.jobs(table), store.open_runs(table))
    names = sorted({*groups, *(job.group for job in jobs), *(run["group"] for run in open_)})
    switches = await asyncio.gather(*(directives.read(table, name) for name in names))
    hosts = await asyncio.gather(*(table.query("#pk = :pk", {"pk": keys.hosts(name)}) for name in names))
    status = await store.statuses(table, jobs)
    return {
        "groups": groups,
        "names": names,
        "jobs": jobs,
        "status": status,
        "directives": dict(zip(names, switches, strict=True)),
        "open": open_,
        "hosts": [item for of in hosts for item in of],
    }
