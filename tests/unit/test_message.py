from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runner.protocol import (
    Declaration,
    Defaults,
    InvalidMessage,
    Job,
    parse_declaration,
    parse_message,
    rejected_body,
    resolve,
)
from runner.protocol.message import Retries, read_job

# A busy machine is slow, not wrong.
PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

DEFAULTS = Defaults()


def job_of(body: object, defaults: Defaults = DEFAULTS, **declared: dict[str, object]) -> Job:
    text = body if isinstance(body, str | bytes) else json.dumps(body)
    declarations = {name: parse_declaration(name, table) for name, table in declared.items()}
    return resolve(parse_message(text), message_id="m-1", defaults=defaults, declarations=declarations)


def job(**given_fields: object) -> Job:
    return job_of({"job": "x", "command": "a", **given_fields})


def refusal(**given_fields: object) -> str:
    with pytest.raises(InvalidMessage) as caught:
        job(**given_fields)
    assert caught.value.reason == "invalid"
    assert caught.value.job == "x"
    return caught.value.detail


@pytest.mark.parametrize(
    ("field", "value", "path"),
    [
        ("version", True, "version"),
        ("version", 1.0, "version"),
        ("version", "1", "version"),
        ("run_id", "", "run_id"),
        ("run_id", 5, "run_id"),
        ("run_id", "x" * 129, "run_id"),
        ("command", [], "command"),
        ("command", [""], "command[0]"),
        ("command", ["a", 5], "command[1]"),
        ("command", "  ", "command"),
        ("command", 5, "command"),
        ("command", "a\0", "command"),
        ("command", {"a": "b"}, "command"),
        ("env", ["A=b"], "env"),
        ("env", {"": "x"}, "env"),
        ("env", {"A=B": "x"}, "env"),
        ("env", {"A": "x\0"}, "env.A"),
        ("env", {"A": None}, "env.A"),
        ("env", {"A": "\ud800"}, "env.A"),
        ("env", {"\ud800": "x"}, "env"),
        ("cwd", "relative", "cwd"),
        ("cwd", "/a\0", "cwd"),
        ("user", 0, "user"),
        ("user", "a\0", "user"),
        ("unix_group", "", "unix_group"),
        ("umask", "999", "umask"),
        ("umask", 512, "umask"),
        ("umask", 22, "umask"),
        ("umask", 0o022, "umask"),
        ("umask", 0, "umask"),
        ("umask", 22.0, "umask"),
        ("umask", -1, "umask"),
        ("umask", True, "umask"),
        ("umask", "7777", "umask"),
        ("nice", 20, "nice"),
        ("nice", 1.5, "nice"),
        ("stdin", 5, "stdin"),
        ("timeout", "0s", "timeout"),
        ("timeout", "forever", "timeout"),
        ("timeout", True, "timeout"),
        ("timeout", 10**400, "timeout"),
        ("grace", -1, "grace"),
        ("stop_signal", "KILL", "stop_signal"),
        ("resources", "512M", "resources"),
        ("resources", {"cpu": "2"}, "resources.cpu"),
        ("resources", {"cpu": -1}, "resources.cpu"),
        ("resources", {"cpu": 10**400}, "resources.cpu"),
        ("resources", {"memory": "-1G"}, "resources.memory"),
        ("resources", {"mem": "1G"}, "resources.mem"),
        ("resources", {"slots": True}, "resources.slots"),
        ("limits", {"memory": 0}, "limits.memory"),
        ("limits", {"cpu": 0}, "limits.cpu"),
        ("limits", {"pids": 0}, "limits.pids"),
        ("limits", {"procs": 5}, "limits"),
        ("retries", -1, "retries"),
        ("retries", "3", "retries"),
        ("retries", {"backoff": "1s"}, "retries.max"),
        ("retries", {"max": 1.5}, "retries.max"),
        ("retries", {"max": 1, "factor": 0.5}, "retries.factor"),
        ("retries", {"max": 1, "backoff": "1h", "max_backoff": "1m"}, "retries.max_backoff"),
        ("overlap", "queue", "overlap"),
        ("success", {"exit_codes": []}, "success.exit_codes"),
        ("success", {"exit_codes": [True]}, "success.exit_codes[0]"),
        ("success", {"exit_codes": 0}, "success.exit_codes"),
        ("success", {"fail_on": "x"}, "success.fail_on"),
        ("success", {"fail_on": [""]}, "success.fail_on[0]"),
        ("success", {"fail_on": ["(\n\x1b"]}, "success.fail_on[0]"),
        ("success", {"fail_on": ["x" * 17_000]}, "success.fail_on"),
        ("success", {"fail_on": ["x"] * 65}, "success.fail_on"),
        ("resources", {"": 1}, "resources"),
        ("success", {"require": ["(?=x)"]}, "success.require[0]"),
        ("success", {"require": ["((a{1000}){1000}){1000}"]}, "success.require[0]"),
        ("no_output_timeout", 0, "no_output_timeout"),
        ("min_duration", "x", "min_duration"),
        ("scheduled_at", 1767225600, "scheduled_at"),
        ("not_after", "tomorrow", "not_after"),
        ("ack", "never", "ack"),
        ("labels", {"a": 1}, "labels.a"),
        ("labels", ["a"], "labels"),
        ("args", ["a"], "args"),
    ],
)
def test_faults_name_their_field(field: str, value: object, path: str) -> None:
    detail = refusal(**{field: value})
    assert detail.startswith(f"{path}: "), detail
    assert detail.isprintable()


