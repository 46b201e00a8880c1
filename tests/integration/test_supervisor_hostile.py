"""Jobs that do not want to end. After each, no process of the run exists: the fixture looks, and so do the tests."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import pytest
from supervising import Witness, alive

PYTHON = sys.executable


def pids(text: str) -> list[int]:
    return [int(word) for word in text.split() if word.isdigit()]


async def test_a_double_fork(host: Witness) -> None:
    record, output = await host.run("sh", "-c", "(sh -c 'sleep 300 & echo $!' &) ; sleep 0.2", grace=5)
    assert record.exit_code == 0
    assert record.leftovers == 1
    assert not any(alive(pid) for pid in pids(output))


async def test_a_daemon(host: Witness) -> None:
    code = (
        "import os,time\n"
        "if os.fork(): time.sleep(0.2); os._exit(0)\n"
        "os.setsid()\n"
        "if os.fork(): os._exit(0)\n"
        "os.chdir('/'); print(os.getpid(), flush=True)\n"
        "[os.close(fd) for fd in (0, 1, 2)]\n"
        "time.sleep(300)\n"
    )
    record, output = await host.run(PYTHON, "-S", "-c", code, grace=5)
    assert record.exit_code == 0
    assert record.leftovers == 1
    assert not alive(int(output))


async def test_a_daemon_that_hides_its_environment(cgroup_host: Witness) -> None:
    """Without cgroups this one escapes, as is documented."""
    record, output = await cgroup_host.run(
        "sh", "-c", "setsid env -i /bin/sh -c 'trap \"\" TERM; echo $$; sleep 300; sleep 300' & sleep 0.2", grace=0.2
    )
    assert record.leftovers >= 1
    assert not alive(pids(output)[0])


async def test_a_tree_that_ignores_every_signal(host: Witness) -> None:
    script = 'trap \'\' TERM INT HUP; echo $$; [ $1 = 0 ] || sh -c "$0" "$0" $(($1 - 1)) & sleep 300; sleep 300'
    started = await host.start("sh", "-c", script, script, "5", timeout=0.5, grace=0.3)
    record = await host.ended(started.key)
    assert (record.cause, record.signal) == ("timeout", "SIGKILL")
    assert 0.8 <= record.duration_s < 1.5
    found = pids(host.output(started.key))
    assert len(found) == 6
    assert not any(alive(pid) for pid in found)


async def test_sessions_that_ignore_every_signal(host: Witness) -> None:
    script = 'trap \'\' TERM; echo $$; [ $1 = 0 ] || setsid sh -c "$0" "$0" $(($1 - 1)) & sleep 300; sleep 300'
    started = await host.start("sh", "-c", script, script, "5", timeout=0.5, grace=0.2)
    record = await host.ended(started.key)
    assert record.signal == "SIGKILL"
    assert not any(alive(pid) for pid in pids(host.output(started.key)))


async def test_a_background_child_that_holds_the_output(host: Witness) -> None:
    record, output = await host.run(
        "sh", "-c", "(trap '' TERM; while :; do echo x; sleep 0.01; done) & echo end", grace=0.3
    )
    assert record.exit_code == 0
    assert record.duration_s < 0.25, "the end of the main process is the end of the run"
    assert record.leftovers >= 1
    assert "end\n" in output


async def test_a_stopped_job(host: Witness) -> None:
    started = await host.start(
        "sh", "-c", "trap 'echo bye; exit 5' TERM; kill -STOP $$; sleep 300", timeout=0.3, grace=5
    )
    record = await host.ended(started.key)
    assert record.exit_code == 5, "it was continued, so that it could hear the signal"
    record, _ = await host.run("sh", "-c", "trap '' TERM; kill -STOP $$; sleep 300", timeout=0.3, grace=0.2)
    assert record.signal == "SIGKILL"


async def test_a_stopped_child(host: Witness) -> None:
    script = "sh -c 'kill -STOP $$; sleep 300' & echo $!; wait"
    record, output = await host.run("sh", "-c", script, timeout=0.3, grace=2)
    assert record.duration_s < 1
    assert not alive(int(output))


async def test_a_job_that_closes_its_output(host: Witness) -> None:
    record, output = await host.run("sh", "-c", "echo before; exec >&- 2>&-; sleep 0.2; exit 9")
    assert (record.exit_code, output) == (9, "before\n")
    assert record.duration_s >= 0.2


async def test_a_job_that_kills_its_process_group(host: Witness) -> None:
    record, output = await host.run("sh", "-c", "sleep 300 & echo $!; kill -KILL 0")
    assert record.signal == "SIGKILL"
    assert record.cause is None
    assert not alive(int(output))


async def test_a_job_that_opens_its_output_anew(host: Witness) -> None:
    record, output = await host.run("sh", "-c", "echo one; echo two >/dev/stdout; echo three >/dev/stderr")
    assert output == "one\ntwo\nthree\n"
    assert record.bytes_total == 14


async def test_a_fork_bomb(host: Witness) -> None:
    """Bounded, so that a failing test does not take the machine along; it goes on forking all the time."""
    code = (
        "import os, signal, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "for _ in range(6):\n"
        "    os.fork()\n"
        "end = time.monotonic() + 20\n"
        "while time.monotonic() < end:\n"
        "    if os.fork() == 0:\n"
        "        os.setsid()\n"
        "        time.sleep(0.02)\n"
        "        if os.fork(): os._exit(0)\n"
        "        time.sleep(0.3)\n"
        "        os._exit(0)\n"
        "    time.sleep(0.05)\n"
    )
    record, _ = await host.run(PYTHON, "-S", "-c", code, timeout=0.5, grace=0.3)
    assert record.signal == "SIGKILL"
    assert host.left() == []


async def test_a_fork_bomb_held_by_pids(cgroup_host: Witness) -> None:
    if "pids" not in cgroup_host.hello.controllers:
        pytest.skip("the cgroup has no pids controller")
    code = (
        "import os, time\n"
        "n = 0\n"
        "try:\n"
        "    while True:\n"
        "        if os.fork() == 0: time.sleep(300)\n"
        "        n += 1\n"
        "except OSError: print(n)\n"
    )
    record, output = await cgroup_host.run(PYTHON, "-S", "-c", code, limits={"pids": 20}, grace=0.2)
    assert int(output) == 19
    assert record.leftovers == 19


async def test_a_memory_hog(cgroup_host: Witness) -> None:
    if "memory" not in cgroup_host.hello.controllers:
        pytest.skip("the cgroup has no memory controller")
    code = "x = []\nwhile True: x.append(bytearray(1 << 20))"
    record, _ = await cgroup_host.run(PYTHON, "-S", "-c", code, limits={"memory": 64 << 20})
    assert record.oom
    assert record.signal == "SIGKILL"


async def test_limits_that_cannot_be_had_are_said(host: Witness) -> None:
    limits = {"memory": 1 << 30, "cpu": 1.0, "pids": 50}
    started = await host.start("true", limits=limits)
    await host.ended(started.key)
    missing = set(limits) - set(host.hello.controllers)
    assert {name for name in limits if any(name in warning for warning in started.warnings)} == missing


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: a job of the supervisor's own user can signal it")
async def test_a_job_that_signals_the_supervisor(host: Witness) -> None:
    script = f"for s in TERM KILL HUP INT STOP; do kill -$s {host.hello.pid}; done; echo done"
    record, output = await host.run("sh", "-c", script, user="nobody")
    assert record.exit_code == 0
    assert output.count("not permitted") == 5
    assert (await host.run("true"))[0].exit_code == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: the cgroup's files are the supervisor's own user's")
async def test_a_job_cannot_leave_its_cgroup(cgroup_host: Witness) -> None:
    script = """
    cg=$(sed -n 's/^0:://p' /proc/self/cgroup); echo "$cg"
    for m in $(sed -n 's/^[0-9 :]* \\([^ ]*\\) \\([^ ]*\\) .* - cgroup2 .*/\\2/p' /proc/self/mountinfo); do
        for d in "$m" "$m$cg/.."; do echo $$ > "$d/cgroup.procs"; done
    done
    sed -n 's/^0:://p' /proc/self/cgroup"""
    _, output = await cgroup_host.run("sh", "-c", script, user="nobody")
    lines = output.splitlines()
    assert lines[0] == lines[-1]
    assert "/run-" in lines[0]
    assert any("ermission denied" in line or "cannot create" in line for line in lines)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to make cgroups")
async def test_cgroups_that_a_job_made_are_removed(cgroup_host: Witness) -> None:
    script = """
    cg=$(sed -n 's/^0:://p' /proc/self/cgroup)
    m=$(sed -n 's/.* \\([^ ]*\\) [^ ]* - cgroup2 .*/\\1/p' /proc/self/mountinfo | head -1)
    mkdir -p "$m$cg/a/b" && (echo 0 > "$m$cg/a/b/cgroup.procs"; exec sleep 300) & sleep 0.2; echo "$m$cg" """
    record, output = await cgroup_host.run("sh", "-c", script, grace=0.2)
    assert record.leftovers == 1
    assert not Path(output.strip()).exists()


async def test_what_is_killed_is_killed_soon(host: Witness) -> None:
    started = await host.start("sh", "-c", "trap '' TERM; setsid sleep 300 & sleep 300; sleep 300")
    before = time.monotonic()
    await host.link.stop(started.key, "cancel", grace=0)
    record = await host.ended(started.key)
    assert time.monotonic() - before < 1
    assert record.signal == signal.Signals.SIGKILL.name
