"""A tree and its maintainer scripts, put together by nfpm."""

from __future__ import annotations

import fnmatch
import json
import time
from typing import TYPE_CHECKING

import paper
import tools
import tree

if TYPE_CHECKING:
    from pathlib import Path

FORMATS = ("deb", "rpm")
_PYTHON = {"deb": "/usr/bin/python3", "rpm": "/usr/bin/python3.11"}
_DEPENDS = {
    # The bus: the agent asks systemd over it what a stop is about. The libraries: google-re2.
    "deb": [
        "python3 (>= 3.11)", "systemd (>= 249)", "default-dbus-system-bus | dbus-system-bus", "libc6 (>= 2.28)",
        "libgcc-s1", "libstdc++6",
    ],
    "rpm": ["python3.11", "systemd >= 249", "dbus", "libstdc++", "glibc >= 2.28"],
}  # fmt: skip
_SCRIPTS = {
    "deb": {
        "preinstall": "deb/preinst",
        "postinstall": "deb/postinst",
        "preremove": "deb/prerm",
        "postremove": "deb/postrm",
    },
    "rpm": {"preinstall": "rpm/pre", "postinstall": "rpm/post", "preremove": "rpm/preun", "postremove": "rpm/postun"},
}
# What is for one format only. Compiled code: rpm's Python is always 3.11; on Debian postinst compiles for its own.
_ONLY = (
    ("rpm", "*.pyc"), ("rpm", "*/__pycache__"), ("deb", "*.cpython-31[2-9]-*.so"), ("deb", "*/changelog.Debian.gz"),
    ("deb", "usr/share/lintian*"),
)  # fmt: skip
_MOVED = {"rpm": {"usr/share/zsh/vendor-completions": "usr/share/zsh/site-functions"}}
# What rpm may leave out (--excludedocs), and lists with -d.
_DOCUMENTS = ("usr/share/doc/", "usr/share/man/")
_ROOT_TREES = ("usr/lib/cron-runner", "usr/share/doc/cron-runner", "etc/cron-runner")


def make(source: Path, work: Path, made: tree.Made, kind: str) -> Path:
    """Write one package under ``work`` and return its path."""
    tree.launchers(made.root, _PYTHON[kind])
    tree.settle(made.root, made.epoch)
    config = work / f"nfpm-{kind}.json"
    changelog = None
    if kind == "rpm":
        changelog = work / "changelog-rpm.json"
        changelog.write_text(json.dumps(paper.rpm_changelog(made.version, _rfc3339(made.epoch))))
    config.write_text(json.dumps(description(source, made, kind, changelog), indent=1))
    name = (
        f"cron-runner_{made.version}-{paper.REVISION}_{made.arch}.deb"
        if kind == "deb"
        else f"cron-runner-{made.version}-{paper.REVISION}.{ {'amd64': 'x86_64', 'arm64': 'aarch64'}[made.arch] }.rpm"
    )
    target = work / name
    tools.run(tools.nfpm(), "package", "--config", config, "--packager", kind, "--target", target,
              SOURCE_DATE_EPOCH=str(made.epoch), TZ="UTC")  # fmt: skip
    return target


def description(source: Path, made: tree.Made, kind: str, changelog: Path | None = None) -> dict[str, object]:
    """nfpm's configuration: JSON is YAML. ``changelog`` is a file of goreleaser/chglog's, for the .rpm's header."""
    scripts = source / "packaging/scripts"
    facts: dict[str, object] = {
        "name": "cron-runner",
        "arch": made.arch,
        "platform": "linux",
        "version": made.version,
        "release": paper.REVISION,
        "version_schema": "none",
        "section": "admin",
        "priority": "optional",
        "maintainer": paper.MAINTAINER,
        "description": (
            "task runner of a distributed cron on AWS\n"
            "Turns messages on an SQS queue into supervised processes on this host, ships\n"
            "their output to CloudWatch Logs and tells their outcome to a results queue.\n"
            "Jobs go on when the agent is restarted, upgraded or killed."
        ),
        "license": "MIT",
        "depends": _DEPENDS[kind],
        "mtime": _rfc3339(made.epoch),
        "contents": list(contents(made, kind)),
        "scripts": {when: str(scripts / path) for when, path in _SCRIPTS[kind].items()},
        **({"changelog": str(changelog)} if changelog is not None else {}),
        "deb": {"compression": "xz"},
        "rpm": {
            "compression": "zstd:19",
            "buildhost": "localhost",
            "summary": "Task runner of a distributed cron on AWS",
            "group": "System Environment/Daemons",
            "scripts": {"posttrans": str(scripts / "rpm/posttrans")},
        },
    }
    return facts


def contents(made: tree.Made, kind: str) -> list[dict[str, object]]:
    """Every file by itself, so that its kind, mode and time are said and not guessed."""
    found: list[dict[str, object]] = []
    for path in sorted(made.root.rglob("*")):
        name = str(path.relative_to(made.root))
        if any(kind != wanted and fnmatch.fnmatch(name, pattern) for wanted, pattern in _ONLY):
            continue
        info: dict[str, object] = {"mode": path.stat().st_mode & 0o777, "mtime": _rfc3339(made.epoch)}
        if path.is_dir():
            if name.startswith(_ROOT_TREES):
                found.append({"dst": f"/{name}", "type": "dir", "file_info": info})
            continue
        target = name
        for old, new in _MOVED.get(kind, {}).items():
            target = target.replace(old, new)
        entry: dict[str, object] = {"src": str(path), "dst": f"/{target}", "file_info": info}
        if name.startswith("etc/"):
            entry["type"] = "config|noreplace"
        elif kind == "rpm" and name.startswith(_DOCUMENTS):
            entry["type"] = "license" if name.endswith("/copyright") else "doc"
        found.append(entry)
    return found


def _rfc3339(epoch: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(epoch))
