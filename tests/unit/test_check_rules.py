"""The judgements of `cron-runner check`, as functions of values."""

from __future__ import annotations

import os
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from runner.agent.journal.journal_file import open_connection
from runner.agent.runs.admission.policy import HostLoad, terms
from runner.agent.runs.process import Hello
from runner.aws.identity import Identity
from runner.aws.messages import QueueFacts, Redrive
from runner.aws.settings import Credentials
from runner.check import accounts, disk, identity, jobs, process, queue_rules, sinks, supervisor, unit
from runner.check.everything import check_everything, in_thread
from runner.check.finding import failed, ok, warning
from runner.check.refusals import refusal
from runner.config import Admission, Config, Output, Paths, Queue, Run, Syslog
from runner.errors import AwsUnavailable
from runner.protocol.message import parse_declaration

if TYPE_CHECKING:
    from collections.abc import Callable

    from runner.check.finding import Finding

URL = "https://sqs.eu-west-1.amazonaws.com/123456789012/cron-web"
CONFIG = Config(group="web", queue=Queue(url=URL))
FACTS = QueueFacts(
    arn="arn:aws:sqs:eu-west-1:123456789012:cron-web",
    visibility=30.0,
    retention=345_600.0,
    max_message_bytes=1 << 20,
    redrive=Redrive("arn:aws:sqs:eu-west-1:123456789012:cron-dead", 5),
    fifo=False,
)
HELLO = Hello(1, "0.1.0", 42, "boot", "instance", 0, "app", None, "cgroup", ("memory", "cpu", "pids"))


def queue(**changes: Any) -> Config:
    return replace(CONFIG, queue=replace(CONFIG.queue, **changes))


def policy(**changes: Any) -> Config:
    return replace(CONFIG, admission=replace(Admission(), **changes))


def redriven(count: int) -> QueueFacts:
    return replace(FACTS, redrive=Redrive(FACTS.redrive.target_arn, count) if FACTS.redrive else None)


@pytest.mark.parametrize(
    ("finding", "line"),
    [
        (ok("clock", "well"), "ok       clock         well"),
        (warning("redrive", "why", "do Y"), "warning  redrive       why; do Y"),
        (failed("queue", "two\nlines  here", "do\tY"), "failed   queue         two lines here; do Y"),
    ],
)
def test_a_finding_is_one_line(finding: Finding, line: str) -> None:
    assert finding.line() == line


@pytest.mark.parametrize(
    ("config", "status", "words"),
    [
        (CONFIG, "ok", "visibility 2m, wait 20s, hold 1m"),
        (queue(visibility=20.0), "failed", "visibility 20s is not longer than wait 20s"),
        (queue(visibility=21.0), "warning", "set visibility to at least 1m"),
        (queue(visibility=59.0, wait=0.0), "warning", "a call that hangs (20s) and one more"),
        (queue(visibility=60.0), "ok", "visibility 1m"),
        (queue(wait=0.0), "warning", "set wait to 20s"),
    ],
)
def test_poll_and_lease(config: Config, status: str, words: str) -> None:
    [finding] = queue_rules.timing(config, 20.0)
    assert (finding.status, words in finding.line()) == (status, True), finding.line()


@pytest.mark.parametrize(
    ("config", "facts", "status", "words"),
    [
        (CONFIG, FACTS, "ok", "maxReceiveCount 5, up to 3 hand-backs"),
        (policy(policy="free-for-all"), redriven(2), "ok", "to cron-dead after maxReceiveCount 2"),
        (policy(policy="free-for-all", max_jobs=4), redriven(2), "warning", "nothing is ever handed back"),
        (policy(policy="resources"), redriven(2), "warning", '"resources" nothing is ever handed back'),
        (policy(policy="resources"), redriven(3), "ok", "up to 1 hand-backs"),
        (CONFIG, redriven(1), "warning", "maxReceiveCount 1: a message that comes a second time"),
        (policy(policy="free-for-all"), redriven(1), "warning", "5 or more"),
        (CONFIG, replace(FACTS, redrive=None), "warning", "a message that cannot be a run is told of and then gone"),
        (queue(dead_letter_url=f"{URL}-dead"), replace(FACTS, redrive=None), "warning", "no redrive policy: one whose"),
    ],
)
def test_the_redrive_policy_against_the_policy_chosen(
    config: Config, facts: QueueFacts, status: str, words: str
) -> None:
    finding = queue_rules.redrive(config, facts)
    assert (finding.status, words in finding.line()) == (status, True), finding.line()
    assert bool(finding.remedy) == (status != "ok")


