"""Every command at a terminal's, a pipe's and a disk's bad moments: no traceback, and the statuses of the contract."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from faults import Proxy
from fleet import COMMAND, Fleet, Host
from waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

# Not 120, which is the interpreter's own for what it could not flush, and no -N.
STATUSES = {0, 1, 2, 3, 78, 125, 130, 141}
UNWRITABLE, INTERRUPTED, READER_LEFT = 125, 130, 141
# One command line of each command that prints, to where nobody answers: as quick as it can be.
PRINTING = (
    ("--help",),
    ("--version",),
    ("status",),
    ("status", "--help"),
    ("send", "a", "--print", "--shell", "true"),
    ("send", "a", "--shell", "true"),
    ("logs", "r"),
    ("check", "--offline"),
    ("check", "--iam-policy"),
    ("cancel", "r"),
    ("pause",),
    ("drain",),
    ("resume",),
    ("jobs", "list", "--table", "t"),
    ("jobs", "next", "j", "--table", "t"),
    ("history", "--table", "t"),
    ("maintenance", "j", "on", "--table", "t"),
    ("completion", "bash"),
    ("demo", "--help"),
)
WORKING = (("run",), ("run-once", "--wait", "0s"), ("control", "--local", "--table", "t"))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """An environment in which no AWS answers, and no agent."""
    directory = tmp_path_factory.mktemp("place")
    config = directory / "config.toml"
    as_root = '[run]\nuser = "root"\nallowed_users = ["root"]\n' if os.geteuid() == 0 else ""
    config.write_text(
        'group = "g"\n[queue]\nurl = "http://127.0.0.1:1/123456789012/q"\n[results]\nurl = ""\n'
        f'[paths]\nstate = "{directory}/state"\nruntime = "{directory}/run"\n{as_root}'
    )
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "CRON_RUNNER"))},
        "CONFIG": str(config),
        "AWS_ENDPOINT_URL": "http://127.0.0.1:1",
        "AWS_REGION": "eu-west-1",
        "AWS_ACCESS_KEY_ID": "a",
        "AWS_SECRET_ACCESS_KEY": "b",
    }


def words_of(place: dict[str, str], words: tuple[str, ...]) -> list[str]:
    return [COMMAND, "--config", place["CONFIG"], *words]


def with_output(place: dict[str, str], redirection: str, words: tuple[str, ...]) -> tuple[int, str]:
    """Exit status, and what came on standard error."""
    done = subprocess.run(
        ["sh", "-c", f'exec "$@" {redirection}', "sh", *words_of(place, words)],
        env=place,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stderr


def is_clean(said: str) -> bool:
    return "Traceback" not in said and "Exception ignored" not in said and "never awaited" not in said


@pytest.mark.parametrize("words", PRINTING, ids=" ".join)
@pytest.mark.parametrize("redirection", [">/dev/full", ">&-", ">&- 2>&- <&-", ">/dev/full 2>/dev/full"])
def test_output_that_cannot_be_written_is_status_125_before_anything_is_done(
    place: dict[str, str], words: tuple[str, ...], redirection: str
) -> None:
    status, said = with_output(place, redirection, words)
    assert status == UNWRITABLE, said
    if "2>" not in redirection:
        [line] = said.splitlines()
        assert line.startswith("cron-runner: cannot write to standard output: ")


@pytest.mark.parametrize("words", PRINTING, ids=" ".join)
def test_a_reader_that_left_is_status_141_without_a_word(place: dict[str, str], words: tuple[str, ...]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            words_of(place, words), env=place, stdin=subprocess.DEVNULL, stdout=writer, stderr=subprocess.PIPE,
            text=True, timeout=60, check=False,
        )  # fmt: skip
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (READER_LEFT, "")


@pytest.mark.parametrize("words", [*PRINTING, ("bogus",), ("send",), ("logs",)], ids=" ".join)
def test_errors_that_cannot_be_written_change_no_status(place: dict[str, str], words: tuple[str, ...]) -> None:
    seen, _ = with_output(place, ">/dev/null", words)
    assert seen in STATUSES
    for redirection in ("2>/dev/full", "2>&-"):
        assert with_output(place, f">/dev/null {redirection}", words)[0] == seen


def test_a_run_whose_id_cannot_be_printed_is_not_sent(fleet: Fleet) -> None:
    host = fleet.host()
    for redirection in (">/dev/full", ">&-"):
        done = subprocess.run(
            ["sh", "-c", f'exec "$@" {redirection}', "sh", COMMAND, "--config", str(host.config), "send", "a",
             "--shell", "true"],
            env=host.environment, capture_output=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == UNWRITABLE
    assert fleet.aws.depth(fleet.queue) == 0


@pytest.mark.parametrize("redirection", [">/dev/full", ">&-", ">&- 2>&- <&-", "2>/dev/full", ">/dev/full 2>&1"])
def test_run_once_ends_as_its_job_whatever_its_output_is(place: dict[str, str], redirection: str) -> None:
    """Also where the job itself prints."""
    message = os.path.join(os.path.dirname(place["CONFIG"]), "message.json")  # noqa: PTH118, PTH120 - text of a shell
    with open(message, "w", encoding="utf-8") as file:  # noqa: PTH123 - as above
        json.dump({"job": "a", "command": "echo out; exit 7"}, file)
    status, said = with_output(place, redirection, ("run-once", "--offline", "--message", message))
    assert (status, is_clean(said)) == (7, True), said


def test_a_daemon_starts_and_stops_with_its_descriptors_closed(place: dict[str, str]) -> None:
    line = 'exec "$@" <&- >&- 2>&-'
    with subprocess.Popen(["sh", "-c", line, "sh", *words_of(place, ("run",))], env=place) as process:
        wait_for(lambda: process.poll() is not None or _is_caught(process.pid, signal.SIGTERM), "it can be stopped")
        assert process.poll() is None
        process.terminate()
        assert process.wait(60) == 0


def _is_caught(pid: int, number: signal.Signals) -> bool:
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    caught = next(line for line in status.splitlines() if line.startswith("SigCgt:"))
    return bool(int(caught.split()[1], 16) >> (number - 1) & 1)


@pytest.mark.parametrize("words", [*PRINTING, *WORKING, ("check",)], ids=" ".join)
def test_an_interrupt_at_any_moment_is_status_130(place: dict[str, str], words: tuple[str, ...]) -> None:
    """Twenty moments from the program's first line on. Before it the interpreter itself starts: its own handler is in
    place, and no program of Python's has a say."""
    for moment in range(20):
        process = begun(place, words)
        time.sleep(moment * 0.005 + (0.2 if moment > 17 else 0))
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
        assert process.returncode in STATUSES, (moment, said)
        assert is_clean(said), (moment, said)


