"""Amounts of what a host offers and a job asks for: cpu in cores, memory in bytes, anything countable, and a place.

One mapping holds them all, so that every kind is compared, added and explained in the same way.
"""

from __future__ import annotations

from collections.abc import Mapping

from runner.protocol.units import format_size

Amounts = Mapping[str, float]

CPU = "cpu"
MEMORY = "memory"
# No resource can have this name: a configuration and a message refuse it.
JOBS = "(jobs)"

NOTHING: Amounts = {}


def plus(one: Amounts, other: Amounts) -> dict[str, float]:
    """The sum of both."""
    total = dict(one)
    for name, amount in other.items():
        total[name] = exact(total.get(name, 0.0) + amount)
    return total


def less(offered: Amounts, taken: Amounts) -> dict[str, float]:
    """What is left of each thing on offer; below zero where more is taken than is offered."""
    return {name: exact(amount - taken.get(name, 0.0)) for name, amount in offered.items()}


def kept_from(free: Amounts, kept: Amounts) -> dict[str, float]:
    """What is left for others when `kept` is set aside; never makes it less than nothing."""
    return {
        name: amount if amount <= 0 else exact(max(0.0, amount - kept.get(name, 0.0))) for name, amount in free.items()
    }


def lacking(asked: Amounts, free: Amounts) -> str | None:
    """The first thing of which more is asked than is free; what is not on offer at all is not counted here."""
    return next((name for name, amount in asked.items() if amount > 0 and amount > free.get(name, amount)), None)


def times(asked: Amounts, free: Amounts, most: int) -> int:
    """How often `asked` fits into what is free, up to `most`."""
    count = float(most)
    for name, amount in asked.items():
        if amount > 0 and name in free:
            # A share of a thing that was summed up from decimals: 0.3 holds 0.1 three times.
            count = min(count, (free[name] + 1e-6) // amount)
    return max(0, int(count))


def shown(name: str, amount: float) -> str:
    """An amount as people read it: "3.1G" of memory, "0.5" or "1000" of anything else, never "1e+03"."""
    if name == MEMORY:
        return format_size(max(0, int(amount)))
    if 0 < amount < 0.001:
        return f"{amount:.6f}".rstrip("0").rstrip(".")
    return f"{max(0.0, amount):.3f}".rstrip("0").rstrip(".")


def exact(amount: float) -> float:
    """An amount of at most six decimals, so that adding and taking away in any order ends where it began."""
    return round(amount, 6)
