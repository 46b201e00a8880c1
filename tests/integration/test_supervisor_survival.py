"""What outlives what: the agent's death, the supervisor's own replacement, stop and death."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from supervising import Witness, alive, bare_supervisor, gone, own_command, until

from runner.agent.supervision.connection import SupervisorUnavailable

CLIENT = """
import asyncio, os, sys
from pathlib import Path
from runner.agent.supervision.connection import StartSpec, Supervision

async def main(directory, token):
    link = Supervision(runtime=directory / "run", config_path=None, on_exit=print, on_output=lambda sizes: None)
    await link.connect()
    for key, argv, timeout in (
        ("deadline/1", ("sh", "-c", "trap '' TERM; echo $$; while :; do sleep 0.05; done"), 1.0),
        ("ends/1", ("sh", "-c", "sleep 0.5; echo done; exit 6"), None),
    ):
        fd = os.open(directory / key.replace("/", "_"), os.O_RDWR | os.O_CREAT)
        await link.start(StartSpec(key=key, job="j", run_id="r", argv=argv, timeout=timeout, grace=0.2,
                                   env={"WITNESS": token}), fd)
    print("started", flush=True)
    await asyncio.sleep(60)

asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
"""


async def test_a_deadline_holds_with_the_agent_killed(host: Witness) -> None:
    await host.link.close()
    agent = subprocess.Popen(
        [sys.executable, "-c", CLIENT, str(host.directory), host.token], stdout=subprocess.PIPE, text=True
    )
    assert agent.stdout is not None
    assert agent.stdout.readline() == "started\n"
    agent.kill()
    agent.wait()
    agent.stdout.close()
    deadline = host.directory / "deadline_1"
    until(deadline.read_text, "the job's pid")
    begun = time.monotonic()
    gone(int(deadline.read_text().split()[0]))
    assert time.monotonic() - begun < 1.2 + 0.5
    await host.connect()
    known = {item.key: item.exit for item in await host.link.list()}
    record = known["deadline/1"] or await host.ended("deadline/1")
    other = known["ends/1"] or await host.ended("ends/1")
    assert (record.cause, record.signal) == ("timeout", "SIGKILL")
    assert 1.2 <= record.duration_s < 1.7
    assert (other.exit_code, other.bytes_total) == (6, 5)
    await host.link.ack(["deadline/1", "ends/1"])


async def test_a_kill_waits_for_a_descriptor_and_not_for_ever(host: Witness) -> None:
    """Timeout and grace pass while the supervisor can open nothing; SIGTERM is ignored by all that there is."""
    script = "trap '' TERM; setsid sh -c 'while :; do sleep 0.05; done' & while :; do sleep 0.05; done"
    runs = [await host.start("sh", "-c", script, timeout=0.5, grace=0.3, nice=nice) for nice in (None, 1, None)]
    usual = resource.prlimit(host.hello.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(host.hello.pid, resource.RLIMIT_NOFILE, (3, usual[1]))
    await asyncio.sleep(1.5)
    assert len(host.left()) >= len(runs), "what can only be found through a descriptor lives on"
    resource.prlimit(host.hello.pid, resource.RLIMIT_NOFILE, usual)
    for run in runs:
        record = await host.ended(run.key, within=5)
        assert (record.cause, record.signal) == ("timeout", "SIGKILL")
        assert record.duration_s < 1.5, "the main process is killed without one"
        assert "Too many open files" in record.faults[0]
    until(lambda: not host.left(), "end of all that they left")
    assert host.log.count("Too many open files") >= len(runs)
    (host.runtime / "supervisor.log").write_text("")


async def test_replacing_itself_keeps_everything(host: Witness) -> None:
    before = host.hello
    script = "trap 'echo term; exit 8' TERM; echo ready; while :; do sleep 0.02; done"
    waiting = await host.start("sh", "-c", script)
    limited = await host.start("sh", "-c", "echo head; exec sleep 300", timeout=1.5, max_bytes=1000)
    writing = await host.start("sh", "-c", "for i in $(seq 1 400); do echo $i; sleep 0.002; done")
    ended = await host.start("sh", "-c", "exit 3")
    await host.ended(ended.key)
    await host.output_has(waiting.key, "ready")
    os.kill(before.pid, signal.SIGHUP)
    await asyncio.wait_for(host.link.wait_closed(), 10)
    after = await host.connect()
    assert (after.pid, after.instance, after.placement) == (before.pid, before.instance, before.placement)
    known = {item.key: item for item in await host.link.list()}
    assert set(known) == {waiting.key, limited.key, writing.key, ended.key}
    assert known[ended.key].exit is not None
    assert known[ended.key].exit.exit_code == 3
    record = await host.ended(limited.key)
    assert record.cause == "timeout"
    assert 1.5 <= record.duration_s < 2
    await host.ended(writing.key)
    assert host.output(writing.key).split() == [str(i) for i in range(1, 401)]
    await host.link.stop(waiting.key, "cancel")
    assert (await host.ended(waiting.key)).exit_code == 8
    assert (await host.run("echo", "again"))[1] == "again\n"
    await host.link.ack([waiting.key, limited.key, writing.key, ended.key])
    assert facts(after.pid)["fds"] < 16, "no descriptor is left from before"


async def test_when_a_file_grew_is_known_to_who_comes_later(host: Witness) -> None:
    """While the run goes on, after self-replacement, and in its record."""
    began = time.time()
    script = "echo one; sleep 0.8; echo two; sleep 0.8; echo three"
    started = await host.start("sh", "-c", script)
    await host.output_has(started.key, "two")
    [known] = await host.link.list()
    assert (known.marks[1], len(known.marks)) == (4, 4)
    assert abs(known.marks[0] / 1000 - began) < 1.0
    os.kill(host.hello.pid, signal.SIGHUP)
    await asyncio.wait_for(host.link.wait_closed(), 10)
    await host.connect()
    [after] = await host.link.list()  # it may have ended meanwhile
    record = after.exit or await host.ended(started.key)
    assert record.marks[:4] == known.marks
    assert record.marks[1::2] == (4, 4, 6)
    assert all(later >= 700 for later in record.marks[2::2])


async def test_stopping_the_supervisor_stops_the_jobs_and_keeps_the_records(host: Witness) -> None:
    started = await host.start("sh", "-c", "trap 'echo term; exit 8' TERM; echo ready; while :; do sleep 0.02; done")
    await host.output_has(started.key, "ready")
    os.kill(host.hello.pid, signal.SIGTERM)
    await asyncio.wait_for(host.link.wait_closed(), 10)
    gone(host.hello.pid)
    assert not alive(started.pid)
    first = host.hello
    second = await host.connect()
    assert second.instance != first.instance
    [known] = await host.link.list()
    assert known.exit is not None
    assert (known.exit.exit_code, known.exit.cause) == (8, "shutdown")
    await host.link.ack([known.key])
    assert not list(host.runtime.glob("*.records"))


async def test_a_supervisor_that_was_killed_leaves_no_jobs_behind_for_long(host: Witness) -> None:
    """Its runs count as lost and come again: they must not go on beside their own repetition."""
    started = await host.start("sh", "-c", "trap '' TERM; setsid sleep 300 & sleep 300; sleep 300")
    os.kill(host.hello.pid, signal.SIGKILL)
    gone(host.hello.pid)
    await host.connect()
    assert not alive(started.pid)
    assert host.left() == []
    assert await host.link.list() == []


async def test_two_supervisors_never_serve_one_path(host: Witness) -> None:
    second = subprocess.run(
        own_command(host.runtime / "supervisor.sock"), capture_output=True, text=True, timeout=20, check=False
    )
    assert second.returncode == 75
    assert "another supervisor" in second.stderr
    assert (await host.run("true"))[0].exit_code == 0


async def test_it_stays_for_what_was_kept_and_would_die_of_its_end(tmp_path: Path) -> None:
    witness = Witness(tmp_path, linger=0.2)
    hello = await witness.connect()
    started = await witness.start("sh", "-c", "(sleep 1; echo a; echo b; sleep 0.3) & echo $!", leftovers="keep")
    await witness.ended(started.key)
    kept = int(witness.output(started.key))
    await witness.link.ack([started.key])
    await witness.link.close()
    await asyncio.sleep(0.7)
    assert alive(hello.pid)
    assert alive(kept)
    gone(hello.pid)
    assert not alive(kept)
    assert "printed 4 bytes after its end" in witness.log


async def test_it_ends_when_it_is_idle(tmp_path: Path) -> None:
    witness = Witness(tmp_path, linger=0.3)
    hello = await witness.connect()
    started = await witness.start("true")
    await witness.ended(started.key)
    await witness.link.close()
    await asyncio.sleep(0.6)
    assert alive(hello.pid), "there is a record that nobody has acknowledged"
    await witness.connect()
    await witness.link.ack([started.key])
    await witness.link.close()
    gone(hello.pid)
    assert not (witness.runtime / "supervisor.sock").exists()


async def test_agents_that_start_together_share_one_supervisor(tmp_path: Path) -> None:
    witnesses = [Witness(tmp_path, linger=0.2) for _ in range(4)]
    hellos = await asyncio.gather(*(witness.connect() for witness in witnesses))
    assert len({hello.pid for hello in hellos}) == 1
    for witness in witnesses:
        await witness.link.close()
    gone(hellos[0].pid)


async def test_a_supervisor_that_cannot_start_is_explained(tmp_path: Path) -> None:
    witness = Witness(tmp_path, "--no-such-option")
    with pytest.raises(SupervisorUnavailable, match="no-such-option"):
        await witness.connect()


async def test_memory_is_bounded_with_a_dead_agent(session_host: Witness) -> None:
    """Records of a client that is away go to the disk, and come back from there."""
    host = session_host
    go = host.runtime / "go"
    waits = f"until [ -e {go} ]; do sleep 0.05; done"
    keys = [(await host.start("sh", "-c", waits)).key for _ in range(20)]
    await host.link.close()
    go.touch()
    spill = host.runtime / "supervisor.sock.records"
    until(lambda: spill.exists() and spill.read_bytes().count(b"\n") == 20, "records on disk")
    await host.connect()
    known = {item.key: item for item in await host.link.list()}
    assert set(known) == set(keys)
    assert all(item.exit is not None and item.exit.exit_code == 0 for item in known.values())
    await host.link.ack(keys)
    assert not spill.exists()


async def test_a_thousand_short_jobs_leave_nothing_behind(
    host: Witness, record_property: pytest.RecordProperty
) -> None:
    pid = host.hello.pid

    async def some(count: int) -> None:
        gate = asyncio.Semaphore(8)

        async def one() -> None:
            async with gate:
                record, output = await host.run("echo", "x")
                assert (record.exit_code, output) == (0, "x\n")
                await host.link.ack([record.key])
                host.spool(record.key).unlink()

        await asyncio.gather(*(one() for _ in range(count)))

    await some(200)
    before = facts(pid)
    await some(1000)
    after = facts(pid)
    record_property("before", before)
    record_property("after", after)
    assert after["fds"] == before["fds"]
    assert after["children"] == before["children"] == 0
    assert after["rss_kib"] <= before["rss_kib"] + 1000, "not a kilobyte a job"
    assert after["rss_kib"] < 15 * 1024
    assert after["cgroups"] == before["cgroups"] == 0
    assert sorted(path.name for path in host.runtime.iterdir()) == [
        "supervisor.log", "supervisor.sock", "supervisor.sock.lock", "supervisor.start.lock",
    ]  # fmt: skip


def facts(pid: int) -> dict[str, int]:
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return {
        "fds": len(list(Path(f"/proc/{pid}/fd").iterdir())),
        "children": len(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()),
        "rss_kib": int(status["VmRSS"].split()[0]),
        "cgroups": len(run_cgroups(pid)),
    }


def run_cgroups(pid: int) -> list[Path]:
    mounts = [line.split() for line in Path("/proc/self/mountinfo").read_text().splitlines() if " - cgroup2 " in line]
    return [path for fields in mounts for path in Path(fields[4]).glob(f"**/run-{pid}-*")]


def test_as_pid_1_it_starts_the_agent_and_ends_with_it(tmp_path: Path) -> None:
    """And stops the jobs, and reaps what nobody else reaps."""
    script = "trap 'exit 7' TERM; echo agent $$; setsid sleep 0.1 & while :; do sleep 0.02; done"
    process, socket = bare_supervisor(tmp_path, "--agent", "sh", "-c", script, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    agent = int(process.stdout.readline().split()[1])
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    until(lambda: children.read_text().split() == [str(agent)], "only the agent is left")
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 7
    process.stdout.close()
    assert not alive(agent)
    assert not socket.exists()


def test_as_pid_1_it_starts_a_killed_agent_again(tmp_path: Path) -> None:
    """Its jobs are not to notice. One that ends by itself, without jobs, is the container's end."""
    script = "trap 'exit 7' TERM; echo agent $$; while :; do sleep 0.02; done"
    process, _ = bare_supervisor(tmp_path, "--agent", "sh", "-c", script, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    first = int(process.stdout.readline().split()[1])
    os.kill(first, signal.SIGKILL)
    second = int(process.stdout.readline().split()[1])
    assert second != first
    os.kill(process.pid, signal.SIGHUP)  # the new code knows the new agent
    until(lambda: "--state-fd" in Path(f"/proc/{process.pid}/cmdline").read_text(), "the supervisor has been replaced")
    os.kill(second, signal.SIGTERM)
    assert process.wait(30) == 7
    process.stdout.close()


# What leaves the mark in its environment behind, as daily practice does: `env -i`, `su -`, a daemon's own title.
WIPED = {
    "its main process": "exec env -i sleep 300",
    "a child": "env -i sleep 300 & wait",
    "a child with a session": "setsid env -i sleep 300 & sleep 300",
    "a child of one that has ended": "(env -i sh -c 'sleep 300; :' &) ; exec env -i sleep 300",
    "one that ignores TERM": "exec env -i sh -c \"trap '' TERM; sleep 300; :\"",
}


@pytest.mark.parametrize("leftovers", ["kill", "keep"])
@pytest.mark.parametrize("replaced", [False, True], ids=["", "replaced before"])
@pytest.mark.parametrize("what", WIPED)
async def test_the_clean_up_after_a_crash_knows_as_much_as_the_kill_before_it(
    host: Witness, what: str, leftovers: str, *, replaced: bool
) -> None:
    """By session and descent, which were written down at the start."""
    bystander = subprocess.Popen(["sleep", "300"], start_new_session=True)
    started = await host.start("sh", "-c", f"echo ready; {WIPED[what]}", leftovers=leftovers)
    await host.output_has(started.key, "ready")
    await asyncio.sleep(0.1)
    if replaced:
        os.kill(host.hello.pid, signal.SIGHUP)
        await asyncio.wait_for(host.link.wait_closed(), 20)
        await host.connect()
    session = sessions().get(started.pid, []) + [pid for pid, parent in parents().items() if parent == started.pid]
    assert session
    os.kill(host.hello.pid, signal.SIGKILL)
    gone(host.hello.pid)
    await host.connect()
    assert [pid for pid in session if alive(pid)] == []
    assert bystander.poll() is None
    bystander.kill()
    bystander.wait()
    assert await host.link.list() == []


def sessions() -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for pid, fields in stats().items():
        found.setdefault(int(fields[3]), []).append(pid)
    return found


def parents() -> dict[int, int]:
    return {pid: int(fields[1]) for pid, fields in stats().items()}


def stats() -> dict[int, list[str]]:
    found = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            found[int(path.parent.name)] = path.read_text().rpartition(")")[2].split()
    return found
