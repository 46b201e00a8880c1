"""``packaging/build``: the .deb and the .rpm of this checkout, the same bit for bit wherever they are built."""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import lock
import package
import tools
import tree

ROOT = Path(__file__).resolve().parents[2]
EPILOG = """\
examples:
  packaging/build                      .deb and .rpm for this machine's architecture, into dist/
  packaging/build --arch arm64         for the other one; nothing of it is run
  packaging/build --lock               resolve the dependencies anew and write packaging/requirements.lock
"""


def main() -> int:
    """Build what the arguments say and print a line for each package. Returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="packaging/build",
        description=__doc__.partition("\n")[0],
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    here = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), "amd64")
    parser.add_argument("--arch", choices=sorted(lock.TARGETS), default=here)
    parser.add_argument("--format", choices=package.FORMATS, action="append", help="may be repeated; default: both")
    parser.add_argument("--out", type=Path, default=ROOT / "dist", help="default: dist/")
    parser.add_argument("--version", help="default: the one in runner/__init__.py")
    parser.add_argument("--lock", action="store_true", help="only refresh the lock file")
    args = parser.parse_args()
    if sys.version_info[:2] != (3, 11):
        sys.stderr.write(
            f"cannot build: the packages hold code compiled by Python 3.11, and this is "
            f"{platform.python_version()}; set PYTHON=python3.11\n"
        )
        return 1
    try:
        if args.lock:
            lock.refresh(ROOT)
            return 0
        build(args.arch, args.format or list(package.FORMATS), args.out, args.version)
    except tools.BuildError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except subprocess.CalledProcessError as error:
        sys.stderr.write(f"cannot build: {' '.join(map(str, error.cmd[:6]))} … ended with status {error.returncode}\n")
        return 1
    return 0


def build(arch: str, formats: list[str], out: Path, version: str | None) -> None:
    """Make the packages in a directory of their own, then put them where they are wanted."""
    os.umask(0o022)
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="cron-runner-build-") as scratch:
        work = Path(scratch)
        made = tree.make(ROOT, work, arch, version)
        for kind in formats:
            path = package.make(ROOT, work, made, kind)
            done = out / path.name
            shutil.move(path, done)
            sys.stdout.write(f"{done}  {done.stat().st_size / 1e6:.1f} MB, {made.installed / 1e6:.1f} MB installed\n")


if __name__ == "__main__":
    sys.exit(main())
