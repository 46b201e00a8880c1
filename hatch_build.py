"""The wheel's one compiled part: built where there is a C compiler and Python's headers, left out where not.

The supervisor starts jobs without it too, only dearer, so its want is no reason for an installation to fail.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SOURCE = "runner/supervisor/_spawn.c"
LIBRARY = "runner/supervisor/_spawn.abi3.so"


class SpawnHook(BuildHookInterface):  # type: ignore[type-arg]
    """Compiles `SOURCE` into the wheel; for an editable one beside its source."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if self.target_name != "wheel" or sys.platform != "linux":
            return
        self._scratch = Path(tempfile.mkdtemp())
        made = self._scratch / "_spawn.abi3.so"
        if why := compiled(Path(self.root, SOURCE), made):
            self.app.display_warning(f"jobs will start by fork, which costs more CPU: cannot compile {SOURCE}: {why}")
            return
        if version == "editable":
            place = Path(self.root, LIBRARY)
            new = place.with_suffix(f".{os.getpid()}")
            shutil.copyfile(made, new)
            new.chmod(0o755)
            new.replace(place)  # a running supervisor has the old one mapped
            return
        build_data["force_include"][str(made)] = LIBRARY
        build_data["pure_python"] = False
        build_data["tag"] = f"cp311-abi3-{sysconfig.get_platform().replace('-', '_').replace('.', '_')}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:  # noqa: ARG002 - hatch's
        if scratch := getattr(self, "_scratch", None):
            shutil.rmtree(scratch, ignore_errors=True)


def compiled(source: Path, target: Path) -> str:
    """Nothing, or why it could not be compiled."""
    compiler = (os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc").split()[0]
    for name in (compiler, "cc", "gcc", "clang"):
        if shutil.which(name):
            break
    else:
        return "there is no C compiler"
    headers = sysconfig.get_path("include")
    if not Path(headers, "Python.h").exists():
        return "there are no headers of this Python (Debian: python3-dev)"
    line = [name, *FLAGS, f"-I{headers}", "-o", str(target), str(source)]
    done = subprocess.run(line, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else f"{name} says {done.stderr.strip()[-500:]}"


FLAGS = ("-std=c11", "-O2", "-fPIC", "-shared", "-fvisibility=hidden", "-Wl,-z,relro,-z,now")
