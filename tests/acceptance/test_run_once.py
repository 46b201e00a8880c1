"""``cron-runner run-once``: one message, here and now, and the job's own exit code."""

from __future__ import annotations

import json
import os
import pwd
import signal
import sqlite3
import subprocess
import time
import uuid
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from runner import config
from runner.aws.sqs import Queue, Received
from runner.once.explain import peek

from faults import Proxy
from fleet import COMMAND, processes_of
from waiting import wait_for

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


@pytest.mark.parametrize(
    "body",
    [
        "what?",
        json.dumps({"job": "a", "command": "true", "timout": 1}),
        '{"Messages": ["x"]}',
        '{"Messages": [{"Body": 1}]}',
        "[" * 100_000,
    ],
    ids=["text", "unknown", "captured", "captured-body", "deep"],
)
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


EXPLAINED = """\
job                report
run_id             r1
declared           false
command            make report --key ***
argv               /bin/sh -c 'make report --key ***'
user               {user}
cwd                /srv
stdin              6 bytes of the message
environment        API_KEY=***
                   CRON_RUNNER_ATTEMPT=1
                   CRON_RUNNER_GROUP=test
                   CRON_RUNNER_JOB=report
                   CRON_RUNNER_RUN_ID=r1
                   CRON_RUNNER_SCHEDULED_AT=
timeout            10m
grace              5s
stop_signal        INT
deadline           10m after its start, then SIGINT, and SIGKILL 5s later
limits             memory=536870912
resources          cpu=2.0
success            exit_codes=[0]
                   require=["done"]
retries            max=1
                   backoff=30.0
                   factor=2.0
                   max_backoff=600.0
overlap            skip
ack                on-finish
output             sinks=["cloudwatch"]
                   log_group=/cron-runner/test
                   log_stream=report/r1
                   max=1G
admission          admitted: at once (free-for-all, by an empty host: no agent of this host was asked)
"""
REPORT = {
    "job": "report",
    "run_id": "r1",
    "command": "make report --key s3cr3t-k3y",
    "env": {"API_KEY": "s3cr3t-k3y"},
    "cwd": "/srv",
    "stdin": "hello\n",
    "timeout": "10m",
    "grace": "5s",
    "stop_signal": "INT",
    "limits": {"memory": "512M"},
    "resources": {"cpu": 2},
    "success": {"require": ["done"]},
    "retries": 1,
    "overlap": "skip",
}


def test_a_dry_run_explains_everything(host: Host) -> None:
    done = once(host, REPORT, "--dry-run")
    user = pwd.getpwuid(os.geteuid()).pw_name
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == EXPLAINED.format(user=user)
    told = json.loads(once(host, REPORT, "--dry-run", "--json").stdout)
    assert [told["argv"], told["environment"]["API_KEY"]] == ["/bin/sh -c 'make report --key ***'", "***"]
    assert told["admission"]["decision"] == "admitted"
    assert told["output"]["log_stream"] == "report/r1"


def test_a_dry_run_says_what_is_missing_on_this_host(host: Host) -> None:
    def lacking(**fields: Any) -> list[str]:
        told = json.loads(once(host, {"job": "a", **fields}, "--dry-run", "--json").stdout)["cannot_start"]
        assert isinstance(told, list)
        return told

    nowhere = "cwd: /no/where is no directory: no job can start there"
    assert lacking(command=["/no/such"], cwd="/no/where") == ["command: /no/such does not exist", nowhere]
    assert lacking(command="exit 3", cwd="/") == []
    shown = once(host, {"job": "a", "command": ["/no/such"]}, "--dry-run").stdout
    assert "cannot_start       command: /no/such does not exist\n" in shown


