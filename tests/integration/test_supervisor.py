"""What a well-behaved job may expect of the supervisor, in both placements."""

from __future__ import annotations

import asyncio
import errno
import os
import resource
import signal
import time
import uuid
from functools import partial
from pathlib import Path

import pytest
from supervising import Witness, alive, until

from runner.agent.supervision import connection as supervision
from runner.agent.supervision.connection import StartRefused
from runner.supervisor.placing.processes import start_ticks


async def test_a_job_runs_and_its_end_is_told(host: Witness) -> None:
    before = time.time()
    record, output = await host.run("sh", "-c", "echo out; echo err >&2; exit 3")
    assert (record.exit_code, record.signal, record.cause, record.start_error) == (3, None, None, None)
    assert output == "out\nerr\n"
    assert record.bytes_total == record.bytes_written == 8
    assert record.leftovers == 0
    assert before - 1 < record.started_at <= record.finished_at < time.time() + 1
    assert record.duration_s == pytest.approx(record.finished_at - record.started_at, abs=1e-3)
    assert record.max_rss_bytes > 0


async def test_a_signal_is_named(host: Witness) -> None:
    record, _ = await host.run("sh", "-c", "kill -SEGV $$")
    assert (record.exit_code, record.signal) == (None, "SIGSEGV")


async def test_the_environment_is_built_from_nothing(host: Witness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "of the agent")
    started = await host.start("env", env={"FOO": "bar", "HOME": "/elsewhere"})
    await host.ended(started.key)
    found = dict(line.split("=", 1) for line in host.output(started.key).splitlines())
    assert found["CRON_RUNNER_EXECUTION"] == started.key
    assert found["FOO"] == "bar"
    assert found["HOME"] == "/elsewhere", "what the agent sends wins"
    assert {"PATH", "SHELL", "USER", "LOGNAME", "LANG"} <= set(found)
    assert not {name for name in found if name.startswith("AWS")}


async def test_a_job_starts_with_plain_signals_and_descriptors(host: Witness) -> None:
    for nice in (None, 5):  # by vfork, and by fork
        _, output = await host.run("grep", "-E", "Sig(Blk|Ign)", "/proc/self/status", nice=nice)
        # 32 and 33 belong to the C library, whose posix_spawn ignores them.
        masks = [int(line.split()[1], 16) & ~(3 << 31) for line in output.splitlines()]
        assert masks == [0, 0], "nothing blocked, nothing ignored"
        record, output = await host.run("sh", "-c", "cut -d' ' -f6 /proc/$$/stat; ls /proc/$$/fd; ulimit -n", nice=nice)
        assert output.split()[:4] == [str(record.pid), "0", "1", "2"], "a session of its own, three descriptors"
        assert int(output.split()[-1]) == resource.getrlimit(resource.RLIMIT_NOFILE)[0]