TEN = {
    "timout": 5,
    "run_id": "",
    "command": [5],
    "cwd": "here",
    "umask": 22,
    "stop_signal": "KILL",
    "retries": {"max": -1, "backof": "1s"},
    "success": {"exit_codes": [256], "fail_on": "x"},
    "env": {"CRON_RUNNER_X": "", "A": 5},
    "labels": {"a": 1, "b": 2},
    "resources": {"cpu": -1, "memory": "x", "slots": True},
    "args": ["a", 1],
}
PATHS = """field "timout"|run_id|command[0]|cwd|umask|unknown signal|retries.max|retries: unknown field "backof"
success.exit_codes[0]|success.fail_on|env: "CRON_RUNNER_X"|env.A|labels.a|labels.b|resources.cpu|resources.memory
resources.slots|args[1]""".replace("\n", "|").split("|")


def test_a_message_tells_all_its_faults_at_once() -> None:
    with pytest.raises(InvalidMessage) as caught:
        job_of({"job": "not a name", **TEN})
    detail = caught.value.detail
    for path in [*PATHS, "job: "]:
        assert path in detail, path
    assert detail.startswith('job: "not a name" is not a job name')
    assert len(caught.value.faults) == len(PATHS) + 1


def test_also_what_the_host_misses() -> None:
    with pytest.raises(InvalidMessage) as caught:
        read_job('{"job":"x","args":[],"nice":99}', message_id="m", defaults=DEFAULTS, declarations={})
    assert [fault.partition(":")[0] for fault in caught.value.faults] == ["nice", "command", "args"]
    with pytest.raises(InvalidMessage) as caught:
        read_job('{"job":"x","user":"root","nice":-5}', message_id="m", defaults=DEFAULTS, declarations={})
    assert [fault.partition(":")[0] for fault in caught.value.faults] == ["user", "nice"]
    with pytest.raises(InvalidMessage) as caught:
        job_of({"job": "x", "cwd": "/", "user": "u", "args": [], "env": {"A": "", "B": ""}}, x={"command": "a"})
    assert caught.value.reason == "not_allowed"
    assert [fault.partition(":")[0] for fault in caught.value.faults] == ["cwd", "user", "args", "env.A", "env.B"]


def test_a_field_that_was_misspelt_is_not_missing_too() -> None:
    for body in ('{"jop":"x","command":"a"}', '{"job":"x","comand":"a"}'):
        with pytest.raises(InvalidMessage, match="did you mean") as caught:
            read_job(body, message_id="m", defaults=DEFAULTS, declarations={})
        assert len(caught.value.faults) == 1


