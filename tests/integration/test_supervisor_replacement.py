"""Self-replacement has no point of no return: what would fail after exec is found before it, and is no end."""

from __future__ import annotations

import asyncio
import os
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio
from supervising import ROOT, Witness, alive, gone, until

from runner.supervisor import ties

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

# The form of the command line is the operator's, of a unit or an image.
FORMS = {
    "apart": ["--socket", "{socket}"],
    "equals": ["--socket={socket}"],
    "equals, last": ["--linger=30", "--placement", "session", "--socket={socket}"],
    "with an agent": ["--socket={socket}", "--agent", "sh", "-c", "exec sleep 300 # --socket --state-fd 5"],
}


class Copy:
    """A supervisor whose code is the test's own copy, so that another version of it can be put in its place."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.code = directory / "code"
        shutil.copytree(ROOT / "runner", self.code / "runner", ignore=shutil.ignore_patterns("__pycache__"))
        self.errors = directory / "errors"
        self.witness = Witness(directory)
        self.process: subprocess.Popen[bytes]

    async def serve(self, form: str = "apart") -> Witness:
        """Start it, and connect to it as an agent does."""
        self.witness.runtime.mkdir()
        socket = self.witness.runtime / "supervisor.sock"
        code = f"import sys; sys.path.insert(0, {str(self.code)!r}); "
        code += "from runner.supervisor.__main__ import main; main()"
        line = [sys.executable, "-I", "-S", "-B", "-X", "utf8", "-c", code]
        line += [word.format(socket=socket) for word in FORMS[form]]
        with self.errors.open("wb") as errors:
            self.process = subprocess.Popen(line, stderr=errors)
        until(socket.exists, "the supervisor's socket")
        await self.witness.connect()
        return self.witness

    def change(self, module: str, before: str, after: str) -> None:
        path = self.code / "runner" / "supervisor" / f"{module}.py"
        text = path.read_text()
        assert before in text
        path.write_text(text.replace(before, after))

    def said(self) -> str:
        return self.errors.read_text()

    def replaced(self) -> bool:
        return b"--state-fd" in Path(f"/proc/{self.process.pid}/cmdline").read_bytes()

    async def again(self) -> None:
        """Wait for the replacement, and connect again."""
        await asyncio.wait_for(self.witness.link.wait_closed(), 20)
        await self.witness.connect()
        assert self.replaced()


@pytest_asyncio.fixture
async def copy(tmp_path: Path) -> AsyncIterator[Copy]:
    copy = Copy(tmp_path)
    yield copy
    await copy.witness.link.close()
    copy.process.terminate()
    copy.process.wait(20)
    assert copy.witness.left() == []


@pytest.mark.parametrize("form", FORMS)
async def test_every_form_of_the_command_line_can_be_replaced_and_again(copy: Copy, form: str) -> None:
    host = await copy.serve(form)
    started = await host.start("sh", "-c", "sleep 300; exit 3")
    for _ in range(3):
        os.kill(copy.process.pid, signal.SIGHUP)
        await copy.again()
        assert [known.key for known in await host.link.list()] == [started.key]
    await host.link.stop(started.key, "cancel", grace=0)
    await host.ended(started.key)
    assert copy.said() == ""


# Another version, newer or older: what its code does not find in the state, or does not accept in it.
OTHER_VERSIONS = {
    "another format": ("handover", "STATE = 1", "STATE = 2"),
    "a part of the state that is not there": ("handover", 'state["made"]', 'state["mode"]'),
    "a fact of a run that is not there": ("handover", 'state["main"]', 'state["mine"]'),
    "a run that it refuses": ("request", "_MAX_KEY = 256", "_MAX_KEY = 3"),
    "a capture of another shape": ("capture", "def restored(cls, state", "def restored(cls, state, more, most"),
    "a part of the process that is not there": ("__main__", 'state["instance"]', 'state["instances"]'),
    "an option that it does not know": ("options", '"--socket", "--config"', '"--sock", "--config"'),
    "code that does not load": ("placing/session", "from __future__", "from __past__"),
}


@pytest.mark.parametrize("other", OTHER_VERSIONS)
async def test_a_version_that_cannot_take_over_leaves_the_old_code_at_work(copy: Copy, other: str) -> None:
    host = await copy.serve()
    started = await host.start("sh", "-c", "trap 'exit 4' TERM; echo ready; while :; do sleep 0.02; done")
    await host.output_has(started.key, "ready")
    copy.change(*OTHER_VERSIONS[other])
    os.kill(copy.process.pid, signal.SIGHUP)
    await asyncio.to_thread(until, lambda: "cannot replace myself" in copy.said(), "the refusal")
    assert not copy.replaced()
    assert (await host.run("echo", "on"))[1] == "on\n"
    assert [known.key for known in await host.link.list() if known.exit is None] == [started.key]
    await host.link.stop(started.key, "cancel")
    assert (await host.ended(started.key)).exit_code == 4
    # The next time, with code that can, it is replaced: nothing of the failed trial is left in the way.
    module, before, after = OTHER_VERSIONS[other]
    copy.change(module, after, before)
    os.kill(copy.process.pid, signal.SIGHUP)
    await copy.again()


async def test_a_passing_lack_does_not_forget_that_new_code_was_asked_for(copy: Copy) -> None:
    """No descriptor for the memfd at that moment."""
    host = await copy.serve()
    pid = copy.process.pid
    limits = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    used = max(int(path.name) for path in Path(f"/proc/{pid}/fd").iterdir()) + 1
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (used, limits[1]))
    os.kill(pid, signal.SIGHUP)
    await asyncio.to_thread(until, lambda: "cannot replace myself now" in copy.said(), "that it is put off")
    assert not copy.replaced()
    resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)
    await copy.again()
    assert (await host.run("echo", "on"))[1] == "on\n"
    assert copy.said().count("cannot replace myself") == 1


async def test_a_tied_run_is_tied_still_after_a_replacement(host: Witness) -> None:
    """Its client came back: the run goes on, and ends with it; its record goes too, when nobody can take it."""
    running = await host.start("sleep", "300", tied=True)
    ended = await host.start("sleep", "1", tied=True)
    free = await host.start("sleep", "300")
    os.kill(host.hello.pid, signal.SIGHUP)
    await asyncio.wait_for(host.link.wait_closed(), 20)
    await host.connect()
    await host.ended(ended.key)
    await asyncio.sleep(ties.BACK_WITHIN + 0.5)
    assert alive(running.pid)
    assert {known.key for known in await host.link.list()} == {running.key, ended.key, free.key}
    await host.link.close()
    await asyncio.to_thread(gone, running.pid, 5)
    assert alive(free.pid)
    await host.connect()
    assert [known.key for known in await host.link.list()] == [free.key]
    await host.link.stop(free.key, "cancel", grace=0)
    await host.ended(free.key)


async def test_a_tied_run_ends_when_its_client_does_not_come_back(host: Witness) -> None:
    running = await host.start("sleep", "300", tied=True)
    ended = await host.start("true", tied=True)
    free = await host.start("sleep", "300")
    await host.ended(ended.key)
    os.kill(host.hello.pid, signal.SIGHUP)
    await asyncio.wait_for(host.link.wait_closed(), 20)
    await asyncio.to_thread(gone, running.pid, ties.BACK_WITHIN + 5)
    assert alive(free.pid)
    await host.connect()
    assert [known.key for known in await host.link.list()] == [free.key]
    await host.link.stop(free.key, "cancel", grace=0)
    await host.ended(free.key)