@pytest.mark.parametrize(
    ("config", "facts", "status", "words"),
    [
        (CONFIG, FACTS, "ok", "4d"),
        (CONFIG, replace(FACTS, fifo=True, by_content=True), "ok", "one message group run one after another"),
        (CONFIG, replace(FACTS, fifo=True), "warning", "without content-based deduplication"),
        (CONFIG, replace(FACTS, retention=16 * 86_400.0), "warning", "could run twice"),
        (CONFIG, replace(FACTS, retention=60.0), "warning", "hold is 1m"),
        (CONFIG, replace(FACTS, retention=3599.0), "warning", "no host is up"),
        (CONFIG, replace(FACTS, retention=3600.0), "ok", "1h"),
        (policy(hold=7200.0), replace(FACTS, retention=7000.0), "warning", "held messages can vanish"),
    ],
)
def test_retention(config: Config, facts: QueueFacts, status: str, words: str) -> None:
    finding = queue_rules.retention(config, facts, 16 * 86_400.0)
    assert (finding.status, words in finding.line()) == (status, True), finding.line()


@pytest.mark.parametrize(
    ("urls", "expected"),
    [
        (("a", "b", "c"), []),
        (("a", "", ""), []),
        (("", "", ""), []),
        (("a", "a", "c"), [("results", "failed")]),
        (("a", "b", "a"), [("dead-letter", "failed")]),
        (("a", "b", "b"), [("dead-letter", "warning")]),
    ],
)
def test_queues_that_must_not_be_one(urls: tuple[str, str, str], expected: list[tuple[str, str]]) -> None:
    assert [(finding.name, finding.status) for finding in queue_rules.loops(*urls)] == expected


@pytest.mark.parametrize(
    ("ahead", "status", "words"),
    [
        (0.0, "ok", "within 5 s"),
        (-5.0, "ok", "within 5 s"),
        (6.0, "warning", "6 s ahead of AWS's; set the clock"),
        (-90.0, "warning", "90 s behind AWS's"),
        (241.0, "failed", "AWS refuses what is 5 minutes off"),
        (-3600.0, "failed", "3600 s behind"),
        (None, "warning", "not compared"),
    ],
)
def test_the_clock(ahead: float | None, status: str, words: str) -> None:
    finding = queue_rules.clock(ahead)
    assert (finding.status, words in finding.line()) == (status, True), finding.line()


def test_the_region() -> None:
    assert queue_rules.region([]) is None
    assumed = queue_rules.region(["no region is set for the custom AWS endpoint; us-east-1 is assumed"])
    assert assumed is not None
    assert assumed.status == "ok"
    other = queue_rules.region([f"queue {URL} is in eu-west-1, not in the configured region us-east-1"])
    assert other is not None
    assert (other.status, "AWS_REGION" in other.remedy) == ("warning", True)


@pytest.mark.parametrize(
    ("code", "kind", "status", "words"),
    [
        ("AccessDenied", "denied", "failed", "allow sqs:ReceiveMessage there"),
        ("KmsAccessDenied", "refused", "failed", "allow kms:Decrypt and kms:GenerateDataKey"),
        ("KMS.DisabledException", "refused", "failed", "queue's key"),
        ("ThrottlingException", "throttled", "warning", "check again later"),
        ("ConnectFailed", "unreachable", "failed", "VPC endpoint"),
        ("ConnectTimeout", "timeout", "failed", "security groups"),
        ("QueueDoesNotExist", "no_such_queue", "failed", "create the queue, or correct its url"),
        ("ExpiredToken", "credentials", "failed", "renew them: instance role"),
        ("RequestExpired", "clock", "failed", "chrony"),
        ("BadAnswer", "bad_answer", "failed", "AWS_ENDPOINT_URL"),
        ("ServerError", "server", "failed", "check again"),
        ("SomethingNew", "refused", "failed", "correct what AWS names"),
    ],
)
def test_every_refusal_has_a_remedy(code: str, kind: str, status: str, words: str) -> None:
    error = AwsUnavailable("ReceiveMessage", code, "AWS's own words", kind)
    finding = refusal("queue", error, permission="sqs:ReceiveMessage", where=URL)
    assert (finding.status, words in finding.remedy) == (status, True), finding.line()
    assert f"cannot call ReceiveMessage on {URL}: {code}: AWS's own words" in finding.detail


