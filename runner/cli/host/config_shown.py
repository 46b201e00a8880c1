"""``cron-runner config show``: what is in force, and from where each value comes."""

from __future__ import annotations

import json
import os
import re
from dataclasses import asdict, is_dataclass
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from runner.cli import printing

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping, Sequence

    from runner.config import Config
    from runner.config.keys import Key

EXAMPLE: Final = """\
cron-runner config show
cron-runner config show --set
cron-runner config show --json | jq '.keys[] | select(.from != "default")'
"""
_VARIABLE: Final = "environment variable "
_HEADER: Final = re.compile(r"\s*\[\s*([^\[\]]+?)\s*\]")
_KEY: Final = re.compile(r"\s*([A-Za-z0-9_.\"'-]+)\s*=")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The words below it."""
    from runner.cli.words import Words  # noqa: PLC0415 - main imports this module when it is asked for

    parser.epilog = (
        "As a daemon that is started now would read it: a running one may have begun with another file; see\n"
        "docs/metrics.md for what a reload changes. Values of variables whose names [output] redact matches are\n"
        "masked.\n"
        f"Exit status: 0, 78 the configuration is at fault.\n\n{parser.epilog}"
    )
    shown = Words(parser, "config").add(
        "show",
        "every key with its value, and where that comes from; the declared jobs",
        "--set",
        says="Every key with its value, and where that comes from: the default, a file and its line, or a "
        "variable; and the declared jobs.",
        json=False,
    )
    shown.add_argument("--set", action="store_true", help="only what is not the default")
    shown.add_argument("--json", action="store_true", help="print JSON")


def execute(args: argparse.Namespace) -> int:
    """Show it. Raises ConfigError."""
    from runner.cli import unit_environment  # noqa: PLC0415 - `--help` needs none of it
    from runner.config.keys import KEYS  # noqa: PLC0415
    from runner.config.reader import traced  # noqa: PLC0415

    unit_environment.take(args.config)
    config, origins, of_jobs = traced(args.config, os.environ)
    keys = [_key(config, key, origins.get(key.path)) for key in KEYS.values()]
    if args.set:
        keys = [key for key in keys if key["from"] != "default"]
    jobs = [_job(config, name, of_jobs.get(name, "")) for name in config.jobs]
    if args.json:
        printing.document({"file": str(config.source) if config.source else None, "keys": keys, "jobs": jobs})
        return 0
    printing.lines(*_lines(keys, jobs))
    return 0


def _key(config: Config, key: Key, origin: str | None) -> dict[str, Any]:
    from runner.config import keys  # noqa: PLC0415 - as above

    value: Any = config
    for name in key.path.split("."):
        value = getattr(value, name) if hasattr(value, name) else attrgetter(f"{name}_")(value)
    shown = _masked(value, config.output.redact)
    told: dict[str, Any] = {"key": key.path, "value": _plain(shown), "from": "default", "file": None, "line": None}
    told |= {"variable": key.variable, "restart": key.setting.fixed}
    if origin is not None and origin.startswith(_VARIABLE):
        told["from"] = "environment"
    elif origin is not None:
        told |= {"from": "file", "file": origin, "line": line_of(origin, key.path, frozenset(keys.SECTIONS))}
    return told


def _job(config: Config, name: str, origin: str) -> dict[str, Any]:
    from runner.agent.runs.secrets import secrets_in, shown  # noqa: PLC0415 - as above

    job = config.jobs[name]
    env = dict(job.env or {})
    said = {
        field: value
        for field, value in asdict(job).items()
        if value not in (None, (), {}, False) and field not in ("name", "env", "command", "stdin")
    }
    command = shown(job.command or "", secrets_in(env, config.output.redact))
    told = {"job": name, "command": command, "file": origin or None}
    return {**told, "env": _plain(_masked(env, config.output.redact)), **{key: _plain(v) for key, v in said.items()}}


def _masked(value: Any, patterns: Sequence[str]) -> Any:
    """Tables of variables, without the values that nobody may see."""
    from runner.agent.runs.secrets import MASK, matches  # noqa: PLC0415 - as above

    if not isinstance(value, dict) and not hasattr(value, "items"):
        return value
    table: Mapping[str, Any] = value
    return {
        name: MASK if isinstance(text, str) and text and matches(name, patterns) else text
        for name, text in table.items()
    }


def _plain(value: Any) -> Any:
    """As JSON has it."""
    if is_dataclass(value) and not isinstance(value, type):
        return _plain(asdict(value))
    if isinstance(value, dict):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def line_of(file: str, path: str, sections: frozenset[str]) -> int | None:
    """The line in which a file sets this key, by any of TOML's ways to name it; None where it is not found."""
    try:
        lines = Path(file).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return None
    table = ""
    for number, line in enumerate(lines, 1):
        if header := _HEADER.match(line):
            table = _spelt(header[1])
        elif key := _KEY.match(line):
            name = f"{table}.{_spelt(key[1])}" if table else _spelt(key[1])
            # `run = { user = … }` sets all of a table, and `run.env.A = …` a part of a value.
            if name == path or path.startswith(f"{name}.") or (name.startswith(f"{path}.") and path not in sections):
                return number
        if line.strip().startswith("[") and table == path and path not in sections:
            return number
    return None


def _spelt(text: str) -> str:
    return ".".join(part.strip().strip("\"'") for part in text.split("."))


def _lines(keys: Sequence[Mapping[str, Any]], jobs: Sequence[Mapping[str, Any]]) -> list[str]:
    from runner.cli.fleet import aligned  # noqa: PLC0415 - as above

    rows = [(key["key"], json.dumps(key["value"]), _from(key)) for key in keys]
    lines = aligned(("KEY", "VALUE", "FROM"), rows, "KEY") if rows else ["nothing is set: all is as by default"]
    if jobs:
        rows = [(job["job"], job["command"], job["file"] or "-") for job in jobs]
        lines += ["", *aligned(("JOB", "COMMAND", "FROM"), rows, "JOB")]
    return lines


def _from(key: Mapping[str, Any]) -> str:
    if key["from"] == "environment":
        return f"${key['variable']}"
    if key["from"] == "file":
        return f"{key['file']}:{key['line']}" if key["line"] else str(key["file"])
    return "default"