def test_a_declaration_tells_all_its_faults_at_once() -> None:
    with pytest.raises(InvalidMessage) as caught:
        parse_declaration("x", {"run_id": "r", "timeout": 0, "allow_env": ["*", 5]})
    said = [fault.partition(":")[0] for fault in caught.value.faults]
    assert said == ["timeout", "allow_env[0]", "allow_env[1]", "run_id", "command"]


@pytest.mark.parametrize("field", ["run_id", "cwd", "timeout", "env", "resources", "labels", "retries", "success"])
def test_null_is_no_value(field: str) -> None:
    assert refusal(**{field: None}).startswith(f"{field}: ")


@pytest.mark.parametrize("value", ["hunter22", 12345678, ["hunter22"], {"A": {"B": "hunter22"}}])
def test_no_env_value_is_in_an_error(value: object) -> None:
    for detail in (refusal(env=value), refusal(env={"PASSWORD": [value]})):
        assert "hunter22" not in detail
        assert "12345678" not in detail


@pytest.mark.parametrize(("value", "mask"), [("022", 0o22), ("0o27", 0o27), ("0", 0), ("77", 0o77), ("0777", 0o777)])
def test_umask(value: object, mask: int) -> None:
    assert job(umask=value).umask == mask


@pytest.mark.parametrize(
    ("given_id", "run_id"),
    [("a:b", "a-b"), ("..", "-."), (".hidden", "-hidden"), ("ü" * 128, "-" * 128), ("a\0b\ud7ff", "a-b-")],
)
def test_run_id_alphabet(given_id: str, run_id: str) -> None:
    assert job(run_id=given_id).run_id == run_id


@PATIENT
@given(st.text(min_size=1, max_size=128).filter(lambda text: "<aws.scheduler." not in text))
def test_mapped_run_ids_are_names_of_files_and_stay_as_they_are(given_id: str) -> None:
    run_id = job(run_id=given_id).run_id
    assert len(run_id) == len(given_id)
    assert not set(run_id) & set("/:*\n\0 ")
    assert not run_id.startswith(".")
    assert job(run_id=run_id).run_id == run_id


def test_retries_wait_longer_each_time_and_never_overflow() -> None:
    retries = job(retries={"max": 5}).retries
    assert [retries.delay(n) for n in (1, 2, 3, 5, 6, 10_000)] == [30, 60, 120, 480, 600, 600]
    assert Retries(max=1, backoff=0.0).delay(99_999) in (0.0, 600.0)


def test_a_long_backoff_raises_the_unsaid_cap() -> None:
    assert job(retries={"max": 1, "backoff": "1h"}).retries.delay(1) == 3600


def test_empty_user_is_the_default() -> None:
    assert job_of({"job": "x", "command": "a", "user": ""}, Defaults(user="jobs")).user == "jobs"
    assert job_of({"job": "x", "command": "a", "user": "jobs"}, Defaults(user="jobs")).user == "jobs"
    assert job_of({"job": "x"}, Defaults(user="jobs"), x={"command": "a", "user": ""}).user == "jobs"


def test_a_declared_user_must_be_allowed_too() -> None:
    with pytest.raises(InvalidMessage, match="allowed_users") as caught:
        job_of({"job": "x"}, x={"command": "a", "user": "root"})
    assert caught.value.reason == "not_allowed"
    assert caught.value.run_id == "m-1"


def test_what_root_could_lend_to_anybody_is_asked_of_the_host() -> None:
    """A nice below zero takes time from all others: only [run] min_nice allows it, to declared jobs too."""
    for nice in (-20, -1):
        with pytest.raises(InvalidMessage, match="min_nice") as caught:
            job_of({"job": "x", "command": "a", "nice": nice})
        assert caught.value.reason == "not_allowed"
    with pytest.raises(InvalidMessage, match="min_nice"):
        job_of({"job": "x"}, x={"command": "a", "nice": -1})
    assert job_of({"job": "x", "command": "a", "nice": 0}).nice == 0
    assert job_of({"job": "x", "command": "a", "nice": -5}, Defaults(min_nice=-5)).nice == -5
    with pytest.raises(InvalidMessage, match="2 is below 3"):
        job_of({"job": "x", "command": "a", "nice": 2}, Defaults(min_nice=3))


