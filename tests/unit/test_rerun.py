"""A run once more: the message that is made of its job, what of it others are told, and what is sent of that."""

from __future__ import annotations

import json
from typing import Any

import pytest

from runner.agent.reporting.message import message_of, told
from runner.control.definition import JobDefinition, run_id_at
from runner.control.rerun import Again, CannotRerun, again
from runner.protocol import signed
from runner.protocol.job import Defaults, Job
from runner.protocol.message import parse_declaration, read_job
from runner.protocol.resending import LARGEST_KEPT, resent, with_run
from runner.protocol.shorten import shorten
from runner.protocol.units import format_time

from signers import GROUP, NOW, pair, trust

DEFAULTS = Defaults(env={"TZ": "UTC"}, group=GROUP, allowed_users=("app",))
REDACT = ("*PASSWORD*",)
DUE = NOW - 7200.0
SAID: dict[str, Any] = {
    "job": "load",
    "command": ["load", "--all"],
    "env": {"MODE": "full"},
    "user": "app",
    "umask": "0027",
    "timeout": 60.0,
    "retries": {"max": 2, "backoff": 1.0, "factor": 2.0, "max_backoff": 5.0},
    "limits": {"memory": 1 << 20},
    "success": {"exit_codes": [0, 3], "fail_on": ["ERROR"], "require": []},
    "overlap": "wait",
    "stdin": "text",
}


def job_of(message: dict[str, Any], **known: Any) -> Job:
    return read_job(
        json.dumps(message), message_id="m", **{"defaults": DEFAULTS, "declarations": {}, "trust": None, **known}
    )


def test_what_is_made_of_a_job_is_the_message_that_it_came_from() -> None:
    assert message_of(job_of(SAID), None, DEFAULTS) == SAID
    plain = {"job": "x", "command": "echo $A | wc"}
    assert message_of(job_of(plain), None, DEFAULTS) == plain
    declared = {
        "load": parse_declaration(
            "load", {"command": ["load"], "allow_env": ["A"], "params": {"day": {"to": "arg"}, "n": {"default": "1"}}}
        )
    }
    sent = {"job": "load", "args": ["x"], "env": {"A": "1", "N": "7"}}
    assert message_of(job_of(sent, declarations=declared), declared["load"], DEFAULTS) == sent


def test_others_are_told_no_value_of_an_environment_that_is_neither_signed_nor_declared() -> None:
    job = job_of({"job": "x", "command": "go --key hunter22", "env": {"MODE": "full", "DB_PASSWORD": "hunter22"}})
    assert told(job, None, DEFAULTS, ["hunter22"], REDACT) == {
        "message": {"job": "x", "command": "go --key ***", "env": {"MODE": "***", "DB_PASSWORD": "***"}},
        "masked": ["command", "env.MODE", "env.DB_PASSWORD"],
    }
    declaration = parse_declaration("x", {"command": "go", "allow_env": ["MODE", "DB_PASSWORD"]})
    job = job_of({"job": "x", "env": {"MODE": "full", "DB_PASSWORD": "hunter22"}}, declarations={"x": declaration})
    assert told(job, declaration, DEFAULTS, ["hunter22"], REDACT) == {
        "message": {"job": "x", "env": {"MODE": "full", "DB_PASSWORD": "***"}},
        "masked": ["env.DB_PASSWORD"],
    }
    assert told(job_of({"job": "x", "command": "go"}), None, DEFAULTS, [], REDACT) == {
        "message": {"job": "x", "command": "go"}
    }


def test_what_is_too_large_is_told_by_its_size() -> None:
    job = job_of({"job": "x", "command": "true", "stdin": "x" * LARGEST_KEPT})
    assert told(job, None, DEFAULTS, [], REDACT) == {"message": None, "message_bytes": LARGEST_KEPT + 44}
    data: dict[str, Any] = {"message": {"command": ["x" * 300_000]}, "labels": {}}
    shorten({"data": data}, data)
    assert (data["message"], data["message_bytes"] > 300_000) == (None, True)


