"""What people ask of a host about its runs: one in full, many by outcome, output from anywhere. One host for all."""

from __future__ import annotations

import contextlib
import io
import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from runner.agent.operator.pause_file import Pausing
from runner.cli.agent_socket import RefusedByAgent, ask
from runner.cli.main import main
from runner.protocol.units import parse_time

from aws import Aws
from fleet import COMMAND, Fleet
from waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fleet import Host

pytestmark = [
    pytest.mark.timeout(180),
    pytest.mark.parametrize("aws_server", ["standin"], indirect=True),
]
SECRET = "pa55-of-the-database"
SPOKEN = f"one\ntwo {SECRET} ü\nthree\n".encode()


@pytest.fixture(scope="module")
def fleet(aws_server: str) -> Iterator[Fleet]:
    directory = Path(tempfile.mkdtemp(prefix="crt-"))
    directory.chmod(0o755)
    aws = Aws(aws_server)
    made = Fleet(aws, directory, group="ops")
    try:
        yield made
    finally:
        made.remove()
        shutil.rmtree(directory, ignore_errors=True)
        aws.close()


@pytest.fixture(scope="module")
def host(fleet: Fleet) -> Host:
    """With a run of every kind: some that ended, one that runs and one that waits for it."""
    made = fleet.host(more='admission.hold = "10m"\n')
    made.start()
    wait_for(lambda: made.command("status").returncode == 0, "the agent answers", detail=made.log)
    fleet.send(
        {
            "job": "talk",
            "run_id": "spoke",
            "command": "printf 'one\\ntwo %s ü\\nthree\\n' \"$DB_PASSWORD\"",
            "env": {"DB_PASSWORD": SECRET, "PLAIN": "yes"},
            "labels": {"team": "a"},
        },
        {"job": "bad", "run_id": "twice", "command": "echo no; exit 3", "retries": {"max": 1, "backoff": "0.1s"}},
        {"job": "late", "run_id": "stale", "command": "true", "not_after": "2020-01-01T00:00:00Z"},
        {"job": "nope", "run_id": "wrong", "command": "true", "user": "nobody-of-that-name"},
        {"job": "hang", "run_id": "runs", "command": "exec sleep 2000", "retries": 2},
    )
    fleet.events.wait_ended(["spoke", "twice", "stale", "wrong"])
    fleet.events.wait("runs", "started")
    fleet.send({"job": "hang", "run_id": "waits", "command": "exec sleep 2000", "overlap": "wait"})
    wait_for(lambda: json.loads(made.command("status", "--json").stdout)["held"], "one waits", detail=made.log)
    return made


def told(host: Host, op: str, **fields: Any) -> dict[str, Any]:
    return ask(host.runtime / "agent.sock", op, **fields)


def typed(host: Host, *words: str) -> subprocess.CompletedProcess[str]:
    """What `Host.command` does, in this process: without the start of an interpreter for each."""
    out, error = io.TextIOWrapper(io.BytesIO(), "utf-8"), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
        try:
            status = main(["--config", str(host.config), *words])
        except SystemExit as end:
            status = int(end.code or 0)
        sys.stdout.flush()
    return subprocess.CompletedProcess(words, status, out.buffer.getvalue().decode(), error.getvalue())  # type: ignore[attr-defined]


def document(done: subprocess.CompletedProcess[str]) -> Any:
    assert done.stdout, done.stderr
    return json.loads(done.stdout)


