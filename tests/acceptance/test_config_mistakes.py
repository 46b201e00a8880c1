"""The mistakes that people make in a configuration, and the very words that they then read."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from runner.config import load
from runner.errors import ConfigError

from fleet import COMMAND

if TYPE_CHECKING:
    from collections.abc import Callable

QUEUE = 'url = "https://sqs.eu-west-1.amazonaws.com/123456789012/cron-web"'
GOOD = f'group = "web"\n[queue]\n{QUEUE}\n'

# What stands in the file → what is said of it, with FILE for its path.
MISTAKES = {
    "a key with a slip of the pen": (
        f'{GOOD}visibilty = "5m"\n',
        'FILE: queue.visibilty: unknown key, did you mean "visibility"?',
    ),
    "a table that does not exist": (
        f'{GOOD}[logging]\nlevel = "debug"\n',
        "FILE: logging: unknown key; known here: group, queue, results, fleet, admission, run, output, agent, signing,"
        " control, paths, web",
    ),
    "a key in the wrong table": (
        f'{GOOD}policy = "resources"\n',
        'FILE: queue.policy: unknown key here: "policy" belongs to [admission]',
    ),
    "no group": (
        f"[queue]\n{QUEUE}\n",
        'FILE: group: is not set: name the group of hosts that this one belongs to, such as "web"',
    ),
    "a group that was left blank": (
        f'group = ""\n[queue]\n{QUEUE}\n',
        'FILE: group: is not set: name the group of hosts that this one belongs to, such as "web"',
    ),
    "a queue that was left blank": (
        'group = "web"\n[queue]\nurl = ""\n',
        "FILE: queue.url: is not set: give the job queue's URL here, or its name as queue.name",
    ),
    "no queue": (
        'group = "web"\n',
        "FILE: queue.url: is not set: give the job queue's URL here, or its name as queue.name",
    ),
    "a queue's ARN": (
        'group = "web"\n[queue]\nurl = "arn:aws:sqs:eu-west-1:123456789012:cron-web"\n',
        "FILE: queue.url: is an ARN; give the queue's URL: https://sqs.eu-west-1.amazonaws.com/123456789012/cron-web",
    ),
    "events into the job queue": (
        f"{GOOD}[results]\n{QUEUE}\n",
        "FILE: results.url: is the job queue itself: its events would come back as jobs; give another queue",
    ),
    "a duration in prose": (
        f'{GOOD}[run]\ntimeout = "5 minutes"\n',
        'FILE: run.timeout: "5 minutes" is not a duration; give seconds or text such as "90s", "15m", "1h30m" or "2d"',
    ),
    "a value out of range": (
        f'{GOOD}wait = "1m"\n',
        "FILE: queue.wait: 1m is out of range: choose 0s to 20s",
    ),
    "a policy's name": (
        f'{GOOD}[admission]\npolicy = "one_at_a_time"\n',
        'FILE: admission.policy: expected one of "one-at-a-time", "resources", "free-for-all", '
        'not the text "one_at_a_time"',
    ),
    "a text for a list": (
        f'{GOOD}[output]\nsinks = "journald"\n',
        'FILE: output.sinks: expected a list of texts, not the text "journald": write ["journald"]',
    ),
    "a text without quotes": (
        f"group = web\n[queue]\n{QUEUE}\n",
        'FILE:1: is not TOML: Invalid value (a text needs quotes: key = "text"), column 9',
    ),
    "a quote that is not closed": (
        f'group = "web\n[queue]\n{QUEUE}\n',
        'FILE:1: is not TOML: a text is not closed: put a " at its end, column 13',
    ),
    "a quote that is not closed at the end": (
        'group = "web"\n[queue]\nname = "cron',
        'FILE:3: is not TOML: a text is not closed: put a " at its end, at the end of the file',
    ),
    "a single quote that is not closed": (
        "group = 'web\n",
        "FILE:1: is not TOML: a text is not closed: put a ' at its end, at the end of the file",
    ),
    "a declared job's field": (
        f'{GOOD}[jobs.report]\ncommand = "make report"\ntimout = "5m"\n',
        'FILE: jobs.report: unknown field "timout", did you mean "timeout"?',
    ),
    "a declared job's user": (
        f'{GOOD}[jobs.report]\ncommand = "make report"\nuser = "app"\n',
        'FILE: jobs.report.user: "app" is not allowed here: add it to allowed_users of [run]',
    ),
}


def refused(path: Path, **environment: str) -> str:
    """What the daemon says on standard error as it refuses the configuration."""
    done = subprocess.run(
        [COMMAND, "--config", str(path), "run"],
        env={"PATH": os.environ["PATH"]} | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (78, "")
    return done.stderr


@pytest.mark.parametrize("mistake", MISTAKES)
def test_one_line_says_what_is_wrong_and_what_to_do(tmp_path: Path, mistake: str) -> None:
    text, said = MISTAKES[mistake]
    path = tmp_path / "config.toml"
    path.write_text(text)
    assert refused(path) == f"cron-runner: cannot use the configuration: {said.replace('FILE', str(path))}\n"


@pytest.mark.parametrize("mistake", MISTAKES)
def test_check_has_no_second_remedy_behind_the_first(tmp_path: Path, mistake: str) -> None:
    path = tmp_path / "config.toml"
    path.write_text(MISTAKES[mistake][0])
    done = subprocess.run(
        [COMMAND, "--config", str(path), "check", "--json"], capture_output=True, text=True, timeout=60, check=False
    )
    [finding] = [finding for finding in json.loads(done.stdout) if finding["status"] == "failed"]
    assert finding["remedy"]
    assert finding["detail"].replace(str(path), "FILE") == MISTAKES[mistake][1]
    own = "(a text needs quotes" not in finding["detail"]
    assert finding["detail"].endswith(finding["remedy"]) == own
    text = subprocess.run(
        [COMMAND, "--config", str(path), "check"], capture_output=True, text=True, timeout=60, check=False
    ).stdout
    assert (f" {finding['detail']}\n" in text) == own


def test_a_configuration_is_validated_without_a_start(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"

    def look() -> subprocess.CompletedProcess[str]:
        words = [COMMAND, "--config", str(path), "run", "--check-config"]
        return subprocess.run(words, env={"PATH": os.environ["PATH"]}, capture_output=True, text=True, check=False)

    path.write_text(GOOD)
    assert (look().returncode, look().stdout, look().stderr) == (0, "", "")
    path.write_text(f'{GOOD}wait = "1m"\n')
    assert look().returncode == 78
    assert look().stderr.endswith(": queue.wait: 1m is out of range: choose 0s to 20s\n")


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")
def test_who_may_not_read_the_configuration_is_not_told_to_open_it() -> None:
    folder = Path(tempfile.mkdtemp(dir="/tmp"))  # pytest's own are closed to others
    try:
        folder.chmod(0o755)
        path = folder / "config.toml"
        path.write_text(GOOD)
        path.chmod(0o600)
        with pytest.raises(ConfigError, match="permission denied; type it behind sudo, as root may read it"):
            as_user(1, lambda: load(path, {}))
        path.chmod(0o644)
        (folder / "jobs.d").mkdir(mode=0o700)
        with pytest.raises(ConfigError, match="type it behind sudo, as root may read it"):
            as_user(1, lambda: load(path, {}))
    finally:
        shutil.rmtree(folder)


def as_user(uid: int, look: Callable[[], object]) -> None:
    os.seteuid(uid)
    try:
        look()
    finally:
        os.seteuid(0)


def test_a_variable_with_a_slip_of_the_pen(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text(GOOD)
    assert refused(path, CRON_RUNNER_QUEUE__VISIBILTY="5m") == (
        'cron-runner: cannot use the configuration: environment: unknown variable "CRON_RUNNER_QUEUE__VISIBILTY", '
        'did you mean "CRON_RUNNER_QUEUE__VISIBILITY"?\n'
    )


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    assert refused(path) == (
        f"cron-runner: cannot use the configuration: {path}: no such file; give --config a file that exists, or start "
        "one from config.example.toml\n"
    )


def test_several_mistakes_are_told_at_once(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text(f'{GOOD}wait = "1m"\n[run]\nallowed_users = "app"\n[output]\nmax_bytes = "1 gig"\n')
    assert refused(path).splitlines() == [
        "cron-runner: cannot use the configuration: 3 faults",
        f"  {path}: queue.wait: 1m is out of range: choose 0s to 20s",
        f'  {path}: run.allowed_users: expected a list of texts, not the text "app": write ["app"]',
        f'  {path}: output.max_bytes: "1 gig" is not a size; give bytes or text such as "512M", "1G" or "1.5GiB"',
    ]
