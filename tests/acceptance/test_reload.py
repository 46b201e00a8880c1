"""SIGHUP: every key that can change without a restart is acted on, what cannot is said, a bad file changes nothing.

A table of the keys: each has a demonstration, which sets it alone, reloads, and looks at what a job or the agent does
differently. A key without one fails `test_every_key_is_shown`.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from runner.agent.operator.requests import MOST_REFUSALS
from runner.config.keys import KEYS

from asking import Systemd, health, listen, page
from aws import client
from fleet import processes_of
from signers import envelope, message, pair
from waiting import NeverHappenedError, wait_for

if TYPE_CHECKING:
    from runner.signing.keypairs import KeyPair

    from aws import Aws
    from faults import Proxy
    from fleet import Fleet, Host

pytestmark = pytest.mark.timeout(300)
on_stand_in = pytest.mark.parametrize("aws_server", ["standin"], indirect=True)
as_root = os.geteuid() == 0


class Reloaded:
    """A host whose agent runs while its file changes. The file is the base and one change at a time."""

    def __init__(self, fleet: Fleet, **base: str) -> None:
        self.fleet = fleet
        self.host: Host = fleet.host()
        self.address = listen(self.host)
        lines = (line.split(" = ", 1) for line in self.host.config.read_text().splitlines() if " = " in line)
        self._base = dict(lines) | base
        self._number = 0
        self.write()

    def write(self, more: str = "", **change: str) -> None:
        """The base with these keys (`__` for a dot), and what is no key of the base."""
        keys = self._base | {name.replace("__", "."): value for name, value in change.items()}
        self.host.config.write_text("".join(f"{name} = {value}\n" for name, value in keys.items()) + more)

    def reload(self, more: str = "", **change: str) -> None:
        """Change the file, and wait until the agent has taken it."""
        self.write(more, **change)
        before = self.host.log().count('"reloaded"')
        self.host.signal(signal.SIGHUP)
        wait_for(lambda: self.host.log().count('"reloaded"') > before, "the reload", 60, self.host.log)

    def start(self) -> None:
        self.host.start()
        wait_for(lambda: health(self.address)[0] == 200, "the agent is there", 60, self.host.log)

    def send(self, command: Any, **fields: Any) -> str:
        """Send a job; its run id."""
        self._number += 1
        run_id = f"r{self._number}"
        self.fleet.send({"job": "shown", "run_id": run_id, "command": command, **fields})
        return run_id

    def send_signed(self, said: dict[str, Any], signer: KeyPair) -> str:
        """Send a signed job; its run id, which nobody signs."""
        self._number += 1
        run_id = f"r{self._number}"
        self.fleet.send(envelope(said, signer, run_id=run_id))
        return run_id

    def run(self, command: Any, **fields: Any) -> dict[str, Any]:
        """Run a job to its end; the data of its last event."""
        run_id = self.send(command, **fields)
        try:
            [event] = self.fleet.events.wait_ended([run_id], within=60)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.host.log()[-3000:]}") from None
        data: dict[str, Any] = event["data"]
        return data

    def says(self, command: Any, **fields: Any) -> str:
        """What a job prints."""
        return str(self.run(command, **fields)["output"]["tail"])


Show = Callable[[Reloaded], None]
JOBS: dict[str, Show] = {}
ALONE = {
    "queue.wait", "queue.on_lost_lease", "agent.on_stop", "agent.drain_timeout", "output.cloudwatch.flush",
    "output.cloudwatch.retention_days", "run.allowed_secrets", "output.mask_short",
}  # fmt: skip


def shows(key: str) -> Callable[[Show], Show]:
    def register(show: Show) -> Show:
        JOBS[key] = show
        return show

    return register


def test_every_key_is_shown() -> None:
    reloadable = {path for path, key in KEYS.items() if not key.setting.fixed} | {"jobs"}
    assert reloadable == JOBS.keys() | ALONE


# -- jobs: one agent, key after key


@shows("run.shell")
def _(host: Reloaded) -> None:
    host.reload(run__shell='["/bin/sh", "-e", "-c"]')
    assert host.says("false; echo no") == ""


@shows("run.user")
def _(host: Reloaded) -> None:
    if as_root:
        host.reload(run__user='"nobody"')
        assert host.says("id -un") == "nobody\n"


@shows("run.allowed_users")
def _(host: Reloaded) -> None:
    if as_root:
        assert host.run("id -un", user="nobody")["reason"] == "not_allowed"
        # The supervisor has rules of its own, from the same file: it has to have read them too.
        host.reload(run__allowed_users='["root", "nobody"]')
        assert host.says("id -un", user="nobody") == "nobody\n"


@shows("run.min_nice")
def _(host: Reloaded) -> None:
    if as_root:
        assert host.run("nice", nice=-5)["reason"] == "not_allowed"
        host.reload(run__min_nice="-5")
        assert host.says("nice", nice=-5) == "-5\n"


@shows("run.timeout")
def _(host: Reloaded) -> None:
    host.reload(run__timeout='"0.3s"')
    assert host.run("sleep 60")["outcome"] == "timed_out"


@shows("run.grace")
def _(host: Reloaded) -> None:
    host.reload(run__grace='"0.2s"')
    data = host.run("trap '' TERM; for i in $(seq 80); do sleep 0.1; done", timeout="0.3s")
    assert data["outcome"] == "timed_out"
    assert data["duration_s"] < 5


@shows("run.cwd")
def _(host: Reloaded) -> None:
    host.reload(run__cwd='"/usr"')
    assert host.says("pwd") == "/usr\n"


@shows("run.env")
def _(host: Reloaded) -> None:
    host.reload(run__env='{ SHOWN = "yes" }')
    assert host.says("echo $SHOWN") == "yes\n"


@shows("run.env_files")
def _(host: Reloaded) -> None:
    file = host.fleet.directory / "vars"
    file.write_text("SHOWN=from a file\n")
    file.chmod(0o644)
    host.reload(run__env_files=f'["{file}"]')
    assert host.says("echo $SHOWN") == "from a file\n"


@shows("run.inherit_env")
def _(host: Reloaded) -> None:
    assert host.says("echo $PYTHONUNBUFFERED") == "\n"
    host.reload(run__inherit_env='["PYTHONUNBUFFERED"]')
    assert host.says("echo $PYTHONUNBUFFERED") == "1\n"


@shows("run.commands")
def _(host: Reloaded) -> None:
    host.reload(run__commands='"declared"')
    assert host.run("true")["reason"] == "not_allowed"


@shows("run.leftovers")
def _(host: Reloaded) -> None:
    mark = f"{host.fleet.directory}/left"
    host.reload(run__leftovers='"keep"')
    host.run(f"sh -c 'sleep 300; : {mark}' >/dev/null 2>&1 &")
    left = processes_of(mark)
    assert left
    for line in left:
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(line.partition(":")[0]), signal.SIGKILL)


@shows("signing.keys")
def _(host: Reloaded) -> None:
    file = host.fleet.directory / "ops.pem"
    keys = f'[{{ file = "{file}", jobs = ["shown"] }}]'
    for signer, other in ((pair("a"), pair("b", "p256")), (pair("b", "p256"), pair("a"))):
        # Another key in the same file: no line of the configuration changes the second time.
        file.write_text(signer.public.pem)
        host.reload(signing__keys=keys)
        run_id = host.send_signed(message(job="shown", group="test", command="echo signed"), signer)
        [event] = host.fleet.events.wait_ended([run_id])
        assert event["data"]["output"]["tail"] == "signed\n"
        [started] = host.fleet.events.of(run_id, "started")
        assert started["data"]["signed_by"] == signer.keyid
        kept = run_id
        run_id = host.send_signed(message(job="shown", group="test"), other)
        [event] = host.fleet.events.wait_ended([run_id])
        assert event["data"]["reason"] == "bad_signature"
        assert other.keyid in event["data"]["detail"]
    assert f"signed by  {pair('b', 'p256').keyid}\n" in host.host.command("status", "--run", kept).stdout
    assert "signed_by" not in host.fleet.events.wait(host.run("true")["run_id"], "started")["data"]
    file.unlink()
    refused = host.host.log().count('"reload_refused"')
    host.host.signal(signal.SIGHUP)
    wait_for(lambda: host.host.log().count('"reload_refused"') > refused, "keys that are gone are refused", 60)
    assert host.run("true")["outcome"] == "succeeded"


@shows("signing.require")
def _(host: Reloaded) -> None:
    host.reload(signing__require="true")
    data = host.run("true")
    assert (data["reason"], data["job"]) == ("not_signed", "shown")


@shows("signing.fresh")
def _(host: Reloaded) -> None:
    file = host.fleet.directory / "fresh.pem"
    file.write_text(pair("a").public.pem)
    host.reload(signing__fresh="true", signing__keys=f'[{{ file = "{file}" }}]')
    run_id = host.send_signed(message(job="shown", group="test"), pair("a"))
    [event] = host.fleet.events.wait_ended([run_id])
    assert event["data"]["reason"] == "not_allowed"


AS_NOBODY = """
import json, os, socket, sys
os.setgroups([]); os.setgid(65534); os.setuid(65534)
with socket.socket(socket.AF_UNIX) as agent:
    agent.connect(sys.argv[1])
    for op in sys.argv[2:]:
        agent.sendall(json.dumps({"op": op, "run_id": "r1", "what": "cancel", "subject": "r1"}).encode() + b"\\n")
        answer = json.loads(agent.makefile().readline())
        print(op, answer.get("code", "ok"))