def test_runs_come_in_pages_the_newest_first(host: Host) -> None:
    seen: list[dict[str, Any]] = []
    cursor = ""
    while cursor is not None:
        page = told(host, "runs", limit=1, cursor=cursor)
        cursor = page["cursor"]
        seen += page["runs"]
    assert [run["run_id"] for run in seen[:2]] == ["waits", "runs"]
    assert {run["run_id"] for run in seen[2:]} == {"spoke", "twice", "stale", "wrong"}
    assert [run["ended_at"] for run in seen[2:]] == sorted((run["ended_at"] for run in seen[2:]), reverse=True)
    assert seen[1:] == told(host, "runs")["runs"][1:]  # of what waits it is known to the microsecond since when
    by_id = {run["run_id"]: run for run in seen}
    assert by_id["waits"]["state"] == "held"
    assert by_id["waits"]["reason"] == "overlap: waits for run runs of hang"
    assert by_id["runs"]["state"] == "running"
    assert (by_id["twice"]["state"], by_id["twice"]["exit_code"], by_id["twice"]["attempts"]) == ("failed", 3, 2)
    assert by_id["spoke"]["labels"] == {"team": "a"}
    assert by_id["spoke"]["usage"]["max_rss_bytes"] > 0
    ids = [run["run_id"] for run in told(host, "runs", outcomes=["failed", "rejected"])["runs"]]
    assert sorted(ids) == ["twice", "wrong"]
    assert [run["run_id"] for run in told(host, "runs", job="talk", state="ended")["runs"]] == ["spoke"]
    assert [run["run_id"] for run in told(host, "runs", state="open")["runs"]] == ["waits", "runs"]
    assert told(host, "runs", since=3e9)["runs"][2:] == []
    for wrong in ({"cursor": "nan~x"}, {"cursor": "x"}, {"state": "odd"}, {"outcomes": "failed"}, {"since": "now"}):
        with pytest.raises(RefusedByAgent, match="cannot"):
            told(host, "runs", **wrong)


def test_output_goes_on_from_any_byte_and_shows_no_part_of_a_secret(host: Host) -> None:
    masked = SPOKEN.replace(SECRET.encode(), b"***")
    part = told(host, "output", run_id="spoke")
    assert part["text"].encode() == masked
    assert (part["from"], part["next"], part["size"], part["end"]) == (0, len(SPOKEN), len(SPOKEN), True)
    for start in range(len(SPOKEN) + 2):
        rest = told(host, "output", run_id="spoke", **{"from": start})
        shown = rest["text"].encode("utf-8", "surrogateescape")
        assert SECRET[-6:].encode() not in shown
        assert masked.endswith(shown.removeprefix(b"***")), start
        assert rest["next"] == len(SPOKEN)
    # Both attempts, one after the other.
    first = told(host, "output", run_id="twice")
    second = told(host, "output", run_id="twice", **{"from": first["next"]})
    assert [(part["text"], part["attempt"], part["end"]) for part in (first, second)] == [
        ("no\n", 1, False),
        ("no\n", 2, True),
    ]
    assert told(host, "output", run_id="runs") | {"text": "", "end": False} == told(host, "output", run_id="runs")
    assert told(host, "output", run_id="nowhere") == {"run_id": "nowhere", "state": "unknown"}
    with pytest.raises(RefusedByAgent, match="from"):
        told(host, "output", run_id="spoke", **{"from": -1})