# The program's own first line, and a word when it was reached.
BEGUN = """
import sys
from runner.cli import start
heeds = start._heed_interrupts
def heed():
    heeds()
    start._heed_interrupts = heeds
    print("begun", file=sys.stderr, flush=True)
start._heed_interrupts = heed
start.entry()
"""


def begun(place: dict[str, str], words: tuple[str, ...]) -> subprocess.Popen[str]:
    """The command, as soon as its first line has run."""
    process = subprocess.Popen(
        [sys.executable, "-c", BEGUN, *words_of(place, words)[1:]], env=place, stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stderr is not None
    assert process.stderr.readline() == "begun\n"
    return process


@pytest.mark.parametrize("key", ["state", "runtime"])
@pytest.mark.parametrize("where", ["/proc/none/of/it", "{config}/below"])
def test_a_directory_that_cannot_be_made_is_one_line_that_names_the_key(
    place: dict[str, str], key: str, where: str
) -> None:
    path = where.format(config=place["CONFIG"])
    status, said = with_output({**place, f"CRON_RUNNER_PATHS__{key.upper()}": path}, ">/dev/null", ("run",))
    assert status in {78, 125}
    [line] = said.splitlines()
    assert f"[paths] {key} = {path}" in line


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_that_ends_the_job_of_a_run_once_is_its_exit_status(
    place: dict[str, str], tmp_path: Path, number: int
) -> None:
    """Also of a job that takes its stop signal and exits well."""
    message = tmp_path / "message.json"
    for command in ("echo begun; exec sleep 60", "trap 'exit 0' TERM; echo begun; sleep 60 & wait"):
        message.write_text(json.dumps({"job": "a", "command": command}))
        words = words_of(place, ("run-once", "--offline", "--message", str(message)))
        with subprocess.Popen(words, env=place, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "begun\n"
            process.send_signal(number)
            _, said = process.communicate(timeout=60)
        assert process.returncode == 128 + number, said
        assert "stopping the job: SIGTERM now, SIGKILL after" in said
        assert "Ctrl-C again kills it at once" in said


def test_an_interrupt_while_a_run_once_waits_says_what_is_finished_and_how_to_give_it_up(fleet: Fleet) -> None:
    with Proxy(fleet.aws.endpoint) as proxy:
        fleet.endpoint = proxy.endpoint
        _interrupt_twice(fleet.host(), proxy)


def _interrupt_twice(host: Host, proxy: Proxy) -> None:
    words = [COMMAND, "--config", str(host.config), "run-once", "--wait", "20s"]
    with subprocess.Popen(words, env=host.environment, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        wait_for(lambda: proxy.count("ReceiveMessage"), "it receives")  # before, it would leave at once
        time.sleep(1.5)
        process.send_signal(signal.SIGINT)
        line = process.stderr.readline()
        assert line.startswith("cron-runner: finishing the receive that is under way, up to 1")
        process.send_signal(signal.SIGINT)
        before = time.monotonic()
        assert process.wait(30) == INTERRUPTED
        assert time.monotonic() - before < 10
