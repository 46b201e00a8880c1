"""Holds the plan of the house: the agent's rooms stand in layers, and no modules import each other in a circle.

Imports for types count as any other.
"""

from __future__ import annotations

import ast
from collections import Counter
from functools import cache
from pathlib import Path

import runner

ROOT = Path(runner.__file__).parent

# Imports go down only, and no room of the second layer knows another one of it. What stands in no room is the engine.
LAYERS = {
    **dict.fromkeys(("runs", "clocks", "execution_ids"), 0),
    "journal": 1,
    **dict.fromkeys(("intake", "supervision", "output", "reporting", "fleet", "host"), 2),
    "operator": 4,
    **dict.fromkeys(("daemon", "wiring", "shutdown", "reload", "directories"), 5),
}
ENGINE = 3

MOST_MODULES = 25
MOST_IN_A_ROOM = 16


@cache
def imports() -> dict[str, set[str]]:
    """By module, which modules of `runner` it imports, wherever in it and for whatever."""
    files = {".".join(path.relative_to(ROOT.parent).with_suffix("").parts): path for path in ROOT.rglob("*.py")}
    files = {name.removesuffix(".__init__"): path for name, path in files.items()}
    return {name: _imported(name, path, files) for name, path in files.items()}


def _imported(name: str, path: Path, files: dict[str, Path]) -> set[str]:
    package = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            start = ".".join([*above, *([node.module] if node.module else [])])
            below = {alias.name: f"{start}.{alias.name}" for alias in node.names}
            found |= {module if module in files else start for module in below.values()}
    return {module for module in found if module in files and module != name}


def circles(arrows: dict[str, set[str]]) -> set[frozenset[str]]:
    """The sets of modules in which each is reached from every other one."""
    reach: dict[str, set[str]] = {}
    for start in arrows:
        seen, todo = set[str](), [start]
        while todo:
            new = arrows[todo.pop()] - seen
            seen |= new
            todo.extend(new)
        reach[start] = seen
    return {
        frozenset(other for other in reach[module] if module in reach[other])
        for module in arrows
        if module in reach[module]
    }


def test_the_agents_rooms_import_downwards_only() -> None:
    found = set()
    for module, others in imports().items():
        for other in others:
            if module.startswith("runner.agent.") and other.startswith("runner.agent."):
                here, there = module.split(".")[2], other.split(".")[2]
                above, below = LAYERS.get(here, ENGINE), LAYERS.get(there, ENGINE)
                if below > above or (below == above == LAYERS["intake"] and here != there):
                    found.add((module.removeprefix("runner.agent."), other.removeprefix("runner.agent.")))
    assert not found, "an import up the layers, or from a room into the one beside it"


def test_no_modules_import_each_other_in_a_circle() -> None:
    assert not circles(imports())


def test_a_circle_is_found() -> None:
    arrows = {"a": {"b"}, "b": {"c"}, "c": {"b", "d"}, "d": set[str](), "e": {"e"}}
    assert circles(arrows) == {frozenset("bc"), frozenset("e")}


def test_no_folder_is_crowded() -> None:
    modules = Counter(path.parent.relative_to(ROOT).as_posix() for path in ROOT.rglob("*.py") if path.stem[:2] != "__")
    most = {folder: MOST_IN_A_ROOM if folder.startswith("agent") else MOST_MODULES for folder in modules}
    found = {folder for folder, count in modules.items() if count > most[folder]}
    assert not found


def test_what_a_run_is_asks_no_clock_and_no_file() -> None:
    asking = {"asyncio", "time", "os", "socket", "sqlite3", "structlog"}
    found = set()
    for path in (ROOT / "agent" / "runs").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            found |= {(path.relative_to(ROOT / "agent" / "runs").as_posix(), name) for name in names if name in asking}
    assert not found
