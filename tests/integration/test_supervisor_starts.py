"""However a job's process is made, it is the same start: what the job sees, and what is said where there is none."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from runner.supervisor.direct import Direct

STARTS = Path(__file__).resolve().parents[1] / "support" / "starts.py"
FAILING = {
    "in no directory of PATH": 2, "in PATH, not executable": 13, "a file in PATH": 2, "no such file": 2,
    "not executable": 13, "a directory": 13, "below a file": 20, "a loop of links": 40, "no exec format": 8,
    "no interpreter": 2, "no interpreter, in PATH": 2, "an argument too long": 7, "too many arguments": 7,
    "no such directory": 20, "a file for a directory": 20, "nice below what it may": 13,
    "too many processes": 11, "an unknown cgroup": 5, "a forbidden directory": 13,
    "a command in a forbidden directory": 13, "a forbidden directory in PATH": 2,
}  # fmt: skip


def outcomes(home: Path, user: int | None = None) -> dict[str, dict[str, Any]]:
    home.chmod(0o755)
    if user is not None:
        os.chown(home, user, user)
    # As nohup and a shell's "&" leave signals: none of it is the job's.
    ignoring = ["sh", "-c", "trap '' HUP USR2 QUIT; exec \"$@\"", "sh"]
    line = [*ignoring, sys.executable, "-IS", STARTS, home, *([] if user is None else [str(user)])]
    done = subprocess.run(line, stdout=subprocess.PIPE, check=True)
    found: dict[str, dict[str, Any]] = json.loads(done.stdout)
    return found


def judge(found: dict[str, dict[str, Any]]) -> None:
    for name, ways in found.items():
        assert len(ways) > 1 or Direct().why_not
        for way, came in ways.items():
            assert came == ways["forked"], f"{name}: {way}"
            assert ["number" in each for each in came] == [name in FAILING] * len(came), f"{name}: {way}: {came}"
            if name in FAILING:
                assert [each["number"] for each in came] == [FAILING[name]] * len(came), f"{name}: {way}"
            else:
                assert [each["status"] for each in came] == [0] * len(came), f"{name}: {way}: {came}"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    for path in (tmp_path, *tmp_path.parents):
        if not path.stat().st_mode & 0o001:
            path.chmod(path.stat().st_mode | 0o055)
    return tmp_path


def test_each_request_is_the_same_start_through_every_way(home: Path) -> None:
    found = outcomes(home)
    judge(found)
    for way, (look, _list) in found["another user" if os.geteuid() == 0 else "as we are"].items():
        seen = dict(line.split(":\t") for line in look["seen"] if ":\t" in line)
        assert (seen["SigBlk"], seen["SigCgt"], seen["Threads"]) == ("0" * 16, "0" * 16, "1"), way
        assert "SigIgn 0" in look["seen"], way
        if os.geteuid() == 0:
            assert (seen["Uid"], seen["Groups"]) == ("\t".join(["65534"] * 4), "12345 65534 "), way
            assert seen["CapEff"] == seen["CapPrm"] == seen["CapAmb"] == "0" * 16, way


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be somebody else")
def test_so_it_is_under_an_ordinary_user(home: Path) -> None:
    found = outcomes(home, 65534)
    assert [each["text"] for each in found.pop("another user")["forked"]] == [
        "cannot prepare the process: [Errno 1] Operation not permitted"
    ] * 2
    judge(found)
