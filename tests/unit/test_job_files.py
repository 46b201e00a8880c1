"""Job files: what they say, and every fault of all of them at once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from runner.control.applying.files import Wanted, read_files
from runner.control.applying.plan import plan
from runner.control.definition import JobDefinition, changed, job_of, message_at, run_id_at
from runner.control.notices.notify import Notify
from runner.control.trigger import triggered
from runner.errors import JobFilesInvalid
from runner.protocol.message import parse_message

TOML = """
[groups.web]
queue = "https://sqs.eu-west-1.amazonaws.com/1/cron-web"
notify = "arn:aws:sns:eu-west-1:123456789012:ops"

[defaults]
group = "web"
timeout = "10m"

[jobs.nightly]
schedule = "0 3 * * *"
timezone = "Europe/Berlin"
command = ["/srv/app/bin/nightly"]
retries = {max = 2, backoff = "30s"}
notify = {to = ["https://hooks.example.com/x"], when = ["failure"]}
retention = "30d"

[jobs.by-hand]
timeout = "1h"
"""
YAML = """
groups:
  web:
    queue: https://sqs.eu-west-1.amazonaws.com/1/cron-web
    notify: arn:aws:sns:eu-west-1:123456789012:ops
defaults: {group: web, timeout: 10m}
jobs:
  nightly:
    schedule: "0 3 * * *"
    timezone: Europe/Berlin
    command: [/srv/app/bin/nightly]
    retries: {max: 2, backoff: 30s}
    notify: {to: ["https://hooks.example.com/x"], when: [failure]}
    retention: 30d
  by-hand:
    timeout: 1h
"""


def write(tmp_path: Path, name: str, text: str) -> Path:
    path = tmp_path / name
    path.write_text(text)
    return path


def test_toml_and_yaml_say_the_same(tmp_path: Path) -> None:
    toml = read_files([write(tmp_path, "jobs.toml", TOML)])
    assert toml == read_files([write(tmp_path, "jobs.yaml", YAML)])
    nightly, by_hand = toml.jobs
    assert (nightly.group, nightly.timezone, nightly.retention) == ("web", "Europe/Berlin", 30 * 86_400)
    assert nightly.notify == Notify(("https://hooks.example.com/x",), ("failure",))
    assert by_hand.message == {"timeout": "1h"}
    assert job_of(nightly.item()) == nightly
    message = parse_message(message_at(nightly, 1_900_000_000.0))
    assert (message.job, message.run_id, message.timeout) == ("nightly", "nightly-2030-03-17T17-46-40Z", 600)


def test_every_fault_of_every_file_is_said_at_once(tmp_path: Path) -> None:
    one = write(
        tmp_path,
        "one.toml",
        """
