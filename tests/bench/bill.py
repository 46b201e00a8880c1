"""The table and the chart of docs/cost.md, from the counts and prices of `runner.control.cost`: writes them there."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Final
from xml.sax.saxutils import escape

from runner.control.cost import Fleet, bill, hosts_alone

DOCS: Final = Path(__file__).resolve().parents[2] / "docs"
FLEETS: Final = (
    Fleet(hosts=1, groups=1, jobs=50, runs=30_000),
    Fleet(hosts=10, groups=3, jobs=500, runs=300_000),
    Fleet(hosts=100, groups=10, jobs=2000, runs=3_000_000),
    Fleet(hosts=1000, groups=40, jobs=10_000, runs=20_000_000),
    Fleet(hosts=5000, groups=100, jobs=50_000, runs=100_000_000),
)
SHADES: Final = {"runs": "#2b6cb0", "hosts": "#dd6b20", "minutes": "#718096"}
WIDTH, BAR, GAP, LEFT = 720, 34, 18, 190


def sums(fleet: Fleet) -> dict[str, float]:
    """USD by who causes it."""
    lines = bill(fleet)
    return {by: sum(line.usd for line in lines if line.by == by) for by in SHADES}


def table() -> str:
    """A row for each fleet."""
    head = (
        "| hosts | jobs | runs a month | by runs | by hosts | by minutes | USD a month | claims and directives of it |"
    )
    rows = [head, "|---|---|---|---|---|---|---|---|"]
    for one in FLEETS:
        of = sums(one)
        parts = " | ".join(f"{of[by]:,.2f}" for by in SHADES)
        said = f"{one.hosts:,} | {one.jobs:,} | {one.runs:,.0f} | {parts} | {sum(of.values()):,.2f}"
        rows.append(f"| {said} | {hosts_alone(one.hosts, one.runs):,.2f} |")
    return "\n".join(rows)


def chart() -> str:
    """A bar for each fleet, its whole length the bill: where the money goes, whatever the size."""
    height = GAP + len(FLEETS) * (BAR + GAP) + 34
    made = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-size="13"',
        ' font-family="sans-serif">',
        "<title>What runs, hosts and minutes are of the monthly bill</title>",
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
    ]
    top, room = GAP, WIDTH - LEFT - 110
    for one in FLEETS:
        of, left = sums(one), float(LEFT)
        total = sum(of.values())
        label = escape(f"{one.hosts:,} hosts, {one.runs / 1e6:g}M runs")
        made.append(f'<text x="{LEFT - 10}" y="{top + 22}" text-anchor="end">{label}</text>')
        for by, shade in SHADES.items():
            wide = room * of[by] / total
            made.append(f'<rect x="{left:.1f}" y="{top}" width="{wide:.1f}" height="{BAR}" fill="{shade}"/>')
            left += wide
        made.append(f'<text x="{left + 8:.1f}" y="{top + 22}">{total:,.0f} USD</text>')
        top += BAR + GAP
    for place, (by, shade) in enumerate(SHADES.items()):
        at = LEFT + 110 * place
        made.append(f'<rect x="{at}" y="{top}" width="14" height="14" fill="{shade}"/>')
        made.append(f'<text x="{at + 20}" y="{top + 12}">{by}</text>')
    return "\n".join([*made, "</svg>"]) + "\n"


def main() -> int:
    """Write both."""
    page = DOCS / "cost.md"
    page.write_text(re.sub(r"\| hosts \|.*?\n(?=\n)", lambda _: table() + "\n", page.read_text(), flags=re.DOTALL))
    (DOCS / "cost.svg").write_text(chart())
    return 0


if __name__ == "__main__":
    sys.exit(main())
