"""status, cancel, pause, resume and drain as an operator types them: what they print, and what then is so."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import pwd
import re
import select
import signal
import socket
import subprocess
import sys
import time
import uuid
from typing import TYPE_CHECKING, Any

import pytest

from runner.cli.main import COMMANDS

from fleet import COMMAND, processes_of
from waiting import wait_for

if TYPE_CHECKING:
    from subprocess import CompletedProcess

    from faults import Proxy
    from fleet import Fleet, Host

pytestmark = [
    pytest.mark.timeout(180),
    pytest.mark.parametrize("aws_server", ["standin"], indirect=True),
]
WHO = pwd.getpwuid(os.geteuid()).pw_name
CONTROL = ("status", "cancel r1", "pause", "resume", "drain")
MASKS = (
    (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", "TIME"),  # for people, to the second
    (r"http://\S+", "QUEUE"),
    (r" on \S+, group", " on HOST, group"),
    (r"pid \d+", "pid PID"),
    (r"\b\d+(\.\d)?[KMG]\b", "SIZE"),
    (r"\b(\d+d\d+h|\d+h\d\dm|\d+m\d\ds|\d+m|\d+(\.\d)?s)(?=[ ,;:\n]|$)", "SPAN"),
    (r"\b\d+%", "SHARE"),
)


def masked(text: str) -> str:
    """Without what differs each time; runs of blanks, whose number follows from that, are one."""
    for pattern, word in MASKS:
        text = re.sub(pattern, word, text, flags=re.MULTILINE)
    return re.sub(r" {2,}", "  ", text)


def said(done: CompletedProcess[str]) -> tuple[int, str, str]:
    """How jobs are started is the machine's: whether there was a compiler, and what its kernel allows."""
    text = re.sub(r"^starting +jobs .*\n", "", done.stdout, flags=re.MULTILINE)
    return done.returncode, masked(text), masked(done.stderr)


def status(host: Host) -> dict[str, Any]:
    done = host.command("status", "--json")
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return dict(json.loads(done.stdout))


def wait_state(host: Host, *states: str) -> dict[str, Any]:
    def reached() -> dict[str, Any] | None:
        seen = status(host)
        return seen if seen["state"] in states else None

    return wait_for(reached, f"the agent is {states}", detail=host.log)


def wait_held(host: Host, run_id: str) -> dict[str, Any]:
    """The held run, as soon as it is."""

    def found() -> dict[str, Any] | None:
        return next((run for run in status(host)["held"] if run["run_id"] == run_id), None)

    return wait_for(found, f"{run_id} is held", detail=host.log)


def up(host: Host) -> Host:
    """Start the agent, and wait until it polls."""
    host.start()
    wait_for(lambda: host.command("status").returncode == 0, "the agent answers", detail=host.log)
    wait_state(host, "polling")
    return host


def outcome(fleet: Fleet, run_id: str) -> tuple[str, str, int]:
    [event] = fleet.events.wait_ended([run_id])
    return event["data"]["outcome"], event["data"]["reason"], event["data"]["attempt"]


def hang(run_id: str, **more: Any) -> dict[str, Any]:
    return {"job": "hang", "run_id": run_id, "command": "exec sleep 2000", **more}


def running(fleet: Fleet, *run_ids: str) -> None:
    for run_id in run_ids:
        fleet.events.wait(run_id, "started")


# -- status


