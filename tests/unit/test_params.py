"""Parameters: what may be said of a job when it is started, checked by who starts it and by the host."""

from __future__ import annotations

import datetime
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.cli.central.jobs_trigger import asked
from runner.control.applying.files import read_files
from runner.control.definition import JobDefinition, job_of, message_at
from runner.control.signatures import sign
from runner.control.trigger import triggered
from runner.errors import CronRunnerError, JobFilesInvalid
from runner.protocol import params
from runner.protocol.job import Defaults
from runner.protocol.message import InvalidMessage, parse_declaration, read_job
from runner.web.asked import form_change

from signers import pair

DAY = {"type": "date", "default": "2030-01-31"}
KINDS: dict[str, dict[str, Any]] = {
    "day": DAY,
    "table": {"type": "string", "pattern": "[a-z_.]+", "to": "arg", "default": "all"},
    "rows": {"type": "integer", "to": "arg", "default": 100},
    "mode": {"type": "choice", "choices": ["full", "part"], "default": "part"},
}


def host_job(body: dict[str, Any], tables: dict[str, Any] | None = None, command: object = "run") -> Any:
    """The job of a message on a host that declares it, and nothing else may run."""
    declared = parse_declaration("load", {"command": command, "params": tables or KINDS})
    text = json.dumps({"job": "load", **body})
    return read_job(
        text, message_id="m", defaults=Defaults(commands="declared"), declarations={"load": declared}, trust=None
    )


def refused(body: dict[str, Any], tables: dict[str, Any] | None = None) -> InvalidMessage:
    with pytest.raises(InvalidMessage) as told:
        host_job(body, tables)
    return told.value


def test_a_host_fills_in_what_a_message_leaves_out() -> None:
    job = host_job({}, command=["load", "-v"])
    assert job.argv == ("load", "-v", "all", "100")
    assert job.env == {"DAY": "2030-01-31", "MODE": "part"}
    job = host_job({"args": ["users"], "env": {"DAY": "2031-12-24"}}, command=["load", "-v"])
    assert (job.argv[2:], job.env["DAY"], job.env["MODE"]) == (("users", "100"), "2031-12-24", "part")
    shell = host_job({"args": ["users", "7"]}, command='load "$1" "$2"')
    assert shell.argv == ("/bin/sh", "-c", 'load "$1" "$2"', "load", "users", "7")


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"env": {"DAY": "2030-02-30"}}, "env.DAY: is no value of the parameter day; give a day as YYYY-MM-DD"),
        ({"env": {"DAY": "20300101"}}, "env.DAY: is no value"),
        ({"env": {"DAY": "2030-01-01\n"}}, "env.DAY: holds a line's end"),
        ({"env": {"DAY": "2030-01-01\0"}}, "env.DAY: holds a NUL byte"),
        ({"env": {"MODE": "none"}}, "env.MODE: is no value of the parameter mode; give one of full, part"),
        ({"env": {"MODE": "x" * 5000}}, "env.MODE: has 5000 characters"),
        ({"args": ["-rf"]}, "args[0]: begins with -"),
        ({"args": ["--table=x"]}, "args[0]: begins with -"),
        ({"args": ["users; rm x"]}, "args[0]: is no value of the parameter table"),
        ({"args": ["users\n--all"]}, "args[0]: holds a line's end"),
        ({"args": ["users\0"]}, "args[0]: holds a NUL byte"),
        ({"args": ["users", "1e3"]}, "args[1]: is no value of the parameter rows; give a whole number"),
        ({"args": ["users", "-5"]}, "args[1]: begins with -"),
    ],
)
def test_a_value_that_does_not_fit_is_refused_by_its_place(body: dict[str, Any], said: str) -> None:
    error = refused(body)
    assert (error.reason, error.detail.startswith(said)) == ("invalid", True), error.detail


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"args": ["users", "5", "more"]}, "args: are 3, and [jobs.load] has parameters for 2"),
        ({"env": {"OTHER": "x"}}, "env.OTHER: [jobs.load] does not allow it"),
        ({"env": {"day": "2030-01-01"}}, "env.day: [jobs.load] does not allow it"),
        ({"params": {"day": "2030-01-01"}}, 'unknown field "params"'),
    ],
)
def test_nothing_but_the_parameters_can_be_said(body: dict[str, Any], said: str) -> None:
    assert said in refused(body).detail


