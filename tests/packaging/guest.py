"""Hosts under test: a container of systemd-nspawn, and a user-mode Linux, which has a kernel of its own and therefore
all of cgroup v2's controllers. Both take commands through a directory that they share with the test."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Self

import image


class GuestError(AssertionError):
    """A command in the host under test failed, or was not answered."""


class Guest:
    """A booted host. A context manager: it is gone at the end, whatever happened."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.work = Path(tempfile.mkdtemp(prefix=f"cron-runner-{name}-"))
        self.mailbox = self.work / "mailbox"
        self.mailbox.mkdir()
        self.console = self.work / "console.log"
        self._numbers = itertools.count(1)
        self._process: subprocess.Popen[bytes] | None = None
        self._boots = 0

    def command(self) -> list[str]:
        """What boots it."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        self.boot()
        return self

    def boot(self) -> None:
        """Start it and wait until systemd has nothing left to do."""
        with self.console.open("ab") as log:
            self._process = subprocess.Popen(
                self.command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                env=os.environ | {"SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1", "TMPDIR": "/dev/shm"},
            )  # fmt: skip
        self.booted()

    def booted(self, within: float = 180) -> None:
        """Wait for one boot more than there were."""
        self._boots += 1
        deadline = time.monotonic() + within
        while len(list(self.mailbox.glob("boot-*"))) < self._boots:
            if time.monotonic() > deadline or (self._process is not None and self._process.poll() is not None):
                raise GuestError(f"{self.name} did not boot:\n{self.console.read_text(errors='replace')[-3000:]}")
            time.sleep(0.05)
        self.run("systemctl is-system-running --wait || systemctl --failed --no-legend", timeout=within)

    def run(self, script: str, *, timeout: float = 60, check: bool = True) -> str:
        """The output of a shell script. Raises GuestError where it fails."""
        letter = self.post(script, timeout)
        return self.answer(letter, script, timeout, check=check)

    def post(self, script: str, timeout: float = 60) -> Path:
        """Have a script run without waiting for it; `answer` tells how it went."""
        letter = self.mailbox / f"{next(self._numbers):06d}.cmd"
        new = letter.with_suffix(".tmp")
        new.write_text(json.dumps({"script": script, "timeout": timeout}))
        new.rename(letter)
        return letter

    def answer(self, letter: Path, script: str = "", timeout: float = 60, *, check: bool = True) -> str:
        """The output of what was posted."""
        done = letter.with_suffix(".done")
        deadline = time.monotonic() + timeout + 30
        while not done.exists():
            if time.monotonic() > deadline or (self._process is not None and self._process.poll() is not None):
                raise GuestError(
                    f"{self.name} does not answer: {script}\n{self.console.read_text(errors='replace')[-1500:]}"
                )
            time.sleep(0.02)
        said = json.loads(done.read_text())
        if check and said["status"] != 0:
            raise GuestError(f"status {said['status']} of: {script}\n{said['output'][-4000:]}")
        return str(said["output"])

    def put(self, source: Path) -> str:
        """Lend it a file; where it is inside."""
        shutil.copy(source, self.mailbox / source.name)
        return f"/mailbox/{source.name}"

    def property(self, unit: str, name: str) -> str:
        """One of systemd's facts about a unit."""
        return self.run(f"systemctl show -P {name} {unit}").strip()

    def until(self, script: str, what: str, within: float = 60) -> str:
        """Wait until a script succeeds; its output."""
        deadline = time.monotonic() + within
        while True:
            letter = self.post(script)
            with contextlib.suppress(GuestError):
                return self.answer(letter, script)
            if time.monotonic() > deadline:
                raise GuestError(f"not within {within:g} s: {what}\n{self.answer(letter, check=False)[-3000:]}")
            time.sleep(0.2)

    def reboot(self, within: float = 90) -> None:
        """As an operator does it. A container ends instead, and whoever started it starts it again."""
        assert self._process is not None
        self.post("systemctl reboot")
        deadline = time.monotonic() + within
        while self._process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        if self._process.poll() is None:
            raise GuestError(f"{self.name} did not go down:\n{self.console.read_text(errors='replace')[-3000:]}")
        self.boot()

    def fail_power(self) -> None:
        """All of it is gone at once."""
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self.halt(self._process)
        shutil.rmtree(self.work, ignore_errors=True)

    def halt(self, process: subprocess.Popen[bytes]) -> None:
        """Power off, hard where it does not come to an end."""
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


class Container(Guest):
    """systemd-nspawn, in a cgroup of its own, with this machine's network."""

    def __init__(self) -> None:
        super().__init__("container")
        self._tree = image.directory(self.work / "root")
        mounts = Path("/proc/self/mountinfo").read_text()
        found = re.search(r"^\S+ \S+ \S+ \S+ (\S+) .* - cgroup2 ", mounts, re.MULTILINE)
        self._cgroup = Path(found[1] if found else "/sys/fs/cgroup") / self.work.name

    def command(self) -> list[str]:
        self._cgroup.mkdir(exist_ok=True)
        return [
            "sh", "-c", 'echo 0 > "$0"; exec "$@"', str(self._cgroup / "cgroup.procs"),
            "systemd-nspawn", "--quiet", "--boot", "--register=no", "--keep-unit", "--console=pipe",
            "--link-journal=no", f"--machine=cron-runner-{os.getpid()}", "--hostname=host",
            f"--directory={self._tree}", f"--bind={self.mailbox}:/mailbox",
        ]  # fmt: skip

    def fail_power(self) -> None:
        for path in self._cgroup.glob("**/cgroup.procs"):
            for pid in path.read_text().split():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
        super().fail_power()
        self._clear()

    def halt(self, process: subprocess.Popen[bytes]) -> None:
        super().halt(process)
        self._clear()

    def _clear(self) -> None:
        for path in sorted(self._cgroup.glob("**/"), reverse=True):
            with contextlib.suppress(OSError):
                path.rmdir()


class UserMode(Guest):
    """A user-mode Linux: Debian's kernel of that name as a process, with an image of its own and no network."""

    def __init__(self) -> None:
        super().__init__("user-mode")
        self._disk = image.disk(self.work / "root.ext4")

    def command(self) -> list[str]:
        return [
            "linux.uml", f"ubd0={self._disk}", "root=/dev/ubda", "rw", "mem=1024M", f"hostfs={self.mailbox}",
            "con=null", "con0=null,fd:1", "console=tty0", "quiet", "init=/lib/systemd/systemd",
            "systemd.unified_cgroup_hierarchy=1",
            "systemd.mask=getty.target", "systemd.mask=serial-getty@ttyS0.service",
        ]  # fmt: skip

    def halt(self, process: subprocess.Popen[bytes]) -> None:
        with contextlib.suppress(GuestError):
            self.post("systemctl poweroff")
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def missing(needs: dict[str, str]) -> str:
    """Which programs are not here, and how to get them: program to Debian package. Empty when all are."""
    lacking = [package for program, package in needs.items() if shutil.which(program) is None]
    return f"apt-get install {' '.join(lacking)}" if lacking else ""
