"""Whether an item of the table is what its key says. Pure.

Anybody who may write there can have put it, and a later version has others: one that is not understood is left out of
what is read, so that it holds up none of the rest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    Item = dict[str, Any]

_TEXTS: Final = ("group", "run_id", "state", "seen_at", "at")
_TEXTS_OR_NOTHING: Final = ("job", "scheduled_at", "started_at", "ended_at")
_OF_STATUS: Final = ("state", "run_id", "ended_at", "failing_since")
_DETAIL: Final = "it is not what this version writes there, and is left out; see who else writes into the table"


def is_run(item: Mapping[str, Any]) -> bool:
    """Whether it has what every reader of a run takes for granted."""
    return all(isinstance(item.get(name), str) for name in _TEXTS) and _are_texts(item, _TEXTS_OR_NOTHING)


def is_status(item: Mapping[str, Any]) -> bool:
    """The same of how a job's last run ended."""
    return _are_texts(item, _OF_STATUS)


def runs(items: Iterable[Item]) -> list[Item]:
    """Those that are runs; each other one is logged."""
    return [item for item in items if is_run(item) or _left_out("run_not_read", item)]


def statuses(items: Mapping[Any, Item]) -> dict[Any, Item]:
    """The same of jobs' statuses, by their keys."""
    return {key: item for key, item in items.items() if is_status(item) or _left_out("job_status_not_read", item)}


def _are_texts(item: Mapping[str, Any], names: Iterable[str]) -> bool:
    return all(name in item and (item[name] is None or isinstance(item[name], str)) for name in names)


def _left_out(event: str, item: Mapping[str, Any]) -> bool:
    import structlog  # noqa: PLC0415 - only for what cannot be read

    structlog.get_logger().error(event, item=f"{item.get('pk')} {item.get('sk')}", detail=_DETAIL)
    return False
