"""What to type so that a part of cron-runner which is not installed will be, on this way of installing.

Never pip with our own name: on PyPI that name is somebody else's.
"""

from __future__ import annotations

import shlex
import sys
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import runner

_OURS: Final = "cron-runner"
_FRESH: Final = "python3 -m venv .venv && .venv/bin/pip install -e '.[{extra}]'"


def missing(extra: str, modules: tuple[str, ...], home: Path | None = None) -> str:
    """What to type for an extra of pyproject.toml; "" where its modules are all there.

    ``home`` is where the package `runner` lies.
    """
    if all(find_spec(name) for name in modules):
        return ""
    home = home or Path(runner.__file__).parents[1]
    if (home / "pyproject.toml").exists():
        return f"type: {_pip()} install -e {shlex.quote(f'{home}[{extra}]')}"
    wanted = [shlex.quote(line) for line in sorted(_wanted(extra, home))]
    if wanted:
        return f"type: {_pip()} install {' '.join(wanted)}"
    # A package of the distribution, whose Python looks at nothing beside it.
    return f"in a checkout of cron-runner type: {_FRESH.format(extra=extra)}"


def _pip() -> str:
    python = shlex.quote(sys.executable)
    return f"{python} -m pip" if find_spec("pip") else f"{python} -m ensurepip && {python} -m pip"


def _wanted(extra: str, home: Path) -> set[str]:
    """The requirements of an extra, those of our other extras that it names included; none without metadata."""
    found: set[str] = set()
    for distribution in metadata.distributions(name=_OURS, path=[str(home)]):
        for line in distribution.requires or ():
            wanted, _, marker = (part.strip() for part in line.partition(";"))
            if marker.replace("'", '"') != f'extra == "{extra}"':
                continue
            if wanted.startswith(f"{_OURS}["):
                found |= _wanted(wanted.partition("[")[2].partition("]")[0], home)
            else:
                found.add(wanted)
    return found
