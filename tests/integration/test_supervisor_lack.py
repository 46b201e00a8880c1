"""A lack that passes (of descriptors, processes or memory) is no end of a run: its start waits, and is made."""

from __future__ import annotations

import asyncio
import errno
import os
import resource
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio
from supervising import PATIENCE_S, Witness, until

from runner.agent.supervision import launch as supervision_launch
from runner.agent.supervision.connection import StartRefused, StartSpec, Supervision
from runner.agent.supervision.link import Link
from runner.supervisor.starting import direct

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from runner.agent.supervision.connection import ExitRecord

JOBS = 60
# One start by posix_spawn, one by a fork that prepares itself.
WAYS: list[dict[str, Any]] = [{}, {"nice": 1}, {"leftovers": "keep"}, {"stdin": "x"}]


@pytest_asyncio.fixture(params=[40, 64])
async def narrow(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Witness]:
    """A supervisor that may have few descriptors."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    witness = Witness(tmp_path, "--placement", "session")
    await witness.connect()
    resource.prlimit(witness.hello.pid, resource.RLIMIT_NOFILE, (request.param, request.param))
    await witness.link.close()
    os.kill(witness.hello.pid, 1)  # it counts anew
    until(lambda: b"--state-fd" in Path(f"/proc/{witness.hello.pid}/cmdline").read_bytes(), "its replacement")
    await witness.connect()
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == before
    yield witness
    await witness.link.close()
    witness.stop()
    assert witness.left() == []
    assert "Traceback" not in witness.log


async def test_more_jobs_than_descriptors_all_run(narrow: Witness) -> None:
    """As the agent does it: what is refused for now waits, and is asked for again."""
    directory, exits = narrow.directory, []

    def make(on_exit: Callable[[ExitRecord], None]) -> Supervision:
        return Supervision(
            runtime=narrow.runtime, config_path=None, owner="many", on_exit=on_exit, on_output=lambda _: None
        )

    link = Link(make)
    await link.connect()
    task = asyncio.create_task(link.run())
    never = asyncio.Event()

    async def one(number: int) -> None:
        path = directory / f"many-{number}"
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        spec = StartSpec(
            key=f"many/{number}", job="j", run_id="r", argv=("sh", "-c", "echo x; sleep 0.3; exit 5"),
            env={"WITNESS": narrow.token}, **WAYS[number % len(WAYS)],
        )  # fmt: skip
        started = await link.start(spec, fd, never)
        os.close(fd)
        record = started.exit or await link.ended(spec.key)
        assert record is not None
        exits.append((record.exit_code, record.start_error, path.read_text()))
        link.acknowledge([spec.key])

    async with asyncio.timeout(3 * PATIENCE_S), asyncio.TaskGroup() as tasks:
        for number in range(JOBS):
            tasks.create_task(one(number))
    assert exits == [(5, None, "x\n")] * JOBS
    assert link.start_error is None
    task.cancel()
    await link.close()


LACKS = [errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN]
# Where a start asks the system for something: module and name of what is called there.
PLACES = [
    "os.pipe2",
    "os.memfd_create",
    "libc.fork_into",
    "os.posix_spawn",
    "child.os.execve",
    "child.os.open",
    "direct.start",
]
SITE = """
import errno, os, sys
import runner.supervisor.libc as libc
place, number, marker = {place!r}, {number}, {marker!r}
def failing(whole):
    def call(*args, **kwargs):
        if os.path.exists(marker):
            if not place.startswith("child"):
                os.unlink(marker)
            raise OSError(number, os.strerror(number))
        return whole(*args, **kwargs)
    return call
def install():
    module = {{"os": os, "libc": libc, "child": os}}.get(place.split(".")[0])
    name = place.split(".")[-1]
    if place.startswith("child"):
        from runner.supervisor.starting import child
        class Os:
            def __getattr__(self, wanted):
                return failing(getattr(os, wanted)) if wanted == name else getattr(os, wanted)
        child.os = Os()
    elif place == "direct.start":
        from runner.supervisor.starting import direct
        real = direct._spawn
        class Spawn:
            def __getattr__(self, wanted):
                return getattr(real, wanted)
            def start(self, *given):
                try:
                    return failing(real.start)(*given)
                except OSError as error:
                    return 0, real.CLONE, error.errno, False
        direct._spawn = Spawn()
    else:
        setattr(module, name, failing(getattr(module, name)))
