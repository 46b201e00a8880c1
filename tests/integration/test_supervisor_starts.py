"""However a job's process is made, it is the same start: what the job sees, and what is said where there is none."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from supervising import PATIENCE_S, Witness

from runner.agent.supervision import launch
from runner.supervisor.placing import delegation
from runner.supervisor.starting.direct import Direct

STARTS = Path(__file__).resolve().parents[1] / "support" / "starts.py"
HOSTILE = STARTS.with_name("hostile_starts.py")
MANY = STARTS.with_name("many_starts.py")
FAILING = {
    "in no directory of PATH": 2, "in PATH, not executable": 13, "a file in PATH": 2, "no such file": 2,
    "not executable": 13, "a directory": 13, "below a file": 20, "a loop of links": 40, "no exec format": 8,
    "no interpreter": 2, "no interpreter, in PATH": 2, "an argument too long": 7, "too many arguments": 7,
    "no such directory": 20, "a file for a directory": 20, "nice below what it may": 13,
    "too many processes": 11, "an unknown cgroup": 5, "a forbidden directory": 13,
    "a command in a forbidden directory": 13, "a forbidden directory in PATH": 2,
}  # fmt: skip


def outcomes(home: Path, user: int | None = None) -> dict[str, dict[str, Any]]:
    home.chmod(0o755)
    if user is not None:
        os.chown(home, user, user)
    # As nohup and a shell's "&" leave signals: none of it is the job's.
    ignoring = ["sh", "-c", "trap '' HUP USR2 QUIT; exec \"$@\"", "sh"]
    line = [*ignoring, sys.executable, "-IS", STARTS, home, *([] if user is None else [str(user)])]
    done = subprocess.run(line, stdout=subprocess.PIPE, check=True)
    found: dict[str, dict[str, Any]] = json.loads(done.stdout)
    return found


def judge(found: dict[str, dict[str, Any]]) -> None:
    for name, ways in found.items():
        assert len(ways) > 1 or Direct().why_not
        for way, came in ways.items():
            assert came == ways["forked"], f"{name}: {way}"
            assert ["number" in each for each in came] == [name in FAILING] * len(came), f"{name}: {way}: {came}"
            if name in FAILING:
                assert [each["number"] for each in came] == [FAILING[name]] * len(came), f"{name}: {way}"
            else:
                assert [each["status"] for each in came] == [0] * len(came), f"{name}: {way}: {came}"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    for path in (tmp_path, *tmp_path.parents):
        if not path.stat().st_mode & 0o001:
            path.chmod(path.stat().st_mode | 0o055)
    return tmp_path


def test_each_request_is_the_same_start_through_every_way(home: Path) -> None:
    found = outcomes(home)
    judge(found)
    for way, (look, _list) in found["another user" if os.geteuid() == 0 else "as we are"].items():
        seen = dict(line.split(":\t") for line in look["seen"] if ":\t" in line)
        assert (seen["SigBlk"], seen["SigCgt"], seen["Threads"]) == ("0" * 16, "0" * 16, "1"), way
        assert "SigIgn 0" in look["seen"], way
        if os.geteuid() == 0:
            assert (seen["Uid"], seen["Groups"]) == ("\t".join(["65534"] * 4), "12345 65534 "), way
            assert seen["CapEff"] == seen["CapPrm"] == seen["CapAmb"] == "0" * 16, way


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be somebody else")
def test_so_it_is_under_an_ordinary_user(home: Path) -> None:
    found = outcomes(home, 65534)
    assert [each["text"] for each in found.pop("another user")["forked"]] == [
        "cannot prepare the process: [Errno 1] Operation not permitted"
    ] * 2
    judge(found)


needs_direct = pytest.mark.skipif(bool(Direct().why_not), reason="the direct way was not built here")


@needs_direct
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be somebody else")
def test_hostile_processes_of_the_jobs_user_hold_up_no_start_and_see_nothing() -> None:
    count = int(os.environ.get("HOSTILE_STARTS", "60"))
    done = subprocess.run(
        [sys.executable, "-IS", HOSTILE, str(count)], stdout=subprocess.PIPE, check=True, timeout=3000
    )
    for name, came in json.loads(done.stdout).items():
        assert came["started"] + came["cut_off"] == count, name
        assert came["longest_s"] < 2.0, f"{name}: 50 ms, and what a busy host takes to do it"
        assert came["traced_before_exec"] == 0, name
        sys.stdout.write(f"{name}: {came}\n")


@needs_direct
async def test_a_start_that_takes_too_long_is_made_again_by_a_fork(tmp_path: Path) -> None:
    """A PATH without end takes longer than the 50 ms that the supervisor waits."""
    host = Witness(tmp_path)
    await host.connect()
    try:
        started = await host.start("command", env={"PATH": ":".join(["/nonexistent"] * 400_000)})
        record = started.exit or await host.ended(started.key)
        assert record.start_error is not None
        assert record.start_error[0] == errno.ENOENT
        assert "made again by fork: 1 so far" in host.log
        assert (await host.run("sh", "-c", "exit 3"))[0].exit_code == 3
        assert host.hello.start == "direct"
    finally:
        await host.link.close()
        host.stop()


async def test_where_the_kernel_refuses_it_the_other_ways_serve(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As seccomp's filters do: said once, and told to those who ask later."""
    refused = (
        "import types; from runner.supervisor.starting import direct; direct._missing = ''; "
        "direct._spawn = types.SimpleNamespace(CLONE=1, CUT_OFF=2, GUARD=3, start=lambda *_: (0, 1, 38, False)); "
    )
    whole = launch.Finder._command  # noqa: SLF001 - its code is given a fault, nothing else is changed

    def command(self: Any, path: Path) -> list[str]:
        line = whole(self, path)
        at = line.index("-c") + 1
        prefix, _, rest = line[at].partition("from runner")
        line[at] = f"{prefix}{refused}from runner{rest}"
        return line

    monkeypatch.setattr(launch.Finder, "_command", command)
    host = Witness(tmp_path)
    await host.connect()
    try:
        for _ in range(3):
            assert (await host.run("sh", "-c", "exit 3"))[0].exit_code == 3
            assert (await host.run("/nonexistent"))[0].start_error is not None
        assert host.log.count("starting jobs by fork") == 1
        await host.link.close()
        assert (await host.connect()).start == "fork: clone3 is refused here (Function not implemented)"
    finally:
        await host.link.close()
        host.stop()