def test_declared_shell_gets_arguments_as_words() -> None:
    resolved = job_of({"job": "x", "args": ["a b"]}, x={"command": 'echo "$@"', "allow_args": True})
    assert resolved.argv == ("/bin/sh", "-c", 'echo "$@"', "x", "a b")
    assert resolved.command == 'echo "$@"'


def test_no_args_are_no_arguments() -> None:
    declared: dict[str, object] = {"command": ["echo"], "args": ["all"], "allow_args": True}
    assert job_of({"job": "x", "args": []}, x=declared).argv == ("echo",)


CLOSED = {
    "command": "b", "cwd": "/", "user": "", "unix_group": "g", "umask": "022", "nice": 1, "stdin": "", "timeout": 1,
    "grace": 0, "stop_signal": "INT", "resources": {}, "limits": {}, "retries": 0, "overlap": "allow", "success": {},
    "no_output_timeout": 1, "min_duration": 0, "ack": "on-finish", "args": [], "env": {"A": "b"},
}  # fmt: skip


@pytest.mark.parametrize("field", CLOSED)
def test_a_declared_job_is_closed_to_messages(field: str) -> None:
    with pytest.raises(InvalidMessage) as caught:
        job_of({"job": "x", field: CLOSED[field]}, x={"command": "a"})
    assert caught.value.reason == "not_allowed"
    assert caught.value.detail.startswith("env.A: " if field == "env" else f"{field}: ")


@pytest.mark.parametrize(
    ("table", "why"),
    [
        ({}, "command: is missing"),
        ({"command": "a", "run_id": "r"}, "run_id: is for messages"),
        ({"command": "a", "allow_args": 1}, "allow_args: "),
        ({"command": "a", "allow_env": ["*"]}, "allow_env"),
        ({"command": "a", "allow_env": "A"}, "allow_env: "),
        ({"command": "a", "allow_arg": True}, 'unknown field "allow_arg", did you mean "allow_args"?'),
        ({"command": "a", "timeout": 0}, "timeout: "),
    ],
)
def test_declarations_that_declare_nothing(table: dict[str, Any], why: str) -> None:
    with pytest.raises(InvalidMessage) as caught:
        parse_declaration("x", table)
    assert caught.value.detail.startswith(why)


def test_a_declaration_keeps_its_name() -> None:
    declaration = parse_declaration("x", {"command": ["a"], "allow_env": ["B"]})
    assert declaration == Declaration(name="x", command=("a",), allow_env=("B",))
    with pytest.raises(InvalidMessage, match="job name"):
        parse_declaration("no name", {"command": "a"})


def test_older_and_newer_journals_load() -> None:
    kept = {"job": "x", "run_id": "r", "argv": ["a"], "retries": {"max": 2, "jitter": 1}, "color": "red"}
    assert Job.from_json(kept) == Job("x", "r", ("a",), ("a",), retries=Retries(max=2))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
FIELDS = st.sampled_from([*CLOSED, "version", "run_id", "job", "labels", "scheduled_at", "not_after", "Type"])


def check_total(body: str | bytes) -> None:
    """A body is a job or InvalidMessage, and can be shown and told either way."""
    resolved, detail = None, ""
    try:
        resolved = job_of(body)
    except InvalidMessage as error:
        detail = error.detail
    assert detail.isprintable()
    assert len(detail) < 2000
    if resolved is not None:
        text = json.dumps(resolved.to_json(), ensure_ascii=False, allow_nan=False)
        text.encode()
        assert Job.from_json(json.loads(text)) == resolved
    beginning, _ = rejected_body(body)
    assert len(beginning.encode()) <= 1024