async def test_a_job_does_not_ignore_what_its_supervisor_was_told_to(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    for number in (signal.SIGHUP, signal.SIGQUIT):  # as nohup and a shell's background do
        request.addfinalizer(partial(signal.signal, number, signal.signal(number, signal.SIG_IGN)))
    witness = Witness(tmp_path)
    await witness.connect()
    try:
        for nice in (None, 5):
            _, output = await witness.run("grep", "SigIgn", "/proc/self/status", nice=nice)
            assert int(output.split()[1], 16) & ~(3 << 31) == 0
    finally:
        await witness.link.close()
        witness.stop()


async def test_cwd_umask_nice_stdin(host: Witness, tmp_path: Path) -> None:
    script = "pwd; umask; nice; cat"
    for nice in (None, 7):
        _, output = await host.run("sh", "-c", script, cwd=str(tmp_path), umask=0o27, nice=nice, stdin="héllo\0x")
        assert output == f"{tmp_path}\n0027\n{nice or 0}\nhéllo\0x"
    _, output = await host.run("cat")
    assert output == "", "standard input is /dev/null"


async def test_the_command_is_found_through_the_jobs_path(host: Witness, tmp_path: Path) -> None:
    for name, text in (("one", "exit 1"), ("two", "exit 2")):
        directory = tmp_path / name
        directory.mkdir()
        (directory / "tool").write_text(f"#!/bin/sh\n{text}\n")
        (directory / "tool").chmod(0o755 if name == "two" else 0o644)
    for nice in (None, 1):
        record, _ = await host.run("tool", env={"PATH": f"{tmp_path}/one:{tmp_path}/two:/bin"}, nice=nice)
        assert record.exit_code == 2, "what cannot be executed is passed over, as a shell does"
        record, _ = await host.run("./tool", cwd=str(tmp_path / "two"), nice=nice)
        assert record.exit_code == 2


@pytest.mark.parametrize("nice", [None, 1], ids=["vfork", "fork"])
async def test_what_cannot_be_started_says_why(host: Witness, tmp_path: Path, nice: int | None) -> None:
    script = tmp_path / "script"
    script.write_text("#!/nonexistent/interpreter\n")
    script.chmod(0o755)
    plain = tmp_path / "plain"
    plain.write_text("text")
    cases = {
        ("nonexistent",): (errno.ENOENT, "cannot execute 'nonexistent': No such file or directory in its PATH; "),
        ("/etc/passwd",): (errno.EACCES, "cannot execute '/etc/passwd': Permission denied"),
        (str(script),): (errno.ENOENT, "interpreter"),
        (str(tmp_path),): (errno.EACCES, "Permission denied"),
    }
    for argv, (number, text) in cases.items():
        started = await host.start(*argv, nice=nice)
        assert started.exit is not None
        assert started.exit.start_error is not None
        assert started.exit.start_error[0] == number
        assert text in started.exit.start_error[1]
        assert started.exit.exit_code is None
    started = await host.start("true", cwd=str(tmp_path / "missing"), nice=nice)
    assert started.exit is not None
    assert started.exit.start_error is not None
    assert started.exit.start_error[0] != errno.ENOENT, "that is kept for a command that does not exist"
    assert "missing': No such file" in started.exit.start_error[1]
    assert not host.exits, "an answered failure is no news"


@pytest.mark.parametrize("nice", [None, 1], ids=["vfork", "fork"])
@pytest.mark.parametrize(
    ("content", "number", "text"),
    [
        (
            b"#!/bin/sh\r\necho x\r\n",
            errno.ENOENT,
            r"its interpreter '/bin/sh\r' does not exist: the #! line ends in CR",
        ),
        (b"#! /opt/no/python3 -u\n", errno.ENOENT, "its interpreter '/opt/no/python3' does not exist; install that"),
        (b"#!/opt/n\xc3\xb6\xff/sh", errno.ENOENT, "its interpreter '/opt/n\u00f6\\\\xff/sh' does not exist"),
        (b"\xef\xbb\xbf#!/bin/sh\necho x\n", errno.ENOEXEC, "a byte order mark stands before its #! line"),
        ("#!/bin/sh\n".encode("utf-16"), errno.ENOEXEC, "a byte order mark stands before its #! line"),
        (b"", errno.ENOEXEC, "Exec format error; give it a #! line"),
        (b"echo x\n", errno.ENOEXEC, "Exec format error; give it a #! line"),
    ],
)
async def test_an_interpreter_is_named_as_it_stands_in_the_file(
    host: Witness, tmp_path: Path, content: bytes, number: int, text: str, nice: int | None
) -> None:
    script = tmp_path / "script"
    script.write_bytes(content)
    script.chmod(0o755)
    for argv, spec in (
        ((str(script),), {}),
        (("./script",), {"cwd": str(tmp_path)}),
        (("script",), {"env": {"PATH": str(tmp_path)}}),
    ):
        started = await host.start(*argv, nice=nice, **spec)
        assert started.exit is not None
        assert started.exit.start_error is not None
        assert started.exit.start_error[0] == number
        assert text in started.exit.start_error[1]
        assert started.exit.start_error[1].isprintable()


@pytest.mark.parametrize("nice", [None, 1], ids=["vfork", "fork"])
async def test_what_is_too_long_to_be_executed_is_named_and_stdin_takes_it(host: Witness, nice: int | None) -> None:
    most = 32 * resource.getpagesize() - 1
    cases: list[tuple[tuple[str, ...], dict[str, str], str]] = [
        (("echo", "x", "y" * (most + 1)), {}, f"its argument 2 has {most + 1} bytes, and Linux takes at most {most}"),
        (("true",), {"BIG": "x" * most}, f"the variable BIG has {most + 4} bytes"),
        (("true", *["x" * 1000] * 9000), {}, "bytes together, more than this host takes"),
    ]
    for argv, env, text in cases:
        started = await host.start(*argv, env=env, nice=nice)
        assert started.exit is not None
        assert started.exit.start_error is not None
        assert started.exit.start_error[0] == errno.E2BIG
        assert text in started.exit.start_error[1]
        assert "stdin" in started.exit.start_error[1]
    await host.start("echo", "x" * most, key="taken/1", nice=nice)
    assert (await host.ended("taken/1")).exit_code == 0, "one byte less is taken"


async def test_an_environment_that_is_too_large(host: Witness) -> None:
    for nice in (None, 1):
        started = await host.start("true", env={"BIG": "x" * 10_000_000}, nice=nice)
        assert started.exit is not None
        assert started.exit.start_error is not None
        assert started.exit.start_error[0] == errno.E2BIG


async def test_env_files(host: Witness, tmp_path: Path) -> None:
    (tmp_path / "a.env").write_text('# comment\nA=1\nB=\'two words\'\nDB_PASSWORD="hun\\"ter"\n')
    (tmp_path / "b.env").write_text("B=three\nC=over\nHOME=/from/file\n")
    started = await host.start(
        "sh", "-c", 'echo "$A,$B,$C,$DB_PASSWORD,$HOME"', env={"C": "sent"}, redact=("*_PASSWORD",),
        env_files=(str(tmp_path / "a.env"), str(tmp_path / "b.env"), f"-{tmp_path}/missing"),
    )  # fmt: skip
    assert started.secrets == ('hun"ter',)
    await host.ended(started.key)
    assert host.output(started.key) == '1,three,sent,hun"ter,/from/file\n'
    os.mkfifo(tmp_path / "fifo")
    for path, text in ((tmp_path / "missing", "No such file"), (tmp_path / "fifo", "not a regular file")):
        started = await host.start("true", env_files=(str(path),))
        assert started.exit is not None
        assert started.exit.start_error is not None
        assert text in started.exit.start_error[1]


async def test_a_second_start_with_a_key_starts_nothing(host: Witness, tmp_path: Path) -> None:
    first = await host.start("sh", "-c", f"echo x >>{tmp_path}/count; exec sleep 60", key="same/1")
    second = await host.start("false", key="same/1")
    assert (second.pid, second.started_boottime) == (first.pid, first.started_boottime)
    await host.output_has("same/1", "")
    assert await host.link.stop("same/1", "cancel", grace=0)
    await host.ended("same/1")
    third = await host.start("false", key="same/1")
    assert third.exit is not None
    assert third.exit.signal == "SIGKILL"
    await host.link.ack(["same/1"])
    assert await host.link.list() == []


async def test_a_timeout(host: Witness) -> None:
    record, _ = await host.run("sleep", "100", timeout=0.2)
    assert (record.cause, record.signal) == ("timeout", "SIGTERM")
    assert 0.2 <= record.duration_s < 0.7


async def test_silence_is_limited_and_output_prolongs(host: Witness) -> None:
    script = "for i in 1 2 3 4 5 6; do echo $i; sleep 0.1; done; exec sleep 100"
    record, output = await host.run("sh", "-c", script, no_output_timeout=0.4)
    assert record.cause == "no_output"
    assert output.split() == list("123456")
    assert 0.9 < record.duration_s < 2


async def test_the_stop_signal_and_the_first_cause(host: Witness) -> None:
    script = "trap 'echo usr1; exit 7' USR1; echo ready; while :; do sleep 0.01; done"
    started = await host.start("sh", "-c", script, stop_signal="USR1")
    await host.output_has(started.key, "ready")
    assert await host.link.stop(started.key, "cancel", "by root")
    await host.link.stop(started.key, "shutdown", "too late")
    record = await host.ended(started.key)
    assert (record.exit_code, record.cause, record.cause_detail) == (7, "cancel", "by root")
    assert not await host.link.stop(started.key, "cancel")


async def test_list_usage_and_acknowledgement(host: Witness) -> None:
    started = await host.start("sh", "-c", "echo hello; exec sleep 60")
    await host.output_has(started.key, "hello")
    await asyncio.sleep(0)
    [known] = await host.link.list()
    assert (known.key, known.pid, known.start_ticks, known.bytes, known.exit) == (
        started.key, started.pid, start_ticks(started.pid), 6, None,
    )  # fmt: skip
    async with asyncio.timeout(5):  # a process that is just being executed has no memory yet
        while not (usage := (await host.link.usage())[started.key]).memory_bytes:
            await asyncio.sleep(0.01)
    assert usage.processes == 1
    await host.link.stop(started.key, "cancel", grace=0)
    await host.ended(started.key)
    [known] = await host.link.list()
    assert known.exit is not None
    await asyncio.gather(host.link.ack([started.key]), host.link.ack(["unknown"]))
    assert await host.link.list() == []


async def test_a_supervisor_that_does_not_answer_is_given_up(host: Witness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervision, "_ANSWER_WITHIN", 0.2)
    assert await host.link.list() == []
    os.kill(host.hello.pid, signal.SIGSTOP)
    try:
        late = [asyncio.ensure_future(host.link.list()) for _ in range(2)]
        await asyncio.wait(late)
    finally:
        os.kill(host.hello.pid, signal.SIGCONT)
    for one in late:
        assert "no answer within 0.2 s" in str(one.exception())
    await host.link.wait_closed()


async def test_output_is_announced_while_it_grows(host: Witness) -> None:
    started = await host.start("sh", "-c", "printf 12345; exec sleep 60")
    async with asyncio.timeout(2):
        while host.sizes.get(started.key) != 5:
            await asyncio.sleep(0.01)
    await host.link.stop(started.key, "cancel", grace=0)
    await host.ended(started.key)


async def test_head_and_tail_of_too_much_output_are_kept(host: Witness) -> None:
    started = await host.start("sh", "-c", "seq 1 3000000; echo last", max_bytes=1 << 20)
    record = await host.ended(started.key)
    assert record.gap is not None
    start, end = record.gap
    data = host.spool(started.key).read_bytes()
    whole = "".join(f"{i}\n" for i in range(1, 3_000_001)).encode() + b"last\n"
    assert record.bytes_total == record.bytes_written == len(whole) == len(data)
    assert start == 1 << 19
    assert len(data) - end == 1 << 19
    assert data[:start] == whole[:start]
    assert data[end:] == whole[end:]
    assert record.bytes_dropped == end - start
    assert host.spool(started.key).stat().st_blocks * 512 < (1 << 20) + 65536


async def test_a_file_too_large_for_the_disk_drops_and_counts(tmp_path: Path) -> None:
    """A file size limit stands in for a full disk: both refuse the write."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, hard))
    try:
        witness = Witness(tmp_path)
        await witness.connect()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    try:
        record, output = await witness.run("sh", "-c", "head -c 3000000 /dev/zero; exit 4")
        assert record.exit_code == 4, "the job was not disturbed"
        assert record.bytes_total == 3_000_000
        assert record.bytes_written == len(output) == 1 << 20
        assert record.disk_full_dropped == record.bytes_dropped == 3_000_000 - (1 << 20)
    finally:
        await witness.link.close()
        witness.stop()


async def test_leftovers_may_be_kept(host: Witness, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[dict[str, object]] = []
    monkeypatch.setattr(supervision.log, "warning", lambda _event, **facts: told.append(facts))
    started = await host.start("sh", "-c", "(sleep 0.3; echo late; exec sleep 60) & echo $!", leftovers="keep")
    record = await host.ended(started.key, within=2)
    pid = int(host.output(started.key))
    assert record.leftovers >= 1
    assert alive(pid)
    await asyncio.sleep(0.4)
    assert alive(pid), "its writing breaks nothing"
    async with asyncio.timeout(10):
        while not told:
            await asyncio.sleep(0.01)
    assert (told[0]["run_id"], told[0]["bytes"]) == ("run", len("late\n")), "what it prints is counted and told"
    for left in host.left():
        os.kill(left, signal.SIGKILL)
    until(lambda: not host.left(), "end of what was kept")


async def test_a_tied_run_ends_with_its_client(host: Witness) -> None:
    started = await host.start("sleep", "100", tied=True)
    await host.link.close()
    await host.connect()
    async with asyncio.timeout(5):
        while alive(started.pid) or await host.link.list():
            await asyncio.sleep(0.01)


async def test_what_is_not_well_formed_is_refused(host: Witness) -> None:
    with pytest.raises(StartRefused, match="NUL"):
        await host.start("a\0b")
    with pytest.raises(StartRefused, match="argv"):
        await host.start()
    with pytest.raises(StartRefused, match="stop_signal"):
        await host.start("true", stop_signal="KILL")
    fd = os.open("/dev/null", os.O_RDWR)
    try:
        from runner.agent.supervision.connection import StartSpec

        with pytest.raises(StartRefused, match="regular file"):
            await host.link.start(StartSpec(key="a/1", job="j", run_id="r", argv=("true",)), fd)
    finally:
        os.close(fd)
    record, _ = await host.run("true")
    assert record.exit_code == 0


async def test_many_at_once_are_each_in_a_cgroup_of_their_own(cgroup_host: Witness) -> None:
    own = Path(f"/proc/{cgroup_host.hello.pid}/cgroup").read_text()
    script = "grep ^0:: /proc/self/cgroup"
    for _ in range(2):
        keys = [f"{index}/{uuid.uuid4().hex}" for index in range(60)]
        await asyncio.gather(*(cgroup_host.start("sh", "-c", script, key=key) for key in keys))
        for key in keys:
            assert (await cgroup_host.ended(key)).exit_code == 0
        cgroups = {cgroup_host.output(key) for key in keys}
        assert len(cgroups) == len(keys)
        assert all("/run-" in cgroup for cgroup in cgroups)
        assert Path(f"/proc/{cgroup_host.hello.pid}/cgroup").read_text() == own
        await cgroup_host.link.ack(keys)
