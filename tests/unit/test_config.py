"""The configuration: every key parsed, every fault listed, the environment, declared jobs, reload."""

from __future__ import annotations

import os
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from runner import config as configuration
from runner.config import Config, load, not_acted_on, reload_differences, reloadable
from runner.config import reader as reader_module
from runner.config.changes import NOT_YET_ACTED_ON
from runner.config.example import EXAMPLE_VALUES, render
from runner.config.keys import KEYS, SECTIONS, VARIABLES, default_of, value_of
from runner.config.names import RETENTION_DAYS
from runner.config.place import table_in
from runner.errors import ConfigError, CronRunnerError

if TYPE_CHECKING:
    from collections.abc import Iterator

EXAMPLE = Path(__file__).parents[2] / "config.example.toml"
URL = "https://sqs.eu-west-1.amazonaws.com/123456789012/cron-web"
MINIMAL = f'group = "web"\n[queue]\nurl = "{URL}"\n'


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "config.toml"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "jobs.d"
    made.mkdir()
    return made


def loaded(file: Path, text: str, **environ: str) -> Config:
    file.write_text(text)
    return load(file, environ)


def faults(file: Path, text: str, **environ: str) -> list[str]:
    """Every fault, without the file's path in front."""
    with pytest.raises(ConfigError) as caught:
        loaded(file, text, **environ)
    return [fault.removeprefix(f"{file}: ") for fault in caught.value.faults]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ('[fleet]\ntable = "cron"\n[run]\ntimout = 3\n', "cron"),
        ('[fleet]\ntable = "a b"\n', None),
        ("[fleet]\ntable = 3\n", None),
        ('fleet = "cron"\n', None),
        ("[fleet\n", None),
        (MINIMAL, ""),
        (MINIMAL + "[fleet]\nlease = '1m'\n", ""),
    ],
)
def test_the_tables_name_is_found_without_the_rest_and_what_is_doubtful_is_left_to_all_checks(
    file: Path, text: str, name: str | None
) -> None:
    file.write_text(text)
    assert table_in(file) == name
    assert table_in(file.parent / "none") is None


# --- what a good file gives -----------------------------------------------------------------------


def test_group_and_queue_are_enough_and_every_other_key_has_the_contracts_default(file: Path) -> None:
    config = loaded(file, MINIMAL)

    assert config.source == file
    assert config.group == "web"
    assert (config.queue.url, config.queue.name) == (URL, "")
    assert (config.queue.wait, config.queue.visibility) == (20.0, 120.0)
    assert (config.queue.dead_letter_url, config.queue.on_lost_lease) == ("", "continue")
    assert (config.results.url, config.results.name, config.results.heartbeat) == ("", "", 0.0)
    admission = config.admission
    assert (admission.policy, admission.max_jobs, admission.hold) == ("one-at-a-time", 0, 60.0)
    assert (admission.resources.cpu, admission.resources.memory) == (None, None)
    assert (admission.resources.reserve_cpu, admission.resources.reserve_memory) == (0.5, 512 * 2**20)
    assert admission.resources.max_load == 0.9
    assert (admission.resources.default_cpu, admission.resources.default_memory) == (1.0, 256 * 2**20)
    assert admission.resources.named == {}
    run = config.run
    assert (run.shell, run.user, run.allowed_users) == (("/bin/sh", "-c"), "", ())
    assert (run.timeout, run.grace, run.cwd) == (3600.0, 10.0, "/")
    assert (run.env, run.env_files, run.inherit_env) == ({}, (), ())
    assert (run.commands, run.leftovers) == ("any", "kill")
    output = config.output
    assert (output.sinks, output.max_bytes, output.spool_max_bytes) == (("cloudwatch",), 2**30, 4 * 2**30)
    secret = ("*PASSWORD*", "*PASSPHRASE*", "*_PWD", "*SECRET*", "*TOKEN*", "*_KEY", "*CREDENTIAL*")
    assert output.redact == secret
    assert output.cloudwatch.log_group == "/cron-runner/{group}"
    assert output.cloudwatch.log_stream == "{job}/{run_id}"
    assert (output.cloudwatch.flush, output.cloudwatch.retention_days) == (1.0, 30)
    assert output.syslog.address == "udp://127.0.0.1:514"
    agent = config.agent
    assert (agent.on_stop, agent.drain_timeout, agent.listen) == ("drain", 600.0, "127.0.0.1:9747")
    assert (agent.log_level, agent.cloudwatch_log_group) == ("info", "")
    assert config.paths.state == Path("/var/lib/cron-runner")
    assert config.paths.runtime == Path("/run/cron-runner")
    assert config.jobs == {}