@PATIENT
@given(st.binary() | st.text(st.characters()))
def test_any_body_is_a_message_or_refused(body: str | bytes) -> None:
    check_total(body)


@PATIENT
@given(st.dictionaries(FIELDS, JSON))
def test_any_fields_are_a_message_or_refused(table: dict[str, object]) -> None:
    check_total(json.dumps({"job": "x", "command": "a", **table}))


def test_rejected_body_shows_what_came() -> None:
    body = '{"job":  "x",\n "timout": 5}'
    assert rejected_body(body) == (body, hashlib.sha256(body.encode()).hexdigest())
    assert rejected_body(body.encode()) == rejected_body(body)


SECRET = "hunter22"


@pytest.mark.parametrize(
    "body",
    [
        json.dumps({"job": "x", "env": {"A": SECRET}}),
        json.dumps({"job": "x", "env": [f"A={SECRET}"]}),
        json.dumps({"job": "x", "env": SECRET}),
        json.dumps({"job": "x", "environment": {"A": SECRET}}),
        json.dumps({"job": "x", "ENV": {"A": {"B": [SECRET]}}}),
        json.dumps([{"env": {"A": SECRET}}]),
        json.dumps(json.dumps({"env": {"A": SECRET}})),
        '{"\\u0065nv":{"A":"hunter22"}}',
        json.dumps({"Type": "Notification", "Message": json.dumps({"job": "x", "env": {"A": SECRET}})}),
        json.dumps({"Type": "Notification", "Message": '{"job": "x", "env": {"A": "hunter22'}),
        json.dumps({"detail-type": "c", "detail": {"env": {"A": SECRET}}}),
        json.dumps({"Type": "Notification", "Message": json.dumps({"detail": {"env": {"A": SECRET}}})}),
        '{"job": "x", "env": {"A": "hunter22"',
        '{"job": "x", \'env\' : {"A": "hunter22"',
        "env:\n  A: hunter22",
        '{"Type":"Notification","Message":"{\\"env\\": {\\"A\\": \\"hunter22\\"',
        '{"\\u0065nv": {"A": "hunter22"',
        '{"env": {"A": "hunter22"}, "deep": ' + "[" * 100_000,
        b'{"env": {"A": "hunter22"}}\xff',
        "\ufeff" + json.dumps({"env": {"A": SECRET}}),
    ],
)
def test_no_env_value_is_shown(body: str | bytes) -> None:
    beginning, digest = rejected_body(body)
    assert SECRET not in beginning
    assert "***" in beginning
    assert digest == hashlib.sha256(body if isinstance(body, bytes) else body.encode()).hexdigest()


@pytest.mark.parametrize(
    "body",
    [
        '{"env":{"A":"hunter22"},"env":{}}',
        '{"Message":"{\\"env\\":{\\"A\\":\\"hunter22\\"}}","Message":""}',
    ],
)
def test_nor_is_one_that_a_second_key_hides(body: str) -> None:
    assert SECRET not in rejected_body(body)[0]


NAMES = """PASSWORD PGPASSWORD db_password passwd MYSQL_PWD pwd PASSPHRASE Token apiToken client-secret API_KEY api-key
apikey key CREDENTIALS Authorization"""


