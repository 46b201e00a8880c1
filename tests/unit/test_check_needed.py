"""`check` by root says what the agent and the supervisor will meet, and not what root may."""

from __future__ import annotations

import os
import pwd
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from runner.check.accounts import Account
from runner.check.needed import looks
from runner.config import Config, load

if TYPE_CHECKING:
    from collections.abc import Iterator

    from runner.check.finding import Finding

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="asks as another user")
AGENT = Account("daemon", pwd.getpwnam("daemon"))


@pytest.fixture
def etc() -> Iterator[Path]:
    """As the package makes it, with a job; pytest's own folders are closed to others."""
    folder = Path(tempfile.mkdtemp(prefix="etc-", dir="/tmp"))
    try:
        folder.chmod(0o755)
        (folder / "jobs.d").mkdir(mode=0o755)
        (folder / "state").mkdir()
        path = folder / "config.toml"
        path.write_text(f'group = "a"\n[queue]\nname = "q"\n[paths]\nstate = "{folder}/state"\n')
        (folder / "jobs.d/one.toml").write_text('command = "true"\n')
        for file in folder.rglob("*.toml"):
            file.chmod(0o644)
        yield folder
    finally:
        shutil.rmtree(folder)


def config(etc: Path) -> Config:
    return load(etc / "config.toml", {})


def found(etc: Path, environ: dict[str, str] | None = None, **change: object) -> list[Finding]:
    return looks(config(etc), AGENT, environ or {}, root=bool(change.get("root", True)))


def test_all_is_well(etc: Path) -> None:
    [line] = found(etc)
    assert (line.status, line.detail) == (
        "ok",
        "daemon, whom the agent runs as, can read the configuration, and the supervisor trusts it",
    )


@pytest.mark.parametrize(
    ("closed", "mode", "letter"),
    [("config.toml", 0o600, "r"), (".", 0o700, "x"), ("jobs.d", 0o700, "x"), ("jobs.d/one.toml", 0o600, "r")],
)
def test_what_the_agent_cannot_read_is_a_failure_with_a_remedy_that_mends_it(
    etc: Path, closed: str, mode: int, letter: str
) -> None:
    path = etc / closed
    path.chmod(mode)
    lines = found(etc)
    assert {line.status for line in lines} == {"failed"}
    assert all("daemon, whom the agent runs as, cannot read " in line.detail for line in lines)
    assert lines[-1].remedy.startswith("`chgrp daemon ")
    for _ in range(3):  # a folder that may be entered may still not be listed
        for line in found(etc):
            if line.remedy:
                assert os.system(line.remedy.strip("`")) == 0  # noqa: S605 - as it would be typed
    assert [line.status for line in found(etc)] == ["ok"]
    assert letter in lines[-1].remedy.rpartition("g+")[2]


@pytest.mark.parametrize("mode", [0o666, 0o664, 0o646])
def test_what_the_supervisor_will_refuse_is_a_failure(etc: Path, mode: int) -> None:
    (etc / "config.toml").chmod(mode)
    [line] = found(etc)
    assert line.status == "failed"
    assert line.detail.startswith("the supervisor refuses it: cannot trust ")
    assert "chmod go-w" in line.remedy
    assert [line.status for line in found(etc, root=False)] == ["ok"]
    (etc / "config.toml").chmod(0o644)
    os.chown(etc / "config.toml", 1, 1)
    assert [line.status for line in found(etc)] == ["failed"]


def test_what_root_left_in_the_state_directory_is_a_failure(etc: Path) -> None:
    for name in ("journal.db", "agent.lock"):
        (etc / "state" / name).touch(mode=0o600)
    [line] = found(etc)
    assert "cannot write agent.lock, journal.db in" in line.detail
    assert os.system(line.remedy.strip("`")) == 0  # noqa: S605 - as it would be typed
    assert [line.status for line in found(etc)] == ["ok"]


def test_files_of_the_aws_settings_and_roots_ports(etc: Path) -> None:
    secret = etc / "aws"
    secret.touch(mode=0o600)
    [line] = found(etc, {"AWS_SHARED_CREDENTIALS_FILE": str(secret), "AWS_CONFIG_FILE": str(etc / "none")})
    assert f"cannot read {secret}" in line.detail
    with (etc / "config.toml").open("a") as file:
        file.write('[agent]\nlisten = "127.0.0.1:80"\n')
    first = int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text())
    assert [line.status for line in found(etc)] == ["failed" if first > 80 else "ok"]