def test_a_config_made_in_code_has_the_same_defaults_as_a_file(file: Path) -> None:
    made = Config(group="web", queue=configuration.Queue(url=URL), source=file)
    assert made == loaded(file, MINIMAL)


def test_defaults_are_what_a_message_is_resolved_against(file: Path) -> None:
    text = f'{MINIMAL}[run]\nuser = "app"\nallowed_users = ["db"]\ntimeout = 5\nenv = {{ TZ = "UTC" }}\n'
    defaults = loaded(file, text).defaults()

    assert (defaults.shell, defaults.user, defaults.timeout) == (("/bin/sh", "-c"), "app", 5.0)
    assert (defaults.grace, defaults.cwd, defaults.env) == (10.0, "/", {"TZ": "UTC"})
    assert (defaults.commands, defaults.allowed_users) == ("any", ("db",))


def test_the_contracts_tables_load(file: Path) -> None:
    config = loaded(
        file,
        """
        group = "web"
        [queue]
        name = "cron-web.fifo"
        [admission]
        policy = "resources"
        [admission.resources]
        cpu = 3
        memory = "6G"
        [admission.resources.named]
        db_slots = 4
        [run]
        allowed_users = ["app"]
        [jobs.send-newsletter]
        command = ["/srv/app/bin/newsletter"]
        allow_args = true
        allow_env = []
        user = "app"
        """,
    )

    assert config.queue.name == "cron-web.fifo"
    assert (config.admission.resources.cpu, config.admission.resources.memory) == (3.0, 6 * 2**30)
    assert config.admission.resources.named == {"db_slots": 4.0}
    assert list(config.jobs) == ["send-newsletter"]
    assert config.jobs["send-newsletter"].user == "app"


# --- faults ---------------------------------------------------------------------------------------


def test_all_faults_are_listed_at_once_with_file_key_and_suggestion(file: Path) -> None:
    text = """
    group = "web site"
    colour = "blue"
    [queue]
    name = "cron"
    visibilty = "2m"
    wait = "1m"
    [admission]
    policy = "ressources"
    max_jobs = "4"
    [output]
    sinks = ["cloudwatch", "jornald"]
    """
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(file, {})

    found = caught.value.faults
    assert all(fault.startswith(f"{file}: ") and "\n" not in fault for fault in found)
    assert len(found) == 7
    assert f'{file}: queue.visibilty: unknown key, did you mean "visibility"?' in found
    assert str(caught.value).splitlines() == [
        "cannot use the configuration: 7 faults",
        *(f"  {fault}" for fault in found),
    ]
    assert isinstance(caught.value, CronRunnerError)


def test_a_fault_is_one_printable_line_whatever_the_file_holds(file: Path) -> None:
    [fault] = faults(file, f'"a\\nb\\u001b[31m" = 1\n{MINIMAL}')
    assert fault.startswith(r"a\nb\x1b[31m: unknown key; known here: group, queue, ")


def test_a_secret_of_the_wrong_type_is_not_shown(file: Path) -> None:
    assert faults(file, f"{MINIMAL}[run]\nenv = {{ PIN = 80211 }}\n") == ["run.env: PIN: expected a text in quotes"]