@pytest.mark.parametrize(
    "body",
    [
        # A damaged word: it is the place that counts.
        json.dumps({"job": "a", "command": "x", "ev": {"A_TOKEN": SECRET}}),
        json.dumps({"job": "a", "vars": {"A": SECRET}}),
        json.dumps({"job": "a", "variables": [{"name": "A", "value": SECRET}]}),
        json.dumps({"job": "a", "command": ["x", SECRET], "args": [SECRET], "labels": {"a": SECRET}}),
        json.dumps({"Type": "Notification", "Message": json.dumps({"job": "a", "ev": {"A": SECRET}})}),
        json.dumps({"detail-type": "c", "detail": {"ev": {"A": SECRET}}}),
        json.dumps({"Type": "N", "Message": "{}", "MessageAttributes": {"a": {"Type": "String", "Value": SECRET}}}),
        json.dumps({"job": "a", "stdin": json.dumps({"A": SECRET})}),
        '{"job": "a", "ev": {"A": "hunter22"',
        '{"job": "a", "ev": ["hunter22',
        '{"Type":"Notification","Message":"{\\"ev\\": {\\"A\\": \\"hunter22\\"',
        "job: a\nev:\n  A: hunter22",
        "job: a\nev:\n- A: hunter22",
        "<job><ev><A>hunter22</A></ev></job>",
        "job=a&ev[A]=hunter22",
        "job=a&ev%5BA%5D=hunter22",
        "job=a&ev.A=hunter22",
        "run --ev A=hunter22",
        # A secret's name, anywhere and in any spelling.
        *(json.dumps({"job": "a", name: SECRET}) for name in NAMES.split()),
        json.dumps({"job": "a", "token": 12, "password": ["x", SECRET]}),
        json.dumps({"job": "a", "command": f"PGPASSWORD={SECRET} psql"}),
        json.dumps({"job": "a", "command": f"PGPASSWORD='x {SECRET} y' psql"}),
        json.dumps({"job": "a", "command": f'PGPASSWORD="x {SECRET}'}),
        json.dumps({"job": "a", "command": f"export MYSQL_PWD={SECRET}; mysql"}),
        json.dumps({"job": "a", "command": f"pwd={SECRET}"}),
        json.dumps({"job": "a", "command": f"mysql --password {SECRET}"}),
        json.dumps({"job": "a", "command": f"mysql --db-password={SECRET}"}),
        json.dumps({"job": "a", "command": f"curl -H 'Authorization: Bearer {SECRET}' https://x"}),
        json.dumps({"job": "a", "command": f"psql postgres://me:{SECRET}@db/x"}),
        json.dumps({"job": "a", "stdin": f"user: me\npassword: {SECRET}\n"}),
        f"password: {SECRET}",
        f"job=a&A_TOKEN={SECRET}",
        f"run --token {SECRET}",
        f"<job><token>{SECRET}</token></job>",
        f'{{"job": "a", "token": "{SECRET}',
    ],
)
def test_what_may_be_a_secret_is_masked_whatever_its_field_is_called(body: str) -> None:
    beginning = rejected_body(body)[0]
    assert SECRET not in beginning
    assert "***" in beginning
    assert SECRET not in rejected_body(body[:-3])[0]


def test_a_command_is_shown_without_the_secrets_in_it() -> None:
    body = json.dumps({"job": "a", "command": "TZ=UTC A_TOKEN=hunter22 make token --keep=3", "timout": 3})
    assert rejected_body(body)[0] == body.replace(SECRET, "***")


def test_masked_env_keeps_its_names() -> None:
    assert json.loads(rejected_body('{"env":{"A":"x","B":1}}')[0]) == {"env": {"A": "***", "B": "***"}}


@pytest.mark.parametrize(
    "body",
    [
        '{ "job" :"x",\n  "env": { "A":%s, "B" : %s},\t"umask":"9" }',
        '\ufeff{"env":%s, "a": [1e400, NaN, [], {}], "env": %s}',
        '[{"env":{"A":%s,"A":%s}}]',
        '{"job":"\\u00fc \\ud83d\\ude00","environment":{"A":%s},"n":%s}'.replace('"n"', '"ENV"'),
    ],
)
def test_all_but_the_values_is_shown_as_it_was_sent(body: str) -> None:
    for secret in (json.dumps(SECRET), json.dumps([SECRET, {"a": SECRET}])):
        assert rejected_body(body % (secret, secret))[0] == body % ('"***"', '"***"')


@pytest.mark.parametrize("ascii_only", [True, False])
def test_also_inside_of_envelopes(ascii_only: bool) -> None:
    def enveloped(value: str) -> str:
        body = f'{{"job": "ü 😀 \\n", "env": {{"A": "{value}"}}, "x":  "\\u00e9"}}'
        for envelope in ('{{ "Type":"Notification","Message": {} }}', '{{"detail-type": "a", "detail":{}}}'):
            body = envelope.format(json.dumps(body, ensure_ascii=ascii_only))
        return body

    assert rejected_body(enveloped(SECRET))[0] == enveloped("***")


