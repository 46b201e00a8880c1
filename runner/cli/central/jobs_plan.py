"""The plan of `jobs apply` as text and as JSON. Pure."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from runner.control.applying.plan import Plan

_DURATIONS: Final = frozenset(("retention", "start_within", "finish_within", "too_long", "splay"))
_CALENDARS: Final = "calendars"


def plan_text(made: Plan) -> list[str]:
    """The plan as lines: `+`, `~` or `-` and a name, and below it what it says."""
    signs = {"create": "+", "change": "~", "delete": "-"}
    lines = []
    for change in made.changes:
        lines.append(f"{signs[change.does]} {change.what} {change.name}")
        lines += [f"    {name}: {_changed(name, old, new)}" for name, old, new in change.fields]
        if change.does == "create" and change.new is not None:
            lines += [f"    {name}: {shown(name, value)}" for name, value in change.new.unusual().items()]
    if made.not_in_files:
        lines.append(f"in no file, and left: {', '.join(made.not_in_files)} (--prune deletes them)")
    counts = f"{made.count('create')} to create, {made.count('change')} to change, {made.count('delete')} to delete"
    return [*lines, f"{counts}, {made.unchanged} as they should be"]


def _changed(name: str, old: Any, new: Any) -> str:
    """A field before and after; of calendars which days are more or less, as they may have many."""
    if name == _CALENDARS and old is not None and new is not None:
        from runner.control.timetable.days import difference  # noqa: PLC0415 - only where there are calendars

        return difference(old, new)
    return f"{shown(name, old)} -> {shown(name, new)}"


def shown(name: str, value: Any) -> str:
    """A field's value for people."""
    from runner.protocol.units import format_duration  # noqa: PLC0415

    if value is None:
        return "nothing"
    if name in _DURATIONS and isinstance(value, int | float):
        return format_duration(value)
    if name == _CALENDARS:
        from runner.control.timetable.days import summary  # noqa: PLC0415 - only where there are calendars

        return summary(value)
    return value if isinstance(value, str) else json.dumps(value)


def as_json(made: Plan, *, applied: bool, schedules: Sequence[str]) -> dict[str, Any]:
    """The plan for programs; ``schedules`` are those of EventBridge Scheduler that were changed."""
    changes = [
        {
            "does": change.does,
            "what": change.what,
            "name": change.name,
            "fields": {name: {"before": before, "after": after} for name, before, after in change.fields},
        }
        for change in made.changes
    ]
    return {
        "applied": applied,
        "changes": changes,
        "unchanged": made.unchanged,
        "not_in_files": made.not_in_files,
        "schedules": schedules,
    }