@pytest.mark.parametrize(
    ("detail", "what", "remedy"),
    [
        (
            "no trusted TLS connection; check CA bundle (AWS_CA_BUNDLE) and proxy (certificate verify failed)",
            "no trusted TLS connection (certificate verify failed)",
            "check CA bundle (AWS_CA_BUNDLE) and proxy",
        ),
        ("AWS cannot be reached: network, DNS, endpoint? (refused)", "AWS cannot be reached (refused)", "VPC endpoint"),
        ("AWS cannot be reached (no route)", "AWS cannot be reached (no route)", "VPC endpoint"),
    ],
)
def test_a_remedy_of_the_client_stands_where_the_remedy_stands(detail: str, what: str, remedy: str) -> None:
    error = AwsUnavailable("ReceiveMessage", "ConnectFailed", detail, "unreachable")
    finding = refusal("queue", error, permission="sqs:ReceiveMessage", where=URL)
    assert finding.detail.endswith(f": {what}")
    assert remedy in finding.remedy


NOW = 1_900_000_000.0
ME = Identity("arn:aws:sts::123456789012:assumed-role/cron/i-0123", "123456789012")


@pytest.mark.parametrize(
    ("credentials", "caller", "status", "words"),
    [
        (Credentials("iam-role", True, True, NOW + 60), ME, "ok", "assumed-role/cron/i-0123, from iam-role"),
        (Credentials("env", False, False, None), None, "ok", "from env; STS does not say whose"),
        (Credentials("env", True, False, None), ME, "warning", "temporary ones that end within hours"),
        (Credentials("custom-process", True, False, NOW + 90), ME, "warning", "end in 1m30s"),
        (Credentials("custom-process", True, False, NOW - 1), ME, "failed", "use an instance role"),
        (Credentials("iam-role", True, True, NOW - 7200), ME, "warning", "expired and not renewed"),
    ],
)
def test_credentials_now_and_tomorrow(
    credentials: Credentials, caller: Identity | None, status: str, words: str
) -> None:
    finding = identity.judge(credentials, caller, NOW)
    assert (finding.status, words in finding.line()) == (status, True), finding.line()


@pytest.mark.parametrize(
    ("limit", "jobs", "status", "words"),
    [
        (1024, 8, "ok", "max_jobs 8"),
        (1024, 0, "ok", "about 149 jobs at once"),
        (1024, 200, "warning", "LimitNOFILE=1328"),
        (64, 1, "warning", "enough for 0 jobs"),
        (-1, 100_000, "ok", "not limited"),
    ],
)
def test_open_files(limit: int, jobs: int, status: str, words: str) -> None:
    finding = process.judge_files(limit, jobs, "the supervisor's")
    assert (finding.status, words in finding.line()) == (status, True), finding.line()


@pytest.mark.parametrize(
    ("left", "blocked", "status"),
    [(5 << 30, None, "ok"), (3 << 30, None, "warning"), (1 << 20, "disk: 1M free, 64M needed", "failed")],
)
def test_free_disk(left: int, blocked: str | None, status: str) -> None:
    assert disk.judge_free(left, 4 << 30, blocked, Path("/var/lib")).status == status


