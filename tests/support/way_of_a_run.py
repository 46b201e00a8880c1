"""Makes docs/way-of-a-run.md of the table: `python tests/support/way_of_a_run.py > docs/way-of-a-run.md`."""

from __future__ import annotations

import sys
from itertools import groupby

from runner.agent.runs.inputs import INPUTS
from runner.agent.runs.standing import Phase
from runner.agent.runs.step import TABLE, Order, Rule

HEAD = """# The way of a run

Made from the table in `runner/agent/runs/step.py` by `tests/support/way_of_a_run.py`; a test holds the two equal.

A run is in a **phase**; something **happens** to it (`runs/inputs.py`); the first row that fits says in which phase it
is then, and which **orders** are carried out, one after the other. The last order brings the next thing that happens.
Where no row stands for a phase, it cannot happen there: a fault of ours, raised under test and logged in production.
`–`: it is no run of this host any more.

"""
WORDS = {
    Phase.CLAIMING: "its turn has come, and the fleet is asked who may have it; it has no row yet",
    Phase.ACCEPTED: "in the journal, on its way to a process",
    Phase.RUNNING: "its process is there",
    Phase.COLLECTING: "its process is gone; its output comes, its end is not told",
    Phase.BACKOFF: "told, and to be tried again",
    Phase.ENDED: "told for good; what is owed for it is paid, its message last",
}


def page() -> str:
    """The whole page."""
    text = [HEAD]
    for phase, words in WORDS.items():
        text.append(f"## {phase}: {words}\n\n| happens | when | then | orders |\n|---|---|---|---|\n")
        text += [_line(rule) for rule in _in_order(phase)]
        text.append("\n")
    text.append("## The inputs\n\n| input | means |\n|---|---|\n")
    text += [f"| {kind.__name__} | {_first(kind.__doc__)} |\n" for kind in INPUTS]
    text.append("\n## The orders\n\n| order | means |\n|---|---|\n")
    text += [f"| {_name(order)} | {order.value} |\n" for order in Order]
    return "".join(text)


def _in_order(phase: Phase) -> list[Rule]:
    of_phase = sorted((rule for rule in TABLE if rule.phase is phase), key=lambda rule: INPUTS.index(rule.on))
    return [rule for _, rules in groupby(of_phase, key=lambda rule: rule.on) for rule in rules]


def _line(rule: Rule) -> str:
    orders = " · ".join(_name(order) for order in rule.orders) or "nothing"
    return f"| {rule.on.__name__} | {rule.when} | {rule.then or '–'} | {orders} |\n"


def _name(order: Order) -> str:
    return order.name.lower().replace("_", " ")


def _first(words: str | None) -> str:
    return " ".join((words or "").split())


if __name__ == "__main__":
    sys.stdout.write(page())