@pytest.mark.parametrize(
    "body",
    [
        "job=a&env[A]=hunter22",
        "job=a&env%5BA%5D=hunter22",
        "job=a&env.A=hunter22",
        "job=a&evn[A]=hunter22",
        "run --env A=hunter22",
        "<job><env><A>hunter22</A></env></job>",
        "environment:\n- A: hunter22",
        json.dumps("job=a&env[A]=hunter22"),
        json.dumps({"Type": "Notification", "Message": "job=a&env[A]=hunter22", "TopicArn": "t"}),
    ],
)
def test_no_value_of_a_form_or_a_command_line_is_shown(body: str) -> None:
    beginning = rejected_body(body)[0]
    assert SECRET not in beginning
    assert "***" in beginning


def test_text_that_is_no_message_is_shown() -> None:
    for body in ("/usr/bin/env python x", '{"command": "ENV=live make", "timeout": 5, "retries": {"max": "***"}}'):
        assert rejected_body(body)[0] == body


def test_what_is_far_behind_does_not_matter() -> None:
    head = '{"env": {"A": "' + "x" * 5000 + '"}, "labels": {"a": "b"}, "more": [' + "1," * 2000
    beginning = rejected_body(head + "no json")[0]
    assert beginning.startswith('{"env": {"A": "***"}, "labels": {"a": "***"}, "more": [1,1,')
    assert len(beginning) == 1024


@pytest.mark.parametrize(
    ("fields", "reason"),
    [({"user": "root"}, "not_allowed"), ({"args": ["a"]}, "invalid"), ({"timeout": "soon"}, "invalid")],
)
def test_a_refusal_keeps_what_tells_the_run(fields: dict[str, object], reason: str) -> None:
    body = {
        "job": "x",
        "run_id": "r",
        "command": "a",
        "labels": {"team": "ops"},
        "scheduled_at": "1970-01-01T00:01:00Z",
    }
    with pytest.raises(InvalidMessage) as caught:
        job_of({**body, **fields})
    error = caught.value
    assert (error.reason, error.job, error.run_id) == (reason, "x", "r")
    assert (error.labels, error.scheduled_at) == ({"team": "ops"}, 60.0)


def test_a_refusal_has_the_labels_of_the_declaration() -> None:
    declared: dict[str, object] = {"command": "a", "labels": {"team": "ops", "tier": "1"}}
    with pytest.raises(InvalidMessage) as caught:
        job_of({"job": "x", "nice": 1, "labels": {"tier": "2"}}, x=declared)
    assert caught.value.labels == {"team": "ops", "tier": "2"}


def test_a_refusal_leaves_out_what_cannot_be_read() -> None:
    for body in ("no json", {"job": "x", "labels": {"a": 1}, "scheduled_at": "soon"}):
        with pytest.raises(InvalidMessage) as caught:
            job_of(body)
        assert (caught.value.labels, caught.value.scheduled_at) == ({}, None)


def test_only_the_beginning_is_shown() -> None:
    for body in ("ü" * 5000, json.dumps({"a": "ü" * 5000}), json.dumps({"a": "ü" * 5000, "env": {}})):
        assert 1022 <= len(rejected_body(body)[0].encode()) <= 1024


@PATIENT
@given(st.dictionaries(st.text(), JSON), st.integers(0, 3), st.integers(0, 400))
def test_masking_holds_in_any_company(company: dict[str, object], depth: int, cut: int) -> None:
    body = json.dumps({**company, "env": {"A": SECRET}})
    for _ in range(depth):
        body = json.dumps({"Type": "Notification", "Message": body})
    assert SECRET not in rejected_body(body)[0]
    assert SECRET not in rejected_body(body[: len(body) - cut])[0]
