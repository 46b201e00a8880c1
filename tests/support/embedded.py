"""Reads the embedded metric format as CloudWatch does, and refuses what CloudWatch would."""

from __future__ import annotations

import json
from typing import Any

UNITS = {"Seconds", "Bytes", "Count"}


def data_points(line: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], list[float]]:
    """By metric and dimensions, the values in a line that is a document by the specification of the format."""
    document = json.loads(line)
    about = document["_aws"]
    assert set(about) == {"Timestamp", "CloudWatchMetrics"}
    assert isinstance(about["Timestamp"], int)
    assert about["Timestamp"] > 1_600_000_000_000, "milliseconds"
    found: dict[Any, list[float]] = {}
    for directive in about["CloudWatchMetrics"]:
        assert set(directive) == {"Namespace", "Dimensions", "Metrics"}
        assert 1 <= len(directive["Namespace"]) <= 255
        assert 1 <= len(directive["Metrics"]) <= 100
        for names in directive["Dimensions"]:
            assert len(names) <= 30
            of = tuple((name, document[name]) for name in names)
            assert all(isinstance(value, str) and 1 <= len(value) <= 1024 for _, value in of)
            for metric in directive["Metrics"]:
                assert set(metric) == {"Name", "Unit"}
                assert metric["Unit"] in UNITS
                value = document[metric["Name"]]
                values = value if isinstance(value, list) else [value]
                assert 1 <= len(values) <= 100
                assert all(isinstance(one, int | float) and not isinstance(one, bool) for one in values)
                found[metric["Name"], of] = [float(one) for one in values]
    return found


def all_points(lines: list[str]) -> dict[tuple[str, tuple[tuple[str, str], ...]], list[float]]:
    """The values of all lines together."""
    found: dict[Any, list[float]] = {}
    for line in lines:
        for key, values in data_points(line).items():
            found.setdefault(key, []).extend(values)
    return found
