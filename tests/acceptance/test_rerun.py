"""`rerun` and parameters on a host: real messages, signed and not, through a real queue."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from runner.protocol import signed

from signers import pair, public_pem

if TYPE_CHECKING:
    from fleet import Fleet, Host

pytestmark = [pytest.mark.timeout(120), pytest.mark.parametrize("aws_server", ["standin"], indirect=True)]


def rerun(host: Host, run_id: str, status: int = 0) -> str:
    done = host.command("rerun", run_id, "--note", "once more")
    assert done.returncode == status, done.stderr
    return done.stdout.strip() if status == 0 else done.stderr


def test_a_run_is_run_again_as_it_was_sent(fleet: Fleet) -> None:
    key = fleet.directory / "ops.pem"
    key.write_bytes(public_pem())
    jobs = (
        '[jobs.load]\ncommand = \'echo "$1 of $DAY"\'\n[jobs.load.params.table]\nto = "arg"\n'
        '[jobs.load.params.day]\ntype = "date"\ndefault = "2030-01-31"\n'
    )
    host = fleet.host(more=f'[[signing.keys]]\nfile = "{key}"\n{jobs}')
    host.start()
    due = "2030-01-31T03:00:00Z"
    fleet.send({"job": "plain", "run_id": "p1", "command": "echo $A $CRON_RUNNER_SCHEDULED_AT", "env": {"A": "secret"},
                "scheduled_at": due, "labels": {"team": "a"}})  # fmt: skip
    fleet.send({"job": "load", "run_id": "d1", "args": ["users"], "env": {"DAY": "2031-01-01"}})
    envelope = signed.sign({"job": "sealed", "group": "test", "command": "echo sealed $A", "env": {"A": "1"}}, pair())
    fleet.send({**envelope, "run": {"run_id": "s1", "labels": {"team": "b"}}})
    fleet.send(signed.sign({"job": "one", "group": "test", "command": "true", "run_id": "o1"}, pair()))
    fleet.wait_lines("sealed", "s1", ["sealed 1"])
    fleet.wait_lines("load", "d1", ["users of 2031-01-01"])

    started = fleet.events.wait("p1", "started")["data"]
    assert (started["message"]["env"], started["masked"]) == ({"A": "***"}, ["env.A"])
    assert fleet.events.wait("d1", "started")["data"]["message"]["env"] == {"DAY": "2031-01-01"}
    assert fleet.events.wait("s1", "started")["data"]["message"] == envelope

    again = rerun(host, "p1")
    lines = fleet.events.wait(again, "finished")["data"]
    assert lines["output"]["tail"].split() == ["secret", "2030-01-31T03:00:00.000000Z"]
    assert (lines["labels"]["rerun_of"], lines["labels"]["team"]) == ("p1", "a")
    assert fleet.events.wait(rerun(host, "d1"), "finished")["data"]["output"]["tail"] == "users of 2031-01-01\n"
    again = rerun(host, "s1")
    ended = fleet.events.wait(again, "finished")["data"]
    assert (ended["outcome"], ended["labels"]["rerun_of"], ended["labels"]["team"]) == ("succeeded", "s1", "b")
    assert fleet.events.wait(again, "started")["data"]["signed_by"] == pair().keyid
    assert ended["labels"]["triggered-by"]
    fleet.events.wait("o1", "finished")
    assert "run.run_id: the signed payload says something else" in rerun(host, "o1", 1)
    assert "does not know it" in rerun(host, "nobody", 1)
    trail = json.loads(host.command("history", "--audit", "--json").stdout)
    assert ("rerun", "s1", f"done: {again}") in {(one["op"], one["subject"], one["result"]) for one in trail}


def test_a_parameter_that_does_not_fit_is_no_run(fleet: Fleet) -> None:
    host = fleet.host(
        more='run.commands = "declared"\n[jobs.load]\ncommand = ["echo"]\n[jobs.load.params.day]\n'
        'type = "date"\nto = "arg"\n'
    )
    host.start()
    for run_id, args in (("bad", ["--help"]), ("none", []), ("two", ["2030-01-31", "x"]), ("good", ["2030-01-31"])):
        fleet.send({"job": "load", "run_id": run_id, "args": args})
    fleet.wait_lines("load", "good", ["2030-01-31"])
    for run_id, said in (("bad", "args[0]: begins with -"), ("none", "args[0]: is missing"), ("two", "args: are 2")):
        assert said in fleet.events.wait(run_id, "rejected")["data"]["detail"]