def test_a_dry_run_asks_the_agent_what_it_would_decide(fleet: Fleet, host: Host) -> None:
    def decided(**fields: Any) -> tuple[str, str]:
        body = {"job": "a", "run_id": "other", "command": "true", **fields}
        admission = json.loads(once(host, body, "--dry-run", "--json").stdout)["admission"]
        assert admission["by"] == "the running agent, now"
        return admission["decision"], admission["detail"]

    host.start()
    fleet.send({"job": "a", "run_id": "long", "command": "sleep 60"})
    fleet.events.wait("long", "started")
    assert decided() == ("admitted", "at once")
    assert decided(overlap="skip") == ("skipped", "overlap: run long of a is active")
    assert decided(overlap="wait") == ("held", "overlap: waits for run long of a")
    assert decided(overlap="replace") == ("admitted", "in place of run long")
    assert decided(not_after="2020-01-01T00:00:00Z")[0] == "skipped"
    assert decided(run_id="long") == ("known", "run long is running here: nothing would start")
    assert host.command("pause", "--note", "rebuilding").returncode == 0
    decision, detail = decided()
    assert (decision, "rebuilding" in detail) == ("held", True)
    assert host.command("resume").returncode == 0
    assert host.command("cancel", "long").returncode == 0
    fleet.events.wait_ended(["long"])
    assert decided(run_id="long") == (
        "known",
        "run long has ended here (cancelled): it would be answered, not run again",
    )


def test_a_dry_run_of_what_can_never_run(host: Host) -> None:
    body = {"job": "a", "comand": "true"}
    done = once(host, body, "--dry-run")
    assert (done.returncode, done.stdout) == (
        125,
        'rejected: invalid: unknown field "comand", did you mean "command"?\n',
    )
    done = once(host, body, "--dry-run", "--json")
    assert json.loads(done.stdout) == {
        "rejected": "invalid",
        "detail": 'unknown field "comand", did you mean "command"?',
    }


def test_a_message_as_send_prints_it(host: Host) -> None:
    printed = host.command("send", "a", "--print", "--", "sh", "-c", "echo captured").stdout
    assert once(host, printed).stdout == "captured\n"


def test_a_dead_letter_runs_and_stays(fleet: Fleet, host: Host) -> None:
    fleet.aws.send(fleet.dead, json.dumps({"job": "a", "run_id": "dead", "command": "echo was dead; exit 3"}))
    done = host.command("run-once", "--dead-letter", "--dry-run")
    assert (done.returncode, "echo was dead" in done.stdout) == (0, True), done.stderr
    done = host.command("run-once", "--dead-letter")
    assert (done.returncode, done.stdout) == (3, "was dead\n"), done.stderr
    assert fleet.aws.depth(fleet.dead) == 1
    fleet.aws.take(fleet.dead)
    done = host.command("run-once", "--dead-letter", "--wait", "1s")
    assert (done.returncode, done.stderr) == (75, "cron-runner: no dead letter came within 1s\n")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "cannot run an empty message: there was none to capture; look at the queue's depth"),
        (
            '{"Messages": [{}, {}]}',
            "cannot run 2 messages at once: keep one of the list, as `jq '{Messages: [.Messages[0]]}'` does",
        ),
        (
            '{"Records": [{"eventSource": "aws:sqs"}, {"eventSource": "aws:sqs"}]}',
            "cannot run 2 messages at once: keep one of the list, as `jq '{Records: [.Records[0]]}'` does",
        ),
        (
            '{"Records": [{"eventSource": "aws:sqs", "messageId": "m"}]}',
            "cannot run the message: it has no body; capture it with what logs the event in the Lambda function",
        ),
        (
            '{"Messages": [{}]}',
            "cannot run the message: it has no Body; capture it with `aws sqs receive-message`",
        ),
    ],
)
def test_a_capture_that_is_none_says_so(host: Host, text: str, said: str) -> None:
    done = once(host, text)
    assert (done.returncode, done.stderr) == (125, f"cron-runner: {said}\n")


