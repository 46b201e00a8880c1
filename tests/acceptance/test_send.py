"""``cron-runner send`` as a person types it, against a real queue."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from fleet import COMMAND

if TYPE_CHECKING:
    from pathlib import Path

    from fleet import Fleet, Host


@pytest.fixture
def host(fleet: Fleet) -> Host:
    """A machine with the configuration and no agent."""
    return fleet.host()


def sent(fleet: Fleet) -> dict[str, Any]:
    [body] = fleet.aws.take(fleet.queue)
    return dict(json.loads(body))


def shown(*words: str) -> dict[str, Any]:
    """What ``send … --print`` shows; it needs no configuration and no AWS."""
    done = subprocess.run([COMMAND, "send", *words, "--print"], capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout))


def test_an_argv_behind_the_dashes(fleet: Fleet, host: Host) -> None:
    done = host.command("send", "cleanup", "--timeout", "10m", "--", "git", "log", "--", "--help", "a b")
    assert (done.returncode, done.stderr) == (0, "")
    run_id = done.stdout.strip()
    assert re.fullmatch(r"\d{8}T\d{6}-[0-9a-f]{8}", run_id)
    assert sent(fleet) == {
        "job": "cleanup",
        "run_id": run_id,
        "command": ["git", "log", "--", "--help", "a b"],
        "timeout": "10m",
    }


def test_a_shell_command_and_the_answer_as_json(fleet: Fleet, host: Host) -> None:
    done = host.command("send", "report", "--shell", "make | mail ops", "--run-id", "r1", "--json")
    assert json.loads(done.stdout) == {"job": "report", "run_id": "r1", "queue": fleet.queue}
    assert sent(fleet) == {"job": "report", "run_id": "r1", "command": "make | mail ops"}


def test_every_option_is_a_field(tmp_path: Path) -> None:
    (tmp_path / "in").write_text("hello\n")
    words = (
        *("send-me", "--shell", "true", "--env", "A=1", "--env", "B=x=y", "--cwd", "/srv", "--user", "app"),
        *("--grace", "5", "--no-output-timeout", "1h30m", "--min-duration", "2s", "--retries", "3"),
        *("--overlap", "skip", "--stop-signal", "INT", "--ack", "on-start", "--fail-on", "E", "--fail-on", "F"),
        *("--require", "ok", "--scheduled-at", "2030-01-31T04:00:00Z", "--not-after", "2030-01-31T05:00:00Z"),
        *("--label", "team=ops", "--cpu", "0.5", "--memory", "512M", "--stdin", str(tmp_path / "in")),
        *("--unix-group", "www", "--umask", "027", "--nice", "5", "--resource", "db_slots=2", "--backoff", "1m"),
        *("--limit", "memory=1G", "--limit", "cpu=1.5", "--limit", "pids=500"),
    )
    assert shown(*words) == {
        "job": "send-me",
        "command": "true",
        "env": {"A": "1", "B": "x=y"},
        "cwd": "/srv",
        "user": "app",
        "grace": 5.0,
        "no_output_timeout": "1h30m",
        "min_duration": "2s",
        "unix_group": "www",
        "umask": "027",
        "nice": 5,
        "limits": {"memory": "1G", "cpu": 1.5, "pids": 500},
        "retries": {"max": 3, "backoff": "1m"},
        "overlap": "skip",
        "stop_signal": "INT",
        "ack": "on-start",
        "success": {"fail_on": ["E", "F"], "require": ["ok"]},
        "scheduled_at": "2030-01-31T04:00:00Z",
        "not_after": "2030-01-31T05:00:00Z",
        "labels": {"team": "ops"},
        "resources": {"cpu": 0.5, "memory": "512M", "db_slots": 2},
        "stdin": "hello\n",
    }
    assert shown("backup", "--arg", "/srv", "--arg=-v") == {"job": "backup", "args": ["/srv", "-v"]}


def test_a_captured_message_is_sent_as_it_is(fleet: Fleet, host: Host, tmp_path: Path) -> None:
    body = {"Type": "Notification", "Message": json.dumps({"job": "a", "run_id": "r", "command": "true"})}
    (tmp_path / "message.json").write_text(json.dumps(body))
    done = host.command("send", "--message", str(tmp_path / "message.json"))
    assert (done.returncode, done.stdout) == (0, "r\n")
    assert sent(fleet) == body


def test_a_captured_message_without_a_run_id_gets_one(fleet: Fleet, host: Host) -> None:
    done = host.command("send", "--message", "-", stdin=json.dumps({"job": "a", "command": "true"}))
    assert sent(fleet) == {"job": "a", "command": "true", "run_id": done.stdout.strip()}


def test_a_fifo_queue_keeps_the_order_of_a_job(fleet: Fleet, host: Host) -> None:
    queue = fleet.aws.queue("jobs.fifo")
    for _ in range(2):
        done = host.command("send", "a", "--run-id", "r", "--shell", "true", CRON_RUNNER_QUEUE__URL=queue)
        assert done.returncode == 0, done.stderr
    answer = fleet.aws.sqs.receive_message(
        QueueUrl=queue, AttributeNames=["All"], MaxNumberOfMessages=10, WaitTimeSeconds=1
    )
    [message] = answer["Messages"]  # the second was the same run, and SQS dropped it
    attributes = message["Attributes"]
    assert (attributes["MessageGroupId"], attributes["MessageDeduplicationId"]) == ("a", "r")


@pytest.mark.parametrize(
    ("words", "complaint", "status"),
    [
        (("a b", "--shell", "true"), "job", 125),
        (("a", "--shell", "true", "--timeout", "soon"), "timeout", 125),
        (("a", "--shell", "true", "--fail-on", "("), "fail_on", 125),
        (("a", "--shell", "true", "--", "true"), "two commands", 2),
        ((), "without a name", 2),
        (("--message", "/no/such/file"), "/no/such/file", 125),
        (("--message", ""), "cannot read", 125),
        (("other", "--message", "f", "--timeout", "5m", "--", "ls"), "with JOB, --timeout, -- COMMAND: ", 2),
        (("a", "--shell", "true", "--at", "2020-01-01T00:00:00Z"), "SQS keeps a message back for 15m at most", 2),
        (("a", "--shell", "true", "--umask", "9"), "give octal digits", 2),
        (("a", "--shell", "true", "--backoff", "1m"), "without --retries", 2),
        (("a", "--shell", "true", "--limit", "pids=many"), "limits.pids", 125),
        (("a", "--shell", "true", "--follow"), "add --wait", 2),
        # With --wait the status is the job's, and what is not has one of its own.
        (("a", "--shell", "true", "--wait"), "cannot reach the agent", 125),
        (("a", "--shell", "true", "--wait", "--print"), "leave one of them out", 125),
        (("--message", "f", "--arg", "x", "--label", "a=b", "--retries", "0"), "with --arg, --retries, --label: ", 2),
    ],
)
def test_what_a_host_would_reject_is_not_sent(
    fleet: Fleet, host: Host, words: tuple[str, ...], complaint: str, status: int
) -> None:
    done = host.command("send", *words)
    assert (done.returncode, done.stdout) == (status, "")
    [line] = done.stderr.splitlines()
    assert line.startswith("cron-runner: cannot ")
    assert complaint in line
    assert fleet.aws.depth(fleet.queue) == 0


def test_a_delay_and_a_message_group(fleet: Fleet, host: Host) -> None:
    done = host.command("send", "a", "--shell", "true", "--delay", "10m", "--group-id", "g", "--json")
    assert done.returncode == 0, done.stderr
    answer = fleet.aws.sqs.get_queue_attributes(
        QueueUrl=fleet.queue, AttributeNames=["ApproximateNumberOfMessagesDelayed"]
    )
    assert answer["Attributes"] == {"ApproximateNumberOfMessagesDelayed": "1"}
    queue = fleet.aws.queue("delayed.fifo")
    done = host.command("send", "a", "--shell", "true", "--delay", "1m", CRON_RUNNER_QUEUE__URL=queue)
    assert (done.returncode, done.stdout) == (2, "")
    assert "a FIFO queue delays all of its messages or none" in done.stderr


def test_wrong_usage_is_status_2(host: Host) -> None:
    assert host.command("send", "a", "--env", "novalue").returncode == 2
    assert host.command("send", "a", "--overlap", "maybe").returncode == 2
    assert host.command("send", "a", "--overlap", "maybe", "--wait").returncode == 125


def test_aws_that_never_answers_is_told_with_what_to_type(host: Host) -> None:
    """What was sent may be there: typed again as it says, it is one run."""
    with socket.create_server(("127.0.0.1", 0)) as deaf:  # the kernel accepts, and nobody answers
        endpoint = f"http://127.0.0.1:{deaf.getsockname()[1]}"
        words = [COMMAND, "--config", str(host.config), "send", "a", "--shell", "true"]
        environment = host.environment | {
            "AWS_ENDPOINT_URL": endpoint,
            "CRON_RUNNER_QUEUE__URL": f"{endpoint}/123456789012/q",
        }
        with subprocess.Popen(
            words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            assert process.stderr is not None
            late = process.stderr.readline()
            assert "has not answered yet; send it again with --run-id " in late
            process.send_signal(signal.SIGINT)
            out, given_up = process.communicate(timeout=30)
        assert (process.returncode, out) == (130, "")
        [again] = re.findall(r"send it again with --run-id \S+,", late)
        assert again in given_up


def test_a_message_file_without_a_run_id_may_be_given_one(fleet: Fleet, host: Host) -> None:
    body = json.dumps({"job": "a", "command": "true"})
    done = host.command("send", "--message", "-", "--run-id", "again", stdin=body)
    assert (done.returncode, done.stdout) == (0, "again\n"), done.stderr
    done = host.command(
        "send", "--message", "-", "--run-id", "b", stdin=json.dumps({**json.loads(body), "run_id": "a"})
    )
    assert done.returncode == 2
    assert fleet.aws.depth(fleet.queue) == 1


def test_aws_away_is_one_clear_line(host: Host) -> None:
    done = host.command("send", "a", "--shell", "true", CRON_RUNNER_QUEUE__URL="http://127.0.0.1:1/123456789012/gone")
    assert done.returncode == 125
    [line] = done.stderr.splitlines()
    assert line.startswith("cron-runner: cannot send to http://127.0.0.1:1/123456789012/gone: ")


def test_a_queue_that_is_not_there_is_one_clear_line(fleet: Fleet, host: Host) -> None:
    done = host.command("send", "a", "--shell", "true", CRON_RUNNER_QUEUE__URL=f"{fleet.queue}-gone")
    assert done.returncode == 125
    [line] = done.stderr.splitlines()
    assert f"{fleet.queue}-gone" in line
