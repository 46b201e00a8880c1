"""Secrets of jobs: fetched, given to the job, masked, and found nowhere else."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import signal
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from runner.aws.table import Table

from aws import client
from waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from runner.aws.session import Session

    from aws import Aws
    from faults import Proxy
    from fleet import Fleet, Host

PARAMETER = "zebra-Quartz-4711-parameter"
SHORT = "q7%z!"
KEY = "walrus-Onyx-0815-key"
PEM = "-----BEGIN THING-----\nMIIEkangaroo0123456789\nQ0platypus987654321\n-----END THING-----"
VALUES = (PARAMETER, KEY, "MIIEkangaroo0123456789", "Q0platypus987654321")

JOBS = '''
[jobs.tell]
command = """
echo "db=$DB_PASSWORD key=$API_KEY"; echo "$PEM"
printf 'cut %s' "$DB_PASSWORD" | dd bs=1 2>/dev/null; echo
exit $(cat FAIL)
"""
retries = {max = 3, backoff = "WAIT"}
[jobs.tell.secrets]
DB_PASSWORD = "ssm:/prod/db"
API_KEY = "secretsmanager:prod/api#key"
PEM = "secretsmanager:prod/pem"
'''
TOLD = ["db=*** key=***", "***", "***", "***", "***", "cut ***"]


@pytest.fixture
def stores(aws: Aws) -> Iterator[None]:
    """Both stores, with three secrets."""
    ssm, manager = client("ssm", aws.endpoint), client("secretsmanager", aws.endpoint)
    ssm.put_parameter(Name="/prod/db", Value=PARAMETER, Type="SecureString")
    ssm.put_parameter(Name="/prod/short", Value=SHORT, Type="SecureString")
    manager.create_secret(Name="prod/api", SecretString=json.dumps({"key": KEY, "port": 5432, "none": None}))
    manager.create_secret(Name="prod/pem", SecretString=PEM)
    manager.create_secret(Name="prod/binary", SecretBinary=b"\0\1\2")
    yield
    ssm.close()
    manager.close()


def forms(values: tuple[str, ...] = VALUES) -> list[bytes]:
    """Each value as it is, and in base64 at each of the three places it can have there."""
    found = []
    for value in values:
        data = value.encode()
        found.append(data)
        for shift in range(3):
            whole = base64.b64encode(b"\0" * shift + data)
            found.append(whole[4 if shift else 0 : -4])
    return found


def traces_in(data: bytes) -> list[bytes]:
    return [form for form in forms() if form in data]


def files(host: Host, directory: Path) -> Iterator[tuple[str, bytes]]:
    for path in [*directory.rglob("*"), *host.runtime.rglob("*")]:
        if path.is_file():
            yield str(path), path.read_bytes()


def memory_files(pids: list[int]) -> Iterator[tuple[str, bytes]]:
    """What another user, and root too, reads of these processes beside their memory."""
    for pid in pids:
        for name in ("environ", "cmdline", "comm", "status", "maps", "mountinfo"):
            yield f"/proc/{pid}/{name}", Path(f"/proc/{pid}/{name}").read_bytes()


@pytest.mark.usefixtures("stores")
def test_a_secrets_value_is_found_nowhere(fleet: Fleet, cloud: Session) -> None:
    asyncio.run(Table(cloud, "cron").make())
    fail = fleet.directory / "fail"
    fail.write_text("3")
    host = fleet.host(
        more=JOBS.replace("FAIL", str(fail)).replace("WAIT", "4s"),
        visibility="10s",
        CRON_RUNNER_AGENT__CLOUDWATCH_LOG_GROUP="/agent/log",
        CRON_RUNNER_FLEET__TABLE="cron",
    )
    host.start()
    fleet.send({"job": "tell", "run_id": "r1"})
    first = fleet.events.wait("r1", "finished")
    assert (first["data"]["outcome"], first["data"]["will_retry"]) == ("failed", True)
    look(host, fleet)
    host.kill()  # in its backoff
    look(host, fleet)
    host.start()
    wait_for(lambda: (fleet.events.collect(), len(fleet.events.of("r1", "finished")))[1] >= 2, "its second attempt")
    supervisor = host.supervisor()
    assert supervisor is not None
    look(host, fleet, [host.agent.pid, supervisor])
    fail.write_text("0")
    [ended] = fleet.events.wait_ended(["r1"])
    assert ended["data"]["outcome"] == "succeeded"
    lines = fleet.lines("tell", "r1")
    assert lines[-len(TOLD) :] == TOLD
    assert lines == TOLD * (len(lines) // len(TOLD))
    assert ended["data"]["output"]["tail"].splitlines()[-len(TOLD) :] == TOLD
    for words in (("status", "--json"), ("show", "r1", "--json"), ("logs", "r1"), ("history", "--json")):
        said = host.command(*words)
        assert said.returncode == 0, said.stderr
        assert traces_in(said.stdout.encode()) == []
    look(host, fleet, [host.agent.pid, supervisor])
    host.stop()
    look(host, fleet)


def look(host: Host, fleet: Fleet, pids: list[int] | None = None) -> None:
    """Everything that may be read of a host and of what it told."""
    fleet.events.collect()
    places = dict(files(host, fleet.directory))
    assert any(name.endswith("journal.db") for name in places)
    places |= dict(memory_files(pids or []))
    places["events"] = json.dumps(fleet.events.seen).encode()
    places["log"] = host.log().encode()
    for group in (fleet.log_group, "/agent/log"):
        for stream in fleet.aws.streams(group):
            places[f"stream {group} {stream}"] = "\n".join(fleet.aws.lines(group, stream)).encode()
    table = client("dynamodb", fleet.aws.endpoint)
    places["table"] = json.dumps(table.scan(TableName="cron")["Items"], default=str).encode()
    table.close()
    assert b"r1" in places["table"]
    found = {name: traces for name, data in places.items() if (traces := traces_in(data))}
    assert not found
    journal = host.state / "journal.db"
    with closing(sqlite3.connect(f"file:{journal}?mode=ro", uri=True)) as connection:
        assert traces_in("\n".join(connection.iterdump()).encode()) == []
    for pid in pids or ():
        assert not dumps(pid), f"a core of {pid} would be written"


def dumps(pid: int) -> bool:
    """Whether its files below /proc are its own user's still: those of a process that is never dumped are root's, which
    tells only where it is not root's itself. As root its memory is asked of a user who is nobody."""
    if os.geteuid() != 0:
        return Path(f"/proc/{pid}/environ").stat().st_uid != 0
    code = f"import os; os.setgid(65534); os.setuid(65534); open('/proc/{pid}/environ','rb').read()"
    return subprocess.run(["python3", "-c", code], capture_output=True, check=False).returncode == 0