[groups.web]
que = "x"
[jobs.a]
timout = "5m"
schedule = "61 * * * *"
user = 3
missed = "lats"
[jobs.b]
group = "web"
run_id = "x"
timezone = "Europe/Berlim"
env = {A = 1}
[jobs."c d"]
group = "web"
[job.x]
""",
    )
    two = write(tmp_path, "two.yaml", "jobs:\n  on: {group: web}\n")
    three = write(tmp_path, "three.json", "{}")
    four = write(tmp_path, "four.yaml", "jobs: [")
    with pytest.raises(JobFilesInvalid) as caught:
        read_files([one, two, three, four, tmp_path / "none.toml"])
    text = str(caught.value)
    for said in (
        'groups.web: unknown field "que", did you mean "queue"?',
        "groups.web.queue: is missing",
        'jobs.a: unknown field "timout", did you mean "timeout"?',
        "jobs.a.group: is missing",
        'jobs.a.schedule: "61 * * * *" is not a schedule: bad minute',
        "jobs.a.user: 3 is a number; give a string",
        'unknown policy "lats", did you mean "last"?',
        "jobs.b.run_id: is said when the job fires",
        'did you mean "Europe/Berlin"?',
        "jobs.b.env.A: is a number",
        '"c d" is not a job name',
        'unknown table "job", did you mean "jobs"?',
        "two.yaml: true is no name of a field; put it in quotes",
        "three.json: is neither .toml nor .yaml",
        "four.yaml: ",
        "none.toml: No such file",
    ):
        assert said in text, text


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("jobs:\n  a: {group: web}\n  b: {group: web}\n  a: {group: db}\n", '"a" stands twice, in lines 2 and 4'),
        ("jobs:\n  a: {group: web}\njobs:\n  b: {group: web}\n", '"jobs" stands twice, in lines 1 and 3'),
        (
            "jobs:\n  a:\n    group: web\n    env: {A: x}\n    env:\n      B: y\n",
            '"env" stands twice, in lines 4 and 5',
        ),
        ("jobs:\n  a:\n    group: web\n    env:\n      A: x\n      A: y\n", '"A" stands twice, in lines 5 and 6'),
        ('jobs:\n  a: &x\n    group: web\n    "group": db\n', '"group" stands twice, in lines 3 and 4'),
        ("jobs:\n  a:\n    group: web\n    schedule: */30 * * * *\n", 'stands in quotes, as schedule: "*/30 * * * *"'),
        ("jobs:\n  a:\n    group: web\n    schedule: * * * * *\n", "stands in quotes"),
    ],
)
def test_a_yaml_file_is_read_as_strictly_as_a_toml_file(text: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(JobFilesInvalid) as caught:
        read_files([write(tmp_path, "jobs.yaml", text)])
    assert says in str(caught.value)


def test_anchors_and_merges_of_yaml_are_no_repetition(tmp_path: Path) -> None:
    text = "defaults: &d {group: web, timeout: 5m}\njobs:\n  a: &a {<<: *d, timeout: 6m}\n  b: {<<: *d, command: x}\n"
    assert {job.name: job.message["timeout"] for job in read_files([write(tmp_path, "j.yaml", text)]).jobs} == {
        "a": "6m",
        "b": "5m",
    }


def test_a_job_that_is_there_twice_or_too_long_for_its_runs_is_refused(tmp_path: Path) -> None:
    long = f'[jobs.{"n" * 120}]\ngroup = "web"\nschedule = "@daily"\n'
    path = write(tmp_path, "a.toml", f'[jobs.x]\ngroup = "web"\n{long}')
    with pytest.raises(JobFilesInvalid) as caught:
        read_files([path, write(tmp_path, "b.yaml", "jobs: {x: {group: web}}")])
    assert "jobs.x: is here twice for group web" in str(caught.value)
    assert "shorten it to 107 characters" in str(caught.value)


def test_a_plan_creates_changes_and_prunes_only_what_the_files_are_about() -> None:
    old = [JobDefinition("web", "a", message={"command": "x"})]
    old += [JobDefinition("web", "gone"), JobDefinition("db", "theirs")]
    new = (JobDefinition("web", "a", message={"command": "y"}, owner="ann"), JobDefinition("web", "b"))
    made = plan(Wanted(new, ()), old, {}, prune=False)
    assert [(change.does, change.name) for change in made.changes] == [("change", "web/a"), ("create", "web/b")]
    assert made.changes[0].fields == (("command", "x", "y"), ("owner", None, "ann"))
    assert made.not_in_files == ("web/gone",)
    pruned = plan(Wanted(new, ()), old, {}, prune=True)
    assert [change.name for change in pruned.changes if change.does == "delete"] == ["web/gone"]
    assert plan(Wanted(new[1:], ()), [changed(None, new[1], by="x", now=9.0)], {}, prune=False).changes == ()


def test_a_schedule_counts_from_when_it_was_set_or_enabled() -> None:
    first = changed(None, JobDefinition("web", "a", schedule="@daily"), by="x", now=100.0)
    same = changed(first, JobDefinition("web", "a", schedule="@daily", owner="y"), by="x", now=200.0)
    other = changed(same, JobDefinition("web", "a", schedule="@hourly"), by="x", now=300.0)
    off = changed(other, JobDefinition("web", "a", schedule="@hourly", enabled=False), by="x", now=400.0)
    on = changed(off, JobDefinition("web", "a", schedule="@hourly"), by="x", now=500.0)
    assert [job.since for job in (first, same, other, off, on)] == [100.0, 100.0, 300.0, 400.0, 500.0]
    assert on.revision == 5


def test_a_triggered_run_is_never_taken_for_the_scheduled_one() -> None:
    job = JobDefinition("web", "a", message={"command": "x", "labels": {"a": "b"}})
    run_id, body = triggered(job, now=1_900_000_000.0, by="ann@host")
    assert run_id.startswith("a-2030-03-17T17-46-40Z-")
    assert run_id != run_id_at("a", 1_900_000_000.0)
    assert json.loads(body)["labels"] == {"a": "b", "triggered-by": "ann@host"}
    assert triggered(job, now=0.0, by="x", run_id="again")[0] == "again"
    assert len(triggered(JobDefinition("web", "n" * 128), now=0.0, by="x")[0]) == 128


CHAIN = """
[groups.web]
queue = "https://sqs.eu-west-1.amazonaws.com/1/cron-web"
[defaults]
group = "web"
command = "true"
[jobs.extract]
schedule = "0 3 * * *"
[jobs.prices]
schedule = "0 3 * * *"
[jobs.load]
after = ["extract", "prices"]
[jobs.alarm]
after = "load"
after_when = "failure"
"""


def test_a_job_after_others_needs_no_schedule(tmp_path: Path) -> None:
    wanted = read_files([write(tmp_path, "jobs.toml", CHAIN)])
    jobs = {job.name: job for job in wanted.jobs}
    assert (jobs["load"].after, jobs["load"].after_when) == (("extract", "prices"), "success")
    assert (jobs["alarm"].after, jobs["alarm"].after_when) == (("load",), "failure")
    assert jobs["extract"].after == ()
    for job in wanted.jobs:
        assert job_of(job.item()) == job
    assert jobs["load"].says()["after"] == ["extract", "prices"]
    assert "after" not in jobs["extract"].says()
    assert "after" not in jobs["load"].message, "a host is not told of it"
    assert plan(wanted, wanted.jobs, {group.name: group for group in wanted.groups}, prune=True).changes == ()


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ('after = ["extract", "extract"]', "jobs.load.after: names a job twice"),
        ('after = ["load"]', "jobs.load.after: names the job itself"),
        ('after = ["extract"]\nschedule = "@daily"', "jobs.load.after: fires it"),
        ('after_when = "any"', "jobs.load.after_when: needs `after`"),
        ('after = "extract"\nafter_when = "succes"', 'jobs.load.after_when: unknown way "succes"'),
        ("after = 3", "jobs.load.after: "),
        (f"after = {[f'j{n}' for n in range(51)]}", "jobs.load.after: names 51 jobs; the most is 50"),
    ],
)
def test_what_is_wrong_with_after_is_said_by_its_field(tmp_path: Path, fields: str, said: str) -> None:
    text = f'[jobs.load]\ngroup = "web"\ncommand = "true"\n{fields}\n'
    with pytest.raises(JobFilesInvalid) as caught:
        read_files([write(tmp_path, "jobs.toml", text)])
    assert said in str(caught.value)


def _after(group: str, name: str, *after: str) -> JobDefinition:
    return JobDefinition(group, name, after=after)


@pytest.mark.parametrize(
    ("wanted", "there", "said"),
    [
        ([_after("web", "load", "extrct")], [_after("web", "extract")], 'no job "extrct" in group web; did you mean'),
        ([_after("web", "load", "pay")], [_after("bank", "pay")], '"pay" is a job of group bank'),
        ([_after("web", "a", "b"), _after("web", "b", "a")], [], "circle: a after b after a"),
        # One is in the files, the other one in the table.
        ([_after("web", "a", "c")], [_after("web", "b", "a"), _after("web", "c", "b")], "after"),
    ],
)
def test_a_chain_that_cannot_be_is_refused_by_name(
    wanted: list[JobDefinition], there: list[JobDefinition], said: str
) -> None:
    with pytest.raises(JobFilesInvalid, match=said):
        plan(Wanted(tuple(wanted), ()), there, {}, prune=False)


def test_a_parent_is_not_pruned_from_under_its_child() -> None:
    load, extract = _after("web", "load", "extract"), _after("web", "extract")
    with pytest.raises(JobFilesInvalid, match='no job "extract" in group web'):
        plan(Wanted((load,), ()), [load, extract], {}, prune=True)
    plan(Wanted((load,), ()), [load, extract], {}, prune=False)
    # What is wrong with jobs that these files say nothing of keeps nobody from applying them.
    plan(
        Wanted((extract,), ()),
        [_after("web", "x", "y"), _after("web", "y", "x"), _after("web", "z", "?")],
        {},
        prune=False,
    )