def test_a_message_that_was_answered_before_is_answered_again(fleet: Fleet, host: Host) -> None:
    fleet.send({"job": "a", "run_id": "r", "command": "exit 3"})
    assert host.command("run-once").returncode == 3
    [event] = fleet.events.wait_ended(["r"])
    fleet.send({"job": "a", "run_id": "r", "command": "exit 3"})
    done = host.command("run-once", "--wait", "2s")
    assert (done.returncode, "no message came" in done.stderr) == (75, False), done.stderr
    fleet.wait_empty()
    fleet.events.collect()
    assert [seen["id"] for seen in fleet.events.seen].count(event["id"]) == 2
    fleet.send({"job": "a", "run_id": "r", "command": "exit 3"})
    fleet.send({"job": "a", "run_id": "next", "command": "exit 4"})
    assert host.command("run-once", "--wait", "20s").returncode == 4


@pytest.mark.parametrize("action", ["SendMessageBatch", "DeleteMessageBatch"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_after_the_end_leaves_the_rest_to_the_journal(
    fleet: Fleet, action: str, number: signal.Signals
) -> None:
    with Proxy(fleet.aws.endpoint) as proxy:
        fleet.endpoint = proxy.endpoint
        host = fleet.host()
        proxy.fail(1.0, action)
        fleet.send({"job": "a", "run_id": "r", "command": "exit 4"})
        words = [COMMAND, "--config", str(host.config), "run-once"]
        with subprocess.Popen(words, env=host.environment, stderr=subprocess.PIPE, text=True) as process:
            wait_for(lambda: outcome(host, "r") == "failed", "the end is in the journal")
            assert process.poll() is None
            process.send_signal(number)
            _, stderr = process.communicate(timeout=20)
        assert process.returncode == 4, stderr
        proxy.heal()
        host.start()
        fleet.events.wait_ended(["r"])
        fleet.wait_empty(60)


def outcome(host: Host, run_id: str) -> str | None:
    """What the host's journal says of a run."""
    path = host.state / "journal.db"
    if not path.exists():
        return None
    with closing(sqlite3.connect(path)) as journal:
        try:
            row = journal.execute("SELECT outcome FROM runs WHERE run_id = ?", (run_id,)).fetchone()
        except sqlite3.OperationalError:  # its tables are still to be made
            return None
    return row[0] if row else None


@pytest.mark.parametrize("results", [True, False], ids=["with results", "without"])
@pytest.mark.parametrize("way", ["file", "queue"])
def test_with_aws_away_the_end_is_told_at_once_and_it_ends_within_a_bound(
    fleet: Fleet, results: bool, way: str
) -> None:
    """The job's own exit code comes back, what is not delivered stays, and the next agent delivers it."""
    with Proxy(fleet.aws.endpoint) as proxy:
        fleet.endpoint = proxy.endpoint
        host = fleet.host(**({} if results else {"CRON_RUNNER_RESULTS__URL": ""}))
        proxy.fail(1.0, "PutLogEvents")
        proxy.fail(1.0, "SendMessageBatch")
        body = {"job": "away", "run_id": "r", "command": "echo made; exit 3"}
        if way == "queue":
            fleet.send(body)
        began = time.monotonic()
        words = ("--message", "-") if way == "file" else ("--wait", "20s")
        done = host.command("run-once", *words, stdin=json.dumps(body) if way == "file" else None, within=90)
        assert time.monotonic() - began < 55
        assert done.returncode == 3, done.stderr
        assert "the job has ended: exit code 3; waiting up to 30s for 5 bytes of output" in done.stderr
        left = [line for line in done.stderr.splitlines() if "not delivered: " in line]
        assert len(left) == 1
        assert "5 bytes of output" in left[0]
        assert ("event" in left[0]) == results
        assert str(host.state) in left[0]
        assert "Traceback" not in done.stderr
        proxy.heal()
        host.start()
        fleet.wait_lines("away", "r", ["made"])
        if results:
            [event] = fleet.events.wait_ended(["r"])
            assert event["data"]["exit_code"] == 3
        fleet.wait_empty()


def test_a_stale_message_is_skipped(fleet: Fleet, host: Host) -> None:
    late = {"job": "a", "run_id": "late", "command": "echo ran", "not_after": "2020-01-01T00:00:00Z"}
    fleet.send(late)
    done = host.command("run-once")
    assert (done.returncode, done.stdout) == (75, "")
    assert done.stderr.startswith("cron-runner: skipped: it was not to start after 2020-01-01")
    [event] = fleet.events.wait_ended(["late"])
    assert event["data"]["reason"] == "stale"
    fleet.wait_empty()
    done = once(host, late)
    assert (done.returncode, done.stdout, "skipped: it was not" in done.stderr) == (75, "", True)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"command": "exit 0"}, ""),
        ({"command": "exit 3"}, ""),
        ({"command": "sleep 60", "timeout": 1}, "cron-runner: timed_out: timed out after 1s\n"),
        ({"command": "kill -KILL $$"}, "cron-runner: killed: killed by SIGKILL\n"),
        ({"command": "true", "success": {"require": ["x"]}}, "cron-runner: failed: output did not match require /x/\n"),
    ],
    ids=["succeeded", "failed", "timed-out", "killed", "rule"],
)
def test_the_reason_is_on_stderr(host: Host, fields: dict[str, Any], said: str) -> None:
    assert once(host, {"job": "a", **fields}).stderr == said


