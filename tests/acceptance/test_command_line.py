"""The command line itself: version, help, and what it costs."""

from __future__ import annotations

import subprocess
import sys

import pytest

from runner.cli.main import COMMANDS

from fleet import COMMAND


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([COMMAND, *words], capture_output=True, text=True, timeout=30, check=False)


def test_version_is_one_line_and_light() -> None:
    done = run("--version")
    assert (done.returncode, done.stdout.split()[0], done.stderr) == (0, "cron-runner", "")
    heavy = "{'boto3', 'structlog', 'asyncio', 'moto', 're2'}"
    code = f"import sys, runner.cli.main; print(sorted({heavy} & set(sys.modules)))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert loaded.stdout.strip() == "[]"


@pytest.mark.parametrize("command", [command.name for command in COMMANDS])
def test_every_command_has_help_with_an_example(command: str) -> None:
    done = run(command, "--help")
    assert done.returncode == 0, done.stderr
    assert f"usage: cron-runner {command}" in done.stdout
    assert "example:\n  cron-runner" in done.stdout


@pytest.mark.parametrize(
    ("words", "complaint", "command"),
    [
        ((), "required: COMMAND", ""),
        (("fly",), "invalid choice: 'fly'", ""),
        (("--fly", "demo"), "unrecognized arguments: --fly", ""),
        (("show",), "required: RUN_ID", "show "),
        (("send", "a", "--fly"), "unrecognized arguments: --fly", "send "),
        (("send", "a", "--fly=1\n2"), "unrecognized arguments: --fly=1 2", "send "),
        (("send", "a", "--env", "novalue"), "'novalue' is not NAME=VALUE", "send "),
        (("run-onc",), "; did you mean run-once?", ""),
        (("send", "a", "--timout", "5"), "; did you mean --timeout?", "send "),
        (("send", "a", "ls", "-l"), "; a command comes behind --: `cron-runner send a -- ls -l`", "send "),
        (("send", "a", "--timeout", "5", "ls", "a b"), "-- ls 'a b'`", "send "),
        (("demo", "--json"), "unrecognized arguments: --json", "demo "),
        (("demo", "--", "ls"), "unrecognized arguments: -- ls", "demo "),
    ],
)
def test_wrong_usage_is_one_line_with_the_remedy(words: tuple[str, ...], complaint: str, command: str) -> None:
    done = run(*words)
    assert (done.returncode, done.stdout) == (2, "")
    [line] = done.stderr.splitlines()
    assert line.startswith("cron-runner: ")
    assert complaint in line
    assert line.endswith(f"; see `cron-runner {command}--help`")


def test_a_configuration_that_is_not_there() -> None:
    done = run("--config", "/no/such/config.toml", "send", "a", "--shell", "true")
    assert done.returncode == 78
    [line] = done.stderr.splitlines()
    assert line.startswith("cron-runner: cannot ")
    assert "/no/such/config.toml" in line
    assert run("--config", "/no/such/config.toml", "run-once").returncode == 125, "78 may be the job's own"


def test_the_configuration_may_be_named_on_either_side() -> None:
    done = run("send", "a", "--shell", "true", "--config", "/no/such/config.toml")
    assert "/no/such/config.toml" in done.stderr


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ("pause --for 0", "out of range: give 1s to 3650d"),
        ("pause --for 0.5s", "out of range"),
        ("pause --for 3651d", "out of range"),
        ("pause --for -5m", "expected one argument"),
        ("history --limit 0", "is not a whole number from 1 to 10000"),
        ("history --limit -1", "is not a whole number from 1 to 10000"),
        ("history --limit 99999999", "is not a whole number from 1 to 10000"),
        ("history --limit ten", "is not a whole number from 1 to 10000"),
        ("status --watch --every 0", "out of range: give 0.1s to 1h"),
        ("status --watch --every 10d", "out of range"),
        ("status --every 5s", "cannot use --every without --watch: add --watch"),
        ("status --recent -1", "is not a whole number from 0 to 10000"),
        ("jobs next x -n 0", "is not a whole number from 1 to 1000"),
        ("jobs next x --count -3", "is not a whole number from 1 to 1000"),
        ("control --local --every 0", "out of range"),
        ("cancel r --group g", "cannot use --group without --fleet: add --fleet"),
        ("check --account 123456789012", "cannot use --account without --iam-policy"),
        ("check --kms-key arn:aws:kms:eu-west-1:123456789012:key/1", "cannot use --kms-key without --iam-policy"),
        ("check --iam-policy --dead-letter notarn", "is not a queue's ARN, such as arn:aws:sqs:"),
        ("check --iam-policy --dead-letter arn:aws:sns:eu-west-1:123456789012:topic", "is not a queue's ARN"),
        ("check --iam-policy --account 12", "is not an account, such as 123456789012"),
        ("check --iam-policy --kms-key alias/x", "is not a key's ARN"),
        ("check --iam-policy sender --dead-letter arn:aws:sqs:eu-west-1:123456789012:d", "leave it out"),
        ("check --iam-policy --offline", "cannot use --offline with --iam-policy"),
    ],
)
def test_a_number_without_sense_and_an_option_without_effect_are_wrong_usage(words: str, complaint: str) -> None:
    done = run(*words.split())
    assert (done.returncode, done.stdout) == (2, "")
    [line] = done.stderr.splitlines()
    assert complaint in line
