"""The one part in C, compiled for either architecture by a pinned compiler, so that it is the same everywhere."""

from __future__ import annotations

import sysconfig
import tempfile
from pathlib import Path

import elf
import tools

SOURCE = "runner/supervisor/_spawn.c"
# Not the host's glibc, but the oldest that the packages are for.
TARGETS = {"amd64": "x86_64-linux-gnu.2.28", "arm64": "aarch64-linux-gnu.2.28"}
FLAGS = (
    "-std=c11", "-O2", "-g0", "-Wall", "-Wextra", "-Werror", "-fPIC", "-shared", "-fvisibility=hidden", "-s",
    "-fno-sanitize=undefined", "-Wl,-z,relro,-z,now",
)  # fmt: skip


def start(source: Path, home: Path, arch: str) -> None:
    """Put the library of `SOURCE` beside its Python modules below ``home``."""
    headers = sysconfig.get_path("include")
    if not Path(headers, "Python.h").exists():
        raise tools.BuildError("cannot build: this Python has no headers; install python3-dev (libpython3.11-dev)")
    library = (home / SOURCE).with_suffix(".abi3.so")
    with tempfile.TemporaryDirectory() as scratch:
        made = f"{scratch}/_spawn.so"
        tools.run(tools.zig(), "cc", "-target", TARGETS[arch], *FLAGS, f"-I{headers}", "-o", made, source / SOURCE,
                  ZIG_GLOBAL_CACHE_DIR=scratch, ZIG_LOCAL_CACHE_DIR=scratch)  # fmt: skip
        library.write_bytes(elf.stripped(Path(made).read_bytes()))
