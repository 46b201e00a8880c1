"""A minimal Debian 12 with systemd: made once, by mmdebstrap from the sources that this machine's own apt uses."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

HERE = Path(__file__).resolve().parent
CACHE = HERE.parents[1] / "build" / "packaging-tests"
SUITE = "bookworm"
# What a cloud's image has as well; of this product's dependencies nothing is missing, as there is no network inside.
INCLUDE = ("systemd", "systemd-sysv", "dbus", "libpam-systemd", "python3", "procps", "iproute2", "man-db", "passwd")


def base() -> Path:
    """The tar file of the root file system."""
    wanted = hashlib.sha256(" ".join((SUITE, *INCLUDE)).encode()).hexdigest()[:12]
    path = CACHE / f"base-{wanted}.tar"
    if not path.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        new = path.with_suffix(".new.tar")
        subprocess.run(
            ["mmdebstrap", "--quiet", "--mode=root", "--variant=minbase", f"--include={','.join(INCLUDE)}", SUITE,
             str(new), *_sources()],
            check=True,
        )  # fmt: skip
        new.rename(path)
    return path


def unpacked(architecture: str, at: Path, packages: tuple[str, ...]) -> None:
    """Debian 12's files of another architecture, at a path; nothing of them is run."""
    subprocess.run(
        ["mmdebstrap", "--quiet", f"--architectures={architecture}", "--variant=extract",
         f"--include={','.join(packages)}", SUITE, str(at), *_sources()],
        check=True, capture_output=True,
    )  # fmt: skip


def _sources() -> list[str]:
    """Files of apt's that name Debian 12; none: the default of mmdebstrap."""
    found = [Path("/etc/apt/sources.list"), *sorted(Path("/etc/apt/sources.list.d").glob("*"))]
    return [
        str(path) for path in found if path.is_file() and SUITE in path.read_text() and "debian.org" in path.read_text()
    ]


def directory(at: Path) -> Path:
    """The base unpacked at a path, with the mailbox in it."""
    shutil.rmtree(at, ignore_errors=True)
    at.mkdir(parents=True)
    subprocess.run(["tar", "-xf", str(base()), "-C", str(at), "--exclude=./dev/*"], check=True)
    (at / "mailbox").mkdir()
    shutil.copy(HERE / "inside/mailbox.py", at / "opt/mailbox.py")
    unit = at / "etc/systemd/system/mailbox.service"
    shutil.copy(HERE / "inside/mailbox.service", unit)
    wants = at / "etc/systemd/system/sysinit.target.wants"
    wants.mkdir(parents=True, exist_ok=True)
    (wants / unit.name).symlink_to(unit.relative_to(at).as_posix().join(("/", "")))
    (at / "etc/machine-id").write_text("")
    (at / "etc/hostname").write_text("host\n")
    (at / "etc/hosts").write_text("127.0.0.1 localhost\n127.0.1.1 host\n")
    (at / "etc/resolv.conf").unlink(missing_ok=True)
    return at


def disk(at: Path, megabytes: int = 1500) -> Path:
    """The same as an ext4 image."""
    tree = directory(at.with_suffix(".tree"))
    at.unlink(missing_ok=True)
    subprocess.run(["mke2fs", "-q", "-t", "ext4", "-d", str(tree), "-L", "root", str(at), f"{megabytes}M"], check=True)
    shutil.rmtree(tree)
    os.sync()
    return at