def test_show_says_all_that_is_known_of_a_run(host: Host) -> None:
    spoke = document(typed(host, "show", "spoke", "--json"))
    assert spoke["command"] == "printf 'one\\ntwo %s ü\\nthree\\n' \"$DB_PASSWORD\""
    assert (spoke["env"], spoke["labels"]) == (["DB_PASSWORD", "PLAIN"], {"team": "a"})
    assert SECRET not in json.dumps(spoke)
    assert (spoke["state"], spoke["outcome"], spoke["phase"]) == ("succeeded", "succeeded", "ended")
    [attempt] = spoke["attempts"]
    assert (attempt["outcome"], attempt["exit_code"], attempt["output"]["bytes"]) == ("succeeded", 0, len(SPOKEN))
    assert attempt["usage"]["max_rss_bytes"] > 0
    assert (attempt["log"]["group"], attempt["log"]["stream"]) == ("/cron-runner/ops", "talk/spoke")
    assert spoke["log"]["url"].startswith("https://")
    assert (spoke["message"]["delivery"], spoke["message"]["state"]) == (1, "gone")
    twice = document(typed(host, "show", "twice", "--json"))
    assert [(one["attempt"], one["reason"], one["will_retry"]) for one in twice["attempts"]] == [
        (1, "exit code 3", True),
        (2, "exit code 3", False),
    ]
    runs, waits = document(typed(host, "show", "runs", "waits", "--json"))
    assert (runs["state"], runs["phase"], runs["owes"]) == ("running", "running", ["message"])
    assert runs["deadline"] > runs["started_at"]
    assert [(one["attempt"], one["outcome"]) for one in runs["attempts"]] == [(1, None)]
    assert (waits["state"], waits["held"]["kind"]) == ("held", "overlap")
    assert waits["waits_for"] == waits["held"]["reason"] == "overlap: waits for run runs of hang"
    assert waits["held"]["starts_when"] == "that run has ended; `cron-runner cancel` ends it"
    text = typed(host, "show", "twice").stdout
    assert text.startswith("run twice of bad\n  outcome    failed: exit code 3 at 20")
    assert re.search(r"^ATTEMPT +STARTED +TOOK +OUTCOME +EXIT +CPU +MEM +OUTPUT +REASON\n1 .*\n2 ", text, re.MULTILINE)
    assert "held         for " in typed(host, "show", "waits").stdout
    wrong = document(typed(host, "show", "wrong", "--json"))
    assert (wrong["state"], wrong["attempts"]) == ("rejected", [])


def test_show_of_what_is_not_there(host: Host) -> None:
    done = typed(host, "show", "nowhere", "spoke")
    assert (done.returncode, done.stdout.splitlines()[0]) == (1, "run spoke of talk")
    assert done.stderr.startswith("cron-runner: cannot show run nowhere: this host knows no such run; `cron-runner hi")
    done = typed(host, "show", "nowhere", "--json")
    assert (done.returncode, json.loads(done.stdout)) == (1, {"run_id": "nowhere", "state": "unknown"})
    assert typed(host, "show").returncode == 2
    assert typed(host, "show", "").returncode == 2


def test_history_of_a_host_without_any_table(host: Host) -> None:
    seen = document(typed(host, "history", "--json"))
    assert {run["run_id"] for run in seen} == {"spoke", "twice", "stale", "wrong"}
    assert [run["run_id"] for run in document(typed(host, "history", "talk", "--json"))] == ["spoke"]
    assert [run["run_id"] for run in document(typed(host, "history", "hang", "--json"))] == ["waits", "runs"]
    assert [run["run_id"] for run in document(typed(host, "history", "--running", "--json"))] == ["waits", "runs"]
    assert {run["run_id"] for run in document(typed(host, "history", "--failed", "--json"))} == {"twice", "wrong"}
    skipped = document(typed(host, "history", "--outcome", "skipped", "--since", "1h", "--json"))
    assert [(run["run_id"], run["outcome"]) for run in skipped] == [("stale", "skipped")]
    assert len(document(typed(host, "history", "--limit", "2", "--json"))) == 2
    lines = typed(host, "history").stdout.splitlines()
    assert lines[0].split() == ["STARTED", "TOOK", "OUTCOME", "EXIT", "COST", "RUN", "REASON"]
    assert re.search(r"succeeded +0 +\d\S* \d\S*[KM] +talk: spoke +exit code 0$", "\n".join(lines), re.MULTILINE)
    none = typed(host, "history", "nobodys")
    assert (none.returncode, none.stdout, none.stderr) == (0, "", "no run of nobodys is known\n")
    for words in (("--since", "soon"), ("--failed", "--running"), ("--outcome", "odd")):
        assert typed(host, "history", *words).returncode == 2


