"""Holds the direction of the imports: ``cli → agent → {aws, sinks} → protocol``."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

import runner

ROOT = Path(runner.__file__).parent
MODULES = sorted(ROOT.rglob("*.py"))

# What a room of `runner` may import of `runner`; the modules outside any room are rooms of their own.
MAY_IMPORT = {
    "protocol": set(),
    "supervisor": {"__version__"},
    "errors": {"protocol"},
    "deferred": set(),
    "config": {"protocol", "errors"},
    "visible": set(),
    "log": {"errors", "visible"},
    "log_shipping": {"errors"},
    "aws": {"protocol", "errors", "config", "deferred", "__version__"},
    "sinks": {"protocol", "errors", "config", "aws", "__version__"},
    # A host's keys, and theirs who sign; what a standing order's schedule means is `control`'s to say.
    "signing": {"protocol", "errors", "config", "control"},
    # Of the supervisor how it masks what it writes: the agent masks what it ships in the same way.
    "agent": {
        *(
            "protocol",
            "errors",
            "config",
            "aws",
            "sinks",
            "signing",
            "log",
            "log_shipping",
            "supervisor",
            "__version__",
        ),
    },
    # Runs in Lambda and on operators' machines: it knows no agent, and reads no host's configuration.
    "control": {"protocol", "errors", "aws", "__version__"},
    # Looks at what the agent would use, reads env files just as the supervisor will, and names the tz database.
    "check": {
        *("protocol", "errors", "config", "aws", "sinks", "agent", "signing", "supervisor", "control", "__version__"),
    },
    # Above the agent, which imports none of it: one message here and now, and a run's output read back.
    "once": {"protocol", "errors", "config", "aws", "sinks", "agent", "signing", "log", "visible", "__version__"},
    "reading": {"protocol", "errors", "config", "aws", "sinks", "agent", "__version__"},
    # A process of its own, which asks the agent by its socket: it imports none of it.
    "web": {"protocol", "errors", "config", "aws", "sinks", "control", "reading", "visible", "__version__"},
    "cli": {
        *("protocol", "errors", "config", "aws", "sinks", "agent", "once", "reading", "check", "control", "signing"),
        "web",
        *("log", "log_shipping", "visible", "__version__"),
    },
    "__main__": {"cli"},
    "__init__": set(),
}
AMAZON = {"boto3", "botocore", "mypy_boto3_sqs", "mypy_boto3_logs", "types_boto3_sqs", "types_boto3_logs"}
VAGUE = {"utils", "util", "common", "base", "manager", "helpers", "helper", "misc", "core"}


def room(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imported(path: Path, *, at_its_top: bool = False) -> set[tuple[str, ...]]:
    """What a module imports, wherever in it, by the parts of the name; of `runner` at least the room."""
    package = ("runner", *path.relative_to(ROOT).parts[:-1])
    found: set[tuple[str, ...]] = set()
    tree = ast.parse(path.read_text(), str(path))
    for node in tree.body if at_its_top else ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {tuple(alias.name.split(".")) for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            start = (*above, *(node.module.split(".") if node.module else ()))
            # `from runner import errors` imports a room by its name.
            found |= {(*start, alias.name) for alias in node.names} if start == ("runner",) else {start}
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_one_way(path: Path) -> None:
    here = room(path)
    ours = {parts[1] if len(parts) > 1 else "__version__" for parts in imported(path) if parts[0] == "runner"}
    assert ours <= MAY_IMPORT[here] | {here}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_only_aws_knows_boto3(path: Path) -> None:
    if room(path) != "aws":
        assert not AMAZON & {parts[0] for parts in imported(path)}


def test_the_supervisor_needs_the_standard_library_only() -> None:
    outside = {
        (str(path.relative_to(ROOT)), parts[0])
        for path in MODULES
        if room(path) == "supervisor"
        for parts in imported(path)
        if parts[0] not in sys.stdlib_module_names | {"runner"}
    }
    assert not outside


def test_every_module_is_named_for_what_it_does() -> None:
    assert not [path for path in MODULES if VAGUE & set(path.relative_to(ROOT).with_suffix("").parts)]


def test_importing_the_command_line_is_light() -> None:
    """``cron-runner --version`` has to be quick; the parser's module imports nothing heavy before it is needed."""
    of_cli = {"main", "printing", "interrupted", "start"}
    for module in of_cli:
        names = imported(ROOT / "cli" / f"{module}.py", at_its_top=True)
        ours = {parts[1:] for parts in names if parts[0] == "runner" and len(parts) > 1}
        assert {parts[0] for parts in ours} <= {"errors", "__version__", "cli", "visible"}
        assert {parts[1] for parts in ours if parts[0] == "cli" and len(parts) > 1} <= of_cli
