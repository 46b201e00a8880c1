"""The package for arm64 on this machine: its program and its libraries under qemu's emulation of a user's process.

Jobs are not started: who is emulated starts programs of the machine below.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import image

if TYPE_CHECKING:
    from report import Report

NEEDS = {"qemu-aarch64": "qemu-user", "mmdebstrap": "mmdebstrap"}
LIBRARIES = """\
import sys
sys.path.insert(0, "/usr/lib/cron-runner")
import _cffi_backend, markupsafe._speedups, psutil, re2
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from runner.supervisor import _spawn
assert re2.search("b+", "abbb").group() == "bbb"
key = Ed25519PrivateKey.generate()
key.public_key().verify(key.sign(b"job"), b"job")
assert callable(_spawn.start)
assert psutil.Process().memory_info().rss
"""


def run(report: Report, deb: Path) -> None:
    """What loads, and what answers."""
    if lacking := [package for program, package in NEEDS.items() if shutil.which(program) is None]:
        report.skip("the .deb for arm64 under qemu", f"apt-get install {' '.join(lacking)}")
        return
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch) / "root"
        with report.check("a Debian 12 for arm64, unpacked, with the package in it"):
            image.unpacked("arm64", root, ("python3", "libstdc++6", "libgcc-s1"))
            subprocess.run(["dpkg-deb", "-x", str(deb), str(root)], check=True)
        with report.check("its C part and its libraries load under qemu, and sign"):
            emulate(root, "/usr/bin/python3.11", "-ISB", "-c", LIBRARIES)
        with report.check("cron-runner answers under qemu"):
            assert emulate(root, "/usr/bin/python3.11", "-ISB", "/usr/bin/cron-runner", "--version").startswith(
                "cron-runner "
            )
            assert "usage: cron-runner" in emulate(
                root, "/usr/bin/python3.11", "-ISB", "/usr/bin/cron-runner", "--help"
            )


def emulate(root: Path, program: str, *words: str) -> str:
    """Paths are looked up below the root first."""
    found = [f"{root}{word}" if word.startswith("/usr/bin/") else word for word in (program, *words)]
    done = subprocess.run(
        ["qemu-aarch64", "-L", str(root), *found], capture_output=True, text=True, check=False, timeout=300
    )
    if done.returncode:
        raise AssertionError(f"{program} {words[-1]}: status {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout
