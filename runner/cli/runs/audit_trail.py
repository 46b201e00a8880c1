"""``cron-runner history --audit``: who changed what by hand, on this host or in the fleet."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Final

from runner.cli import agent_socket, fleet, printing
from runner.errors import WrongUsage

if TYPE_CHECKING:
    import argparse

    from runner.aws.session import Session
    from runner.aws.table import Table

_PAGE: Final = 500
_TITLES: Final = ("TIME", "WHO", "DID", "SUBJECT", "RESULT", "BY WAY OF", "NOTE")


def show(args: argparse.Namespace, since: float | None) -> int:
    """The newest first. 0, also where nothing was changed."""
    from runner.protocol.units import format_time  # noqa: PLC0415 - `--help` needs none of it

    if args.job is not None:
        raise WrongUsage("cannot show the audit trail of a job: leave JOB out")
    edge = "" if since is None else format_time(since)
    changes = _of_fleet(args, edge) if fleet.table_name(args) else _of_host(args, edge)
    if args.json:
        printing.document(changes)
    elif not changes:
        printing.say("nothing is known to have been changed by hand")
    else:
        rows = [
            (
                fleet.clock(one["at"]),
                f"{one['who']} ({one['role']})" if one["role"] else one["who"],
                *(one[name] or "-" for name in ("op", "subject", "result", "way")),
                one["note"],
            )
            for one in changes
        ]
        printing.lines(*fleet.aligned(_TITLES, rows, "SUBJECT"))
    return 0


def _of_host(args: argparse.Namespace, edge: str) -> list[dict[str, Any]]:
    path = agent_socket.socket_of(args, os.environ)
    found: list[dict[str, Any]] = []
    before: int | None = None
    while len(found) < args.limit:
        answer = agent_socket.ask(path, "audit", before=before, limit=min(args.limit, _PAGE))
        found += [one for one in answer["changes"] if one["at"] >= edge]
        if answer["cursor"] is None or (answer["changes"] and answer["changes"][-1]["at"] < edge):
            break
        before = int(answer["cursor"])
    return found[: args.limit]


def _of_fleet(args: argparse.Namespace, edge: str) -> list[dict[str, Any]]:
    """Of every group, or of one."""
    from runner.control import store  # noqa: PLC0415 - `--help` needs none of it
    from runner.protocol import table as keys  # noqa: PLC0415

    async def work(_: Session, table: Table) -> list[dict[str, Any]]:
        groups = [args.group] if args.group is not None else list(await store.groups(table))
        items: list[dict[str, Any]] = []
        for group in groups:
            text, values = "#pk = :pk AND #sk >= :edge", {"pk": keys.audit(group, "", "").pk, "edge": edge or "0"}
            found = await table.query(text, values, newest_first=True, limit=args.limit)
            items += [_change(group, item) for item in found]
        return sorted(items, key=lambda one: str(one["at"]), reverse=True)[: args.limit]

    changes: list[dict[str, Any]] = fleet.run(args, work)
    return changes


def _change(group: str, item: dict[str, Any]) -> dict[str, Any]:
    """A line of the table's trail, `PAUSE on` or `CANCEL#r1 on`, with the fields of a host's."""
    what, _, switch = str(item["what"]).partition(" ")
    op, _, subject = what.partition("#")
    return {
        "at": item["changed_at"],
        "who": item["by"],
        "role": None,
        "op": f"{op.lower()} {switch}".strip(),
        "subject": f"{group}/{subject}" if subject else group,
        "note": item["why"],
        "result": None,
        "way": "table",
    }
