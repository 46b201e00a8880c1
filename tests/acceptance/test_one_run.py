"""`status --run`: in which phase one run is, what it waits for, and what is owed for it still."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from waiting import wait_for

if TYPE_CHECKING:
    from faults import Proxy
    from fleet import Fleet, Host

pytestmark = [
    pytest.mark.timeout(180),
    pytest.mark.parametrize("aws_server", ["standin"], indirect=True),
]


def shown(host: Host, run_id: str) -> dict[str, Any]:
    done = host.command("status", "--run", run_id, "--json")
    assert done.stdout, done.stderr
    return dict(json.loads(done.stdout))


def wait_phase(host: Host, run_id: str, phase: str, **also: Any) -> dict[str, Any]:
    def there() -> dict[str, Any] | None:
        seen = shown(host, run_id)
        return seen if {"phase": phase, **also}.items() <= seen.items() else None

    return wait_for(there, f"{run_id} is {phase}", detail=host.log)


def test_each_phase_says_what_it_waits_for_and_owes(fleet: Fleet) -> None:
    host = fleet.host(more='admission.hold = "10m"\n')
    host.start()
    fleet.send({"job": "hang", "run_id": "r1", "command": "exec sleep 2000"})
    fleet.send({"job": "hang", "run_id": "r2", "command": "exec sleep 2000", "overlap": "wait"})
    fleet.events.wait("r1", "started")
    ran = wait_phase(host, "r1", "running")
    assert re.fullmatch(r"the end of its process, pid \d+", ran["waits_for"])
    assert ran["owes"] == ["message"]
    held = wait_phase(host, "r2", "waiting")
    assert (held["waits_for"], held["owes"]) == ("overlap: waits for run r1 of hang", ["message"])
    host.command("cancel", "--all")
    ended = wait_phase(host, "r1", "ended", owes=[])
    assert (ended["waits_for"], ended["outcome"]) == ("", "cancelled")
    text = host.command("status", "--run", "r1").stdout
    assert re.fullmatch(
        r"run r1 of hang\n  phase      ended, attempt 1\n  outcome    cancelled: cancelled by \S+\n"
        r"  waits for  nothing\n  owes       nothing\n",
        text,
    )


def test_a_retry_says_when_it_is_due(fleet: Fleet) -> None:
    host = fleet.host()
    host.start()
    fleet.send({"job": "bad", "run_id": "r1", "command": "exit 3", "retries": {"max": 3, "backoff": "1h"}})
    fleet.events.wait("r1", "finished")
    seen = wait_phase(host, "r1", "backoff")
    assert re.fullmatch(r"its next attempt, due 20\d\d-\S+Z", seen["waits_for"])
    assert seen["owes"] == ["message"]


def test_what_is_owed_while_aws_takes_nothing_and_after_a_restart(fleet: Fleet, proxy: Proxy) -> None:
    fleet.endpoint = proxy.endpoint
    host = fleet.host()
    host.start()
    fleet.send({"job": "hang", "run_id": "r1", "command": "exec sleep 2000"})
    fleet.events.wait("r1", "started")
    proxy.fail(1.0, "SendMessageBatch")
    proxy.fail(1.0, "SendMessage")
    host.command("cancel", "r1")
    for again in (False, True):
        if again:
            host.kill()
            host.start()
            wait_for(lambda: host.command("status").returncode == 0, "the agent answers", detail=host.log)
        seen = wait_phase(host, "r1", "ended")
        assert seen["owes"] == ["event", "message"]
        assert seen["waits_for"] == "the results queue to take its last event"
    proxy.heal()
    wait_phase(host, "r1", "ended", owes=[])


def test_a_run_that_is_not_here(fleet: Fleet) -> None:
    host = fleet.host()
    host.start()
    wait_for(lambda: host.command("status").returncode == 0, "the agent answers", detail=host.log)
    done = host.command("status", "--run", "nowhere")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("cron-runner: cannot show run nowhere: this host knows no such run;")
    assert host.command("status", "--run", "r1", "--watch").returncode == 2
