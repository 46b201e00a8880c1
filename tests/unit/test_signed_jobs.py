"""Jobs as files, signed when they are applied: what is sent of them later is what people have signed, by whoever."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from runner.cli.central.jobs_shown import signature_words
from runner.control.applying.eventbridge import SCHEDULED_TIME, request_for
from runner.control.applying.files import LARGEST_MESSAGE, read_files
from runner.control.applying.plan import plan
from runner.control.applying.signing_plan import LASTS_S, with_signatures
from runner.control.backfill import messages
from runner.control.definition import GroupDefinition, JobDefinition, changed, group_of, job_of, message_at
from runner.control.signatures import signature_in
from runner.control.timetable.timing import Timing
from runner.control.trigger import triggered
from runner.errors import JobFilesInvalid
from runner.protocol.invalid import InvalidMessage

from signers import GROUP, NOW, pair, taken, trust, trusted

OPS, NEXT = pair("ops"), pair("next", "p256")
WEB = GroupDefinition(GROUP, "https://sqs.example/1/cron-web")
NIGHTLY = JobDefinition(
    GROUP, "nightly", {"command": "true", "labels": {"team": "a"}}, schedule="30 17 * * *", timezone="UTC"
)
DUE = 1_899_999_000.0  # 2030-03-17T17:30:00Z, 1000 s before NOW
FRESH = trust(trusted(OPS), require=True, fresh=True)


def applied(
    job: JobDefinition, *there: JobDefinition, signer: Any = OPS, now: float = NOW, **said: Any
) -> JobDefinition:
    [made] = with_signatures([job], there, {GROUP: WEB}, signer, now=now, **said)
    return made


SIGNED = applied(NIGHTLY)


def keyid(job: JobDefinition) -> str:
    signature = signature_in(job.signed)
    return signature.keyid if signature is not None else ""


def test_a_signature_lasts_while_the_job_says_the_same() -> None:
    assert keyid(SIGNED) == OPS.keyid
    for signer in (None, OPS):
        assert applied(NIGHTLY, SIGNED, signer=signer) == SIGNED
    again = replace(NIGHTLY, owner="anna", enabled=False, retention=60.0)  # nobody signs these
    assert applied(again, SIGNED, signer=None).signed == SIGNED.signed


@pytest.mark.parametrize(
    "change", [{"message": {"command": "false"}}, {"schedule": "0 4 * * *"}, {"timezone": "Europe/Berlin"}]
)
def test_what_is_changed_without_a_key_is_signed_by_nobody(change: Any) -> None:
    new = replace(NIGHTLY, **change)
    assert applied(new, SIGNED, signer=None).signed == ""
    assert keyid(applied(new, SIGNED)) == OPS.keyid
    for required in ({"required": (GROUP,)}, {}):
        groups = {GROUP: WEB if required else replace(WEB, keys=(OPS.keyid,))}
        with pytest.raises(JobFilesInvalid, match="--key"):
            with_signatures([new], [SIGNED], groups, None, now=NOW, **required)


def test_another_key_and_a_signature_half_over_are_signed_anew() -> None:
    assert keyid(applied(NIGHTLY, SIGNED, signer=NEXT)) == NEXT.keyid
    assert applied(NIGHTLY, SIGNED, now=NOW + LASTS_S / 2 - 1) == SIGNED
    later = applied(NIGHTLY, SIGNED, now=NOW + LASTS_S / 2)
    assert later.says()["signed_until"] > SIGNED.says()["signed_until"]


def test_a_key_that_the_group_does_not_know_signs_nothing_for_it() -> None:
    with pytest.raises(JobFilesInvalid, match=NEXT.keyid):
        with_signatures([NIGHTLY], [], {GROUP: replace(WEB, keys=(OPS.keyid,))}, NEXT, now=NOW)
    large = replace(NIGHTLY, message={"command": "true", "stdin": "x" * (LARGEST_MESSAGE - 100)})
    with pytest.raises(JobFilesInvalid, match="signed; the most"):
        applied(large)


def test_the_plan_shows_who_signs() -> None:
    [change] = plan(Files((SIGNED,)), [replace(NIGHTLY, revision=1)], {GROUP: WEB}, prune=False).changes
    assert [name for name, *_ in change.fields] == ["signed_by", "signed_until"]
    assert plan(Files((SIGNED,)), [SIGNED], {GROUP: WEB}, prune=False).changes == ()


class Files:
    """What files ask for."""

    def __init__(self, jobs: tuple[JobDefinition, ...]) -> None:
        self.jobs, self.groups = jobs, ()


def test_the_table_keeps_it_and_knows_what_was_there_before_signatures() -> None:
    saved = changed(None, SIGNED, by="anna", now=NOW)
    assert job_of(json.loads(json.dumps(saved.item()))) == saved
    assert "signed" not in NIGHTLY.item()
    assert job_of(json.loads(json.dumps(changed(None, NIGHTLY, by="x", now=NOW).item()))).signed == ""
    known = replace(WEB, keys=(OPS.keyid,))
    assert group_of(json.loads(json.dumps(known.item()))) == known
    assert "keys" not in WEB.item()
    assert known.unusual()["keys"] == [OPS.keyid]


def test_the_scheduler_passes_on_what_a_host_takes_at_that_time_and_no_other() -> None:
    job = taken(message_at(SIGNED, DUE), FRESH)
    assert (job.run_id, job.signed_by, job.labels) == ("nightly-2030-03-17T17-30-00Z", OPS.keyid, {"team": "a"})
    for wrong in (DUE - 60, DUE - 86_400):
        with pytest.raises(InvalidMessage):
            taken(message_at(SIGNED, wrong), FRESH)
    with pytest.raises(InvalidMessage):
        taken(message_at(NIGHTLY, DUE), FRESH)


def test_eventbridge_scheduler_passes_it_on_too() -> None:
    group = replace(WEB, fire="eventbridge", role="arn:aws:iam::1:role/x")
    [job] = with_signatures([NIGHTLY], [], {GROUP: group}, OPS, now=NOW)
    request = request_for(job, group, "arn:aws:sqs:eu-west-1:1:cron-web", now=NOW)
    sent = request["Target"]["Input"].replace(SCHEDULED_TIME, "2030-03-17T17:30:00Z")
    assert taken(sent, FRESH).run_id == "nightly-2030-03-17T17-30-00Z"
    signature = signature_in(job.signed)
    assert signature is not None
    assert signature.says["schedule"] == "cron(30 17 * * ? *)"  # its own changes of the clock
    # The other way to fire has another schedule, so it is signed anew.
    assert with_signatures([NIGHTLY], [job], {GROUP: WEB}, None, now=NOW)[0].signed == ""


def test_a_trigger_passes_it_on_and_with_a_key_signs_that_run() -> None:
    run_id, body = triggered(SIGNED, now=NOW, by="anna")
    job = taken(body, trust(trusted(OPS), require=True))
    assert (job.run_id, job.labels) == (run_id, {"team": "a", "triggered-by": "anna"})
    with pytest.raises(InvalidMessage):
        taken(body, FRESH)
    run_id, body = triggered(NIGHTLY, now=NOW, by="anna", signer=OPS)
    job = taken(body, FRESH)
    assert (job.run_id, job.labels) == (run_id, {"team": "a", "triggered-by": "anna"})


def test_a_backfill_passes_it_on_and_with_a_key_signs_each_run() -> None:
    week_ago = DUE - 7 * 86_400
    assert messages(SIGNED, [DUE], None, now=NOW) == [("nightly-2030-03-17T17-30-00Z", message_at(SIGNED, DUE))]
    [(_, late)] = messages(SIGNED, [week_ago], None, now=NOW)
    with pytest.raises(InvalidMessage, match="within the last hour"):
        taken(late, FRESH)
    [(run_id, body)] = messages(NIGHTLY, [week_ago], OPS, now=NOW)
    job = taken(body, FRESH)
    assert (job.run_id, job.scheduled_at) == (run_id, week_ago)


def test_a_signed_splay_is_waited_for() -> None:
    late = applied(replace(NIGHTLY, timing=Timing(splay=7200.0)))
    two_hours_ago = replace(late, schedule="30 15 * * *")
    assert taken(message_at(applied(two_hours_ago), DUE - 7200), FRESH).run_id == "nightly-2030-03-17T15-30-00Z"
    with pytest.raises(InvalidMessage):
        taken(message_at(applied(replace(two_hours_ago, timing=Timing())), DUE - 7200), FRESH)


def test_a_job_that_nobody_signed_is_sent_as_it_always_was() -> None:
    said = {"job": "nightly", "run_id": "nightly-2030-03-17T17-30-00Z", "scheduled_at": "2030-03-17T17:30:00Z"}
    assert message_at(NIGHTLY, DUE) == json.dumps({**said, **NIGHTLY.message})
    assert json.loads(triggered(NIGHTLY, now=NOW, by="anna")[1])["labels"] == {"team": "a", "triggered-by": "anna"}


def test_a_list_says_what_is_not_signed_and_by_keys_that_are_known_no_more() -> None:
    jobs = [NIGHTLY, SIGNED]
    assert signature_words([NIGHTLY], {GROUP: WEB}, None, NOW) == [""]
    assert signature_words(jobs, {GROUP: WEB}, None, NOW) == ["", OPS.keyid]
    known = {GROUP: replace(WEB, keys=(OPS.keyid,))}
    assert signature_words(jobs, known, None, NOW) == ["nobody: not signed", OPS.keyid]
    assert signature_words(jobs, {GROUP: WEB}, (GROUP, frozenset({OPS.keyid})), NOW)[1] == OPS.keyid
    assert signature_words(jobs, {GROUP: WEB}, (GROUP, frozenset({NEXT.keyid})), NOW)[1] == f"{OPS.keyid}: unknown key"
    assert signature_words(jobs, {GROUP: WEB}, ("db", frozenset()), NOW)[0] == ""
    assert signature_words(jobs, known, None, NOW + LASTS_S)[1] == f"{OPS.keyid}: over"


def test_a_file_names_the_keys_of_a_group(tmp_path: Path) -> None:
    file = tmp_path / "jobs.toml"
    text = '[groups.web]\nqueue = "https://sqs.example/1/x"\nkeys = ["{}"]\n[jobs.a]\ngroup = "web"\ncommand = "true"\n'
    file.write_text(text.format(OPS.keyid))
    files = read_files([file])
    assert files.groups[0].keys == (OPS.keyid,)
    assert files.jobs[0].message == {"command": "true"}  # the group is not said twice
    file.write_text(text.format("OPS"))
    with pytest.raises(JobFilesInvalid, match="keys show"):
        read_files([file])