def test_a_signed_message_is_told_as_it_is_or_not_at_all() -> None:
    envelope = signed.sign({"job": "x", "group": GROUP, "command": "go", "env": {"MODE": "full"}}, pair())
    job = job_of({**envelope, "run": {"run_id": "r1"}}, trust=trust())
    assert told(job, None, DEFAULTS, [], REDACT) == {"message": envelope}
    assert told(job, None, DEFAULTS, ["full"], REDACT) == {"message": None, "masked": ["payload"]}
    secret = signed.sign({"job": "x", "group": GROUP, "command": "go", "env": {"A_PASSWORD": "hunter22"}}, pair())
    job = job_of(secret, trust=trust())
    assert told(job, None, DEFAULTS, [], REDACT) == {"message": None, "masked": ["env.A_PASSWORD"]}
    assert Job.from_json(job.to_json()) == job  # as the journal keeps it


def test_a_signed_message_is_sent_again_under_another_id_and_is_still_good() -> None:
    envelope = signed.sign({"job": "x", "group": GROUP, "command": "go", "labels": {"team": "a"}}, pair())
    once_more = with_run(resent(envelope, {"team": "a", "rerun_of": "r1"}, DUE), run_id="r2")
    assert once_more["payload"] == envelope["payload"]
    job = job_of(once_more, trust=trust())
    assert (job.run_id, job.labels, job.scheduled_at) == ("r2", {"team": "a", "rerun_of": "r1"}, DUE)


def of_table(
    started: dict[str, Any] | None, job: JobDefinition | None = None, run_id: str = "r1", due: float | None = DUE
) -> Again:
    run = {
        "run_id": run_id,
        "group": GROUP,
        "job": "load",
        "host": "web-1",
        "labels": {"team": "a"},
        "scheduled_at": None if due is None else format_time(due),
    }
    attempts = [{"started": {"pid": 1, **started}}] if started is not None else [{"ended": {}}]
    return again(run, attempts, job, now=NOW, by="me")


def kept(message: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"message": json.dumps(message), **more}


def test_a_message_of_the_table_is_sent_as_it_was() -> None:
    made = of_table(kept(SAID))
    sent = json.loads(made.body)
    assert (made.source, made.job, made.run_id) == ("table", "load", sent.pop("run_id"))
    assert sent.pop("labels") == {"team": "a", "rerun_of": "r1", "triggered-by": "me"}
    assert sent.pop("scheduled_at") == format_time(DUE)
    assert sent == SAID


@pytest.mark.parametrize(
    ("started", "said"),
    [
        (kept({"job": "load"}, masked=["env.A", "env.B"]), "env.A, env.B masked; do it on web-1: cron-runner rerun r1"),
        ({"message_bytes": 70_000}, "has 70000 bytes, and the table keeps 65536"),
        ({"masked": ["payload"]}, "payload masked"),
        ({}, "does not have its message, and its job was never applied"),
        (None, "does not have its message"),
        (kept(signed.sign({"job": "load", "run_id": "r1"}, pair())), "was signed for that one run id; sign it anew"),
        (
            kept(signed.sign({"job": "load", "valid_until": "2029-01-01T00:00:00Z"}, pair())),
            "was good until 2029-01-01T00:00:00Z; sign it anew",
        ),
    ],
)
def test_what_cannot_be_rerun_says_why_and_what_to_do(started: dict[str, Any] | None, said: str) -> None:
    with pytest.raises(CannotRerun) as why:
        of_table(started)
    assert said in str(why.value)


def test_the_applied_job_serves_where_it_is_the_same_message() -> None:
    job = JobDefinition(
        GROUP, "load", message={"command": "go", "env": {"A": "1"}}, schedule="@hourly", changed_at=DUE - 1
    )
    masked = kept({"job": "load"}, masked=["env.A"])
    made = of_table(masked, job, run_id_at("load", DUE))
    sent = json.loads(made.body)
    assert (made.source, sent["env"], sent["scheduled_at"]) == ("definition", {"A": "1"}, format_time(DUE))
    with pytest.raises(CannotRerun, match="or run the job as it is now: cron-runner jobs trigger load"):
        of_table(masked, job, "by-hand")
    changed = JobDefinition(GROUP, "load", message={"command": "go"}, schedule="@hourly", changed_at=DUE + 1)
    with pytest.raises(CannotRerun):
        of_table(masked, changed, run_id_at("load", DUE))
    assert of_table(None, changed, due=None).source == "definition"  # nothing was told: it never started
