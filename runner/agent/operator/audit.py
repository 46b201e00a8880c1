"""Who asks for a change, and the trail of what was changed.

A change may say for whom it is asked (`for`: `who`, `role`, `way`), as the page's process does for the people who use
it. Who asks is the kernel's word all the same, and stands beside it: `alice by way of cron-runner-web`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from runner.agent.journal import trail
from runner.agent.journal.trail import Change
from runner.agent.operator.actions import checked_note
from runner.errors import Refused
from runner.protocol.units import format_time

if TYPE_CHECKING:
    from collections.abc import Mapping

    from runner.agent.operator.peers import Peer
    from runner.agent.services import Services

MOST: Final = 500


@dataclass(frozen=True, slots=True)
class Asker:
    """`name` as events and logs have it, the rest for the trail."""

    name: str
    who: str
    role: str = ""
    way: str = "command"


def asker(request: Mapping[str, Any], peer: Peer) -> Asker:
    """Whose change it is. Raises Refused."""
    given = request.get("for")
    if given is None:
        return Asker(peer.name, peer.name)
    told = [given.get(key, "") for key in ("who", "role", "way")] if isinstance(given, dict) else []
    said = [checked_note(one)[:128] for one in told if isinstance(one, str)]
    if len(said) < 3 or not said[0]:
        raise Refused("invalid", 'cannot read the request: "for" does not say who')
    who, role, way = said
    return Asker(f"{who} by way of {peer.name}", who, role, f"{way}, {peer.name}")


class Audit:
    """Called on the agent's event loop."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def note(self, by: Asker, op: str, subject: str, note: str, result: str = "done") -> None:
        """Add a line; without a subject it is the host's."""
        services = self._services
        line = Change(services.now(), by.who, by.role, op, subject or services.source.host.name, note, result, by.way)
        await services.journal.database.call(lambda c: trail.note(c, line), when="now")

    async def lines(self, before: float | None, limit: float | None) -> dict[str, Any]:
        """`changes`, the newest first, and the `cursor` that goes on behind them, None at the end."""
        most = max(1, min(int(limit or 100), MOST))
        edge = None if before is None else int(before)
        rows = await self._services.journal.database.call(
            lambda c: trail.changes(c, before=edge, limit=most), when="now"
        )
        return {
            "changes": [
                {
                    "at": format_time(one.at),
                    "who": one.who,
                    "role": one.role or None,
                    "op": one.op,
                    "subject": one.subject,
                    "note": one.note,
                    "result": one.result,
                    "way": one.way,
                }
                for _, one in rows
            ],
            "cursor": str(rows[-1][0]) if len(rows) >= most else None,
        }