"""


@pytest.mark.parametrize("number", LACKS, ids=errno.errorcode.get)
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("placement", ["session", "cgroup"])
async def test_each_call_of_a_start_may_lack_something_for_a_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, number: int, placement: str
) -> None:
    """The start is refused for now, nothing of it is left, and the same start is made a moment later."""
    marker = tmp_path / "fails"
    whole = supervision_launch.Finder._command  # noqa: SLF001 - its code is given a fault, nothing else is changed

    def command(self: Any, path: Path) -> list[str]:
        line = whole(self, path)
        at = line.index("-c") + 1
        prefix, _, rest = line[at].partition("from runner")
        site = SITE.format(place=place, number=number, marker=str(marker))
        line[at] = f"{prefix}\nexec({site!r})\ninstall()\nfrom runner{rest}"
        return line

    monkeypatch.setattr(supervision_launch.Finder, "_command", command)
    way = "auto" if place.startswith(("direct", "os.pipe2", "os.memfd")) else "fork"
    if place == "direct.start" and (direct._missing or number in (errno.EMFILE, errno.ENFILE)):  # noqa: SLF001
        pytest.skip("not built here, or no error of clone3")
    witness = Witness(tmp_path, "--placement", placement, "--start", way)
    await witness.connect()
    try:
        forked = place.startswith("child") or "fork" in place
        spec: dict[str, Any] = {"nice": 1} if forked else {"stdin": "x"} if place == "os.memfd_create" else {}
        if place == "os.posix_spawn" and placement == "cgroup":
            pytest.skip("not used by this start")
        if place == "libc.fork_into" and number in (errno.EMFILE, errno.ENFILE):
            pytest.skip("no error of clone3")
        marker.touch()
        with pytest.raises(StartRefused) as refused:
            await witness.start("sh", "-c", "exit 3", key="a/1", **spec)
        assert refused.value.code == "lack", refused.value
        assert await witness.link.list() == []
        marker.unlink(missing_ok=True)
        record, _ = await witness.run("sh", "-c", "exit 3", key="a/1", **spec)
        assert (record.exit_code, record.start_error) == (3, None)
        await witness.link.ack(["a/1"])
    finally:
        await witness.link.close()
        witness.stop()
    assert "Traceback" not in witness.log


async def test_the_limit_that_a_run_has_by_itself_is_its_own_end(session_host: Witness) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root: RLIMIT_NPROC does not hold the supervisor's own user")
    holders = [(await session_host.start("sleep", "300", user="nobody")).key for _ in range(3)]
    started = await session_host.start("true", user="nobody", limits={"pids": 1})
    record = started.exit or await session_host.ended(started.key)
    assert record.start_error is not None
    assert record.start_error[0] == errno.EAGAIN
    for key in holders:
        await session_host.link.stop(key, "cancel", grace=0)
        await session_host.ended(key)
    await session_host.link.ack([*holders, started.key])


@pytest.mark.parametrize("placement", ["session", "cgroup"])
async def test_the_limit_that_jobs_get_does_not_bind_the_supervisor_that_starts_them(
    tmp_path: Path, placement: str
) -> None:
    """Between fork and exec all its descriptors are still open, and more of them than a job may have."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    witness = Witness(tmp_path, "--placement", placement)
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, before[1]))
    try:
        await witness.connect()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    file = tmp_path / "env"
    file.write_text("A=b\n")
    file.chmod(0o644)
    try:
        started = [await witness.start("sleep", "300") for _ in range(50)]
        assert [item.exit for item in started] == [None] * 50
        others = [item.key for item in started]
        record, output = await witness.run("sh", "-c", "echo $A; ulimit -n", env_files=(str(file),))
        assert (record.start_error, output) == (None, "b\n64\n")
        for key in others:
            await witness.link.stop(key, "cancel", grace=0)
        for key in others:
            await witness.ended(key)
    finally:
        await witness.link.close()
        witness.stop()
