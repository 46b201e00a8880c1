"""``cron-runner demo``: as ends well, and as is left by Ctrl-C."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from runner.cli.demos.demo_jobs import EXAMPLES

from fleet import COMMAND, processes_of

if TYPE_CHECKING:
    from collections.abc import Mapping


def environment(temporary: Path) -> Mapping[str, str]:
    return {**os.environ, "TMPDIR": str(temporary)}


def test_the_whole_circle(tmp_path: Path) -> None:
    done = subprocess.run(
        [COMMAND, "demo"], env=environment(tmp_path), capture_output=True, text=True, timeout=90, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(EXAMPLES)} of {len(EXAMPLES)} jobs ended as they should, no process left behind" in done.stdout
    assert "cron-runner.run.finished" in done.stdout
    assert done.stdout.count("agent.stopped") == 1, "in a pipe each event is a line, once"
    assert "correct-horse-battery" not in done.stdout
    assert "line 3000 of 3000" in done.stdout
    assert not list(tmp_path.iterdir())
    assert not processes_of(str(tmp_path))


def test_the_fleets_circle(tmp_path: Path) -> None:
    done = subprocess.run(
        [COMMAND, "demo", "--fleet"],
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "no space left on device\n" in done.stdout  # the log of the run that failed
    _, _, told = done.stdout.partition("told to the webhook:")
    assert "archive" in told
    assert "exit code 28" in told
    assert not list(tmp_path.iterdir())
    assert not processes_of(str(tmp_path))


def test_ctrl_c_leaves_nothing(tmp_path: Path) -> None:
    demo = subprocess.Popen(
        [COMMAND, "demo"], env=environment(tmp_path), stdout=subprocess.PIPE, text=True, process_group=0
    )
    assert demo.stdout is not None
    with demo, demo.stdout:
        for line in demo.stdout:
            if "run.started" in line:
                break
        os.killpg(demo.pid, signal.SIGINT)
        demo.stdout.read()
        assert demo.wait(30) == 130
    assert not processes_of(str(tmp_path))
    assert not list(tmp_path.iterdir())