def test_a_single_fault_is_one_line(file: Path) -> None:
    file.write_text(f'{MINIMAL}wait = "30s"\n')
    with pytest.raises(ConfigError) as caught:
        load(file, {})
    assert str(caught.value).startswith(f"cannot use the configuration: {file}: queue.wait: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ('[run]\ncommand = "any"', 'run.command: unknown key, did you mean "commands"?'),
        ("[quue]\nurl = 'x'", 'quue: unknown key, did you mean "queue"?'),
        ("[output.cloudwach]\nflush = 1", 'output.cloudwach: unknown key, did you mean "cloudwatch"?'),
        (
            "[admission]\nvisibility = 1",
            'admission.visibility: unknown key here: "visibility" belongs to [queue]',
        ),
        (
            '[run]\ngroup = "x"',
            'run.group: unknown key in [run]: "group" belongs at the top of the file, before the first [table]',
        ),
        (
            "[zzz]\nx = 1",
            "zzz: unknown key; known here: group, queue, results, fleet, admission, run, output, agent, signing,"
            " control, paths, web",
        ),
    ],
)
def test_an_unknown_key_names_the_nearest_known_one(file: Path, text: str, fault: str) -> None:
    assert faults(file, f"{MINIMAL}{text}\n") == [fault]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("[run]\nuser = 5", "run.user: expected a text in quotes, not the number 5"),
        ("[run]\nenv = { A = 1 }", "run.env: A: expected a text in quotes"),
        ('[run]\nshell = "/bin/sh"', 'run.shell: expected a list of texts, not the text "/bin/sh": write ["/bin/sh"]'),
        (
            "[run]\nallowed_users = [1]",
            "run.allowed_users: in the list: expected a text in quotes, not the number 1",
        ),
        ("[admission]\nmax_jobs = 1.5", "admission.max_jobs: expected a whole number, not the number 1.5"),
        ("[admission]\nmax_jobs = true", "admission.max_jobs: expected a whole number, not true or false"),
        ("[admission.resources]\nmax_load = nan", "admission.resources.max_load: expected a number, not nan"),
        (
            "[admission.resources]\ncpu = []",
            'admission.resources.cpu: expected a number or "auto", not a list',
        ),
        (
            "[agent]\nlog_level = 2020-01-01",
            'agent.log_level: expected one of "debug", "info", "warning", "error", not a date',
        ),
        ("output = 1", "output: expected a table: [output], not the number 1"),
        ("jobs = 1", "jobs: expected tables such as [jobs.NAME], not the number 1"),
        ("jobs.x = 1", "jobs.x: expected a table of the job's fields, not the number 1"),
        ('[paths]\nstate = "x"', 'paths.state: expected an absolute path, not "x"'),
    ],
)
def test_a_wrong_type_says_what_is_expected(file: Path, text: str, fault: str) -> None:
    # A key before the first table belongs to the top.
    whole = f"{text}\n{MINIMAL}" if not text.startswith("[") else f"{MINIMAL}{text}\n"
    assert faults(file, whole) == [fault]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("group", '"a b"'),
        ("group", f'"{"x" * 129}"'),
        ("group", '""'),
        ("queue.wait", '"21s"'),
        ("queue.wait", "1.5"),
        ("queue.visibility", '"9s"'),
        ("queue.visibility", '"12h1s"'),
        ("queue.visibility", '"two minutes"'),
        ("queue.dead_letter_url", '"cron-dead"'),
        ("queue.on_lost_lease", '"stop"'),
        ("results.url", '"ftp://example.org/x"'),
        ("results.url", '"https://[bad/x"'),
        ("results.name", '"no spaces"'),
        ("results.heartbeat", "-1"),
        ("admission.policy", '"one"'),
        ("admission.max_jobs", "-1"),
        ("admission.hold", '"12h"'),
        ("admission.resources.cpu", "0"),
        ("admission.resources.cpu", '"all"'),
        ("admission.resources.memory", "0"),
        ("admission.resources.memory", '"lots"'),
        ("admission.resources.reserve_cpu", "-0.5"),
        ("admission.resources.reserve_memory", '"-1G"'),
        ("admission.resources.max_load", "0"),
        ("admission.resources.max_load", "1.1"),
        ("admission.resources.default_cpu", "-1"),
        ("admission.resources.named", "{ cpu = 1 }"),
        ("admission.resources.named", "{ slots = -1 }"),
        ("admission.resources.named", '{ "a b" = 1 }'),
        ("run.shell", "[]"),
        ("run.allowed_users", '[""]'),
        ("run.timeout", '"0s"'),
        ("run.cwd", '"srv"'),
        ("run.env", '{ "A=B" = "x" }'),
        ("run.env", '{ CRON_RUNNER_JOB = "x" }'),
        ("run.env", '{ A = "\\u0000" }'),
        ("run.env_files", '["env"]'),
        ("run.inherit_env", '["AWS_*"]'),
        ("run.commands", '"all"'),
        ("run.leftovers", '"leave"'),
        ("output.sinks", '["stdout", "stdout"]'),
        ("output.max_bytes", "0"),
        ("output.spool_max_bytes", '"1 G B"'),
        ("output.redact", '[""]'),
        ("output.cloudwatch.log_group", '"/cron/{host}"'),
        ("output.cloudwatch.log_group", '"/cron runner"'),
        ("output.cloudwatch.log_stream", '"{job}/{runid}"'),
        ("output.cloudwatch.log_stream", '"{job}:{run_id}"'),
        ("output.cloudwatch.log_stream", '"{job"'),
        ("output.cloudwatch.log_stream", '"{job!r}"'),
        ("output.cloudwatch.log_stream", '"{job:>9}"'),
        ("output.cloudwatch.log_stream", '"{}"'),
        ("output.cloudwatch.log_stream", '""'),
        ("output.cloudwatch.flush", "0"),
        ("output.cloudwatch.flush", '"2m"'),
        ("output.cloudwatch.retention_days", "31"),
        ("output.syslog.address", '"127.0.0.1:514"'),
        ("output.syslog.address", '"udp://127.0.0.1"'),
        ("output.syslog.address", '"http://127.0.0.1:514"'),
        ("output.syslog.address", '"unix://"'),
        ("output.syslog.address", '"unix://dev/log"'),
        ("output.syslog.address", '"tcp://host:port"'),
        ("agent.on_stop", '"stop"'),
        ("agent.drain_timeout", '"-1s"'),
        ("agent.listen", '"9747"'),
        ("agent.listen", '":9747"'),
        ("agent.listen", '"localhost"'),
        ("agent.listen", '"localhost:99999"'),
        ("agent.listen", '"http://localhost:80"'),
        ("agent.log_level", '"INFO"'),
        ("agent.cloudwatch_log_group", '"a b"'),
        ("fleet.lifecycle_hook", '"drain"'),
        ("fleet.lifecycle_hook", '"web/drain"'),  # without notices
        ("fleet.rebalance", "true"),  # as above
        ("agent.metrics", '"prometheus"'),
        ("agent.metrics", '"emf"'),  # no log group
        ("paths.runtime", f'"/{"r" * 100}"'),
    ],
)
def test_a_value_out_of_its_range_is_one_fault_that_names_the_key(file: Path, key: str, value: str) -> None:
    section, _, name = key.rpartition(".")
    if not section:
        text = MINIMAL.replace('group = "web"', f"{name} = {value}")
    elif section == "queue":
        text = f"{MINIMAL}{name} = {value}\n"
    else:
        text = f"{MINIMAL}[{section}]\n{name} = {value}\n"

    [fault] = faults(file, text)
    assert fault.startswith(f"{key}: ")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("queue.wait", "0"),
        ("queue.visibility", '"10s"'),
        ("queue.visibility", '"12h"'),
        ("admission.resources.max_load", "1"),
        ("run.inherit_env", '["*"]'),
        ("run.cwd", '"/srv/app"'),
        ("output.sinks", '["cloudwatch", "journald", "syslog", "stdout"]'),
        ("output.cloudwatch.log_group", '"plain_group-1.x/#"'),
        ("output.cloudwatch.log_stream", '"{host}-{date}-{attempt}"'),
        ("output.syslog.address", '"unix:///dev/log"'),
        ("output.syslog.address", '"tcp://[::1]:6514"'),
        ("agent.listen", '"[::1]:0"'),
        ("agent.listen", '""'),
    ],
)
def test_a_value_at_the_edge_of_its_range_is_taken(file: Path, key: str, value: str) -> None:
    section, _, name = key.rpartition(".")
    text = f"[{section}]\n{name} = {value}\n" if section != "queue" else f"{name} = {value}\n"
    assert str(value_of(loaded(file, MINIMAL + text), key)) or value == '""'


