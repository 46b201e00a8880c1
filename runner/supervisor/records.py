"""Exit records, kept until the agent says that it has them.

Those of a connected agent stay in memory: they live for a moment. Beyond `MOST_IN_MEMORY` they go to a file beside
the socket, one JSON line each, and only their place in it is remembered.
"""

from __future__ import annotations

TYPE_CHECKING = False  # not imported from typing, which costs a megabyte
if TYPE_CHECKING:
    from typing import Any

MOST_IN_MEMORY = 2000


class Records:
    def __init__(self) -> None:
        self._kept: dict[str, tuple[str, dict[str, Any]]] = {}

    def __len__(self) -> int:
        return len(self._kept)

    def keep(self, owner: str, entry: dict[str, Any]) -> None:
        self._kept[entry["key"]] = (owner, entry)

    def find(self, owner: str, key: str) -> dict[str, Any] | None:
        found = self._kept.get(key)
        return found[1] if found and found[0] == owner else None

    def forget(self, owner: str, key: str) -> None:
        if self.find(owner, key) is not None:
            del self._kept[key]

    def keys(self, owner: str) -> list[str]:
        return [key for key, (whose, _entry) in self._kept.items() if whose == owner]