def test_what_lambda_is_given_of_a_queue_is_a_captured_message_and_other_records_are_none(host: Host) -> None:
    record = {
        "messageId": "059f36b4-87a3-44ab-83d2-661975830a7d",
        "receiptHandle": "AQEB",
        "body": json.dumps({"job": "a", "command": 'echo "$CRON_RUNNER_RUN_ID"'}),
        "attributes": {"ApproximateReceiveCount": "1", "SentTimestamp": "1545082649183"},
        "messageAttributes": {},
        "md5OfBody": "e4e6",
        "eventSource": "aws:sqs",
        "eventSourceARN": "arn:aws:sqs:eu-west-1:123456789012:jobs",
        "awsRegion": "eu-west-1",
    }
    done = once(host, json.dumps({"Records": [record]}))
    assert (done.returncode, done.stdout) == (0, f"{record['messageId']}\n")
    done = once(host, json.dumps({"Records": [{"eventSource": "aws:s3", "eventName": "ObjectCreated:Put"}]}))
    assert (done.returncode, "S3 event notification" in done.stderr) == (125, True)


def test_a_bad_message_of_a_file_is_rejected_too(fleet: Fleet, host: Host) -> None:
    captured = json.dumps({"Messages": [{"Body": "what?", "MessageId": "m-1"}]})
    assert host.command("run-once", "--message", "-", stdin=captured).returncode == 125
    assert fleet.events.wait_rejected("m-1")["data"]["body"] == "what?"


def test_a_peek_polls_until_the_wait_is_over(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [[], [], [Received("m", "receipt", "body", 1, 0.0, None, 0.0, 0.0)]]
    asked: list[float] = []

    async def receive(_: Queue, __: int, wait: float, ___: float) -> list[Received]:
        asked.append(wait)
        return answers.pop(0)

    async def extend(_: Queue, __: object) -> list[object]:
        return []

    monkeypatch.setattr(Queue, "receive", receive)
    monkeypatch.setattr(Queue, "extend", extend)
    given = peek(config.load(host.config, host.environment), 60.0)
    assert (given and given.body, asked) == ("body", [20.0, 20.0, 20.0])


def test_a_message_that_names_its_user_needs_no_default_one(host: Host) -> None:
    me = "root" if os.geteuid() == 0 else ""
    host.config.write_text(host.config.read_text().replace('run.user = "root"\n', ""))
    done = once(host, {"job": "a", "command": "echo ran"} | ({"user": me} if me else {}))
    assert (done.returncode, done.stdout) == (0, "ran\n"), done.stderr