def declared(name: str, reference: str, more: str = "", command: str = 'echo "got $IT"') -> str:
    return f"\n[jobs.{name}]\ncommand = '{command}'\n{more}\nsecrets = {{ IT = \"{reference}\" }}\n"


WHY = {
    "no-parameter": ("ssm:/prod/none", "there is no such parameter"),
    "no-secret": ("secretsmanager:prod/none", "there is no such secret"),
    "no-key": ("secretsmanager:prod/api#nokey", 'its JSON has no key "nokey"'),
    "no-text": ("secretsmanager:prod/api#none", 'what its JSON has as "none" is no text'),
    "no-json": ("secretsmanager:prod/pem#key", "it is no JSON object"),
    "binary": ("secretsmanager:prod/binary", "it is binary"),
    "short": ("ssm:/prod/short", "it has fewer than 6 characters"),
    "short-key": ("secretsmanager:prod/api#port", "it has fewer than 6 characters"),
}


@pytest.mark.usefixtures("stores")
def test_a_secret_that_cannot_be_had_is_named(fleet: Fleet) -> None:
    jobs = "".join(declared(name, reference) for name, (reference, _) in WHY.items())
    host = fleet.host(more=jobs + declared("good", "ssm:/prod/db"), max_jobs=20)
    host.start()
    fleet.send(*({"job": name, "run_id": name} for name in (*WHY, "good")))
    ended = fleet.events.wait_ended([*WHY, "good"])
    for event, (reference, why) in zip(ended, WHY.values(), strict=False):
        data = event["data"]
        assert (data["outcome"], data["exit_code"]) == ("start_failed", 126)
        assert data["reason"].startswith(f"secret {reference}: {why}"), data["reason"]
    assert ended[-1]["data"]["output"]["tail"] == "got ***\n", "whoever else stands in the same call"
    texts = json.dumps(fleet.events.seen) + host.log()
    assert SHORT not in texts
    assert not traces_in(texts.encode())


