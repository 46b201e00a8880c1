"""What a parent hands on over exec and no program of ours can use: ignored and blocked signals."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING

import pytest

from fleet import COMMAND

if TYPE_CHECKING:
    from fleet import Fleet, Host

pytestmark = pytest.mark.parametrize("aws_server", ["standin"], indirect=True)

SIGNALS = "CHLD", "TERM", "INT", "HUP", "PIPE"
# bash and not sh: dash cannot ignore what it was started with; what is blocked only Python can set.
IGNORED = ["/bin/bash", "-c", f"trap '' {' '.join(SIGNALS)}; exec \"$@\"", "bash", COMMAND]
BLOCKED = [
    "/usr/bin/env", "python3", "-c",
    "import os, signal, sys; signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals()); "
    "os.execv(sys.argv[1], sys.argv[1:])", COMMAND,
]  # fmt: skip
# The job's own view of it: the masks of what it ignores and of what it blocks.
LOOK = "grep -E '^Sig(Ign|Blk)' /proc/self/status; exit 3"
CLEAN = ["SigBlk:\t0000000000000000", "SigIgn:\t0000000000000000"]


@pytest.fixture(params=[IGNORED, BLOCKED], ids=["ignored", "blocked"])
def program(request: pytest.FixtureRequest) -> list[str]:
    """cron-runner under a parent that ignores, or blocks, signals."""
    return list(request.param)


def test_a_daemon_under_a_parent_that_ignores_or_blocks_signals(fleet: Fleet, program: list[str]) -> None:
    """Agent, supervisor and job: each main sets its own, so the job runs, and the agent hears its SIGTERM."""
    host = fleet.host()
    host.start(program=program)
    fleet.send({"job": "a", "run_id": "1", "command": LOOK})
    data = fleet.events.wait("1", "finished")["data"]
    assert (data["outcome"], data["exit_code"]) == ("failed", 3), data
    fleet.wait_lines("a", "1", CLEAN)
    assert host.stop() == 0, host.log()
    assert "Traceback" not in host.log()


def test_run_once_under_a_parent_that_ignores_or_blocks_signals(fleet: Fleet, program: list[str]) -> None:
    host: Host = fleet.host()
    done = subprocess.run(
        [*program, "--config", str(host.config), "run-once", "--offline", "--message", "-"],
        input=json.dumps({"job": "a", "command": LOOK}), env=host.environment, capture_output=True, text=True,
        timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 3, done.stderr
    assert [line for line in done.stdout.splitlines() if line.startswith("Sig")] == CLEAN
    assert "Traceback" not in done.stderr


def test_other_commands_under_a_parent_that_ignores_or_blocks_signals(fleet: Fleet, program: list[str]) -> None:
    host = fleet.host()
    done = subprocess.Popen(
        [*program, "--config", str(host.config), "cancel", "nothing"],
        env=host.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    _, error = done.communicate(timeout=60)
    assert done.returncode == 3, error
    assert "Traceback" not in error
