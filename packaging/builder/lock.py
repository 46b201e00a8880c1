"""packaging/requirements.lock: every wheel that the packages hold, by version and hash.

Resolved for Python 3.11 and both architectures. Wheels that are bound to one Python are taken for the later ones too:
their libraries lie side by side under names of their own, and a host's newer Python finds the one that fits.
"""

from __future__ import annotations

import json
import re
import tempfile
import tomllib
from typing import TYPE_CHECKING

import tools

if TYPE_CHECKING:
    from pathlib import Path

PYTHON = "3.11"
LATER = ("3.12", "3.13", "3.14")
# glibc 2.28 and older: Debian 12, Ubuntu 24.04, Amazon Linux 2023 and RHEL 9 all have a later one.
TARGETS = {
    arch: tuple(f"{policy}_{machine}" for policy in ("manylinux_2_28", "manylinux_2_17", "manylinux2014"))
    for arch, machine in (("amd64", "x86_64"), ("arm64", "aarch64"))
}
HEADER = """\
# Written by `packaging/build --lock`: the wheels in the packages, for Python 3.11 and later, x86_64 and aarch64.
"""


def path(root: Path) -> Path:
    """Where the lock file is."""
    return root / "packaging" / "requirements.lock"


def carried(root: Path) -> list[str]:
    """What the packages hold: what every command needs but the demo. Their Python looks at nothing beside them."""
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    return [*project["dependencies"], *extras["control"], *extras["web"], *extras["sign"]]


def selection(arch: str, python: str) -> tuple[str, ...]:
    """pip's options for wheels of another machine."""
    platforms = [f"--platform={name}" for name in TARGETS[arch]]
    return ("--only-binary=:all:", f"--python-version={python}", "--implementation=cp", *platforms)


def refresh(root: Path) -> None:
    """Resolve the dependencies of pyproject.toml anew, and write the lock file."""
    wanted = carried(root)
    versions: dict[str, str] = {}
    hashes: dict[str, set[str]] = {}
    for arch in TARGETS:
        for item in _resolved(arch, PYTHON, wanted if not versions else [f"{n}=={v}" for n, v in versions.items()]):
            versions[item[0]] = item[1]
            hashes.setdefault(item[0], set()).add(item[2])
            if item[3]:
                for python in LATER:
                    later = _resolved(arch, python, [f"{item[0]}=={item[1]}"], "--no-deps")
                    hashes[item[0]].update(found[2] for found in later)
    text = HEADER
    for name in sorted(versions):
        lines = [f"{name}=={versions[name]}", *(f"    --hash=sha256:{digest}" for digest in sorted(hashes[name]))]
        text += " \\\n".join(lines) + "\n"
    path(root).write_text(text)


def _resolved(arch: str, python: str, wanted: list[str], *options: str) -> list[tuple[str, str, str, bool]]:
    """Name, version, SHA-256 and whether it is bound to one Python, of each wheel that would be installed."""
    with tempfile.TemporaryDirectory() as scratch:
        report = f"{scratch}/report.json"
        tools.run(*tools.pip(), "install", "--dry-run", "--ignore-installed", "--report", report, "--target", scratch,
                  *selection(arch, python), *options, *wanted)  # fmt: skip
        with open(report, encoding="utf-8") as file:  # noqa: PTH123 - a path of pip's
            found = json.load(file)["install"]
    result = []
    for item in found:
        archive = item["download_info"]
        bound = re.search(r"-cp\d+-cp\d+-", archive["url"]) is not None
        digest = archive["archive_info"]["hashes"]["sha256"]
        result.append(
            (re.sub(r"[-_.]+", "-", item["metadata"]["name"]).lower(), item["metadata"]["version"], digest, bound)
        )
    return result
