"""How large a host is and how busy: control groups of both versions, and the machine itself."""

from __future__ import annotations

import os
from pathlib import Path

import psutil
import pytest

from runner.agent.host.cgroup_limits import Cgroups
from runner.agent.host.load import HostGauge, RunGauge
from runner.agent.runs.admission.policy import HostLoad
from runner.agent.runs.process import Usage

G = 2**30


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    return root


V2_MOUNT = {"proc/self/mountinfo": "30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate"}
V1_MOUNTS = {
    "proc/self/mountinfo": "32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct\n"
    "35 31 0:32 /docker/abc /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory"
}


def test_the_tightest_limit_on_the_way_up_counts(tmp_path: Path) -> None:
    unit = "sys/fs/cgroup/system.slice/cron-runner-supervisor.service"
    root = tree(
        tmp_path,
        {
            **V2_MOUNT,
            "proc/7/cgroup": "0::/system.slice/cron-runner-supervisor.service",
            f"{unit}/cpu.max": "max 100000",
            f"{unit}/memory.max": str(4 * G),
            f"{unit}/memory.current": str(3 * G),
            f"{unit}/memory.stat": f"anon 5\ninactive_file {G}",
            "sys/fs/cgroup/system.slice/cpu.max": "150000 100000",
            "sys/fs/cgroup/system.slice/cpu.stat": "usage_usec 2500000\nuser_usec 1",
            "sys/fs/cgroup/system.slice/memory.max": "max",
        },
    )
    found = Cgroups(7, root)
    cpu = found.cpu()
    assert cpu is not None
    assert (cpu.cores, cpu.used_s) == (1.5, 2.5)
    [memory] = found.memory()
    assert (memory.allowed, memory.used, memory.available) == (4 * G, 2 * G, 2 * G)


def test_version_1_in_a_container_that_sees_the_end_of_its_path(tmp_path: Path) -> None:
    root = tree(
        tmp_path,
        {
            **V1_MOUNTS,
            "proc/self/cgroup": "4:memory:/docker/abc\n1:cpu,cpuacct:/docker/abc",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": str(2 * G),
            "sys/fs/cgroup/memory/memory.usage_in_bytes": str(G),
            "sys/fs/cgroup/memory/memory.stat": f"total_inactive_file {G // 2}",
            "sys/fs/cgroup/cpu/docker/abc/cpu.cfs_quota_us": "50000",
            "sys/fs/cgroup/cpu/docker/abc/cpu.cfs_period_us": "100000",
            "sys/fs/cgroup/cpu/docker/abc/cpuacct.usage": "1500000000",
        },
    )
    found = Cgroups("self", root)
    cpu = found.cpu()
    assert cpu is not None
    assert (cpu.cores, cpu.used_s) == (0.5, 1.5)
    [memory] = found.memory()
    assert (memory.allowed, memory.used) == (2 * G, G // 2)


def test_no_limit_is_none(tmp_path: Path) -> None:
    root = tree(
        tmp_path,
        {
            **V1_MOUNTS,
            "proc/self/cgroup": "4:memory:/\n1:cpu,cpuacct:/\n0::/",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712",
            "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1",
            "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000",
        },
    )
    assert Cgroups("self", root).cpu() is None
    assert Cgroups("self", root).memory() == []
    assert Cgroups("self", tmp_path / "nothing").memory() == []


def test_the_limits_of_the_agents_own_unit_are_not_those_of_the_jobs(tmp_path: Path) -> None:
    root = tree(
        tmp_path,
        {
            **V2_MOUNT,
            # The supervisor's process cannot be looked at: ProtectProc=invisible.
            "proc/self/cgroup": "0::/system.slice/cron-runner.service",
            "sys/fs/cgroup/system.slice/cron-runner.service/memory.max": str(G // 4),
            "sys/fs/cgroup/system.slice/memory.max": str(8 * G),
        },
    )
    assert [limit.allowed for limit in Cgroups(7, root).memory()] == [8 * G]


def test_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    gauge = HostGauge(clock=lambda: now)
    first = gauge.read()
    assert first.busy is None
    assert 0 < first.cores <= os.cpu_count()  # type: ignore[operator]
    assert 0 < first.memory <= psutil.virtual_memory().total
    assert first.available is not None
    assert 0 < first.available <= first.memory
    now = 0.1
    assert gauge.read().busy is None, "too short to say anything"

    real = psutil.cpu_times(percpu=True)
    monkeypatch.setattr(
        psutil,
        "cpu_times",
        lambda percpu: [times._replace(user=times.user + 1.0) for times in real] if percpu else None,
    )
    monkeypatch.setattr(gauge, "_since", (0.0, gauge._used(os.sched_getaffinity(0)) - 1.0))  # noqa: SLF001
    now = 2.0
    loaded = gauge.read()
    assert isinstance(loaded, HostLoad)
    if Cgroups().cpu() is None:
        assert loaded.busy == pytest.approx(0.5)


def test_a_run_is_measured_between_two_readings() -> None:
    now = 0.0
    gauge = RunGauge(clock=lambda: now)
    keys = {"x/1": "run-x", "y/1": "run-y"}
    used = gauge.read({"x/1": Usage(10.0, 2.0, 5 * G, 3)}, keys)
    assert used == {"run-x": {"cpu": 0.0, "memory": 5 * G}}
    now = 2.0
    used = gauge.read({"x/1": Usage(12.0, 3.0, G, 3), "y/1": Usage(1.0, 0.0, 7, 1)}, keys)
    assert used == {"run-x": {"cpu": 1.5, "memory": G}, "run-y": {"cpu": 0.0, "memory": 7}}
    now = 3.0
    # Without cgroups the time of a process that has ended is no longer counted: it used at least nothing.
    assert gauge.read({"x/1": Usage(1.0, 0.0, G, 1)}, keys)["run-x"]["cpu"] == 0.0
