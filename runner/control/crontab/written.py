"""Jobs as the text of a job file in TOML, with what could not be said as comments. Pure."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from runner.control.crontab.jobs import Job

_BARE: Final = re.compile(r"[A-Za-z0-9_-]+")


def job_file(
    source: str, jobs: Sequence[Job], defaults: Mapping[str, str], queue: str | None, said: Sequence[str]
) -> str:
    """The whole file; ``said`` is what holds for all of it."""
    lines = [f"# Made of {source} by `cron-runner jobs import crontab`.", *(f"# {line}" for line in said), ""]
    if queue is not None:
        lines += [f"[groups.{key(defaults['group'])}]", f"queue = {text(queue)}", ""]
    lines += ["[defaults]", *(f"{name} = {text(value)}" for name, value in defaults.items())]
    for job in jobs:
        lines += ["", *_comment(f"line {job.number}: {job.text}")]
        if job.name is None:
            lines += [one for note in job.notes for one in _comment(f"NOT IMPORTED: {note}")]
            continue
        lines += [one for note in job.notes for one in _comment(f"note: {note}")]
        lines += [f"[jobs.{key(job.name)}]", *(f"{name} = {_value(value)}" for name, value in job.fields.items())]
    return "\n".join(lines) + "\n"


def _comment(said: str) -> list[str]:
    """TOML takes no control characters but tabs in a comment."""
    return [f"# {''.join(char if char.isprintable() or char == chr(9) else '?' for char in said)}"]


def key(name: str) -> str:
    """A key, in quotes where it has to be."""
    return name if _BARE.fullmatch(name) else text(name)


def text(value: str) -> str:
    """A basic string. JSON's escapes are TOML's, but for halves of pairs and the delete character."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _value(value: Any) -> str:
    if isinstance(value, str):
        return text(value)
    if isinstance(value, list):
        return f"[{', '.join(_value(one) for one in value)}]"
    return f"{{ {', '.join(f'{key(name)} = {_value(one)}' for name, one in value.items())} }}"