def test_holes_are_tried_without_leaving_a_file(tmp_path: Path) -> None:
    finding = disk.holes(replace(CONFIG, paths=Paths(state=tmp_path / "not" / "yet")))
    assert finding is not None
    assert finding.name == "holes"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("hello", "expected", "words"),
    [
        (HELLO, [("supervisor", "ok"), ("cgroup", "ok")], "limits of memory, cpu, pids are held"),
        (replace(HELLO, version="0.0.9"), [("supervisor", "warning"), ("cgroup", "ok")], "version 0.0.9, this is"),
        (replace(HELLO, controllers=("cpu",)), [("supervisor", "ok"), ("cgroup", "warning")], "memory, pids cannot"),
        (
            replace(HELLO, placement="session", controllers=(), warnings=("no cgroup for jobs: no mount; and",)),
            [("supervisor", "ok"), ("cgroup", "warning")],
            "no cgroup for jobs: no mount; jobs are kept together by session and mark only: one that hides on purpose",
        ),
        (
            replace(HELLO, default_user=None, default_user_error="cannot run a job as 'x': no such user; create it"),
            [("supervisor", "ok"), ("user", "failed"), ("cgroup", "ok")],
            "no such user; create it",
        ),
        (
            replace(HELLO, start="direct"),
            [("supervisor", "ok"), ("cgroup", "ok"), ("start", "ok")],
            "jobs are started directly",
        ),
        (
            replace(HELLO, start="fork: clone3 is refused here (Operation not permitted)"),
            [("supervisor", "ok"), ("cgroup", "ok"), ("start", "ok")],
            "more for each: clone3 is refused here (Operation not permitted)",
        ),
    ],
)
def test_what_the_supervisor_says(hello: Hello, expected: list[tuple[str, str]], words: str) -> None:
    findings = supervisor.judge(hello, started=False)
    assert [(finding.name, finding.status) for finding in findings] == expected
    assert any(words in finding.line() for finding in findings)


@pytest.mark.parametrize(
    ("method", "agent", "status"),
    [
        ("iam-role", "cron-runner", "ok"),
        ("shared-credentials-file", "cron-runner", "warning"),
        ("env", "cron-runner", "warning"),
        ("env", "", "ok"),
    ],
)
def test_credentials_of_a_shell_are_not_the_agents(method: str, agent: str, status: str) -> None:
    finding = identity.judge(Credentials(method, False, False, None), ME, NOW, agent)
    assert (finding.status, "sudo -u cron-runner" in finding.remedy) == (status, status == "warning")