def test_wait_ends_with_the_jobs_exit_status(host: Host) -> None:
    done = typed(host, "wait", "spoke")
    assert (done.returncode, done.stdout) == (0, "run spoke of talk ended succeeded: exit code 0\n")
    assert typed(host, "wait", "spoke", "twice", "stale").returncode == 3
    assert typed(host, "wait", "stale").returncode == 125
    done = typed(host, "wait", "--follow", "twice")
    assert (done.returncode, done.stdout) == (3, "no\nno\n")
    assert done.stderr == "cron-runner: run twice of bad ended failed: exit code 3\n"
    assert [run["outcome"] for run in document(typed(host, "wait", "--json", "spoke", "twice"))] == [
        "succeeded",
        "failed",
    ]
    done = typed(host, "wait", "--timeout", "0s", "runs")
    assert (done.returncode, done.stdout) == (125, "")
    assert done.stderr.startswith("cron-runner: cannot wait longer for run runs: it is running; see")
    for wrong in ((), ("--follow", "spoke", "twice"), ("--timeout", "soon", "spoke"), ("--timeout", "0s", "nowhere")):
        assert typed(host, "wait", *wrong).returncode == 125


def test_logs_of_a_part_and_when_it_was_written(host: Host) -> None:
    masked = SPOKEN.decode().replace(SECRET, "***")
    assert typed(host, "logs", "spoke").stdout == masked
    assert typed(host, "logs", "--job", "talk").stdout == masked
    assert typed(host, "logs", "spoke", "--tail", "1").stdout == "three\n"
    assert typed(host, "logs", "spoke", "--tail", "0").stdout == ""
    assert typed(host, "logs", "-f", "spoke", "--tail", "2").stdout == masked.partition("\n")[2]
    [run] = document(typed(host, "history", "talk", "--json"))
    stamped = typed(host, "logs", "spoke", "--timestamps").stdout.splitlines()
    assert [line.partition(" ")[2] for line in stamped] == masked.splitlines()
    begun, ended = parse_time(run["started_at"]), parse_time(run["ended_at"])
    assert all(begun - 1 <= parse_time(line.partition(" ")[0]) <= ended + 1 for line in stamped), stamped
    assert typed(host, "logs", "spoke", "--since", "1h").stdout == masked
    assert typed(host, "logs", "spoke", "--since", "2031-01-01T00:00:00Z").stdout == ""
    [second] = typed(host, "logs", "twice", "--attempt", "2", "--json").stdout.splitlines()
    assert (json.loads(second)["attempt"], json.loads(second)["message"]) == (2, "no")
    assert json.loads(second)["time"] is not None
    for words, status, why in (
        (("twice", "--attempt", "3"), 1, "cannot show attempt 3 of run twice: there are 2"),
        (("--job", "nobodys"), 1, "cannot find a run of nobodys that was started: this host knows none"),
        ((), 2, "give its RUN_ID, or --job NAME"),
        (("spoke", "--tail", "-1"), 2, "is not a whole number"),
        (("spoke", "--since", "soon"), 2, "cannot show output since soon"),
    ):
        done = typed(host, "logs", *words)
        assert (done.returncode, done.stdout) == (status, "")
        assert why in done.stderr


def test_send_and_wait_shows_the_output_as_it_comes(host: Host) -> None:
    script = "echo begun; sleep 1; echo done >&2; exit 7"
    words = [COMMAND, "--config", str(host.config), "send", "now", "--run-id", "slow"]
    words += ["--wait", "--follow", "--shell", script]
    pipe = subprocess.PIPE
    with subprocess.Popen(words, env=host.environment, stdout=pipe, stderr=pipe, text=True) as sending:
        assert sending.stdout is not None
        assert sending.stdout.readline() == "begun\n"
        assert sending.poll() is None, "it is shown while the job runs"
        stamped = wait_for(
            lambda: re.match(r"20\S+Z begun\n", typed(host, "logs", "slow", "--timestamps").stdout), "so"
        )
        assert stamped
        out, error = sending.communicate(timeout=60)
    assert (sending.returncode, out) == (7, "done\n")
    assert re.fullmatch(r"cron-runner: sent run slow\ncron-runner: run slow of now ended failed: exit code 7\n", error)
    done = host.command("send", "now", "--wait", "--json", "--run-id", "quick", "--shell", "kill -USR1 $$")
    assert (done.returncode, json.loads(done.stdout)["signal"]) == (128 + 10, "SIGUSR1")