def test_what_has_no_default_must_be_given() -> None:
    tables = {"day": {"type": "date"}, "table": {"to": "arg"}}
    error = refused({}, tables)
    assert len(error.faults) == 2
    assert "env.DAY: is missing: the parameter day has no default" in error.detail
    assert host_job({"args": ["t"], "env": {"DAY": "2030-01-01"}}, tables).argv[-1] == "t"


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"day": {"type": "dote"}}, 'params.day.type: unknown type "dote", did you mean "date"?'),
        ({"day": {"tpye": "date"}}, 'params.day: unknown field "tpye", did you mean "type"?'),
        ({"day": "2030-01-01"}, "params.day: is a string"),
        ({"1st": {}}, "params.1st: is no parameter's name"),
        ({"day": {"to": "stdin"}}, "params.day.to: unknown place"),
        ({"day": {"type": "date", "default": "soon"}}, "params.day.default: is no value"),
        ({"day": {"default": "-x", "to": "arg"}}, "params.day.default: begins with -"),
        ({"day": {"type": "choice"}}, "params.day.choices: is missing"),
        ({"day": {"type": "choice", "choices": []}}, "params.day.choices: are 0"),
        ({"day": {"type": "integer", "choices": [1, "x"]}}, "params.day.choices[1]: is no value"),
        ({"day": {"pattern": "("}}, "params.day.pattern: not a regular expression of google-re2"),
        ({"day": {"pattern": r"[\pL\pN]{1,300}"}}, "params.day.pattern: the pattern is too large when compiled"),
        ({"path": {}}, "params.path: would set PATH"),
        ({"ld-preload": {}}, "params.ld-preload: would set LD_PRELOAD"),
        ({"pythonpath": {}}, "params.pythonpath: would set PYTHONPATH"),
        ({"a-b": {}, "a_b": {}}, "params.a_b: is A_B as a-b is"),
        ({f"p{n}": {} for n in range(33)}, "params: are 33; give at most 32"),
    ],
)
def test_a_faulty_parameter_is_refused_by_its_name(table: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidMessage) as told:
        parse_declaration("load", {"command": "x", "params": table})
    assert said in told.value.detail


def test_parameters_and_what_they_would_stand_beside() -> None:
    for table, said in (
        ({"allow_args": True}, "allow_args: the parameters"),
        ({"env": {"DAY": "x"}}, "env.DAY: is what a parameter sets"),
    ):
        with pytest.raises(InvalidMessage) as told:
            parse_declaration("load", {"command": "x", "params": KINDS, **table})
        assert said in told.value.detail


@given(st.text(max_size=60), st.sampled_from(sorted(KINDS)))
def test_whatever_is_given_is_one_word_in_its_place_or_refused(value: str, name: str) -> None:
    (of, *_) = [one for one in params.parse("params", KINDS) if one.name == name]
    body = {"env": {of.variable: value}} if of.to == "env" else {"args": ["all", value] if name == "rows" else [value]}
    try:
        job = host_job(body, command=["load"])
    except InvalidMessage:
        return
    assert len(job.argv) == 3
    assert set(job.env) == {"DAY", "MODE"}
    assert not any(word.startswith("-") for word in job.argv)
    got = job.env.get(of.variable) or job.argv[2 if name == "rows" else 1]
    assert got == value
    assert value.isprintable()


def applied(text: str, tmp_path: Any) -> JobDefinition:
    path = tmp_path / "jobs.toml"
    path.write_text(text)
    (job,) = read_files([path]).jobs
    return job


FILE = """
[jobs.load]
group = "web"
command = ["load", "-v"]
schedule = "0 3 * * *"
[jobs.load.params.day]
type = "date"
default = 2030-01-31
[jobs.load.params.table]
to = "arg"
pattern = "[a-z_.]+"
default = "all"
[jobs.load.params.rows]
type = "integer"
to = "arg"
default = 100
"""