def test_status_as_text_and_as_json(fleet: Fleet) -> None:
    host = up(fleet.host(max_jobs=2))
    fleet.send({"job": "report", "run_id": "r0", "command": "exit 3"})
    fleet.events.wait_ended(["r0"])
    fleet.send(hang("r1", retries=2, timeout="2h"))
    running(fleet, "r1")
    # An event is on the queue, and may be read there, before the agent hears that it was taken.
    wait_for(lambda: not any(status(host)["backlog"].values()), "nothing is owed", detail=host.log)
    assert said(host.command("status")) == (
        0,
        f"""\
cron-runner 0.1.0 on HOST, group test, up SPAN, pid PID
queue  QUEUE
aws  answering for SPAN; last receive SPAN ago
state  polling
policy  free-for-all: jobs 1 of 2

RUNNING 1
RUN  JOB  USER  STATE  FOR  LEFT  TRY  CPU  MEM
r1  hang  {WHO}  running  SPAN  SPAN  1/3  SHARE  SIZE

RECENT
RUN  JOB  OUTCOME  AGO  TOOK  REASON
r0  report  failed  SPAN  SPAN  exit code 3
""",
        "",
    )
    seen = status(host)
    [run] = seen["runs"]
    [ended] = seen["recent"]
    assert list(seen) == [
        *("schema", "time", "agent", "host", "instance_id", "group", "queue", "state", "waiting_for", "health"),
        *("aws", "pause", "admission", "runs", "held", "recent", "backlog", "queues"),
    ]
    assert seen["agent"]["pid"] == host.agent.pid
    assert seen["health"] == {"ok": True, "reasons": [], "notes": []}
    assert (seen["aws"]["reachable"], seen["aws"]["error"]) == (True, None)
    admission = {"policy": "free-for-all", "offered": {"jobs": 2}, "used": {"jobs": 1}, "max_load": None, "load": None}
    assert seen["admission"] == admission
    shown = {"run_id": "r1", "job": "hang", "state": "running", "user": WHO, "attempt": 1, "attempts": 3}
    assert run | shown == run
    assert run["processes"] == 1
    assert run["memory_bytes"] > 0
    since, deadline = (_unix(run[key]) for key in ("since", "deadline"))
    assert abs(deadline - since - 7200) < 1
    assert ended | {"run_id": "r0", "outcome": "failed", "reason": "exit code 3", "exit_code": 3} == ended
    assert 0 <= ended["duration_s"] < 30


def _unix(moment: str) -> float:
    from runner.protocol.units import parse_time

    return parse_time(moment)


def test_what_is_held_says_why(fleet: Fleet) -> None:
    host = up(fleet.host(more='admission.hold = "10m"\n'))
    fleet.send(hang("r1"), hang("r2", overlap="wait"))
    running(fleet, "r1")
    held = wait_held(host, "r2")
    assert held["reason"] == "overlap: waits for run r1 of hang"
    assert (held["kind"], held["job"], held["delivery"]) == ("overlap", "hang", 1)
    shown = masked(host.command("status").stdout)
    assert "HELD 1\nRUN  JOB  FOR  WAITS FOR\nr2  hang  SPAN  overlap: waits for run r1 of hang\n" in shown


def test_resources_on_offer_and_in_use(fleet: Fleet) -> None:
    more = 'admission.policy = "resources"\nadmission.max_jobs = 4\n'
    config = fleet.host("host")
    text = config.config.read_text().replace('admission.policy = "free-for-all"\nadmission.max_jobs = 8\n', more)
    limits = "cpu = 8.0\nmemory = '64G'\nmax_load = 1.0\n[admission.resources.named]\nslots = 3\n"
    config.config.write_text(f"{text}[admission.resources]\n{limits}")
    host = up(config)
    fleet.send(hang("r1", resources={"cpu": 0.5, "memory": "32M", "slots": 2}))
    running(fleet, "r1")
    wait_for(lambda: status(host)["admission"]["used"].get("slots") == 2, "its slots are taken")
    admission = status(host)["admission"]
    assert admission["offered"] == {"cpu": 8, "memory": 64 << 30, "slots": 3, "jobs": 4}
    assert (admission["used"]["cpu"], admission["used"]["memory"]) == (0.5, 32 << 20)
    assert admission["load"]["cores"] > 0
    line = next(line for line in host.command("status").stdout.splitlines() if line.startswith("policy"))
    assert "resources: cpu 0.5 of 8, memory 32M of 64G, slots 2 of 3, jobs 1 of 4" in line


