"""What a person reads: manual pages, completions, the changelog, and who holds which rights."""

from __future__ import annotations

import gzip
import re
import sys
import time
from typing import TYPE_CHECKING

import tools

if TYPE_CHECKING:
    from pathlib import Path

DOC = "usr/share/doc/cron-runner"
MAINTAINER = "cron-runner maintainers <maintainers@cron-runner.invalid>"
REVISION = "1"
LINTIAN = """\
# Guarded by /run/systemd/system. A restart that leaves jobs alone and a reload are not what debhelper's scripts do.
cron-runner: maintainer-script-calls-systemctl *
# Not made for Debian's archive.
cron-runner: initial-upload-closes-no-bugs *
"""
_MANUALS = {"cron-runner.1": "man1", "cron-runner.toml.5": "man5"}
_COMPLETIONS = {
    "bash": "usr/share/bash-completion/completions/cron-runner",
    "zsh": "usr/share/zsh/vendor-completions/_cron-runner",
    "fish": "usr/share/fish/vendor_completions.d/cron-runner.fish",
}


def write(source: Path, root: Path, home: Path, version: str, epoch: int) -> None:
    """All of it, below ``root``."""
    for name, section in _MANUALS.items():
        text = _said(home, "from runner.cli.manual import main; main(sys.argv[1:])", name)
        _put(root / f"usr/share/man/{section}/{name}.gz", _compressed(text))
    for shell, path in _COMPLETIONS.items():
        text = _said(home, "from runner.cli.main import entry; entry()", "completion", shell)
        _put(root / path, text.encode())
    doc = root / DOC
    _put(doc / "copyright", copyright_file(source, home).encode())
    _put(doc / "changelog.gz", _compressed((source / "CHANGELOG.md").read_text()))
    _put(doc / "changelog.Debian.gz", _compressed(debian_changelog(version, epoch)))
    _put(root / "usr/share/lintian/overrides/cron-runner", LINTIAN.encode())
    _put(doc / "config.example.toml", (source / "config.example.toml").read_bytes())


def _said(home: Path, code: str, *arguments: str) -> str:
    """What a program of the tree prints."""
    code = f"import sys; sys.path.insert(0, {str(home)!r}); {code}"
    return tools.run(sys.executable, "-ISB", "-c", code, *arguments)


def debian_changelog(version: str, epoch: int) -> str:
    """The one entry that lintian and apt-listchanges read; the changes themselves are in changelog.gz."""
    date = time.strftime("%a, %d %b %Y %H:%M:%S +0000", time.gmtime(epoch))
    return (
        f"cron-runner ({version}-{REVISION}) stable; urgency=medium\n\n"
        f"  * Release {version}; what changed is told in changelog.gz.\n\n"
        f" -- {MAINTAINER}  {date}\n"
    )


def rpm_changelog(version: str, date: str) -> list[dict[str, object]]:
    """The same one entry for the .rpm's header; ``date`` as RFC 3339."""
    note = f"Release {version}; what changed is told in /{DOC}/changelog.gz."
    return [{"semver": version, "date": date, "packager": MAINTAINER, "changes": [{"note": note}]}]


def copyright_file(source: Path, home: Path) -> str:
    """Debian's machine-readable format 1.0: ours, and each vendored package with the text of its licence."""
    licence = (source / "LICENSE").read_text()
    holder = next(line for line in licence.splitlines() if line.startswith("Copyright"))
    parts = [
        "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\nUpstream-Name: cron-runner\n",
        f"Files: *\nCopyright: {holder.removeprefix('Copyright').replace('(c)', '').strip()}\nLicense: MIT\n"
        + _indented(licence.partition("\n\n")[2] if licence.startswith("MIT") else licence),
    ]
    for info in sorted(home.glob("*.dist-info")):
        facts = (info / "METADATA").read_text(errors="replace").partition("\n\n")[0]
        name = info.name.partition("-")[0]
        texts = [path.read_text(errors="replace") for path in sorted(info.rglob("*")) if _is_licence(path)]
        top = sorted(path.name for path in home.iterdir() if path.name.lower().lstrip("_").startswith(_imported(name)))
        lines = "\n".join(texts).splitlines()
        holders = sorted({line.strip(" *#.") for line in lines if re.match(r"\W*Copyright .*\d{4}", line)})
        label = f"{name}-licence"
        parts.append(
            f"Files: {' '.join(f'usr/lib/cron-runner/{item}' for item in top)}\n"
            f"Copyright: {'; '.join(holders) or _field(facts, 'Author') or name + ' authors'}\n"
            f"License: {label}\n" + _indented("\n".join(map(_shortened, texts)) or _field(facts, "License-Expression"))
        )
    return "\n".join(parts)


def _shortened(text: str) -> str:
    """Debian has the long licences once on every host."""
    if "Apache License" in text and "TERMS AND CONDITIONS FOR USE" in text:
        return "Apache License, version 2.0. On Debian: /usr/share/common-licenses/Apache-2.0"
    return text


def _is_licence(path: Path) -> bool:
    return path.is_file() and path.name.upper().startswith(("LICEN", "NOTICE", "COPYING"))


def _imported(name: str) -> tuple[str, ...]:
    known = {"google_re2": "re2", "python_dateutil": "dateutil", "pyyaml": "yaml"}
    return (known.get(name.lower(), name.lower()), name.lower())


def _field(facts: str, name: str) -> str:
    found = re.search(rf"^{name}: (.+)$", facts, re.MULTILINE)
    return found[1] if found else ""


def _indented(text: str) -> str:
    return "".join(f" {line.rstrip() or '.'}\n" for line in text.strip().splitlines())


def _put(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def _compressed(text: str) -> bytes:
    """gzip without name and time."""
    return gzip.compress(text.encode(), compresslevel=9, mtime=0)