@pytest.mark.usefixtures("stores")
def test_what_a_message_may_name(fleet: Fleet) -> None:
    host = fleet.host(more='\n[run]\nallowed_secrets = ["ssm:/prod/*"]\n[output]\nmask_short = false\n', max_jobs=20)
    text = host.config.read_text()
    if "run.user" in text:  # dotted keys and a table of one section do not go together
        host.config.write_text(
            text.replace("[run]\nallowed_secrets", "")
            .replace(' = ["ssm:/prod/*"]\n', "")
            .replace("run.user", 'run.allowed_secrets = ["ssm:/prod/*"]\nrun.user')
        )
    host.start()
    command = 'echo "got $A $B"'
    may, short = {"A": "ssm:/prod/db"}, {"A": "ssm:/prod/db", "B": "ssm:/prod/short"}
    fleet.send(
        {"job": "may", "run_id": "may", "command": command, "secrets": may, "env": {"A": "not this"}},
        {"job": "short", "run_id": "short", "command": command, "secrets": short},
        {"job": "not", "run_id": "not", "command": command, "secrets": {"A": "ssm:/prod/db", "B": "ssm:/dev/db"}},
        {"job": "no", "run_id": "no", "command": command, "secrets": {"A": PARAMETER}},
    )
    may_, short_, not_, no_ = fleet.events.wait_ended(["may", "short", "not", "no"])
    assert may_["data"]["output"]["tail"] == "got *** \n"
    assert short_["data"]["output"]["tail"] == f"got *** {SHORT}\n"
    assert not_["data"]["reason"] == "not_allowed"
    assert not_["data"]["detail"].startswith('secrets.B: "ssm:/dev/db" may not be named by a message')
    assert no_["data"]["reason"] == "invalid"
    assert no_["data"]["detail"].startswith("secrets.A: names no store of secrets")
    assert not traces_in(json.dumps(fleet.events.seen).encode())


@pytest.mark.usefixtures("stores")
def test_an_outage_of_a_store_holds_up_only_those_who_need_it(fleet: Fleet, proxy: Proxy) -> None:
    fleet.endpoint = proxy.endpoint
    host = fleet.host(
        more=declared("needs", "ssm:/prod/db") + declared("other", "secretsmanager:prod/api#key"),
        max_jobs=0,
        CRON_RUNNER_ADMISSION__POLICY="one-at-a-time",
    )
    proxy.swallow("GetParameters")
    host.start()
    fleet.send({"job": "needs", "run_id": "needs"})
    wait_for(lambda: "needs" in host.command("status", "--json").stdout, "it is here")
    fleet.send({"job": "other", "run_id": "other"}, {"job": "plain", "run_id": "plain", "command": "echo plain"})
    for event in fleet.events.wait_ended(["other", "plain"]):
        assert event["data"]["outcome"] == "succeeded"
    standing = json.loads(host.command("status", "--run", "needs", "--json").stdout)
    assert standing["phase"] == "accepted"
    assert "secret ssm:/prod/db" in standing["waits_for"]
    # It comes back into a host that is full: it waits for its turn, and has it before those who came later.
    go = fleet.directory / "go"
    fleet.send({"job": "long", "run_id": "long", "command": f"while [ ! -e {go} ]; do sleep 0.1; done"})
    fleet.events.wait("long", "started")
    proxy.heal()
    wait_for(
        lambda: "one-at-a-time" in json.loads(host.command("status", "--run", "needs", "--json").stdout)["waits_for"],
        "it has its secret and waits for room",
    )
    fleet.send({"job": "later", "run_id": "later", "command": "echo later"})
    assert fleet.events.of("needs") == []
    go.touch()
    needs, later = fleet.events.wait_ended(["needs", "later"])
    assert needs["data"]["output"]["tail"] == "got ***\n"
    assert needs["data"]["finished_at"] <= later["data"]["started_at"]


