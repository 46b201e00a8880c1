"""The packages themselves: built twice alike, and judged by lintian, dpkg's and rpm's own tools."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from report import Report

import emulated

ROOT = Path(__file__).resolve().parents[2]
OUT = ROOT / "build" / "packaging-tests" / "dist"
SOURCES = ("runner", "systemd", "packaging", "pyproject.toml", "LICENSE", "CHANGELOG.md", "config.example.toml")


@dataclass(frozen=True, slots=True)
class Built:
    """The package, the same with another version, one with another supervisor besides; the rpm; a second build."""

    debs: list[Path]
    rpm: Path
    again: list[Path]


def said(*command: str | Path) -> str:
    """What a command prints. Raises where it fails."""
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    if done.returncode:
        raise AssertionError(f"{' '.join(map(str, command))}: status {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def build(report: Report) -> Built:
    """What the other parts install."""
    shutil.rmtree(OUT, ignore_errors=True)
    with report.check("packaging/build makes a .deb and an .rpm"):
        report.note(said(ROOT / "packaging/build", "--out", OUT / "first").strip().replace(f"{ROOT}/", ""))
    [deb], [rpm] = (OUT / "first").glob("*.deb"), (OUT / "first").glob("*.rpm")
    with report.check("and later ones, to upgrade to"):
        said(ROOT / "packaging/build", "--format", "deb", "--version", "0.1.9", "--out", OUT / "agent")
        with tempfile.TemporaryDirectory() as scratch:
            other = _copy(Path(scratch) / "elsewhere" / "source")
            server = other / "runner/supervisor/server.py"
            server.write_text(server.read_text() + "\n# another supervisor\n")
            said(other / "packaging/build", "--format", "deb", "--version", "0.1.10", "--out", OUT / "supervisor")
    later = [next((OUT / name).glob("*.deb")) for name in ("agent", "supervisor")]
    return Built([deb, *later], rpm, _again(report))


def _copy(to: Path) -> Path:
    to.mkdir(parents=True)
    for name in SOURCES:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, to / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, to / name)
    if (ROOT / "build").is_dir():
        (to / "build").symlink_to(ROOT / "build")  # nfpm, once
    return to


def _again(report: Report) -> list[Path]:
    """The same sources, elsewhere, with another umask, hostname's time zone and locale."""
    with report.check("a build of the same sources in another place"), tempfile.TemporaryDirectory() as scratch:
        other = _copy(Path(scratch) / "source")
        epoch = said("git", "-C", ROOT, "log", "-1", "--format=%ct").strip()
        subprocess.run(
            ["sh", "-c", f"umask 077; exec {other}/packaging/build --out {OUT}/again"],
            env=os.environ | {"SOURCE_DATE_EPOCH": epoch, "TZ": "Asia/Tokyo", "LC_ALL": "C"},
            stdout=subprocess.DEVNULL, check=True,
        )  # fmt: skip
    return sorted((OUT / "again").glob("cron-runner*"))


