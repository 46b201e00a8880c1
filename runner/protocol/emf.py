"""Amazon CloudWatch's embedded metric format: a log event of which CloudWatch makes metrics. Pure.

Source: Amazon CloudWatch User Guide, "Specification: Embedded metric format". A value is a number, or a list of at most
100; a metric and the values of its dimensions are members of the event itself.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

NAMESPACE: Final = "cron-runner"
MOST_VALUES: Final = 100
OTHERS: Final = "~others"
"""The job of whatever has no numbers of its own: no job is called so."""


def document(
    at: float,
    dimensions: Mapping[str, str],
    metrics: Mapping[str, float | Sequence[float]],
    *,
    sets: Sequence[Sequence[str]] = (),
    more: Mapping[str, Any] | None = None,
) -> str:
    """One line of JSON.

    ``at`` is unix seconds. A metric is counted for all ``dimensions`` together, or for each of ``sets`` of their names.
    Its unit is in its name: ``…_seconds``, ``…_bytes``, else a count. ``more`` are members that are no metrics, for
    whoever searches the log.
    """
    directive = {
        "Namespace": NAMESPACE,
        "Dimensions": [list(names) for names in sets] or [list(dimensions)],
        "Metrics": [{"Name": name, "Unit": unit(name)} for name in metrics],
    }
    values = {name: value if isinstance(value, int | float) else list(value) for name, value in metrics.items()}
    about = {"_aws": {"Timestamp": int(at * 1000), "CloudWatchMetrics": [directive]}}
    return json.dumps({**about, **dimensions, **(more or {}), **values}, separators=(",", ":"), allow_nan=False)


def unit(name: str) -> str:
    """CloudWatch's word for what a metric is measured in."""
    if name.endswith("_seconds"):
        return "Seconds"
    return "Bytes" if name.endswith("_bytes") else "Count"