def test_a_file_s_parameters_are_in_the_table_and_in_each_message(tmp_path: Any) -> None:
    job = applied(FILE, tmp_path)
    assert job_of(job.item()) == job
    assert list(job_of(job.item()).says()["params"]) == ["day", "table", "rows"]
    assert job.params[0].default == "2030-01-31"
    fired = json.loads(message_at(job, 1_900_000_000.0))
    assert (fired["command"], fired["env"]) == (["load", "-v", "all", "100"], {"DAY": "2030-01-31"})
    _, body = triggered(job, now=1.0, by="me", params={"table": "users", "day": "2031-01-01"})
    sent = json.loads(body)
    assert (sent["command"], sent["env"]) == (["load", "-v", "users", "100"], {"DAY": "2031-01-01"})
    with pytest.raises(InvalidMessage) as told:
        triggered(job, now=1.0, by="me", params={"tabel": "x", "day": "today"})
    assert len(told.value.faults) == 2
    assert 'unknown parameter "tabel", did you mean "table"?' in told.value.detail


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("default = 2030-01-31", "", "params.day.default: is missing, and its schedule or parents have nobody"),
        ('command = ["load", "-v"]', 'command = "load"', "params: go to a list of words"),
        ('command = ["load", "-v"]', 'args = ["x"]', "args: the parameters"),
        ('group = "web"', 'group = "web"\nenv = {DAY = "x"}', "env.DAY: is what the parameter day sets"),
    ],
)
def test_a_file_s_parameters_that_cannot_be(old: str, new: str, said: str, tmp_path: Any) -> None:
    with pytest.raises(JobFilesInvalid) as told:
        applied(FILE.replace(old, new), tmp_path)
    assert said in str(told.value)


def test_a_signed_job_takes_other_values_only_signed(tmp_path: Any) -> None:
    signer = pair()
    job = applied(FILE, tmp_path)
    signed = JobDefinition(
        job.group, job.name, message=job.message, params=job.params, signed=sign(dict(job.sent()), signer, until=9e9)
    )
    _, body = triggered(signed, now=1.0, by="me", labels={"rerun_of": "r1"})
    assert json.loads(body)["run"]["labels"] == {"triggered-by": "me", "rerun_of": "r1"}
    with pytest.raises(CronRunnerError, match="--key"):
        triggered(signed, now=1.0, by="me", params={"table": "users"})
    _, body = triggered(signed, now=1.0, by="me", params={"table": "users"}, signer=signer)
    assert "payload" in json.loads(body)


class Terminal:
    """Answers line by line."""

    def __init__(self, *lines: str) -> None:
        self._lines = list(lines)

    def readline(self) -> str:
        return self._lines.pop(0) + "\n" if self._lines else ""


def test_a_person_is_asked_until_it_fits(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    found = params.parse("params", {**KINDS, "who": {"pattern": "[a-z]+"}})
    monkeypatch.setattr("sys.stdin", Terminal("someday", "2031-01-01", "", "", "full", "me"))
    assert asked(found, {}) == {"day": "2031-01-01", "mode": "full", "who": "me"}
    shown = capsys.readouterr()
    assert "day (a day as YYYY-MM-DD) [2030-01-31]: " in shown.err
    assert shown.out == ""
    monkeypatch.setattr("sys.stdin", Terminal("me"))  # some were given: asked for is only what must be
    assert asked(found, {"day": "2031-01-01"}) == {"day": "2031-01-01", "who": "me"}
    monkeypatch.setattr("sys.stdin", Terminal())
    with pytest.raises(CronRunnerError, match="--param who=VALUE"):
        asked(found, {"day": "2031-01-01"})


def test_a_form_s_empty_field_is_not_given() -> None:
    change, _ = form_change("run", {"note": "n", "param.day": "2031-01-01", "param.rows": ""}, group="web", job="load")
    assert change.more == {"params": {"day": "2031-01-01"}}


def test_a_default_may_be_written_as_its_type() -> None:
    day, number = params.parse("params", {"d": {"default": datetime.date(2030, 1, 1)}, "n": {"default": 5}})
    assert (day.default, number.default) == ("2030-01-01", "5")
