"""packaging/cloudwatch/dashboard.json shows what agent and recorder write, and its picture is that of today's code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

BENCH = Path(__file__).resolve().parents[1] / "bench"


@pytest.fixture
def _bench(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCH))


@pytest.mark.usefixtures("_bench")
def test_every_graph_has_lines_of_metrics_that_are_written() -> None:
    from dashboard import BODY, Widget, extracted
    from dashboard_day import day

    body = json.loads(BODY.read_text().replace("THE-GROUP", "web"))
    points = extracted(day("web", seed=7, seconds=4 * 3600))
    for entry in body["widgets"]:
        widget = Widget(entry, points)
        assert widget.lines, entry["properties"]["title"]
        for label, _, values in widget.lines:
            assert values, label
        assert "<polyline" in "".join(widget.drawn()) or "<path" in "".join(widget.drawn())


def test_the_group_is_chosen_at_the_top() -> None:
    text = (BENCH.parents[1] / "packaging" / "cloudwatch" / "dashboard.json").read_text()
    (variable,) = json.loads(text)["variables"]
    assert variable["pattern"] == "THE-GROUP"
    assert text.count("THE-GROUP") == 1 + text.count('"group", "THE-GROUP"') + text.count('group=\\"THE-GROUP\\"')