def run(report: Report, built: Built) -> None:
    """All that can be said without a host."""
    report.part("the packages")
    deb = built.debs[0]
    with report.check("two builds are the same, bit for bit"):
        assert len(built.again) == 2
        for path in built.again:
            first = OUT / "first" / path.name
            assert path.read_bytes() == first.read_bytes(), f"{path.name} differs"
    # 6 MB before the libraries of signing and of the page were in it.
    with report.check("the .deb has 9 MB at most"):
        report.note(f"{deb.stat().st_size / 1e6:.2f} MB; the .rpm {built.rpm.stat().st_size / 1e6:.2f} MB")
        assert deb.stat().st_size <= 9e6
    with report.check("the .deb: dependencies, conffile, nothing under a user's id"):
        assert "python3 (>= 3.11)" in said("dpkg-deb", "-f", deb, "Depends")
        assert said("dpkg-deb", "-I", deb, "conffiles").split() == ["/etc/cron-runner/config.toml"]
        owners = {line.split()[1] for line in said("dpkg-deb", "-c", deb).splitlines()}
        assert owners == {"root/root"}, owners
    with report.check("the other architecture's has that architecture's libraries, and no other"):
        other = {"x86_64": ("arm64", "aarch64"), "aarch64": ("amd64", "x86_64")}[os.uname().machine]
        said(ROOT / "packaging/build", "--arch", other[0], "--format", "deb", "--out", OUT / "other")
        [deb_other] = (OUT / "other").glob(f"*_{other[0]}.deb")
        libraries = [
            line.split()[-1] for line in said("dpkg-deb", "-c", deb_other).splitlines() if line.endswith(".so")
        ]
        assert len(libraries) >= 5, libraries
        with tempfile.TemporaryDirectory() as scratch:
            said("dpkg-deb", "-x", deb_other, scratch)
            machines = {(Path(scratch) / name).read_bytes()[18] for name in libraries}
        assert machines == {{"aarch64": 183, "x86_64": 62}[other[1]]}, machines
    if other == ("arm64", "aarch64"):
        emulated.run(report, deb_other)
    if shutil.which("lintian"):
        with report.check("lintian finds no errors, and no warnings"):
            text = said("lintian", "--fail-on=error,warning", "--allow-root", deb)
            assert not text, text
    else:
        report.skip("lintian", "apt-get install lintian")
    if shutil.which("rpm"):
        _rpm(report, built.rpm)
    else:
        report.skip("the .rpm", "apt-get install rpm")


def _rpm(report: Report, rpm: Path) -> None:
    def query(*options: str) -> str:
        return said("rpm", "--dbpath", OUT / "rpmdb", "-qp", *options, rpm)

    with report.check("rpm: the package is whole, for this architecture, and needs python3.11"):
        said("rpm", "--dbpath", OUT / "rpmdb", "-K", "--nosignature", rpm)
        assert query("--qf", "%{ARCH} %{NAME} %{LICENSE}").split() == [os.uname().machine, "cron-runner", "MIT"]
        assert {"python3.11", "systemd"} <= {line.split()[0] for line in query("--requires").splitlines()}
    with report.check("rpm: its files, their owners, and the configuration that is kept"):
        files = set(query("-l").split())
        assert {
            "/usr/bin/cron-runner", "/usr/lib/systemd/system/cron-runner.service", "/etc/cron-runner/jobs.d",
            "/usr/lib/systemd/system/cron-runner-supervisor.service", "/usr/lib/sysusers.d/cron-runner.conf",
            "/usr/lib/tmpfiles.d/cron-runner.conf", "/usr/share/man/man1/cron-runner.1.gz",
            "/usr/lib/cron-runner/runner/__pycache__/__init__.cpython-311.pyc",
        } <= files, sorted(files)[:40]  # fmt: skip
        kept = query("--qf", "[%{FILENAMES} %{FILEFLAGS:fflags} %{FILEUSERNAME}\n]")
        flags = {line.split(" ")[0]: line.split(" ")[1:] for line in kept.splitlines()}
        assert flags["/etc/cron-runner/config.toml"][0] in ("cn", "nc"), flags["/etc/cron-runner/config.toml"]
        assert {words[1] for words in flags.values()} == {"root"}
    with report.check("rpm: its scripts are shell that parses, and its launchers run -I under python3.11"):
        for tag in ("PREIN", "POSTIN", "PREUN", "POSTUN", "POSTTRANS"):
            text = query("--qf", f"%{{{tag}}}")
            assert text not in ("", "(none)"), tag
            done = subprocess.run(["sh", "-n"], input=text, text=True, capture_output=True, check=False)
            assert done.returncode == 0, (tag, done.stderr)
        with tempfile.TemporaryDirectory() as scratch:
            archive = subprocess.run(
                ["rpm2archive", "-n", "-"], stdin=rpm.open("rb"), capture_output=True, check=True
            ).stdout
            subprocess.run(["tar", "-x", "-C", scratch], input=archive, check=True)
            for program in ("usr/bin/cron-runner", "usr/lib/cron-runner/cron-runner-supervisor"):
                first = (Path(scratch) / program).read_text().splitlines()[0]
                assert first == "#!/usr/bin/python3.11 -ISB", first
