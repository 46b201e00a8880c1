"""What a message tells somebody to type works as typed, on every way of installing, and installs nobody else's."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from runner.cli import remedy

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
ABSENT = ("no_such_module_here",)
METADATA = """Metadata-Version: 2.1
Name: cron-runner
Version: 0
Requires-Dist: boto3>=1.35
Provides-Extra: control
Requires-Dist: cronsim>=2.6; extra == 'control'
Requires-Dist: pyyaml>=6; extra == 'control'
Provides-Extra: demo
Requires-Dist: flask>=3; extra == 'demo'
Requires-Dist: cron-runner[control]; extra == 'demo'
"""
BACKEND = """
import pathlib
def get_requires_for_build_editable(config_settings=None): return []
def prepare_metadata_for_build_editable(folder, config_settings=None):
    info = pathlib.Path(folder, "cron_runner-0.dist-info"); info.mkdir()
    text = "Metadata-Version: 2.1\\nName: cron-runner\\nVersion: 0\\nProvides-Extra: control\\n"
    (info / "METADATA").write_text(text)
    (info / "WHEEL").write_text("Wheel-Version: 1.0\\n")
    return info.name
def build_editable(*arguments, **named): raise SystemExit
def build_wheel(*arguments, **named): raise SystemExit
"""


def typed(text: str, **environment: str) -> str:
    """Type what stands behind `type: `; pip says what it would install, and asks no index."""
    [command] = re.findall(r"type: (.+)$", text)
    pip = {"PIP_DRY_RUN": "1", "PIP_NO_INDEX": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1"}
    done = subprocess.run(
        ["/bin/sh", "-c", command], env={**os.environ, **pip, **environment},
        capture_output=True, text=True, timeout=100, check=False, cwd="/",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def wheel(folder: Path, name: str) -> None:
    with zipfile.ZipFile(folder / f"{name}-9-py3-none-any.whl", "w") as file:
        file.writestr(f"{name}-9.dist-info/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 9\n")
        file.writestr(f"{name}-9.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        file.writestr(f"{name}-9.dist-info/RECORD", "")


def test_nothing_is_to_be_typed_where_all_is_there() -> None:
    assert remedy.missing("control", ("sys", "json")) == ""


def test_from_a_checkout_the_checkout_is_named(tmp_path: Path) -> None:
    home = tmp_path / "a check out"
    home.mkdir()
    (home / "pyproject.toml").write_text(
        '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
    )
    (home / "backend.py").write_text(BACKEND)
    said = remedy.missing("control", ABSENT, home)
    assert f"'{home}[control]'" in said
    assert "Would install cron-runner-0" in typed(said)
    assert str(ROOT) in remedy.missing("demo", ABSENT)


def test_where_it_was_installed_by_pip_the_packages_are_named_and_not_ours(tmp_path: Path) -> None:
    info = tmp_path / "site/cron_runner-0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(METADATA)
    for name in ("cronsim", "pyyaml", "flask"):
        wheel(tmp_path, name)
    said = remedy.missing("demo", ABSENT, info.parent)
    assert said == f"type: {sys.executable} -m pip install 'cronsim>=2.6' 'flask>=3' 'pyyaml>=6'"
    typed(said, PIP_FIND_LINKS=str(tmp_path))


def test_a_package_of_the_distribution_names_no_pip_of_its_own(tmp_path: Path) -> None:
    said = remedy.missing("demo", ABSENT, tmp_path)
    assert said == ("in a checkout of cron-runner type: python3 -m venv .venv && .venv/bin/pip install -e '.[demo]'")


def texts() -> Iterator[Path]:
    for folder in ("runner", "docs", "packaging", "systemd"):
        yield from (
            path for path in (ROOT / folder).rglob("*") if path.is_file() and path.suffix not in (".so", ".pyc")
        )
    yield from ROOT.glob("*.*")


def test_no_text_tells_anybody_to_install_our_name_from_pypi() -> None:
    pattern = re.compile(r"pip3? install[^\n]*[\s'\"]cron-runner\b(?![-/.])")
    for path in filter(Path.is_file, texts()):
        found = pattern.search(path.read_text("utf-8", "replace"))
        assert found is None, f"{path}: {found and found[0]}"


@pytest.mark.parametrize("module", ["cronsim", "yaml", "tzdata"])
def test_what_the_commands_of_a_package_need_is_in_it(module: str) -> None:
    distribution = {"yaml": "pyyaml"}.get(module, module)
    assert re.search(rf"^{distribution}==", (ROOT / "packaging/requirements.lock").read_text(), re.MULTILINE)
