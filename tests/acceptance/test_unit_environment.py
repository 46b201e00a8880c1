"""Commands that are typed in a shell know what the units have from the file beside the configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from runner.cli import unit_environment
from runner.errors import AwsUnavailable, ConfigError, CronRunnerError

if TYPE_CHECKING:
    from pathlib import Path

    from fleet import Fleet, Host

standin = pytest.mark.parametrize("aws_server", ["standin"], indirect=True)


@pytest.fixture
def host(fleet: Fleet) -> Host:
    """A host whose AWS settings, and whose queue's address, are in the units' file alone."""
    made = fleet.host()
    settings = {name: value for name, value in made.environment.items() if name.startswith("AWS_")}
    for name in settings:
        del made.environment[name]
    # Nothing of the machine's own: no instance is asked for a role or a region.
    made.environment["AWS_EC2_METADATA_DISABLED"] = "true"
    made.environment["HOME"] = str(made.directory)
    lines = [f"{name}={value}" for name, value in settings.items()] + [f"CRON_RUNNER_QUEUE__URL={fleet.queue}"]
    (made.directory / "environment").write_text("\n".join(["# of the units", *lines]) + "\n")
    text = made.config.read_text()
    made.config.write_text("\n".join(line for line in text.splitlines() if not line.startswith("queue.url")))
    return made


@standin
def test_send_and_logs_reach_what_the_agent_reaches(fleet: Fleet, host: Host) -> None:
    done = host.command("send", "hello", "--run-id", "h-1", "--", "echo", "it is 3 a.m.")
    assert (done.returncode, done.stdout, done.stderr) == (0, "h-1\n", "")
    ran = host.command("run-once")
    assert (ran.returncode, ran.stdout) == (0, "it is 3 a.m.\n"), ran.stderr
    fleet.wait_lines("hello", "h-1", ["it is 3 a.m."])
    shown = host.command("logs", "h-1", "--job", "hello", "--stream", "hello/h-1")
    assert (shown.returncode, shown.stdout, shown.stderr) == (0, "it is 3 a.m.\n", "")


@standin
def test_what_the_shell_says_itself_wins(host: Host) -> None:
    done = host.command("send", "hello", "--json", "--", "true", CRON_RUNNER_QUEUE__URL="http://127.0.0.1:9/0/mine")
    assert "cannot send to" in done.stderr
    assert "mine" in done.stderr


def test_a_file_that_only_root_may_read_is_named_where_that_may_be_why(host: Host) -> None:
    file = host.directory / "environment"
    file.write_text("AWS REGION\n")  # what no user can read, root included
    done = host.command("send", "hello", "--", "true")
    assert done.returncode == 78
    assert done.stderr.endswith(
        f"; the agent has variables that this shell has not: cannot read {file}: {file}, line 1: is not NAME=VALUE;"
        " correct it\n"
    )
    assert "the agent has" not in host.command("history", "x", "--since", "soon", "--table", "t").stderr


def test_credentials_are_taken_as_a_whole_or_not_at_all(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    environ = {"AWS_PROFILE": "ann", "PATH": "/bin"}
    unit_environment.take(config, environ)
    assert environ == {"AWS_PROFILE": "ann", "PATH": "/bin"}, "there is no such file"
    (tmp_path / "environment").write_text(
        "AWS_REGION=eu-west-1\nAWS_ACCESS_KEY_ID=agent\nAWS_SECRET_ACCESS_KEY='s'\nPATH=/usr/bin\n"
    )
    unit_environment.take(config, environ)
    assert environ == {"AWS_PROFILE": "ann", "PATH": "/bin", "AWS_REGION": "eu-west-1"}
    environ = {"AWS_REGION": "us-east-1"}
    unit_environment.take(config, environ)
    assert environ == {
        "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "agent",
        "AWS_SECRET_ACCESS_KEY": "s",
        "PATH": "/usr/bin",
    }


def test_the_hint_is_for_errors_that_it_may_explain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(_: str) -> dict[str, str]:
        raise PermissionError(13, "Permission denied")

    denied = AwsUnavailable("SendMessage", "NoCredentials", "none", "credentials")
    sent = CronRunnerError("cannot send")
    sent.__cause__ = denied
    assert unit_environment.hint(denied) == ""
    monkeypatch.setattr("runner.supervisor.starting.envfile.read", refused)
    unit_environment.take(tmp_path / "config.toml", {})
    try:
        for error in (denied, sent, ConfigError(["x"])):
            assert f"only root may read {tmp_path}/environment; type it behind sudo" in unit_environment.hint(error)
        assert unit_environment.hint(CronRunnerError("cannot")) == ""
        assert unit_environment.hint(AwsUnavailable("x", "Throttling", "slow", "throttled")) == ""
    finally:
        monkeypatch.undo()
        unit_environment.take(tmp_path / "config.toml", {})
