"""The picture in docs/metrics.md: draws packaging/cloudwatch/dashboard.json, widget by widget.

The data are a simulated day of a group: four hosts, ten jobs, a few troubles. What becomes of its runs is told by the
agent's and the recorder's own code, in their documents; periods and statistics are taken as CloudWatch does.
"""

from __future__ import annotations

import json
import math
import re
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any, Final
from xml.sax.saxutils import escape

from dashboard_day import START, day

ROOT: Final = Path(__file__).resolve().parents[2]
BODY: Final = ROOT / "packaging" / "cloudwatch" / "dashboard.json"
PICTURE: Final = ROOT / "docs" / "images" / "dashboard.svg"
UNIT_X, UNIT_Y, PAD = 40, 34, 8
SHADES: Final = (
    "#1f77b4",
    "#ff7f0e",
    "#2ca02c",
    "#d62728",
    "#9467bd",
    "#8c564b",
    "#e377c2",
    "#7f7f7f",
    "#bcbd22",
    "#17becf",
)
DAY_S: Final = 86400

Dimensions = tuple[tuple[str, str], ...]
Points = dict[tuple[str, Dimensions], dict[int, list[float]]]
_SEARCH = re.compile(r"SEARCH\('\{cron-runner,(?P<names>[a-z,]+)\} (?P<terms>.+)', '(?P<stat>\w+)', (?P<period>\d+)\)")
_TERM = re.compile(r'(?P<no>NOT )?(?P<name>\w+)="(?P<value>[^"]+)"')


def extracted(lines: list[str]) -> Points:
    """What CloudWatch makes of the documents, by the second of the day."""
    found: Points = defaultdict(lambda: defaultdict(list))
    for line in lines:
        document = json.loads(line)
        at = document["_aws"]["Timestamp"] // 1000 - int(START)
        for directive in document["_aws"]["CloudWatchMetrics"]:
            for names in directive["Dimensions"]:
                of = tuple((name, document[name]) for name in names)
                for metric in directive["Metrics"]:
                    value = document[metric["Name"]]
                    found[metric["Name"], of][at].extend(value if isinstance(value, list) else [value])
    return found


def statistic(values: list[float], stat: str) -> float:
    """One of CloudWatch's."""
    if stat.startswith("p"):
        return sorted(values)[max(0, math.ceil(len(values) * float(stat[1:]) / 100) - 1)]
    return {"Sum": sum, "Maximum": max, "Minimum": min, "SampleCount": len}[stat](values)  # type: ignore[operator,no-any-return]