def test_a_signal_reaches_all_processes_of_a_run(fleet: Fleet, host: Host) -> None:
    script = "trap 'echo heard' USR1; echo ready; while :; do sleep 0.1; done"
    fleet.send({"job": "ears", "run_id": "hears", "command": script, "retries": 0})
    wait_for(lambda: "ready" in told(host, "output", run_id="hears").get("text", ""), "it is ready")
    done = typed(host, "signal", "hears", "usr1", "--note", "new certificate")
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"sent SIGUSR1 to run hears of ears: [12] process(es)?\n", done.stdout)
    wait_for(lambda: "heard" in told(host, "output", run_id="hears")["text"], "it has heard it")
    assert document(typed(host, "signal", "hears", "SIGCONT", "--json"))["state"] == "running"
    for words, status, why in (
        (("spoke", "USR1"), 1, "cannot send a signal to run spoke: it has ended"),
        (("waits", "USR1"), 1, "cannot send a signal to run waits: it is held"),
        (("nowhere", "10"), 1, "cannot send a signal to run nowhere: this host does not know it"),
        (("hears", "USR9"), 2, "there is no such signal"),
        (("hears", "KILL"), 2, "use `cron-runner cancel --grace 0s`"),
        (("hears",), 2, "NAME"),
    ):
        done = typed(host, "signal", *words)
        assert (done.returncode, done.stdout) == (status, "")
        assert why in done.stderr
    typed(host, "cancel", "hears")


def test_the_audit_trail_of_a_host(host: Host) -> None:
    typed(host, "pause", "--note", "new disk")
    typed(host, "resume")
    resumed, paused = document(typed(host, "history", "--audit", "--limit", "2", "--json"))
    assert (resumed["op"], paused["op"], paused["note"]) == ("resume", "pause", "new disk")
    lines = typed(host, "history", "--audit", "--since", "1h").stdout.splitlines()
    assert lines[0].split() == ["TIME", "WHO", "DID", "SUBJECT", "RESULT", "BY", "WAY", "OF", "NOTE"]
    assert lines[2].endswith(" new disk")
    assert typed(host, "history", "--audit", "--since", "2031-01-01T00:00:00Z").stdout == ""
    assert typed(host, "history", "nightly", "--audit").returncode == 2
    assert typed(host, "history", "--failed", "--audit").returncode == 2


def test_a_pause_that_is_set_before_the_agent_is_up(fleet: Fleet, host: Host) -> None:
    done = typed(host, "pause", "--no-agent")
    assert (done.returncode, done.stdout) == (125, "")
    assert done.stderr.endswith("one is up; leave --no-agent out\n")
    other = fleet.host("other")
    done = typed(other, "pause", "--no-agent", "--for", "2h", "--note", "not ready")
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"paused until 20\S+Z: the agent that is started next receives nothing\n", done.stdout)
    kept = Pausing(other.state).current
    assert kept is not None
    assert (kept.note, kept.drain, kept.until and round(kept.until - kept.since)) == ("not ready", False, 7200)
    assert typed(other, "pause", "web", "--no-agent").returncode == 2