def test_the_environment_that_the_units_have(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    environ = {"AWS_PROFILE": "mine"}
    assert unit.add_environment(config, environ) == []
    (tmp_path / "environment").write_text("AWS_REGION=eu-west-1\nAWS_PROFILE=mine\n")
    [taken] = unit.add_environment(config, environ)
    assert (taken.status, taken.detail) == (
        "ok",
        f"AWS_REGION taken from {tmp_path}/environment, as the agent has it",
    )
    assert environ == {"AWS_PROFILE": "mine", "AWS_REGION": "eu-west-1"}
    environ["AWS_PROFILE"] = "other"
    [differs] = unit.add_environment(config, environ)
    assert (differs.status, environ["AWS_PROFILE"]) == ("warning", "other")
    assert "AWS_PROFILE of this shell differ" in differs.detail
    (tmp_path / "environment").write_text("nonsense\n")
    [broken] = unit.add_environment(config, environ)
    assert (broken.status, "is not NAME=VALUE" in broken.detail) == ("warning", True)


def test_directories_of_the_agent(tmp_path: Path) -> None:
    me = accounts.Account(accounts.own_name())

    def look(path: Path, who: accounts.Account = me, *, packaged: bool = False) -> tuple[str, str]:
        finding = disk.directory("state", path, who, unit=packaged)[-1]
        return finding.status, finding.line()

    assert look(tmp_path)[0] == "ok"
    status, line = look(tmp_path / "not" / "yet")
    assert (status, line) == ("ok", f"ok       state         {tmp_path}/not/yet is not there yet; the agent makes it")
    (tmp_path / "file").touch()
    assert look(tmp_path / "file" / "below")[0] == "failed"
    tmp_path.chmod(0o777)
    assert "can be written by everybody" in look(tmp_path)[1]
    missing = Path("/var/lib/cron-runner")
    if not missing.exists():
        assert look(missing, packaged=True) == (
            "ok", f"ok       state         {missing} is not there yet; cron-runner.service makes it"
        )  # fmt: skip


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can ask as somebody else")
def test_root_asks_as_those_who_will_do_it(tmp_path: Path) -> None:
    nobody = accounts.account("nobody")
    assert nobody is not None
    secret, closed = tmp_path / "secret.env", tmp_path / "closed"
    secret.write_text("A=b\n")
    secret.chmod(0o600)
    closed.mkdir(0o700)
    config = replace(CONFIG, run=Run(env_files=(str(secret),), cwd=str(closed)))
    tmp_path.chmod(0o755)
    details = [finding.detail for finding in jobs.surroundings(config, nobody)]
    assert f"[run] cwd: {closed} cannot be entered by nobody: no job can start there" in details
    assert f"{secret} cannot be read by nobody, whom jobs run as: no job can start" in details
    [state] = disk.directory("state", closed, nobody, unit=False)
    assert (state.status, f"chown -R nobody {closed}" in state.remedy) == ("failed", True)
    assert {finding.status for finding in jobs.surroundings(config, accounts.Account("root"))} == {"ok"}


def test_users_of_jobs() -> None:
    config = replace(CONFIG, run=Run(allowed_users=("nobody", "no-such-user")))
    found = accounts.job_users(config, "nobody", privileged=True)
    assert [(finding.name, finding.status) for finding in found] == [("user", "failed")]
    assert "useradd --system no-such-user" in found[0].remedy
    config = replace(CONFIG, run=Run(allowed_users=("nobody",)))
    [well] = accounts.job_users(config, "nobody", privileged=True)
    assert (well.status, well.detail) == ("ok", "jobs run as nobody; a message may name nobody")
    others = accounts.job_users(config, "daemon", privileged=False)
    assert [finding.status for finding in others] == ["ok", "warning"]
    assert "jobs for nobody cannot run: the supervisor is not root" in others[1].detail
    assert [finding.status for finding in accounts.job_users(CONFIG, "root", privileged=True)] == ["ok", "warning"]


def test_limits_and_resources_of_declared_jobs() -> None:
    job = parse_declaration(
        "big", {"command": ["sh"], "limits": {"memory": "1G"}, "resources": {"memory": "900G", "gpu": 1}}
    )
    config = replace(CONFIG, jobs={"big": job}, admission=Admission(policy="resources"))
    me = accounts.Account(accounts.own_name())
    offered = terms(config.admission, HostLoad(4.0, 8 << 30))
    found = jobs.declared(config, me, ("cpu",), offered)
    assert [finding.status for finding in found] == ["warning", "warning"]
    assert "limits.memory cannot be held" in found[0].detail
    assert "never fits this host: memory 900G asked" in found[1].detail
    free = jobs.declared(config, me, ("memory",), terms(Admission(), None))
    assert [finding.detail for finding in free] == [f"big: can start as {me.name}"]
    nothing = jobs.declared(replace(CONFIG, run=Run(commands="declared")), me, None, None)
    assert [finding.status for finding in nothing] == ["warning"]


async def test_an_installed_unit_that_does_not_run_is_said_and_not_replaced(tmp_path: Path) -> None:
    (tmp_path / supervisor.UNIT).touch()
    config = replace(CONFIG, paths=Paths(state=tmp_path, runtime=tmp_path / "run"))
    hello, [finding] = await supervisor.ask(config, (tmp_path,))
    assert (hello, finding.status) == (None, "warning")
    assert f"systemctl start {supervisor.UNIT}" in finding.remedy


def test_who_holds_a_lock() -> None:
    locks = (
        "1: POSIX  ADVISORY  WRITE 11 fe:00:7 0 EOF\n"
        "2: FLOCK  ADVISORY  WRITE 12 fe:00:77 0 EOF\n"
        "2: -> FLOCK  ADVISORY  WRITE 13 fe:00:77 0 EOF\n"
    )
    assert process.holder(locks, "fe:00", 77) == 12
    assert process.holder(locks, "fe:00", 7) is None
    assert process.holder(locks, "00:1f", 77) is None  # the same number elsewhere, and no program of ours
    for argument, found in (("cron-runner", True), ("another", False)):
        command = [sys.executable, "-c", "print(flush=True); input()", argument]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
            assert child.stdout is not None
            child.stdout.readline()  # before its first line the kernel may not show its command line yet
            other_device = f"1: FLOCK  ADVISORY  WRITE {child.pid} 00:2a:77 0 EOF\n"
            assert process.holder(other_device, "00:1f", 77) == (child.pid if found else None)
            child.communicate(b"\n")


def spoilt(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[4096:8192] = b"\xff" * 4096
    path.write_bytes(content)


def from_the_future(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 1000")


@pytest.mark.parametrize(
    ("change", "status", "words"),
    [
        (None, "ok", "is sound"),
        (spoilt, "failed", "is damaged"),
        (lambda path: path.write_bytes(b"no database, but long enough to be looked at" * 100), "failed", "is damaged"),
        (from_the_future, "failed", "a later cron-runner (schema 1000"),
        (Path.unlink, "ok", "not there yet"),
    ],
)
def test_the_journal(tmp_path: Path, change: Callable[[Path], object] | None, status: str, words: str) -> None:
    path = tmp_path / "journal.db"
    open_connection(path).close()
    if change is not None:
        change(path)
    finding = disk.journal(replace(CONFIG, paths=Paths(state=tmp_path)))
    assert (finding.status, words in finding.line()) == (status, True), finding.line()


def test_sinks_of_this_host(tmp_path: Path) -> None:
    def with_syslog(address: str) -> Config:
        return replace(CONFIG, output=replace(Output(), sinks=("syslog",), syslog=Syslog(address=address)))

    both = replace(CONFIG, output=replace(Output(), sinks=("journald", "stdout")))
    journal = tmp_path / "journal"
    assert [finding.status for finding in sinks.sinks(both, journal)] == ["failed", "ok"]
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as listening:
        listening.bind(str(journal))
        assert [finding.status for finding in sinks.sinks(both, journal)] == ["ok", "ok"]
        assert [finding.status for finding in sinks.sinks(with_syslog(f"unix://{journal}"))] == ["ok"]
    assert [finding.status for finding in sinks.sinks(with_syslog("unix:///no/such/log"))] == ["failed"]
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        port = server.getsockname()[1]
        assert [finding.status for finding in sinks.sinks(with_syslog(f"tcp://127.0.0.1:{port}"))] == ["ok"]
    [gone] = sinks.sinks(with_syslog(f"tcp://127.0.0.1:{port}"))
    assert (gone.status, "[output.syslog] address" in gone.remedy) == ("failed", True)
    [udp] = sinks.sinks(with_syslog("udp://127.0.0.1:514"))
    assert (udp.status, "does not tell" in udp.detail) == ("ok", True)


async def test_a_look_that_hangs_is_given_up() -> None:
    started = time.monotonic()
    with pytest.raises(TimeoutError):
        await in_thread(lambda: threading.Event().wait(3), 0.1)
    assert time.monotonic() - started < 2.5
    with pytest.raises(ZeroDivisionError):
        await in_thread(lambda: 1 // 0, 10.0)
    assert await in_thread(lambda: 7, 10.0) == 7


async def test_a_check_that_fails_itself_is_a_line_and_hides_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> list[Finding]:
        raise ZeroDivisionError("of the check's own")

    monkeypatch.setattr(disk, "directories", broken)
    monkeypatch.setattr(process, "running", broken)
    config = replace(CONFIG, paths=Paths(state=tmp_path / "state", runtime=tmp_path / "run"))
    findings = await check_everything(config, offline=True)
    crashes = [finding for finding in findings if "this check failed itself: ZeroDivisionError" in finding.detail]
    assert [(finding.name, finding.status) for finding in crashes] == [("state", "failed"), ("agent", "failed")]
    assert {"disk", "journal", "files", "supervisor"} <= {finding.name for finding in findings}