"""


def _as_nobody(host: Reloaded, *ops: str) -> str:
    """What a user of the machine who is in no group of ours is answered."""
    command = [sys.executable, "-c", AS_NOBODY, str(host.host.runtime / "agent.sock"), *ops]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return done.stdout if done.returncode == 0 else done.stderr.splitlines()[-1].partition(":")[0]


@shows("control.read")
def _(host: Reloaded) -> None:
    if as_root:
        assert _as_nobody(host, "status") == "PermissionError"
        host.reload(control__read='["nobody"]')
        asked = _as_nobody(host, "status", "runs", "output", "admission", "cancel", "pause", "drain", "resume", "x")
        words = dict(line.split() for line in asked.splitlines())
        assert [op for op, code in words.items() if code == "not_allowed"] == [
            "cancel",
            "pause",
            "drain",
            "resume",
            "x",
        ]
        assert words["status"] == words["runs"] == words["output"] == "ok"
        # A page of such a user writes down what it refuses, and cannot push the others' lines out with it.
        assert _as_nobody(host, *["refused"] * 2) == "refused ok\nrefused ok\n"
        _as_nobody(host, *["refused"] * 100)
        said = json.loads(host.host.command("history", "--audit", "--limit", "500", "--json").stdout)
        lines = [one for one in said if (one["who"], one["op"], one["result"]) == ("nobody", "cancel", "refused")]
        assert 2 <= len(lines) <= 2 * MOST_REFUSALS  # of one minute, or of two


@shows("control.operate")
def _(host: Reloaded) -> None:
    if as_root:
        host.reload(control__operate='["%nogroup"]')
        assert _as_nobody(host, "status", "pause", "resume") == "status ok\npause ok\nresume ok\n"
        host.reload()
        assert _as_nobody(host, "status") == "PermissionError"


@shows("output.max_bytes")
def _(host: Reloaded) -> None:
    host.reload(output__max_bytes='"4K"')
    output = host.run("head -c 20000 /dev/zero | tr '\\0' x")["output"]
    assert (output["bytes"], output["truncated"], output["dropped_bytes"]) == (20000, True, 20000 - 4096)


@shows("output.carriage_return")
def _(host: Reloaded) -> None:
    assert host.run(r"printf 'one\rtwo\n'")["output"]["dropped_bytes"] == 0
    host.reload(output__carriage_return='"condense"')
    assert host.run(r"printf 'one\rtwo\n'")["output"]["dropped_bytes"] == 4


@shows("output.spool_max_bytes")
def _(host: Reloaded) -> None:
    host.reload(output__spool_max_bytes='"1K"', output__cloudwatch__flush='"1m"')
    go = host.fleet.directory / "go"
    # The first lines go at once; what follows waits for the flush time, and is more than the spool may hold.
    script = f"echo a; sleep 2; head -c 5000 /dev/zero | tr '\\0' x; echo; while [ ! -e {go} ]; do sleep 0.1; done"
    run_id = host.send(script)
    wait_for(lambda: "output.spool_max_bytes is 1K" in health(host.address)[1]["blocked"], "the spool is full", 60)
    host.reload()
    wait_for(lambda: health(host.address)[1]["blocked"] == "", "the spool is not full")
    go.touch()
    host.fleet.events.wait_ended([run_id])


@shows("output.redact")
def _(host: Reloaded) -> None:
    host.reload(output__redact='["SHOWN"]')
    assert host.says("echo $SHOWN", env={"SHOWN": "sesame-open"}) == "***\n"


@shows("output.cloudwatch.log_group")
def _(host: Reloaded) -> None:
    go = host.fleet.directory / "go-on"
    old = host.send(f"echo old; while [ ! -e {go} ]; do sleep 0.1; done; echo still old")
    host.fleet.events.wait(old, "started")
    host.reload(output__cloudwatch__log_group='"/elsewhere/{group}"')
    data = host.run("echo new")
    assert data["log"]["group"] == "/elsewhere/test"
    assert host.fleet.aws.lines("/elsewhere/test", data["log"]["stream"]) == ["new"]
    # What had begun goes on where it was said to be.
    go.touch()
    [event] = host.fleet.events.wait_ended([old])
    assert event["data"]["log"]["group"] == "/cron-runner/test"
    host.fleet.wait_lines("shown", old, ["old", "still old"])


@shows("output.cloudwatch.log_stream")
def _(host: Reloaded) -> None:
    host.reload(output__cloudwatch__log_stream='"all-of-{host}"')
    data = host.run("echo new")
    stream = data["log"]["stream"]
    assert stream.startswith("all-of-")
    # Runs that share a stream have their run id on each line.
    assert host.fleet.aws.lines("/cron-runner/test", stream) == [f"{data['run_id']} new"]


@shows("results.heartbeat")
def _(host: Reloaded) -> None:
    go = host.fleet.directory / "beat"
    host.reload(results__heartbeat='"0.2s"')
    run_id = host.send(f"while [ ! -e {go} ]; do sleep 0.1; done")
    host.fleet.events.wait(run_id, "heartbeat")
    # A run that beats stops beating when nobody wants it any more.
    host.reload()
    wait_for(lambda: _quiet(host.fleet, run_id), "no more heartbeats", 60)
    go.touch()
    host.fleet.events.wait_ended([run_id])


def _quiet(fleet: Fleet, run_id: str) -> bool:
    """Whether no heartbeat comes in five times its pace."""

    def beats() -> int:
        fleet.events.collect()
        return len(fleet.events.of(run_id, "heartbeat"))

    before = beats()
    try:
        wait_for(lambda: beats() > before, "a heartbeat", 1.0)
    except NeverHappenedError:
        return True
    return False


@shows("agent.metrics_jobs")
def _(host: Reloaded) -> None:
    host.run("true")
    assert 'cron_runner_job_runs_total{job="' in page(host.address, "/metrics")[1]
    host.reload(agent__metrics_jobs="0")
    host.run("true")
    assert "cron_runner_job_runs_total" not in page(host.address, "/metrics")[1]


@shows("agent.log_level")
def _(host: Reloaded) -> None:
    host.write(agent__log_level='"error"')
    host.host.signal(signal.SIGHUP)  # of which nothing is said at this level
    quiet = host.run("true")["run_id"]
    host.reload()
    loud = host.run("true")["run_id"]
    assert f'"run_id": "{quiet}"' not in host.host.log()
    assert f'"run_id": "{loud}"' in host.host.log()


@shows("admission.policy")
def _(host: Reloaded) -> None:
    _second_starts(host, {"admission__policy": '"one-at-a-time"'}, {})


@shows("admission.max_jobs")
def _(host: Reloaded) -> None:
    _second_starts(host, {"admission__max_jobs": "1"}, {"admission__max_jobs": "2"})


def _second_starts(host: Reloaded, narrow: dict[str, str], wide: dict[str, str]) -> None:
    go = host.fleet.directory / "both"
    go.unlink(missing_ok=True)
    wait = f"while [ ! -e {go} ]; do sleep 0.1; done"
    host.reload(**narrow)
    first = host.send(wait)
    host.fleet.events.wait(first, "started")
    second = host.send(wait)
    wait_for(lambda: health(host.address)[1]["waiting_for"], "it is full")
    assert not host.fleet.events.of(second, "started")
    host.reload(**wide)
    host.fleet.events.wait(second, "started")
    go.touch()
    host.fleet.events.wait_ended([first, second])


@shows("admission.hold")
def _(host: Reloaded) -> None:
    go = host.fleet.directory / "held"
    first = host.send(f"while [ ! -e {go} ]; do sleep 0.1; done", overlap="wait")
    host.fleet.events.wait(first, "started")
    second = host.send("true", overlap="wait")
    wait_for(lambda: health(host.address)[1]["held"] == 1, "the second is held")
    host.reload(admission__hold='"0.2s"')
    # Whoever is held already is handed back by the new time, not by the minute that it came under.
    wait_for(lambda: "run_handed_back" in host.host.log(), "it is handed back", 30, host.host.log)
    go.touch()
    host.fleet.events.wait_ended([first, second], within=60)


@shows("jobs")
def _(host: Reloaded) -> None:
    host.reload('[jobs.told]\ncommand = "echo declared"\n')
    host.fleet.send({"job": "told", "run_id": "told"})
    [event] = host.fleet.events.wait_ended(["told"])
    assert event["data"]["output"]["tail"] == "declared\n"
    folder = host.host.config.parent / "jobs.d"
    folder.mkdir()
    (folder / "more.toml").write_text('command = "echo from a file"\n')
    host.reload()
    host.fleet.send({"job": "more", "run_id": "more"}, {"job": "told", "run_id": "gone"})
    more, gone = host.fleet.events.wait_ended(["more", "gone"])
    assert more["data"]["output"]["tail"] == "from a file\n"
    assert gone["data"]["reason"] == "invalid"
    # A bad file among them is refused like a bad configuration, and the jobs stay.
    (folder / "bad.toml").write_text('comand = "echo"\n')
    host.host.signal(signal.SIGHUP)
    wait_for(lambda: "bad.toml" in host.host.log(), "the bad file is named", detail=host.host.log)
    host.fleet.send({"job": "more", "run_id": "stays"})
    assert host.fleet.events.wait_ended(["stays"])[0]["data"]["outcome"] == "succeeded"
    assert "bad.toml" in health(host.address)[1]["reload"]
    (folder / "bad.toml").unlink()
    host.reload()
    assert health(host.address)[1]["reload"] == ""


# -- the policy "resources": what is on offer, and what a job counts for

OFFERS: tuple[tuple[str, str, str, dict[str, Any]], ...] = (
    ("cpu", "0.5", "8", {"cpu": 4}),
    ("memory", '"1M"', '"2G"', {"memory": "1G"}),
    ("reserve_cpu", "1000", "0", {"cpu": 1}),
    ("reserve_memory", '"900G"', '"0"', {"memory": "256M"}),
    ("max_load", "0.000001", "1.0", {}),
    ("named", "{ }", "{ db_slots = 2 }", {"db_slots": 1}),
)
COUNTS = (
    ("default_cpu", "2", "0.1", {"admission__resources__cpu": "2"}),
    ("default_memory", '"1G"', '"1M"', {"admission__resources__memory": '"1G"', "admission__resources__cpu": "8"}),
)
MEASURED = {"admission__policy": '"resources"', "admission__resources__max_load": "1.0"}


def _offer(key: str, narrow: str, wide: str, asked: dict[str, Any]) -> Show:
    """What does not fit under the narrow value runs after the reload."""

    def show(host: Reloaded) -> None:
        name = f"admission__resources__{key}"
        host.reload(**MEASURED | {name: narrow})
        host.reload(**MEASURED | {name: wide})
        assert host.run("true", resources=asked).get("outcome") == "succeeded"

    return show


def _count(key: str, narrow: str, wide: str, more: dict[str, str]) -> Show:
    """Two jobs that say nothing do not go together under the narrow value, and do after the reload."""
    name = f"admission__resources__{key}"
    return lambda host: _second_starts(host, MEASURED | more | {name: narrow}, MEASURED | more | {name: wide})


for _key, _narrow, _wide, _asked in OFFERS:
    JOBS[f"admission.resources.{_key}"] = _offer(_key, _narrow, _wide, _asked)
for _key, _narrow, _wide, _more in COUNTS:
    JOBS[f"admission.resources.{_key}"] = _count(_key, _narrow, _wide, _more)


@on_stand_in
def test_a_job_runs_by_the_values_of_the_last_reload(fleet: Fleet) -> None:
    """One agent, key after key; between two of them everything is as it was at first."""
    host = Reloaded(fleet)
    host.start()
    for key, show in JOBS.items():
        host.reload()
        try:
            show(host)
        except AssertionError as error:
            raise AssertionError(f"{key}: {error}") from error
    assert host.host.agent.poll() is None


# -- keys that want a host of their own


@on_stand_in
def test_queue_wait(fleet: Fleet, proxy: Proxy) -> None:
    fleet.endpoint = proxy.endpoint
    host = Reloaded(fleet, **{"queue.wait": '"20s"'})
    host.start()
    before = proxy.count("ReceiveMessage")
    host.reload(queue__wait='"1s"')
    fleet.send({"job": "a", "run_id": "wakes", "command": "true"})  # ends the poll of 20 s
    wait_for(lambda: proxy.count("ReceiveMessage") >= before + 6, "polls are short", 15, host.host.log)


@on_stand_in
def test_queue_on_lost_lease(fleet: Fleet, proxy: Proxy) -> None:
    fleet.endpoint = proxy.endpoint
    host = Reloaded(fleet, **{"queue.visibility": '"10s"'})
    host.start()
    run_id = host.send("sleep 300")
    fleet.events.wait(run_id, "started")
    host.reload(queue__on_lost_lease='"kill"')
    proxy.fail(1.0, "ChangeMessageVisibilityBatch")
    [event] = fleet.events.wait_ended([run_id], within=60)
    assert event["data"]["outcome"] == "interrupted"
    proxy.heal()


@on_stand_in
def test_output_flush_of_a_run_that_goes_on(fleet: Fleet) -> None:
    host = Reloaded(fleet, **{"output.cloudwatch.flush": '"1m"'})
    host.start()
    one, two = fleet.directory / "one", fleet.directory / "two"
    wait = "while [ ! -e {} ]; do sleep 0.1; done"
    run_id = host.send(f"echo a; {wait.format(one)}; echo b; {wait.format(two)}")
    fleet.wait_lines("shown", run_id, ["a"])
    host.reload(output__cloudwatch__flush='"0.1s"')
    one.touch()
    fleet.wait_lines("shown", run_id, ["a", "b"], within=30)
    two.touch()
    fleet.events.wait_ended([run_id])


@on_stand_in
def test_output_retention_of_a_group_made_later(fleet: Fleet, aws: Aws) -> None:
    host = Reloaded(fleet)
    host.start()
    host.reload(output__cloudwatch__retention_days="7")
    host.run("echo first output of all")

    def retention() -> list[int | None]:
        groups = aws.logs.describe_log_groups(logGroupNamePrefix="/cron-runner/test")["logGroups"]
        return [group.get("retentionInDays") for group in groups]

    wait_for(lambda: retention() == [7], "the retention is set", 30, lambda: f"{retention()}")


@on_stand_in
def test_agent_on_stop(fleet: Fleet) -> None:
    host = Reloaded(fleet)
    host.start()
    mark = f"{fleet.directory}/on-stop"
    run_id = host.send(f"sleep 300; : {mark}")
    fleet.events.wait(run_id, "started")
    host.reload(agent__on_stop='"leave"')
    assert host.host.stop() == 0
    assert processes_of(mark)


@on_stand_in
def test_agent_drain_timeout(fleet: Fleet) -> None:
    host = Reloaded(fleet)
    host.start()
    run_id = host.send("sleep 300")
    fleet.events.wait(run_id, "started")
    host.reload(agent__drain_timeout='"0.2s"')
    assert host.host.stop() == 0, host.host.log()
    [event] = fleet.events.wait_ended([run_id])
    assert event["data"]["outcome"] == "interrupted"


def test_run_allowed_secrets_and_output_mask_short(fleet: Fleet, aws: Aws) -> None:
    with closing(client("ssm", aws.endpoint)) as ssm:
        ssm.put_parameter(Name="/prod/pin", Value="q7%z!", Type="SecureString")
    host = Reloaded(fleet)
    host.start()
    asked = {"secrets": {"PIN": "ssm:/prod/pin"}}
    assert host.run("true", **asked)["reason"] == "not_allowed"
    host.reload(run__allowed_secrets='["ssm:/prod/*"]')
    assert host.run("true", **asked)["outcome"] == "start_failed"
    host.reload(run__allowed_secrets='["ssm:/prod/*"]', output__mask_short="false")
    assert host.run("true", **asked)["outcome"] == "succeeded"


# -- what is said


@on_stand_in
def test_what_cannot_change_is_said_and_does_not_hinder_the_rest(fleet: Fleet) -> None:
    with Systemd(fleet.directory) as systemd:
        host = Reloaded(fleet)
        host.host.environment |= systemd.environment()
        host.start()
        # Its pages are there before it is ready, and a reload by then is no business of systemd's.
        wait_for(lambda: systemd.said("READY"), "the agent is ready", detail=host.host.log)
        host.reload(group='"other"', run__env='{ SHOWN = "yes" }', queue__visibility='"1m"')
        data = host.run("echo $SHOWN")
        assert (data["output"]["tail"], data["group"]) == ("yes\n", "test")
        assert '"keys": ["group", "queue.visibility"]' in host.host.log()
        status, page = health(host.address)
        assert status == 200
        assert page["reload"] in page["notes"]
        assert page["reload"] == "restart to change group, queue.visibility"
        # It stays so until the file and what is in force are the same again.
        host.reload(group='"other"')
        assert health(host.address)[1]["reload"] == "restart to change group"
        # A bad file: nothing of it is taken, and the one before stays in force.
        host.write(run__env='{ SHOWN = "no" }', run__timeot='"1h"')
        host.host.signal(signal.SIGHUP)
        wait_for(lambda: "reload_refused" in host.host.log(), "it is refused", detail=host.host.log)
        assert host.says("echo [$SHOWN]") == "[]\n"
        assert "timeot" in health(host.address)[1]["reload"]
        told = [fields for _, fields in systemd.told if {"READY", "RELOADING"} & fields.keys()]
        assert [sorted(fields) for fields in told] == [
            ["READY", "STATUS"],
            *([["MONOTONIC_USEC", "RELOADING"], ["READY", "STATUS"]] * 3),
        ]
        assert "refused" in told[-1]["STATUS"]
        # The next restart takes the file as it is by then.
        host.write(group='"other"')
        assert host.host.stop() == 0
        host.start()
        assert host.run("true")["group"] == "other"
