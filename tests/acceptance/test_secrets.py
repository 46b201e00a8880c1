"""Secrets of jobs: fetched, given to the job, masked, and found nowhere else."""

from __future__ import annotations

import base64
import json
import os
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from aws import client
from waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aws import Aws
    from fleet import Fleet, Host

PARAMETER = "zebra-Quartz-4711-parameter"
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
    ssm.put_parameter(Name="/prod/short", Value="12345", Type="SecureString")
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
def test_a_secrets_value_is_found_nowhere(fleet: Fleet) -> None:
    fail = fleet.directory / "fail"
    fail.write_text("3")
    host = fleet.host(
        more=JOBS.replace("FAIL", str(fail)).replace("WAIT", "4s"),
        visibility="10s",
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
    for stream in fleet.aws.streams(fleet.log_group):
        places[f"stream {stream}"] = "\n".join(fleet.aws.lines(fleet.log_group, stream)).encode()
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