def periods(points: dict[int, list[float]], period: int, stat: str) -> list[tuple[int, float]]:
    """Its value in each period that has some."""
    of: dict[int, list[float]] = defaultdict(list)
    for at, values in points.items():
        of[at // period * period].extend(values)
    return [(at, statistic(values, stat)) for at, values in sorted(of.items())]


def series(points: Points, metric: list[Any], default: int) -> list[tuple[str, bool, list[tuple[int, float]]]]:
    """(label, whether by the right axis, values) of each line that an entry of `metrics` makes."""
    options = metric[-1]
    if "expression" not in options:
        of = tuple(zip(metric[2:-1:2], metric[3:-1:2], strict=True))
        right = options.get("yAxis") == "right"
        return [(options["label"], right, periods(points[metric[1], of], default, options["stat"]))]
    search = _SEARCH.fullmatch(options["expression"])
    assert search is not None, options["expression"]
    names, found = search["names"].split(","), []
    for (name, of), values in sorted(points.items()):
        about = {**dict(of), "MetricName": name}
        terms = (
            (about.get(term["name"]) == term["value"]) != bool(term["no"]) for term in _TERM.finditer(search["terms"])
        )
        if [key for key, _ in of] == names and all(terms):
            label = re.sub(r"\$\{PROP\('Dim\.(\w+)'\)\}", lambda match, about=about: about[match[1]], options["label"])
            found.append((label, False, periods(values, int(search["period"]), search["stat"])))
    return found


def short(value: float) -> str:
    """A number of an axis."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{value / size:g}{unit}"
    return f"{value:g}"


def top_of(highest: float) -> float:
    """The end of an axis: the next number that people like."""
    if highest <= 0:
        return 1.0
    scale = 10 ** math.floor(math.log10(highest))
    return float(next(one * scale for one in (1, 2, 5, 10) if one * scale >= highest))


class Widget:
    """One graph of the dashboard."""

    def __init__(self, entry: dict[str, Any], points: Points) -> None:
        self.left, self.top = entry["x"] * UNIT_X + PAD, entry["y"] * UNIT_Y + PAD
        self.width, self.height = entry["width"] * UNIT_X - 2 * PAD, entry["height"] * UNIT_Y - 2 * PAD
        self.about = entry["properties"]
        period = self.about["period"]
        self.lines = [line for metric in self.about["metrics"] for line in series(points, metric, period)]
        self.x0, self.x1 = self.left + 44, self.left + self.width - 44
        self.y0, self.y1 = self.top + self.height - 44, self.top + 30

    def drawn(self) -> list[str]:
        box = f'x="{self.left}" y="{self.top}" width="{self.width}" height="{self.height}"'
        made = [f'<rect {box} fill="white" stroke="#d5dbdb"/>']
        made.append(
            f'<text x="{self.left + 10}" y="{self.top + 19}" font-weight="bold">{escape(self.about["title"])}</text>'
        )
        made += self._axes()
        return made + (self._stacked() if self.about["stacked"] else self._lines()) + self._legend()

    def _highest(self, *, right: bool) -> float:
        if self.about["stacked"]:
            total: dict[int, float] = defaultdict(float)
            for _, _, values in self.lines:
                for at, value in values:
                    total[at] += value
            return top_of(max(total.values(), default=0))
        return top_of(max((value for _, side, values in self.lines if side == right for _, value in values), default=0))

    def _axes(self) -> list[str]:
        made = []
        for hour in range(0, 25, 6):
            x = self._x(hour * 3600)
            made.append(f'<text x="{x:.0f}" y="{self.y0 + 13}" text-anchor="middle" fill="#687078">{hour:02}:00</text>')
        for share in (0, 0.5, 1):
            y = self.y0 + (self.y1 - self.y0) * share
            made.append(f'<path d="M{self.x0} {y:.0f}H{self.x1}" stroke="#eaeded"/>')
            left, right = self._highest(right=False) * share, self._highest(right=True) * share
            made.append(
                f'<text x="{self.x0 - 4}" y="{y + 4:.0f}" text-anchor="end" fill="#687078">{short(left)}</text>'
            )
            if any(side for _, side, _ in self.lines):
                made.append(f'<text x="{self.x1 + 4}" y="{y + 4:.0f}" fill="#687078">{short(right)}</text>')
        return made

    def _x(self, at: float) -> float:
        return self.x0 + (self.x1 - self.x0) * at / DAY_S

    def _lines(self) -> list[str]:
        made = []
        for place, (_, right, values) in enumerate(self.lines):
            highest = self._highest(right=right)
            path = " ".join(
                f"{self._x(at):.1f},{self.y0 + (self.y1 - self.y0) * value / highest:.1f}"
                for at, value in _thinned(values)
            )
            made.append(f'<polyline points="{path}" fill="none" stroke="{SHADES[place % 10]}" stroke-width="1.2"/>')
        return made

    def _stacked(self) -> list[str]:
        highest, made, below = self._highest(right=False), [], defaultdict[int, float](float)
        scale = (self.y0 - self.y1) / highest
        for place, (_, _, values) in enumerate(self.lines):
            bars = []
            for at, value in values:
                if value:
                    y = self.y0 - scale * (below[at] + value)
                    bars.append(f"M{self._x(at):.1f} {y:.1f}h1.3v{scale * value:.1f}h-1.3z")
                    below[at] += value
            made.append(f'<path d="{"".join(bars)}" fill="{SHADES[place % 10]}"/>')
        return made

    def _legend(self) -> list[str]:
        made, x, y = [], self.left + 10, self.top + self.height - 12
        for place, (label, _, _) in enumerate(self.lines):
            if x + 90 + 6 * len(label) > self.left + self.width:
                made.append(f'<text x="{x}" y="{y}" fill="#687078">and {len(self.lines) - place} more</text>')
                break
            made.append(f'<rect x="{x}" y="{y - 8}" width="9" height="9" fill="{SHADES[place % 10]}"/>')
            made.append(f'<text x="{x + 13}" y="{y}">{escape(label)}</text>')
            x += 26 + 6 * len(label)
        return made


def _thinned(values: list[tuple[int, float]]) -> list[tuple[int, float]]:
    """Without the points in the middle of a level stretch."""
    kept = [
        one
        for place, one in enumerate(values)
        if not 0 < place < len(values) - 1 or not values[place - 1][1] == one[1] == values[place + 1][1]
    ]
    return kept or values


def picture(lines: list[str], group: str) -> str:
    """The dashboard as it looks with the metrics of these documents."""
    body = json.loads(BODY.read_text().replace("THE-GROUP", group))
    points = extracted(lines)
    widgets = [Widget(entry, points) for entry in body["widgets"]]
    wide = max(widget.left + widget.width for widget in widgets) + PAD
    high = max(widget.top + widget.height for widget in widgets) + PAD
    made = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide} {high}" font-size="11" font-family="sans-serif">',
        "<title>The dashboard with a simulated day of a group</title>",
        f'<rect width="{wide}" height="{high}" fill="#f2f3f3"/>',
    ]
    for widget in widgets:
        made += widget.drawn()
    return "\n".join([*made, "</svg>"]) + "\n"


def main() -> int:
    """Write it."""
    PICTURE.write_text(picture(day("web", seed=7), "web"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