def test_an_outage_is_shown_with_since_when_and_why(fleet: Fleet, proxy: Proxy) -> None:
    fleet.endpoint = proxy.endpoint
    host = up(fleet.host())
    proxy.fail(1.0, "ReceiveMessage")
    seen = wait_state(host, "away")
    assert seen["aws"]["reachable"] is False
    assert "ReceiveMessage" in seen["aws"]["error"]
    shown = host.command("status").stdout
    assert re.search(r"^aws        AWAY since \S+: cannot call ReceiveMessage: ", shown, re.MULTILINE)
    assert "state      away" in shown
    proxy.heal()
    assert wait_state(host, "polling")["aws"]["reachable"] is True


def test_watched_as_json_it_is_a_line_at_each_look(fleet: Fleet) -> None:
    host = up(fleet.host())
    words = [COMMAND, "--config", str(host.config), "status", "--watch", "--every", "0.2s", "--json"]
    with subprocess.Popen(words, env=host.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as watching:
        assert watching.stdout is not None
        looks = [json.loads(watching.stdout.readline()) for _ in range(3)]
        assert len({look["time"] for look in looks}) == 3
        watching.send_signal(signal.SIGINT)
        _, error = watching.communicate(timeout=30)
    assert (watching.returncode, error) == (0, b"")


class Terminal:
    """`status --watch` on a terminal of 80 columns."""

    def __init__(self, host: Host) -> None:
        self.master, theirs = pty.openpty()
        self.process = subprocess.Popen(
            [COMMAND, "--config", str(host.config), "status", "--watch", "--every", "0.2s"],
            env=host.environment | {"COLUMNS": "80", "LINES": "24", "TERM": "xterm"},
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)
        self.seen = ""

    def wait(self, pattern: str) -> None:
        """Until this was drawn since the last call."""

        def drawn() -> bool:
            while select.select([self.master], [], [], 0)[0]:
                try:
                    piece = os.read(self.master, 65_536)
                except OSError:  # its end
                    break
                self.seen += piece.decode(errors="replace")
            return re.search(pattern, self.seen) is not None

        wait_for(drawn, f"{pattern} is drawn", detail=lambda: self.seen[-2000:])

    def interrupt(self) -> int:
        """Ctrl-C; the exit status, once the terminal has been given back."""
        self.process.send_signal(signal.SIGINT)
        self.wait(r"\x1b\[\?1049l")
        os.close(self.master)
        return self.process.wait(30)


def test_watched_on_a_terminal_it_is_redrawn_until_ctrl_c(fleet: Fleet) -> None:
    host = up(fleet.host())
    terminal = Terminal(host)
    terminal.wait(r"\x1b\[\?1049h[^$]*RUNNING 0")
    fleet.send(hang("r1"))
    terminal.wait(r"RUNNING 1[^$]*r1 +hang")
    terminal.seen = ""
    host.kill()
    terminal.wait(r"cannot reach the agent: nobody\s+listens")
    host.start()
    terminal.seen = ""
    terminal.wait(r"RUNNING 1[^$]*r1 +hang")
    assert terminal.interrupt() == 0
    drawn = re.sub(r"\x1b\[[?\d;]*[a-zA-Z]", "", terminal.seen.replace("\x1b[H", "\n"))
    assert max(len(line) for line in drawn.splitlines()) <= 80


# -- cancel


def test_a_running_one_is_stopped_with_its_grace(fleet: Fleet) -> None:
    host = up(fleet.host())
    fleet.send(hang("r1"), hang("r2", command="trap '' TERM; while :; do sleep 0.1; done", grace="1s"))
    running(fleet, "r1", "r2")
    assert said(host.command("cancel", "r1")) == (
        0,
        "stopping run r1 of hang: SIGTERM now, SIGKILL after SPAN\n"
        f"run r1 of hang ended cancelled: cancelled by {WHO}\n",
        "",
    )
    assert outcome(fleet, "r1") == ("cancelled", f"cancelled by {WHO}", 1)
    done = host.command("cancel", "r2", "--note", "eats\x1b the\ndisk", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    answer = json.loads(done.stdout)
    reason = f"cancelled by {WHO}: eats the disk"
    assert answer | {"run_id": "r2", "job": "hang", "state": "ended", "cancelled": True, "reason": reason} == answer
    assert outcome(fleet, "r2") == ("cancelled", reason, 1)
    fleet.wait_empty()


def test_no_grace_kills_at_once(fleet: Fleet) -> None:
    host = up(fleet.host())
    mark = f"86{uuid.uuid4().int % 10**9}"
    fleet.send(
        {"job": "deaf", "run_id": "r1", "command": f"trap '' TERM; while :; do sleep {mark}; done", "grace": "1h"}
    )
    running(fleet, "r1")
    wait_for(lambda: processes_of(f"sleep {mark}"), "it runs")
    assert host.command("cancel", "r1", "--no-wait").stdout == "run r1 of deaf is being cancelled\n"
    wait_for(lambda: status(host)["runs"][0]["state"] == "stopping", "it is being stopped")
    assert status(host)["runs"][0]["stopping"] == f"cancel by {WHO}"
    done = host.command("cancel", "r1", "--grace", "0s")
    assert done.stdout.splitlines() == [
        "stopping run r1 of deaf: SIGKILL now",
        f"run r1 of deaf ended cancelled: cancelled by {WHO}",
    ]
    assert not processes_of(f"sleep {mark}")


def test_a_held_one_never_starts(fleet: Fleet) -> None:
    host = up(fleet.host(more='admission.hold = "10m"\n'))
    fleet.send(hang("r1"), hang("r2", overlap="wait"))
    running(fleet, "r1")
    wait_held(host, "r2")
    assert said(host.command("cancel", "r2")) == (0, f"run r2 of hang ended cancelled: cancelled by {WHO}\n", "")
    assert outcome(fleet, "r2") == ("cancelled", f"cancelled by {WHO}", 1)
    assert [event["type"].rpartition(".")[2] for event in fleet.events.of("r2")] == ["finished"]
    seen = status(host)
    assert (seen["held"], [run["run_id"] for run in seen["runs"]]) == ([], ["r1"])
    assert seen["admission"]["used"] == {"jobs": 1}
    assert fleet.aws.depth(fleet.queue) == 1  # that of r1
    # Its message would be answered, and not run, if it came back.
    fleet.send(hang("r2"))
    wait_for(lambda: fleet.aws.depth(fleet.queue) == 1, "the second message is answered")
    assert not fleet.events.of("r2", "started")


def test_a_retry_that_is_waited_for_does_not_happen(fleet: Fleet) -> None:
    host = up(fleet.host())
    fleet.send({"job": "bad", "run_id": "r1", "command": "exit 3", "retries": {"max": 3, "backoff": "1h"}})
    fleet.events.wait("r1", "finished")
    wait_for(lambda: status(host)["runs"][0]["state"] == "backoff", "it waits for its next attempt")
    assert status(host)["runs"][0]["last_outcome"] == "failed"
    assert host.command("cancel", "r1").stdout == f"run r1 of bad ended cancelled: cancelled by {WHO}\n"
    assert outcome(fleet, "r1") == ("cancelled", f"cancelled by {WHO}", 2)
    fleet.wait_empty()


def test_what_cannot_be_cancelled(fleet: Fleet) -> None:
    host = up(fleet.host())
    fleet.send({"job": "ok", "run_id": "a:b", "command": "true"})
    fleet.events.wait_ended(["a-b"])
    wait_for(lambda: status(host)["recent"], "the journal has it")
    # The id may be typed as the message has it.
    for run_id in ("a-b", "a:b"):
        assert said(host.command("cancel", run_id)) == (
            1,
            "",
            "cron-runner: cannot cancel run a-b of ok: it has ended succeeded (exit code 0) at TIME\n",
        )
    answer = host.command("cancel", "a-b", "--json")
    assert (answer.returncode, answer.stderr) == (1, "")
    assert json.loads(answer.stdout)["outcome"] == "succeeded"
    assert said(host.command("cancel", "nope")) == (
        1,
        "",
        "cron-runner: cannot cancel run nope: this host does not know it; look at `cron-runner status`; --fleet "
        "cancels it wherever it is\n",
    )
    assert json.loads(host.command("cancel", "nope", "--json").stdout) == {
        "run_id": "nope",
        "state": "unknown",
        "cancelled": False,
    }
    assert said(host.command("cancel", "--job", "ok")) == (1, "", "cron-runner: cannot cancel: no run of ok is here\n")
    assert host.command("cancel", "--all").returncode == 1
    for words in (["cancel"], ["cancel", "r1", "--all"], ["cancel", "r1", "--grace", "soon"]):
        wrong = host.command(*words)
        assert (wrong.returncode, wrong.stdout, wrong.stderr.count("\n")) == (2, "", 1)
    long = host.command("cancel", "r1", "--note", "x" * 257)
    assert (long.returncode, long.stderr) == (
        125,
        "cron-runner: cannot take a note of 257 characters; give at most 256\n",
    )


def test_a_run_once_is_left_to_who_started_it(fleet: Fleet) -> None:
    host = up(fleet.host())
    message = host.directory / "message.json"
    message.write_text(json.dumps(hang("r1")))
    words = [COMMAND, "--config", str(host.config), "run-once", "--message", str(message)]
    with subprocess.Popen(words, env=host.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as once:
        running(fleet, "r1")
        done = host.command("cancel", "r1")
        assert (done.returncode, done.stdout) == (1, "")
        assert re.fullmatch(
            r"cron-runner: cannot cancel run r1 of hang: a run-once on this host has it \(run-once/\d+/\d+\); "
            r"end it there with Ctrl-C\n",
            done.stderr,
        ), done.stderr
        once.send_signal(signal.SIGINT)
        once.communicate(timeout=60)


def test_all_of_a_job_and_all_there_are(fleet: Fleet) -> None:
    host = up(fleet.host(more='admission.hold = "10m"\n'))
    fleet.send(hang("r1"), hang("r2"), hang("r3", job="other"))
    running(fleet, "r1", "r2", "r3")
    fleet.send(hang("r4", overlap="wait"), hang("r5", job="other", overlap="wait"))
    wait_held(host, "r4")
    wait_held(host, "r5")
    answer = json.loads(host.command("cancel", "--job", "hang", "--json").stdout)
    assert sorted(run["run_id"] for run in answer) == ["r1", "r2", "r4"]
    assert {run["outcome"] for run in answer} == {"cancelled"}
    assert [run["run_id"] for run in status(host)["runs"]] == ["r3"]
    assert host.command("cancel", "--all").returncode == 0
    for run_id in ("r1", "r2", "r3", "r4", "r5"):
        assert outcome(fleet, run_id)[0] == "cancelled"
    fleet.wait_empty()


# -- pause and resume


def test_a_pause_lasts_over_a_kill_and_ends_when_it_is_resumed(fleet: Fleet) -> None:
    host = up(fleet.host())
    fleet.send(hang("r1"))
    running(fleet, "r1")
    assert said(host.command("pause", "--note", "new disk")) == (
        0,
        "paused until `cron-runner resume`; 1 run goes on\n",
        "",
    )
    wait_state(host, "paused")
    assert f"state  paused: by {WHO}, SPAN ago: new disk" in masked(host.command("status").stdout)
    fleet.send({"job": "later", "run_id": "r2", "command": "true"})
    host.kill()
    host.start()
    wait_for(lambda: host.command("status").returncode == 0, "the next agent answers", detail=host.log)
    pause = status(host)["pause"]
    assert pause | {"kind": "pause", "by": WHO, "note": "new disk", "until": None} == pause
    assert [run["run_id"] for run in status(host)["runs"]] == ["r1"]
    assert fleet.aws.depth(fleet.queue) == 2
    fleet.events.collect()
    assert not fleet.events.of("r2")
    assert said(host.command("resume")) == (0, f"resumed; was paused by {WHO} since TIME: new disk\n", "")
    assert outcome(fleet, "r2")[0] == "succeeded"
    assert said(host.command("resume")) == (0, "was not paused\n", "")
    assert json.loads(host.command("resume", "--json").stdout) == {"pause": None, "runs": 1, "was": None}


def test_a_pause_that_is_said_again_keeps_its_note(fleet: Fleet) -> None:
    host = up(fleet.host())
    for words in (("pause",), ("drain",)):
        assert host.command(*words, "--note", "new disk").returncode == 0
        assert host.command(*words).stdout.endswith("; the note stays: new disk\n")
        assert status(host)["pause"]["note"] == "new disk"
        shown = host.command("status").stdout
        assert shown.count("new disk") == 1
        assert not re.search(r":\d\d\.\d", shown), "no parts of a second"
        assert host.command("resume").returncode == 0


def test_ids_and_jobs_are_offered_to_who_presses_tab(fleet: Fleet) -> None:
    host = up(fleet.host(more="[jobs.declared]\ncommand = 'true'\n"))
    fleet.send(hang("r1"), {"job": "short", "run_id": "r2", "command": "true"})
    running(fleet, "r1")
    fleet.events.wait_ended(["r2"])
    assert host.command("completion", "runs").stdout.splitlines() == ["r1", "r2"]
    assert host.command("completion", "jobs").stdout.splitlines() == ["declared", "hang", "short"]
    host.kill()
    done = host.command("completion", "runs")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_several_runs_are_cancelled_at_once(fleet: Fleet) -> None:
    host = up(fleet.host())
    fleet.send(hang("r1"), hang("r2"))
    running(fleet, "r1", "r2")
    done = host.command("cancel", "r1", "nobody", "r2")
    assert done.returncode == 1
    assert "cannot cancel run nobody: this host does not know it" in done.stderr
    assert [outcome(fleet, run_id)[0] for run_id in ("r1", "r2")] == ["cancelled", "cancelled"]


def test_a_pause_for_a_while(fleet: Fleet) -> None:
    host = up(fleet.host())
    answer = json.loads(host.command("pause", "--for", "2h", "--json").stdout)
    assert (answer["runs"], answer["pause"]["by"]) == (0, WHO)
    assert abs(_unix(answer["pause"]["until"]) - _unix(answer["pause"]["since"]) - 7200) < 1
    assert said(host.command("pause", "--for", "1s")) == (0, "paused until TIME; nothing runs here\n", "")
    assert wait_state(host, "polling")["pause"] is None


def test_what_is_held_goes_back_when_the_host_is_paused(fleet: Fleet) -> None:
    host = up(fleet.host(more='admission.hold = "10m"\n'))
    other = fleet.host("other")
    fleet.send(hang("r1"), hang("r2", overlap="wait"))
    running(fleet, "r1")
    wait_held(host, "r2")
    host.command("pause")
    wait_for(lambda: not status(host)["held"], "nothing is held", detail=host.log)
    up(other)
    event = fleet.events.wait("r2", "started")
    assert event["data"]["pid"] in [run["pid"] for run in status(other)["runs"]]


# -- drain


def test_a_drained_host_becomes_empty_and_stays_so(fleet: Fleet) -> None:
    host = up(fleet.host())
    drained = host.state / "pause.json"  # an attempt is under way when it is, however slow this machine is
    waits = f"until [ -e {drained} ]; do sleep 0.1; done; sleep 0.5; exit 1"
    fleet.send({"job": "short", "run_id": "r1", "command": waits, "retries": {"max": 1, "backoff": 0}})
    fleet.send({"job": "bad", "run_id": "r2", "command": "exit 3", "retries": {"max": 3, "backoff": "1h"}})
    running(fleet, "r1", "r2")
    wait_for(lambda: "backoff" in [run["state"] for run in status(host)["runs"]], "a retry is waited for")
    done = host.command("drain", "--wait", "--note", "new kernel")
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(
        r"draining until `cron-runner resume`; \d runs? goe?s? ?on\ndrained: nothing runs here\n", done.stdout
    ), done.stdout
    # The attempts that were under way are finished; the next ones are for other hosts.
    ends = [(event["data"]["outcome"], event["data"]["reason"]) for event in fleet.events.of("r2", "finished")]
    wait_for(lambda: fleet.aws.depth(fleet.queue) == 2, "both messages are on the queue", 90)
    fleet.events.wait_ended(["r1", "r2"])
    ends = [
        [(event["data"]["outcome"], event["data"]["attempt"]) for event in fleet.events.of(run_id, "finished")]
        for run_id in ("r1", "r2")
    ]
    assert ends == [[("failed", 1), ("interrupted", 2)], [("failed", 1), ("interrupted", 2)]]
    assert fleet.events.of("r2", "finished")[-1]["data"]["reason"] == f"the host is drained by {WHO}"
    fleet.send({"job": "later", "run_id": "r3", "command": "true"})
    seen = status(host)
    assert (seen["state"], seen["pause"]["kind"], seen["pause"]["note"]) == ("draining", "drain", "new kernel")
    host.kill()
    host.start()
    wait_for(lambda: host.command("status").returncode == 0, "the next agent answers", detail=host.log)
    assert status(host)["state"] == "draining"
    assert f"state  draining: by {WHO}, SPAN ago: new kernel" in masked(host.command("status").stdout)
    assert said(host.command("resume")) == (0, f"resumed; was drained by {WHO} since TIME: new kernel\n", "")
    assert outcome(fleet, "r3")[0] == "succeeded"


def test_a_drain_that_is_given_up_waiting_for(fleet: Fleet) -> None:
    host = up(fleet.host())
    fleet.send(hang("r1"))
    running(fleet, "r1")
    assert said(host.command("drain", "--timeout", "0.5s")) == (
        1,
        "draining until `cron-runner resume`; 1 run goes on\n",
        "cron-runner: cannot wait longer: 1 run goes on; see `cron-runner status`, or cancel it\n",
    )
    assert json.loads(host.command("drain", "--json").stdout)["pause"]["kind"] == "drain"
    words = [COMMAND, "--config", str(host.config), "drain", "--wait"]
    with subprocess.Popen(words, env=host.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as waiting:
        assert waiting.stdout is not None
        assert b"1 run goes on" in waiting.stdout.readline()
        host.command("resume")
        _, error = waiting.communicate(timeout=30)
    assert (waiting.returncode, error.decode()) == (
        1,
        "cron-runner: cannot wait for an empty host: somebody has resumed it meanwhile; see `cron-runner status`\n",
    )


# -- nobody there, nobody allowed


@pytest.mark.parametrize("command", CONTROL)
def test_no_agent(fleet: Fleet, command: str) -> None:
    host = fleet.host()
    path = host.runtime / "agent.sock"
    for words in (command.split(), [*command.split(), "--json"]):
        done = host.command(*words)
        assert (done.returncode, done.stdout) == (3, "")
        assert done.stderr == (
            f"cron-runner: cannot reach the agent: there is no {path}; start it (`systemctl start cron-runner`, or "
            "`cron-runner run`), or name the configuration that it runs with by --config\n"
        )


def test_the_socket_of_a_killed_agent(fleet: Fleet) -> None:
    host = up(fleet.host())
    host.kill()
    path = host.runtime / "agent.sock"
    assert path.is_socket()
    for command in CONTROL:
        done = host.command(*command.split())
        assert (done.returncode, done.stdout) == (3, "")
        assert done.stderr == (
            f"cron-runner: cannot reach the agent: nobody listens on {path}, it was killed or has crashed; start it "
            "(`systemctl start cron-runner`) and look at its log\n"
        )
    up(host)
    assert host.stop() == 0
    assert not path.exists()


def test_a_second_agent_on_one_runtime_directory_ends_at_once(fleet: Fleet) -> None:
    host, other = up(fleet.host()), fleet.host("other")
    other.start(CRON_RUNNER_PATHS__RUNTIME=str(host.runtime))
    assert other.wait() == 125
    assert f"cannot start: another agent listens on {host.runtime}/agent.sock; stop it" in other.log()
    assert status(host)["agent"]["pid"] == host.agent.pid


# The user is changed in the child: others may not be let to the interpreter of the tests.
AS_NOBODY = """
import locale, os, sys
import runner.agent.operator.peers, runner.cli.main, runner.cli.run_ids, runner.config.toml, runner.protocol.fields
from importlib import import_module
for command in runner.cli.main.COMMANDS:
    if command.name in ("status", "cancel", "pause", "resume", "drain"):
        import_module(command.module)
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
sys.exit(runner.cli.main.main(sys.argv[1:]))
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="other users are made by root")
@pytest.mark.parametrize("command", CONTROL)
def test_no_permission(fleet: Fleet, command: str) -> None:
    host = up(fleet.host())
    path = host.runtime / "agent.sock"

    def as_nobody() -> tuple[int, str, str]:
        words = [sys.executable, "-c", AS_NOBODY, "--config", str(host.config), *command.split()]
        done = subprocess.run(words, env=host.environment, capture_output=True, text=True, timeout=60, check=False)
        return done.returncode, done.stdout, done.stderr

    refused = (
        f"cron-runner: cannot reach the agent on {path} as nobody: permission denied; use sudo, or become a member of "
        "the group root (`usermod -aG root nobody`) and log in anew\n"
    )
    assert as_nobody() == (125, "", refused)
    host.runtime.chmod(0o755)
    assert as_nobody() == (125, "", refused)
    path.chmod(0o666)
    status_, out, error = as_nobody()
    assert (status_, out) == (125, "")
    assert error.startswith(
        "cron-runner: cannot control the agent as nobody: only root and members of the group root may"
    )
    assert status(host)["pause"] is None


def test_a_configuration_that_is_wrong_by_now_is_no_hindrance(fleet: Fleet) -> None:
    host = up(fleet.host())
    host.config.write_text(host.config.read_text() + "admission.hold = 'soon'\nnonsense = 1\n")
    assert host.command("status").returncode == 0
    assert host.command("pause").returncode == 0
    socket_ = str(host.runtime / "agent.sock")
    host.config.write_text("nonsense")
    unread = host.command("status")
    assert unread.returncode == 3
    assert unread.stderr.splitlines()[0].startswith(f"cron-runner: warning: {host.config}:1: is not TOML: ")
    assert host.command("status", "--socket", socket_).returncode == 0
    assert host.command("status", CRON_RUNNER_PATHS__RUNTIME=str(host.runtime)).returncode == 0
    host.config.unlink()
    gone = host.command("status")
    assert (gone.returncode, gone.stderr) == (
        125,
        f"cron-runner: cannot read {host.config}: no such file; give --config a file that exists\n",
    )


def test_an_agent_that_never_answers(fleet: Fleet) -> None:
    """Whatever holds the socket: the command says so and ends."""
    host = fleet.host()
    host.runtime.mkdir()
    path = host.runtime / "agent.sock"
    with socket.socket(socket.AF_UNIX) as nobody:
        nobody.bind(str(path))
        nobody.listen(8)
        began = time.monotonic()
        done = host.command("status")
        assert time.monotonic() - began < 30
        assert done.returncode == 3
        assert done.stderr.startswith(
            f"cron-runner: cannot get an answer from the agent on {path} within 15 s; look at"
        )
        for answer in (b"", b"nonsense\n", b"[1]\n"):
            assert _answered(host, nobody, answer).returncode == 3


def _answered(host: Host, listener: socket.socket, answer: bytes) -> CompletedProcess[str]:
    words = [COMMAND, "--config", str(host.config), "status"]
    with subprocess.Popen(
        words, env=host.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as asking:
        listener.settimeout(30)
        while True:
            connection, _ = listener.accept()
            with connection, contextlib.suppress(OSError):  # that of the command before has gone
                if connection.recv(65_536):
                    connection.sendall(answer)
            if asking.poll() is not None or select.select([asking.stderr], [], [], 0.5)[0]:
                break
        out, error = asking.communicate(timeout=30)
        assert error.startswith("cron-runner: cannot reach the agent"), error
    return subprocess.CompletedProcess(words, asking.returncode, out, error)


# -- help


def test_every_command_is_there_and_shows_its_exit_statuses(fleet: Fleet) -> None:
    names = {command.name for command in COMMANDS}
    host = fleet.host()
    for command in ("status", "cancel", "pause", "resume", "drain"):
        assert command in names
        shown = host.command(command, "--help")
        assert shown.returncode == 0
        assert "3 no agent" in shown.stdout
        assert "--json" in shown.stdout
