"""Where the supervisor puts its cgroups. Needs root, to make what is delegated."""

from __future__ import annotations

import contextlib
import os
import signal
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from supervising import Witness, alive, gone, until

from runner.supervisor.placing import cgroup, delegation

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to make cgroups")


@pytest.fixture
def unit() -> Iterator[Path]:
    """A cgroup as systemd makes one for a unit."""
    found = delegation.mount(Path("/proc/self/mountinfo").read_text())
    path = Path(found[1] if found else "/nonexistent") / f"test-{uuid.uuid4().hex}.service"
    try:
        path.mkdir()
    except OSError as error:
        pytest.skip(f"no writable cgroup v2: {error}")
    yield path
    until(lambda: removed(path), "the unit's cgroup is empty")


def removed(path: Path) -> bool:
    for directory in sorted(path.glob("**/"), reverse=True):
        with contextlib.suppress(OSError):
            directory.rmdir()
    return not path.exists()


async def within(unit: Path, witness: Witness) -> None:
    """Have the supervisor started inside of the unit's cgroup: by a test that is there for a moment."""
    own = Path("/proc/self/cgroup").read_text()
    back = next(line[3:] for line in own.splitlines() if line.startswith("0::"))
    (unit / "cgroup.procs").write_text("0")
    try:
        await witness.connect()
    finally:
        (Path(str(unit.parent) + back) / "cgroup.procs").write_text("0")


async def test_a_delegated_unit_is_used(tmp_path: Path, unit: Path) -> None:
    os.setxattr(unit, "user.delegate", b"1")
    witness = Witness(tmp_path)
    await within(unit, witness)
    try:
        assert witness.hello.placement == "cgroup"
        assert (unit / "supervisor" / "cgroup.procs").read_text().split() == [str(witness.hello.pid)]
        started = await witness.start("sleep", "300")
        second = await witness.start("sleep", "300", nice=1)
        for job in (started, second):
            [cgroup] = [path for path in unit.glob("run-*") if str(job.pid) in (path / "cgroup.procs").read_text()]
        os.kill(witness.hello.pid, signal.SIGHUP)
        await witness.link.wait_closed()
        await witness.connect()
        assert witness.hello.placement == "cgroup"
        await witness.link.stop(started.key, "cancel", grace=0)
        await witness.link.stop(second.key, "cancel", grace=0)
        await witness.ended(started.key)
        await witness.ended(second.key)
        assert not cgroup.exists()
    finally:
        await witness.link.close()
        witness.stop()


async def test_a_unit_that_is_not_delegated_is_left_alone(tmp_path: Path, unit: Path) -> None:
    witness = Witness(tmp_path)
    await within(unit, witness)
    try:
        assert witness.hello.placement == "session"
        assert any("not delegated" in warning for warning in witness.hello.warnings)
        assert (await witness.run("true"))[0].exit_code == 0
    finally:
        await witness.link.close()
        witness.stop()


async def test_a_named_cgroup_is_used_and_cleared(tmp_path: Path, unit: Path) -> None:
    witness = Witness(tmp_path, "--cgroup", str(unit))
    await witness.connect()
    started = await witness.start("sh", "-c", "trap '' TERM; env -i setsid sleep 300 & sleep 300")
    os.kill(witness.hello.pid, signal.SIGKILL)
    gone(witness.hello.pid)
    assert alive(started.pid), "the supervisor's death alone ends nothing"
    await witness.connect()
    try:
        assert witness.hello.placement == "cgroup"
        assert not list(unit.glob("run-*"))
        assert not alive(started.pid)
        assert witness.left() == []
    finally:
        await witness.link.close()
        witness.stop()


@pytest.mark.parametrize("left", ["probe", "probe-1", "probe-{pid}", "run-x"])
async def test_what_an_earlier_supervisor_left_in_the_base_is_in_nobodys_way(
    tmp_path: Path, unit: Path, left: str
) -> None:
    """The remains of a trial do not cost the next one its cgroups."""
    witness = Witness(tmp_path, "--cgroup", str(unit))
    if "{pid}" in left:  # the pid that the supervisor will have is known only to itself: all that are near
        last = int(Path("/proc/sys/kernel/ns_last_pid").read_text())
        names = [left.format(pid=pid) for pid in range(last, last + 200)]
    else:
        names = [left]
    for name in names:
        (unit / name).mkdir()
    await witness.connect()
    try:
        assert witness.hello.placement == "cgroup", witness.hello.warnings
        assert not list(unit.glob("probe*"))
        started = await witness.start("sh", "-c", "exit 3", leftovers="keep")
        record = await witness.ended(started.key)
        assert record.exit_code == 3
        await witness.link.ack([started.key])
    finally:
        await witness.link.close()
        witness.stop()


def test_kept_leftovers_of_one_that_had_our_pid_are_in_nobodys_way(unit: Path) -> None:
    """In a container every supervisor has pid 1, and counts from 1."""
    for number in (1, 2):
        (unit / f"keep-{os.getpid()}-{number}").mkdir()
    placement = cgroup.CgroupPlacement(delegation.Delegation(str(unit), str(unit), temporary=False))
    assert placement.make(keep=True).path == f"{unit}/keep-{os.getpid()}-3"
    assert placement.made == 3