@pytest.mark.usefixtures("stores")
def test_a_run_waits_for_its_secret_as_long_as_it_has_patience(fleet: Fleet, proxy: Proxy) -> None:
    fleet.endpoint = proxy.endpoint
    host = fleet.host(more=declared("patient", "ssm:/prod/db", "timeout = 4") + declared("denied", "ssm:/prod/db"))
    proxy.fail(1.0, "GetParameters")
    host.start()
    fleet.send({"job": "patient", "run_id": "patient"})
    [ended] = fleet.events.wait_ended(["patient"])
    assert ended["data"]["outcome"] == "start_failed"
    assert ended["data"]["reason"].startswith("secret ssm:/prod/db: ")
    assert proxy.count("GetParameters") > 1
    proxy.heal()
    proxy.deny("GetParameters")
    fleet.send({"job": "denied", "run_id": "denied"})
    [ended] = fleet.events.wait_ended(["denied"])
    assert ended["data"]["outcome"] == "start_failed"
    assert ended["data"]["reason"].startswith("secret ssm:/prod/db: no permission (ssm:GetParameters): ")


@pytest.mark.usefixtures("stores")
def test_a_supervisor_that_replaces_itself_goes_on_masking(fleet: Fleet) -> None:
    go = fleet.directory / "go"
    tell = f'printf "%s" "$(echo "$IT" | head -c 9)"; while [ ! -e {go} ]; do sleep 0.1; done; echo "$IT" | tail -c +10'
    host = fleet.host(more=declared("half", "ssm:/prod/db", command=tell.replace("'", '"')))
    host.start()
    fleet.send({"job": "half", "run_id": "half"})
    fleet.events.wait("half", "started")
    supervisor = host.supervisor()
    assert supervisor is not None
    for _ in range(2):  # and once more, from what was handed over
        said = host.log().count("supervisor_connected")
        os.kill(supervisor, signal.SIGHUP)
        wait_for(lambda said=said: host.log().count("supervisor_connected") > said, "it is new")  # type: ignore[misc]
    go.touch()
    [ended] = fleet.events.wait_ended(["half"])
    assert ended["data"]["output"]["tail"] == "***\n"
    assert not [name for name, data in files(host, fleet.directory) if traces_in(data)]


@pytest.mark.usefixtures("stores")
def test_run_once_and_check(fleet: Fleet) -> None:
    host = fleet.host(more=declared("tell", "ssm:/prod/db") + declared("short", "ssm:/prod/short"))
    message = '{"job": "tell", "run_id": "r1"}'
    ran = host.command("run-once", "--message", "-", stdin=message)
    assert (ran.returncode, ran.stdout) == (0, "got ***\n"), ran.stderr
    dry = host.command("run-once", "--message", "-", "--dry-run", "--json", stdin=message)
    assert json.loads(dry.stdout)["secrets"] == {"IT": "ssm:/prod/db"}
    offline = host.command("run-once", "--message", "-", "--offline", stdin=message)
    assert offline.returncode == 126
    assert "secret ssm:/prod/db: --offline asks no AWS" in offline.stderr
    checked = json.loads(host.command("check", "--json").stdout)
    about = {one["detail"].split()[0]: one for one in checked if one["name"] == "secret"}
    assert {name: one["status"] for name, one in about.items()} == {"ssm:/prod/db": "ok", "ssm:/prod/short": "failed"}
    for said in (ran, dry, offline):
        assert not traces_in((said.stdout + said.stderr).encode())
    assert not traces_in(json.dumps(checked).encode())
