"""The README's commands, typed as they are printed on a host with queues: every line of a block marked as tested."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fleet import COMMAND
from waiting import wait_for

if TYPE_CHECKING:
    from fleet import Fleet

README = Path(__file__).parents[2] / "README.md"
_TESTED = re.compile(r"^<!-- tested -->\n```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
BLOCKS = [block.splitlines() for block in _TESTED.findall(README.read_text())]


def test_the_readme_has_commands_to_try() -> None:
    typed = {line.split()[1] for block in BLOCKS for line in block}
    assert typed >= {"send", "run-once", "status", "pause", "drain", "resume", "check", "completion"}


@pytest.mark.parametrize("lines", BLOCKS, ids=lambda lines: "-".join(lines[0].split()[1:3]))
def test_every_line_works_as_printed(fleet: Fleet, lines: list[str]) -> None:
    host = fleet.host()
    # No agent where jobs are only sent: what the README's example deletes is not this machine's to lose.
    if lines[0].startswith("cron-runner status"):
        host.start()
        wait_for(lambda: host.command("status").returncode == 0, "the agent answers")
    programs = host.directory / "bin"
    programs.mkdir()
    program = programs / "cron-runner"
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(COMMAND)} --config {shlex.quote(str(host.config))} "$@"\n')
    program.chmod(0o755)
    environment = host.environment | {"PATH": f"{programs}:{host.environment['PATH']}"}
    for line in lines:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", line],
            cwd=host.directory,
            env=environment,
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )
        # `check` judges this machine too, and finds fault with it or not.
        good = (0, 1) if line.split("#")[0].split() == ["cron-runner", "check"] else (0,)
        assert done.returncode in good, f"{line}: {done.stdout}{done.stderr}"
        assert "Traceback" not in done.stderr
