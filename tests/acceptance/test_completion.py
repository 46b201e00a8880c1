"""Completion in real shells: a word is typed on a terminal, TAB is pressed, and what the command then gets is read."""

from __future__ import annotations

import os
import pty
import re
import select
import shutil
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fleet import COMMAND

if TYPE_CHECKING:
    from collections.abc import Iterator

PROMPT = "ready>>"
# Starts each shell with nothing of the user's own; `cron-runner` is a function that shows the words it was given.
START = {
    "bash": ["bash", "--noprofile", "--norc", "-i"],
    "zsh": ["zsh", "-f", "-i"],
    "fish": ["fish", "--no-config", "-i"],
}
SETUP = {
    "bash": "PS1='ready''>>'; source {script}; cron-runner() {{ printf 'got:'; printf '<%s>' \"$@\"; echo :end; }}",
    "zsh": "autoload -Uz compinit; compinit -u -d {directory}/dump; source {script}; compdef _shtab_cron_runner "
    "cron-runner; cron-runner() {{ printf 'got:'; printf '<%s>' \"$@\"; echo :end }}; PS1='ready''>>'",
    "fish": "source {script}; function cron-runner; echo got:(printf '<%s>' $argv):end; end; "
    "function fish_prompt; echo -n ready; echo -n '>>'; end",
}
TYPED = [
    ("run-on", ["run-once"]),
    ("comp\tba", ["completion", "bash"]),
    ("run-once --off", ["run-once", "--offline"]),
    ("--conf", ["--config"]),
    ("send a --no-out", ["send", "a", "--no-output-timeout"]),
    ("send a --overlap rep", ["send", "a", "--overlap", "replace"]),
    ("logs r --fol", ["logs", "r", "--follow"]),
    ("run-once --message only-fi", ["run-once", "--message", "only-file.json"]),
    ("--config only-fi\tsend a --not-a", ["--config", "only-file.json", "send", "a", "--not-after"]),
]


class Shell:
    """An interactive shell on a terminal of its own."""

    def __init__(self, name: str, directory: Path) -> None:
        script = directory / f"completion.{name}"
        with script.open("wb") as file:
            subprocess.run([COMMAND, "completion", name], stdout=file, check=True)
        self._terminal, child = pty.openpty()
        self._process = subprocess.Popen(
            ["setsid", "--ctty", *START[name]],
            stdin=child,
            stdout=child,
            stderr=child,
            cwd=directory,
            env={"PATH": os.environ["PATH"], "HOME": str(directory), "TERM": "dumb", "LANG": "C.UTF-8"},
        )
        os.close(child)
        os.write(self._terminal, SETUP[name].format(script=script, directory=directory).encode() + b"\n")
        self._until(PROMPT)

    def words(self, typed: str) -> list[str]:
        """What the command gets when this is typed, a TAB behind it."""
        os.write(self._terminal, f"cron-runner {typed}\t\n".encode())
        [words] = re.findall("got:<(.*)>:end", self._until(":end", PROMPT))
        return words.split("><")

    def _until(self, *marks: str, within: float = 60.0) -> str:
        """Read until one mark comes behind the other; returns what was read."""
        deadline = time.monotonic() + within
        seen = ""
        while not re.search(".*".join(marks), seen, re.DOTALL):
            assert time.monotonic() < deadline, f"{marks} never came; the terminal shows: {seen!r}"
            if select.select([self._terminal], [], [], 0.2)[0]:
                seen += os.read(self._terminal, 65536).decode(errors="replace")
        return seen

    def close(self) -> None:
        """End it, whatever state it is in."""
        self._process.kill()
        self._process.wait()
        os.close(self._terminal)


@pytest.fixture(params=["bash", "zsh", "fish"])
def shell(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Shell]:
    """The shell, in a directory with one file."""
    if shutil.which(request.param) is None:
        pytest.skip(f"{request.param} is not installed here")
    (tmp_path / "only-file.json").touch()
    made = Shell(request.param, tmp_path)
    yield made
    made.close()


def test_a_tab_completes(shell: Shell) -> None:
    assert [(typed, shell.words(typed)) for typed, _ in TYPED] == TYPED


def test_an_unknown_shell_is_refused() -> None:
    done = subprocess.run([COMMAND, "completion", "tcsh"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert "choose from" in done.stderr