@pytest.mark.parametrize("days", RETENTION_DAYS)
def test_every_retention_that_cloudwatch_knows_is_taken(file: Path, days: int) -> None:
    text = f"{MINIMAL}[output.cloudwatch]\nretention_days = {days}\n"
    assert loaded(file, text).output.cloudwatch.retention_days == days


def test_a_retention_that_cloudwatch_does_not_know_names_the_nearest(file: Path) -> None:
    [fault] = faults(file, f"{MINIMAL}[output.cloudwatch]\nretention_days = 360\n")
    assert "does not know 360 days: the nearest is 365" in fault


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("", ["group", "queue.url"]),
        ('group = "web"', ["queue.url"]),
        (f"{MINIMAL}name = 'cron'", ["queue.name"]),
        ('group = "web"\nqueue.url = "nonsense"', ["queue.url"]),
        (f"{MINIMAL}[results]\nurl = '{URL}'", ["results.url"]),
        (f"{MINIMAL}[results]\nurl = '{URL}-results'\nname = 'results'", ["results.name"]),
        (f"{MINIMAL}dead_letter_url = '{URL}'", ["queue.dead_letter_url"]),
        ('group = "web"\n[queue]\nname = "cron"\n[results]\nname = "cron"', ["results.name"]),
    ],
)
def test_keys_that_miss_or_contradict_each_other(file: Path, text: str, keys: list[str]) -> None:
    assert [fault.split(":")[0] for fault in faults(file, text)] == keys


