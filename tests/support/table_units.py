"""What DynamoDB bills for an action, on demand: write and read units, counted as its documentation says.

Sizes: "DynamoDB item sizes and formats" (names and values in UTF-8, a list or map 3 bytes and 1 for each entry, a
number a byte for two digits and one more). Units: "DynamoDB on-demand capacity mode" (writes by 1 KiB of the larger of
the item before and after, twice in a transaction, a refused condition like a write; reads by 4 KiB, half where they
need not be consistent, of a query all that it returns in one sum) and "Global secondary indexes" (an entry that changes
is a write, one that moves is two, one that stays the same none; entries are written behind the transaction, once).
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Item = dict[str, dict[str, Any]]

WRITE_BYTES = 1024
READ_BYTES = 4096


def size_of(item: Item | None) -> int:
    """The bytes of an item as it is billed; 0 of none."""
    return sum(len(name.encode()) + _value(value) for name, value in (item or {}).items())


def _value(value: dict[str, Any]) -> int:
    ((kind, said),) = value.items()
    match kind:
        case "S":
            return len(said.encode())
        case "N":
            digits = len(said.strip("-").replace(".", "").strip("0")) or 1
            return (digits + 1) // 2 + 1 + said.startswith("-")
        case "M":
            return 3 + sum(len(name.encode()) + _value(one) + 1 for name, one in said.items())
        case "L":
            return 3 + sum(_value(one) + 1 for one in said)
    return 1


def _units(size: int, of: int) -> int:
    return max(1, -(-size // of))


class Units:
    """Units so far. ``write`` are of the table alone, ``index`` of its indexes; ``read`` may be halves."""

    def __init__(self) -> None:
        self.count: Counter[str] = Counter()
        self.halves = 0

    def report(self) -> dict[str, float]:
        """As JSON has it."""
        return {**self.count, "read": self.halves / 2}

    def wrote(self, old: Item | None, new: Item | None, indexes: Iterable[Sequence[str]], *, twice: bool) -> None:
        """An item was written, or deleted (``new`` is None); ``indexes`` are their (partition, sort) attributes."""
        units = _units(max(size_of(old), size_of(new)), WRITE_BYTES)
        self.count["write"] += units * (2 if twice else 1)
        for keys in indexes:
            before, after = _entry(old, keys), _entry(new, keys)
            if old == new or before is after is None:
                continue
            if before is not None and after is not None and before == after:
                self.count["index"] += _units(max(size_of(old), size_of(new)), WRITE_BYTES)
                continue
            self.count["index"] += _units(size_of(old), WRITE_BYTES) if before is not None else 0
            self.count["index"] += _units(size_of(new), WRITE_BYTES) if after is not None else 0

    def refused(self, there: Item | None, *, twice: bool = False) -> None:
        """A condition did not hold: it costs as if the item had been written."""
        self.count["write"] += _units(size_of(there), WRITE_BYTES) * (2 if twice else 1)

    def read(self, items: Iterable[Item | None], *, consistent: bool, together: bool) -> None:
        """Items were read, in one sum (a query) or each for itself."""
        sizes = [size_of(item) for item in items]
        units = _units(sum(sizes), READ_BYTES) if together else sum(_units(size, READ_BYTES) for size in sizes)
        self.halves += units * (2 if consistent else 1)


def _entry(item: Item | None, keys: Sequence[str]) -> tuple[Any, ...] | None:
    if item is None or any(key not in item for key in keys):
        return None
    return tuple(item[key]["S"] for key in keys)
