"""What a dry run says of whom a job runs as, and of what is in the way of its start."""

from __future__ import annotations

import os
import pwd
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from runner.check import starting
from runner.check.accounts import own_name

OWN = pwd.getpwuid(os.geteuid()).pw_name


def job(*argv: str, cwd: str = "/", **fields: Any) -> Any:
    return SimpleNamespace(argv=argv, cwd=cwd, env={}, user=None, **fields)


def settings(tmp_path: Path) -> Any:
    return SimpleNamespace(paths=SimpleNamespace(runtime=tmp_path / "run"))


@pytest.mark.parametrize(
    ("uid", "packaged", "user"), [(0, False, "cron-runner-job"), (7, True, "cron-runner-job"), (7, False, OWN)]
)
def test_the_user_is_named_where_no_supervisor_can_be_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uid: int, user: str, *, packaged: bool
) -> None:
    monkeypatch.setattr(starting.os, "geteuid", lambda: uid)
    monkeypatch.setattr(starting, "own_name", lambda: OWN)
    monkeypatch.setattr(starting.unit, "installed", lambda _: packaged)
    assert starting.user_of(settings(tmp_path), job("true")) == (user, "")


def test_what_the_supervisor_says_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hello = SimpleNamespace(default_user=None, default_user_error="there is no such user")
    monkeypatch.setattr(starting, "_hello", lambda _: hello)
    assert starting.user_of(settings(tmp_path), job("true"))[1] == "there is no such user"
    hello.default_user, hello.default_user_error = "batch", None
    assert starting.user_of(settings(tmp_path), job("true")) == ("batch", "")


def test_what_is_in_the_way_of_a_start(tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.write_text("no program")
    here = str(tmp_path)
    assert starting.faults(job("sh", "-c", "x"), {}, own_name()) == []
    assert starting.faults(job("./plain", cwd=here), {}, own_name()) == [
        f"command: {here}/./plain cannot be executed by {own_name()}"
    ]
    assert starting.faults(job("no-such-program"), {"PATH": here}, own_name()) == [
        f"command: no-such-program is not in {here}"
    ]
    assert starting.faults(job("true"), {}, "no-such-user")[0].startswith("there is no user no-such-user; create it")


def test_who_cannot_be_that_user_tells_what_is_missing_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(starting.os, "geteuid", lambda: 7)
    monkeypatch.setattr(starting, "own_name", lambda: "somebody")
    plain = tmp_path / "plain"
    plain.write_text("no program")
    assert starting.faults(job(str(plain), cwd=str(tmp_path)), {}, OWN) == []
    gone = tmp_path / "gone"
    assert starting.faults(job("x/y", cwd=str(gone)), {}, OWN) == [
        f"command: {gone}/x/y does not exist",
        f"cwd: {gone} is no directory: no job can start there",
    ]