# --- files ----------------------------------------------------------------------------------------


def test_a_syntax_error_names_file_and_line(file: Path) -> None:
    [fault] = faults(file, 'group = "web"\n[queue\nurl = "x"\n')
    assert fault.startswith(f"{file}:2: is not TOML: ")


def test_a_syntax_error_at_the_end_of_the_file_names_the_last_line(file: Path) -> None:
    [fault] = faults(file, 'group = "web"\nrun = {')
    assert fault.startswith(f"{file}:2: is not TOML: ")


def test_a_file_that_is_not_text_is_refused(file: Path) -> None:
    file.write_bytes(b'group = "\xff"\n')
    with pytest.raises(ConfigError, match="is not UTF-8 text"):
        load(file, {})


def test_a_file_nested_beyond_reason_is_refused(file: Path) -> None:
    [fault] = faults(file, "group = " + "[" * 5000)
    assert "nested too deeply" in fault


def test_a_missing_file_says_what_to_do(file: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(file, {"CRON_RUNNER__GROUP": "web", "CRON_RUNNER_QUEUE__NAME": "cron"})
    assert f"{file}: no such file; give --config a file that exists" in str(caught.value)


def test_a_folder_in_place_of_the_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read the file: Is a directory"):
        load(tmp_path, {})


@pytest.fixture
def unprivileged() -> Iterator[None]:
    """Root may read every file, so a test that runs as root becomes nobody for a while."""
    was_root = os.geteuid() == 0
    if was_root:
        os.seteuid(65534)
    yield
    if was_root:
        os.seteuid(0)


def test_an_unreadable_file_says_what_to_do(file: Path, request: pytest.FixtureRequest) -> None:
    file.write_text(MINIMAL)
    file.chmod(0)
    request.getfixturevalue("unprivileged")
    with pytest.raises(ConfigError, match="permission denied; type it behind sudo"):
        load(file, {})


def test_an_unreadable_folder_of_jobs_is_a_fault(file: Path) -> None:
    (file.parent / "jobs.d").symlink_to("jobs.d")
    [fault] = faults(file, MINIMAL)
    assert fault.startswith(f"{file.parent}/jobs.d: cannot list the folder: Too many levels of symbolic links")


def test_without_the_default_file_the_environment_is_enough(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader_module, "DEFAULT_PATH", file)
    config = load(None, {"CRON_RUNNER__GROUP": "web", "CRON_RUNNER_QUEUE__NAME": "cron"})

    assert (config.group, config.queue.name, config.source) == ("web", "cron", None)


def test_without_the_default_file_and_with_half_the_environment_both_ways_out_are_named(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader_module, "DEFAULT_PATH", file)
    with pytest.raises(ConfigError, match=r"config\.example\.toml.*--config.*CRON_RUNNER__GROUP"):
        load(None, {"CRON_RUNNER__GROUP": "web"})


def test_the_default_file_is_read_where_there_is_one(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader_module, "DEFAULT_PATH", file)
    file.write_text(MINIMAL)
    assert load(None, {}).source == file


def test_offline_nothing_needs_to_be_set(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader_module, "DEFAULT_PATH", file)
    config = load(None, {}, offline=True)
    assert (config.group, config.queue.url, config.queue.name) == ("local", "", "")

    file.write_text("[run]\ntimeout = 3\n")
    assert load(None, {}, offline=True).run.timeout == 3.0


# --- environment ----------------------------------------------------------------------------------


def test_environment_variables_override_the_file(file: Path) -> None:
    config = loaded(
        file,
        f"{MINIMAL}wait = '5s'\n",
        CRON_RUNNER__GROUP="db",
        CRON_RUNNER_QUEUE__WAIT="7",
        CRON_RUNNER_QUEUE__VISIBILITY="90s",
        CRON_RUNNER_ADMISSION__POLICY="free-for-all",
        CRON_RUNNER_ADMISSION__MAX_JOBS="8",
        CRON_RUNNER_ADMISSION__RESOURCES__CPU="1.5",
        CRON_RUNNER_ADMISSION__RESOURCES__MEMORY="auto",
        CRON_RUNNER_ADMISSION__RESOURCES__NAMED='{"db_slots": 4}',
        CRON_RUNNER_RUN__ALLOWED_USERS="app, db",
        CRON_RUNNER_RUN__SHELL='["/bin/bash", "-euc"]',
        CRON_RUNNER_RUN__ENV='{"TZ": "UTC"}',
        CRON_RUNNER_RUN__INHERIT_ENV="*",
        CRON_RUNNER_OUTPUT__REDACT="",
        CRON_RUNNER_OUTPUT__MAX_BYTES="64M",
        CRON_RUNNER_PATHS__STATE="/data",
    )

    assert (config.group, config.queue.wait, config.queue.visibility) == ("db", 7.0, 90.0)
    assert (config.admission.policy, config.admission.max_jobs) == ("free-for-all", 8)
    assert (config.admission.resources.cpu, config.admission.resources.memory) == (1.5, None)
    assert config.admission.resources.named == {"db_slots": 4.0}
    assert (config.run.allowed_users, config.run.shell) == (("app", "db"), ("/bin/bash", "-euc"))
    assert (config.run.env, config.run.inherit_env) == ({"TZ": "UTC"}, ("*",))
    assert (config.output.redact, config.output.max_bytes) == ((), 64 * 2**20)
    assert config.paths.state == Path("/data")


def test_a_variable_replaces_a_value_of_the_file_that_is_wrong(file: Path) -> None:
    assert loaded(file, f"{MINIMAL}wait = 'soon'\n", CRON_RUNNER_QUEUE__WAIT="3s").queue.wait == 3.0


def test_variables_without_a_double_underscore_belong_to_the_jobs(file: Path) -> None:
    assert loaded(file, MINIMAL, CRON_RUNNER_JOB="x", CRON_RUNNER_RUN_ID="y", CRON_RUNNER="z", OTHER__X="1")


@pytest.mark.parametrize(
    ("variable", "value", "fault"),
    [
        (
            "CRON_RUNNER_QUEUE__URI",
            "x",
            'environment: unknown variable "CRON_RUNNER_QUEUE__URI", did you mean "CRON_RUNNER_QUEUE__URL"?',
        ),
        ("CRON_RUNNER_QUEUE__WAIT", "1m", "environment variable CRON_RUNNER_QUEUE__WAIT: queue.wait: "),
        (
            "CRON_RUNNER_ADMISSION__MAX_JOBS",
            "few",
            "environment variable CRON_RUNNER_ADMISSION__MAX_JOBS: admission.max_jobs: expected a whole",
        ),
        ("CRON_RUNNER_RUN__ENV", "A=1", "environment variable CRON_RUNNER_RUN__ENV: run.env: expected JSON"),
        (
            "CRON_RUNNER_RUN__ENV",
            "[1]",
            "environment variable CRON_RUNNER_RUN__ENV: run.env: expected a table, not a list",
        ),
        (
            "CRON_RUNNER_RUN__SHELL",
            "[1",
            "environment variable CRON_RUNNER_RUN__SHELL: run.shell: expected JSON",
        ),
        (
            "CRON_RUNNER_QUEUE__NAME",
            "cron",
            "environment variable CRON_RUNNER_QUEUE__NAME: queue.name: is set beside queue.url",
        ),
        (
            "CRON_RUNNER_JOBS__X__COMMAND",
            "x",
            "environment: CRON_RUNNER_JOBS__X__COMMAND: a job cannot be declared by a variable",
        ),
    ],
)
def test_a_variable_with_a_fault_is_named(file: Path, variable: str, value: str, fault: str) -> None:
    [found] = faults(file, MINIMAL, **{variable: value})
    assert found.startswith(fault)


def test_the_variables_are_named_as_the_contract_says() -> None:
    assert VARIABLES["CRON_RUNNER__GROUP"].path == "group"
    assert VARIABLES["CRON_RUNNER_QUEUE__URL"].path == "queue.url"
    assert VARIABLES["CRON_RUNNER_OUTPUT__CLOUDWATCH__LOG_GROUP"].path == "output.cloudwatch.log_group"
    assert len(VARIABLES) == len(KEYS)


# --- declared jobs --------------------------------------------------------------------------------


def test_jobs_come_from_the_file_and_from_the_folder_beside_it(file: Path, folder: Path) -> None:
    (folder / "report.toml").write_text('command = "report"\n')
    (folder / "50-named.toml").write_text('job = "named"\ncommand = "x"\n')
    (folder / "many.toml").write_text('[jobs.one]\ncommand = "1"\n[jobs.two]\njob = "two"\ncommand = "2"\n')
    (folder / ".hidden.toml").write_text("nonsense")
    (folder / "notes.txt").write_text("nonsense")

    config = loaded(file, f'{MINIMAL}[jobs.local]\ncommand = "x"\n')
    assert list(config.jobs) == ["local", "named", "one", "report", "two"]


def test_a_job_declared_twice_is_a_fault_that_names_both_files(file: Path, folder: Path) -> None:
    (folder / "report.toml").write_text('command = "x"\n')
    [fault] = faults(file, f'{MINIMAL}[jobs.report]\ncommand = "x"\n')
    assert fault == f'{folder}/report.toml: the job "report" is declared a second time, first in {file}'


def test_faults_of_declarations_name_file_and_job(file: Path, folder: Path) -> None:
    (folder / "bad.toml").write_text("command = \n")
    (folder / "empty.toml").write_text("")
    (folder / "mixed.toml").write_text('command = "x"\n[jobs.y]\ncommand = "y"\n')
    (folder / "number.toml").write_text("job = 5\n")
    (folder / "not a name.toml").write_text('command = "x"\n')

    found = faults(file, f'{MINIMAL}[jobs.a]\ncomand = "x"\n[jobs.b]\njob = "c"\ncommand = "x"\n')
    assert len(found) == 7
    assert found[0].startswith('jobs.a: unknown field "comand"')
    assert found[1] == "jobs.b.job: differs from the table's name: take it out"
    assert found[2].startswith(f"{folder}/bad.toml:1: is not TOML: ")
    assert found[3].startswith(f"{folder}/empty.toml: command")
    assert found[4].startswith(f"{folder}/mixed.toml: command: stands beside [jobs.NAME]")
    assert found[5].startswith(f"{folder}/not a name.toml: ")
    assert found[6] == f"{folder}/number.toml: job: expected a text in quotes, not the number 5"


def test_a_declared_jobs_nice_must_be_allowed(file: Path) -> None:
    job = '[jobs.a]\ncommand = "x"\nnice = -5\n'

    [fault] = faults(file, f"{MINIMAL}{job}")
    assert fault == "jobs.a.nice: -5 is not allowed here: set min_nice of [run] to -5"
    file.write_text(f"{MINIMAL}{job}[run]\nmin_nice = -5\n")
    assert load(file, {}).defaults().min_nice == -5
    [fault] = faults(file, f"{MINIMAL}[run]\nmin_nice = -21\n")
    assert fault.startswith("run.min_nice: -21 is out of range")


def test_a_declared_jobs_user_must_be_allowed(file: Path) -> None:
    job = '[jobs.a]\ncommand = "x"\nuser = "app"\n'

    [fault] = faults(file, f"{MINIMAL}{job}")
    assert fault == 'jobs.a.user: "app" is not allowed here: add it to allowed_users of [run]'
    # A list of users that cannot be read says nothing of this job.
    [fault] = faults(file, f"{MINIMAL}{job}[run]\nallowed_users = 'app'\n")
    assert fault.startswith("run.allowed_users: ")
    assert loaded(file, f"{MINIMAL}{job}[run]\nallowed_users = ['app']\n").jobs["a"].user == "app"
    assert loaded(file, f"{MINIMAL}{job}[run]\nuser = 'app'\n").jobs["a"].user == "app"


# --- reload, and what has no effect yet -----------------------------------------------------------


def test_reload_tells_what_can_change_from_what_needs_a_restart(file: Path) -> None:
    old = loaded(file, f'{MINIMAL}[jobs.a]\ncommand = "a"\n[jobs.b]\ncommand = "b"\n')
    new = loaded(
        file,
        f"""
        group = "db"
        queue.url = "{URL}-2"
        queue.wait = 1
        results = {{ url = "{URL}-results", heartbeat = "1m" }}
        admission.policy = "free-for-all"
        run = {{ timeout = 5, allowed_users = ["app"] }}
        output.cloudwatch.flush = 2
        agent.log_level = "debug"
        paths = {{ state = "/data", runtime = "/data/run" }}
        [jobs.b]
        command = "other"
        [jobs.c]
        command = "c"
        """,
    )

    changeable, fixed = reload_differences(old, new)
    assert fixed == ["group", "queue.url", "results.url", "paths.state", "paths.runtime"]
    assert changeable == [
        "queue.wait",
        "results.heartbeat",
        "admission.policy",
        "run.allowed_users",
        "run.timeout",
        "output.cloudwatch.flush",
        "agent.log_level",
        "jobs.a",
        "jobs.b",
        "jobs.c",
    ]
    assert reload_differences(old, replace(old, source=None)) == ([], [])
    # What is put in force: everything that can change, and nothing else.
    assert reload_differences(old, reloadable(old, new)) == (changeable, [])
    assert reload_differences(reloadable(old, new), new) == ([], fixed)


def test_keys_without_effect_are_named_when_they_are_set(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = loaded(
        file,
        f"""{MINIMAL}
        [admission]
        policy = "resources"
        [output]
        sinks = ["cloudwatch", "syslog"]
        redact = []
        [agent]
        listen = ""
        """,
    )
    changed = {
        "admission.policy": frozenset({"resources"}),
        "output.sinks": frozenset({"syslog"}),
        "output.max_bytes": None,
        "agent.listen": None,
    }
    monkeypatch.setattr("runner.config.changes.NOT_YET_ACTED_ON", changed)
    assert not_acted_on(config) == [
        'admission.policy = "resources"',
        'output.sinks: "syslog"',
        "agent.listen",
    ]
    assert not_acted_on(Config()) == []


def test_the_keys_without_effect_are_keys() -> None:
    assert set(NOT_YET_ACTED_ON) <= set(KEYS)


# --- the example file -----------------------------------------------------------------------------


def flat(table: dict[str, object], section: str = "") -> dict[str, object]:
    """The keys of a TOML document by dotted path; a table that is a value is not walked into."""
    found: dict[str, object] = {}
    for name, value in table.items():
        path = f"{section}.{name}" if section else name
        if path in SECTIONS and isinstance(value, dict):
            found |= flat(value, path)
        else:
            found[path] = value
    return found


def test_the_example_lists_exactly_the_keys_with_exactly_their_defaults() -> None:
    listed = flat(tomllib.loads(EXAMPLE.read_text()))

    assert set(listed) == set(KEYS)
    for path, value in listed.items():
        if path not in EXAMPLE_VALUES:
            key = KEYS[path]
            assert value == key.setting.text, path
            assert key.setting.kind.parse(value) == default_of(key) == value_of(Config(), path), path


def test_the_example_loads_as_it_is() -> None:
    config = load(EXAMPLE, {})
    assert config == Config(group="web", queue=configuration.Queue(url=URL), source=EXAMPLE)
    assert not_acted_on(config) == []


def test_the_jobs_commented_out_in_the_example_load_when_they_are_put_in(file: Path) -> None:
    text = EXAMPLE.read_text()
    start = text.index("# [jobs.")
    block = text[start : text.index("\n\n", start)]
    put_in = text.replace(block, block.replace("# ", "", block.count("\n# ") + 1))
    allowed = put_in.replace("allowed_users = []", 'allowed_users = ["app"]')

    assert list(loaded(file, allowed).jobs) == ["send-newsletter"]


def test_the_example_is_what_the_table_of_keys_makes() -> None:
    assert EXAMPLE.read_text() == render(), "run: python -m runner.config.example > config.example.toml"


def test_every_key_of_the_schema_says_what_it_does() -> None:
    assert all(key.setting.help.strip() for key in KEYS.values())