@pytest.mark.parametrize("start", ["auto", "fork"])
@pytest.mark.parametrize("nice", [None, 1])
async def test_what_whoever_started_the_supervisor_left_open_is_no_jobs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, start: str, nice: int | None
) -> None:
    whole = launch.Finder._command  # noqa: SLF001 - as a shell would, which hands on what is open
    shell = ["sh", "-c", 'exec "$@" 9</dev/zero', "sh"]
    monkeypatch.setattr(launch.Finder, "_command", lambda self, path: [*shell, *whole(self, path)])
    host = Witness(tmp_path, "--start", start)
    await host.connect()
    try:
        assert "/dev/zero" in {str(fd.readlink()) for fd in Path(f"/proc/{host.hello.pid}/fd").iterdir()}
        assert "/dev/zero" not in (await host.run("ls", "-l", "/proc/self/fd", nice=nice))[1]
    finally:
        await host.link.close()
        host.stop()


@needs_direct
def test_direct_starts_leave_not_a_page() -> None:
    count = os.environ.get("STARTS", "1500")
    done = subprocess.run([sys.executable, "-IS", MANY, count], stdout=subprocess.PIPE, check=True)
    before, after = json.loads(done.stdout)
    assert after[:2] == before[:2], "descriptors, children"
    assert after[2] - before[2] <= 64, "KiB: what the interpreter may do meanwhile"


@pytest.mark.parametrize("user", ["", "nobody"])
async def test_starts_leave_nothing_in_the_supervisor(tmp_path: Path, user: str) -> None:
    """No descriptor, no zombie, no cgroup; and of memory only what the allocator's pieces take, 25 bytes for each."""
    if user and os.geteuid() != 0:
        pytest.skip("needs root, to be somebody else")
    count = int(os.environ.get("STARTS", "300"))
    host = Witness(tmp_path)
    hello = await host.connect()
    try:
        before: tuple[int, int, int] | None = None
        for first in range(0, count + 500, 20):
            keys = [f"{number}/1" for number in range(first, first + 20)]
            names = ["true" if number % 10 else "/nonexistent" for number in range(20)]
            await asyncio.gather(*(host.start(name, key=key, user=user) for name, key in zip(names, keys, strict=True)))
            for key in keys:
                host.exits.pop(key, None)
                host.spool(key).unlink()
            async with asyncio.timeout(PATIENCE_S):
                while any(run.exit is None for run in await host.link.list()):
                    await asyncio.sleep(0.001)
            await host.link.ack(keys)
            if first >= 480 and before is None:  # what is made once has been made
                before = _holdings(hello.pid)
        assert before is not None
        after = _holdings(hello.pid)
        assert after[:2] == before[:2], "descriptors, children"
        assert after[2] - before[2] < 256 + count * 0.05, "KiB"
        assert await host.link.list() == []
        assert _cgroups_of(hello.pid) == []
        sys.stdout.write(f"{count} starts: {before} then, {after} now\n")
    finally:
        await host.link.close()
        host.stop()


def _holdings(pid: int) -> tuple[int, int, int]:
    """Descriptors, children, and resident KiB."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    status = Path(f"/proc/{pid}/status").read_text()
    resident = next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS:"))
    return len(list(Path(f"/proc/{pid}/fd").iterdir())), len(children), int(resident)


def _cgroups_of(pid: int) -> list[str]:
    """Those of runs."""
    mount = delegation.mount(Path("/proc/self/mountinfo").read_text())
    return [str(path) for path in Path(mount[1]).glob(f"**/run-{pid}-*")] if mount else []
