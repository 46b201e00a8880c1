"""A supervisor whose runtime directory is taken away is found again, with its jobs: nobody starts a second one."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from supervising import Witness, alive, gone, listens, own_command, until

from runner.agent.supervision.launch import OF_UNIT, Finder
from runner.errors import SupervisorUnavailable
from runner.supervisor import home

if TYPE_CHECKING:
    from collections.abc import Callable

    from runner.agent.runs.process import Known


def take_away(witness: Witness, how: str) -> None:
    if how == "directory":
        shutil.rmtree(witness.runtime)
    elif how == "socket":
        (witness.runtime / "supervisor.sock").unlink()
    else:  # as a tidy script does that goes by age: what is in it, and not the directory
        for path in witness.runtime.iterdir():
            path.unlink()


async def reconnected(witness: Witness) -> None:
    """As an agent does: again and again until there is one."""
    async with asyncio.timeout(30):
        while True:
            try:
                await witness.connect()
            except SupervisorUnavailable:
                await asyncio.sleep(0.1)
            else:
                return


async def known(witness: Witness, until: Callable[[Known], object]) -> Known:
    """The only run, once it is so. Connected again as often as it takes: who is asked for its socket takes new code."""
    async with asyncio.timeout(40):
        while True:
            await reconnected(witness)
            try:
                [found] = await witness.link.list()
                if until(found):
                    return found
            except SupervisorUnavailable:
                pass
            await asyncio.sleep(0.1)


@pytest.mark.parametrize("placement", ["session", "auto"])
@pytest.mark.parametrize("how", ["directory", "socket", "files"])
async def test_the_next_agent_finds_the_supervisor_that_has_the_jobs(tmp_path: Path, how: str, placement: str) -> None:
    witness = Witness(tmp_path, "--placement", placement)
    try:
        hello = await witness.connect()
        started = await witness.start("sh", "-c", "sleep 9; echo done; exit 3", key="e/1")
        await witness.link.close()
        take_away(witness, how)
        await reconnected(witness)
        assert (witness.hello.instance, witness.hello.pid) == (hello.instance, hello.pid)
        found = await known(witness, lambda run: run.key == "e/1")
        assert (found.pid, found.exit) == (started.pid, None)
        found = await known(witness, lambda run: run.exit is not None)
        assert found.exit is not None
        assert found.exit.wait_status == 3 << 8
        assert witness.output("e/1") == "done\n"
    finally:
        witness.stop()


async def test_what_was_taken_away_can_be_taken_away_again_and_over_new_code(tmp_path: Path) -> None:
    witness = Witness(tmp_path)
    try:
        hello = await witness.connect()
        started = await witness.start("sleep", "300", key="e/1")
        for _ in range(2):
            await witness.link.close()
            shutil.rmtree(witness.runtime)
            os.kill(hello.pid, signal.SIGHUP)  # new code; it also looks for its socket at once
            await known(witness, lambda run: run.key == "e/1")
        assert alive(started.pid)
        os.kill(hello.pid, signal.SIGTERM)
        gone(started.pid)
    finally:
        witness.stop()


async def test_a_supervisor_goes_back_for_an_older_one_of_its_path(tmp_path: Path) -> None:
    witness = Witness(tmp_path)
    try:
        hello = await witness.connect()
        await witness.link.close()
        path = witness.runtime / "supervisor.sock"
        take_away(witness, "files")
        second = subprocess.run(own_command(path), capture_output=True, text=True, timeout=30, check=False)
        assert (second.returncode, f"process {hello.pid} does" in second.stderr) == (75, True), second.stderr
        until(lambda: path.exists() and listens(path), "its socket again")
        await reconnected(witness)
        assert witness.hello.pid == hello.pid
    finally:
        witness.stop()
    assert home.another(str(path)) is None


def test_an_agent_of_the_unit_starts_no_supervisor_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(OF_UNIT, str(tmp_path / "run-supervisor"))
    with pytest.raises(SupervisorUnavailable, match="cron-runner-supervisor runs"):
        Finder(tmp_path / "run", None, (), 0.0).open()
    assert list(tmp_path.iterdir()) == []
