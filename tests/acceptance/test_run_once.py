"""``cron-runner run-once``: one message, here and now, and the job's own exit code."""

from __future__ import annotations

import json
import uuid
from typing import TYPE_CHECKING, Any

import pytest

from fleet import processes_of

if TYPE_CHECKING:
    from subprocess import CompletedProcess

    from fleet import Fleet, Host


@pytest.fixture
def host(fleet: Fleet) -> Host:
    """A machine with the configuration and no agent."""
    return fleet.host()


def once(host: Host, body: dict[str, Any] | str, *words: str, **environment: str) -> CompletedProcess[str]:
    """Run a message from standard input, with no AWS at all."""
    text = body if isinstance(body, str) else json.dumps(body)
    offline = {"AWS_ENDPOINT_URL": "http://127.0.0.1:1"} | environment
    return host.command("run-once", "--offline", "--message", "-", *words, stdin=text, **offline)


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"command": "exit 0"}, 0),
        ({"command": "exit 3"}, 3),
        ({"command": ["/no/such/program"]}, 127),
        ({"command": ["/etc"]}, 126),
        ({"command": "kill -KILL $$"}, 137),
        ({"command": "kill -SEGV $$"}, 139),
        ({"command": "sleep 60", "timeout": 1}, 124),
        ({"command": "echo ERROR", "success": {"fail_on": ["ERROR"]}}, 1),
        ({"command": "true", "success": {"require": ["done"]}}, 1),
        ({"command": "exit 3", "success": {"exit_codes": [3]}}, 3),
    ],
    ids=lambda value: json.dumps(value) if isinstance(value, dict) else str(value),
)
def test_exit_codes(host: Host, fields: dict[str, Any], status: int) -> None:
    done = once(host, {"job": "a", **fields})
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("body", ["what?", json.dumps({"job": "a", "command": "true", "timout": 1})])
def test_a_message_that_cannot_run_is_our_failure(host: Host, body: str) -> None:
    done = once(host, body)
    assert done.returncode == 125
    assert "Traceback" not in done.stderr


def test_the_output_is_on_the_terminal(host: Host) -> None:
    done = once(host, {"job": "a", "command": "echo to-stdout; echo to-stderr >&2; printf no-newline"})
    assert done.returncode == 0
    assert done.stdout.splitlines() == ["to-stdout", "to-stderr", "no-newline"]


def test_an_empty_queue_is_75(host: Host) -> None:
    done = host.command("run-once", "--wait", "1s")
    assert done.returncode == 75
    assert not done.stdout


def test_a_message_of_the_queue(fleet: Fleet, host: Host) -> None:
    fleet.send({"job": "a", "run_id": "r", "command": "echo hello; exit 4"})
    done = host.command("run-once", "--wait", "5s")
    assert done.returncode == 4, done.stderr
    assert done.stdout == "hello\n"
    [event] = fleet.events.wait_ended(["r"])
    assert (event["data"]["outcome"], event["data"]["exit_code"]) == ("failed", 4)
    assert len(fleet.events.of("r", "started")) == 1
    fleet.wait_lines("a", "r", ["hello"])
    fleet.wait_empty()


def test_it_takes_one_message_and_no_more(fleet: Fleet, host: Host) -> None:
    fleet.send(*({"job": "a", "run_id": f"r{number}", "command": "true"} for number in range(3)))
    assert host.command("run-once").returncode == 0
    assert fleet.aws.depth(fleet.queue) == 2
    assert len(fleet.aws.take(fleet.queue, wait_s=1)) == 2


def test_a_bad_message_of_the_queue_is_rejected(fleet: Fleet, host: Host) -> None:
    message_id = fleet.aws.send(fleet.queue, "what?")
    assert host.command("run-once").returncode == 125
    assert fleet.events.wait_rejected(message_id)["data"]["reason"] == "invalid"
    fleet.wait_empty()


def test_beside_a_running_agent(fleet: Fleet, host: Host) -> None:
    host.start()
    fleet.send({"job": "long", "run_id": "long", "command": "sleep 5"})
    fleet.events.wait("long", "started")
    supervisor = host.supervisor()
    assert supervisor is not None
    done = once(host, {"job": "a", "command": "echo beside"})
    assert (done.returncode, done.stdout) == (0, "beside\n")
    assert host.supervisor() == supervisor
    [event] = fleet.events.wait_ended(["long"])
    assert event["data"]["outcome"] == "succeeded"


def test_a_dry_run_starts_nothing(fleet: Fleet, host: Host) -> None:
    mark = f"30{uuid.uuid4().int % 10**9}"
    done = once(host, {"job": "a", "command": f"sleep {mark}"}, "--dry-run")
    assert done.returncode == 0, done.stderr
    assert mark in done.stdout
    assert not processes_of(mark)
    assert not fleet.events.seen