def test_dead_letters_say_why_and_are_redriven_or_dropped(
    fleet: Fleet, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in host.environment.items():
        monkeypatch.setenv(name, value)
    done = typed(host, "dead-letters", "list", "--json")
    [wrong] = document(done)
    assert (wrong["job"], wrong["run_id"], wrong["reason"]) == ("nope", "wrong", "not_allowed"), done.stderr
    assert "nobody-of-that-name" in wrong["detail"]
    for body in (
        {"job": "again", "run_id": "dead-1", "command": "echo alive", "env": {"KEY": "s3cret-value"}},
        {"job": "again", "run_id": "dead-2", "command": "echo alive"},
        "no JSON",
    ):
        fleet.aws.send(fleet.dead, body)
    letters = {one["run_id"]: one for one in document(typed(host, "dead-letters", "list", "--json"))}
    assert letters["dead-1"]["reason"] == "received too often"
    text = typed(host, "dead-letters", "show", letters["dead-1"]["message_id"]).stdout
    assert "dead-1 of again" in text
    assert "s3cret" not in text
    done = typed(host, "dead-letters", "redrive", letters["dead-1"]["message_id"])
    assert done.stdout == f"{letters['dead-1']['message_id']} is on the job queue again, as run dead-1\n", done.stderr
    done = typed(host, "dead-letters", "redrive", "--new-run-id", letters["dead-2"]["message_id"], "--json")
    [sent] = document(done)
    assert sent["sent_as"] != "dead-2"
    ends = fleet.events.wait_ended(["dead-1", sent["sent_as"]])
    assert [event["data"]["outcome"] for event in ends] == ["succeeded", "succeeded"]
    done = typed(host, "dead-letters", "drop", wrong["message_id"], "nowhere")
    assert (done.returncode, done.stdout) == (1, f"dropped {wrong['message_id']}\n")
    assert "the dead-letter queue has no such message" in done.stderr
    assert typed(host, "dead-letters", "drop").returncode == 2
    assert typed(host, "dead-letters", "redrive", "--all", "x").returncode == 2
    assert typed(host, "dead-letters", "drop", "--all").returncode == 0
    assert fleet.aws.depth(fleet.dead) == 0


def test_config_show_says_where_each_value_comes_from(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    text = host.config.read_text()
    more = "[run.env]\nDB_PASSWORD = 'hidden-value'\nPLAIN = 'yes'\n[jobs.report]\ncommand = ['make', 'report']\n"
    other = host.config.with_name("other.toml")
    other.write_text(f"{text}{more}")
    monkeypatch.setenv("CRON_RUNNER_QUEUE__WAIT", "3s")
    shown = document(typed(host, "config", "show", "--config", str(other), "--json"))
    keys = {key["key"]: key for key in shown["keys"]}
    line = next(number for number, one in enumerate(text.splitlines(), 1) if one.startswith("queue.visibility"))
    assert (keys["queue.visibility"]["from"], keys["queue.visibility"]["line"]) == ("file", line)
    assert (keys["queue.wait"]["value"], keys["queue.wait"]["from"]) == (3, "environment")
    assert (keys["agent.metrics_jobs"]["value"], keys["agent.metrics_jobs"]["from"]) == (200, "default")
    assert keys["run.env"]["value"] == {"DB_PASSWORD": "***", "PLAIN": "yes"}
    assert keys["run.env"]["line"] == len(text.splitlines()) + 1
    assert [(job["job"], job["command"], job["file"]) for job in shown["jobs"]] == [
        ("report", "make report", str(other))
    ]
    lines = typed(host, "config", "show", "--set", "--config", str(other)).stdout
    assert re.search(r"^queue.wait +3.0 +\$CRON_RUNNER_QUEUE__WAIT$", lines, re.MULTILINE)
    assert "hidden-value" not in lines
    assert "agent.metrics_jobs" not in lines
    other.write_text("group = 3\n")
    assert typed(host, "config", "show", "--config", str(other)).returncode == 78
    assert typed(host, "config").returncode == 2


# At the end: it ends the host's agent.
def test_without_an_agent_its_journal_is_read(host: Host) -> None:
    host.kill()
    done = typed(host, "show", "twice", "--json")
    assert done.stderr == "cron-runner: no agent answers; this is what its journal has\n"
    assert [one["attempt"] for one in json.loads(done.stdout)["attempts"]] == [1, 2]
    runs = document(typed(host, "history", "--json"))
    assert {run["run_id"] for run in runs} >= {"spoke", "twice", "stale", "wrong"}
    assert [run["run_id"] for run in document(typed(host, "history", "--running", "--json"))] == ["runs"]
    done = typed(host, "show", "nowhere")
    assert (done.returncode, done.stdout) == (3, "")
    shutil.rmtree(host.state)
    for words in (("show", "spoke"), ("history",)):
        done = typed(host, *words)
        assert (done.returncode, done.stdout) == (3, "")
        assert done.stderr.startswith("cron-runner: cannot reach the agent: nobody listens on ")
