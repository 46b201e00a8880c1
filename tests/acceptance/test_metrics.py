"""/metrics of a real agent: the page is what Prometheus expects, and its numbers are those of what happened."""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from prometheus_client.parser import text_string_to_metric_families

from asking import health, listen, page
from waiting import wait_for

if TYPE_CHECKING:
    from prometheus_client.core import Metric

    from faults import Proxy
    from fleet import Fleet, Host

pytestmark = pytest.mark.parametrize("aws_server", ["standin"], indirect=True)

DOCS = Path(__file__).resolve().parents[2] / "docs" / "metrics.md"
UNITS = ("seconds", "bytes", "total", "info", "ratio")
# Numbers of things, states, and ages of the process itself.
PLAIN = {
    "leases_held", "runs_running", "runs_held", "outbox_events", "healthy", "problem", "supervisor_connected",
    "journal_blocked", "admission_blocked", "paused", "draining", "config_last_reload_successful",
    "config_restart_keys", "queue_messages", "job_running",
}  # fmt: skip


def started(fleet: Fleet, **settings: str) -> tuple[Host, str]:
    host = fleet.host(**settings)
    address = listen(host)
    host.start()
    return host, address


def families(address: str) -> dict[str, Metric]:
    status, text = page(address, "/metrics")
    assert status in (0, 200), text
    return {family.name: family for family in text_string_to_metric_families(text)}


def value(address: str, name: str, **labels: str) -> float | None:
    """One sample's value; None where there is no such sample."""
    for family in families(address).values():
        for sample in family.samples:
            if sample.name == f"cron_runner_{name}" and sample.labels == labels:
                return float(sample.value)
    return None


def wait_value(address: str, host: Host, expected: float, name: str, **labels: str) -> None:
    wait_for(
        lambda: value(address, name, **labels) == expected,
        f"{name} {labels} is {expected}",
        60,
        lambda: f"it is {value(address, name, **labels)}\n{host.log()}",
    )


def test_every_kind_of_end_is_counted(fleet: Fleet, proxy: Proxy) -> None:
    fleet.endpoint = proxy.endpoint
    host, address = started(fleet)
    fleet.send(
        {"job": "good", "run_id": "good", "command": "echo 12345"},
        {"job": "bad", "run_id": "bad", "command": "exit 3", "retries": {"max": 2, "backoff": "10ms"}},
        {"job": "late", "run_id": "late", "command": "true", "not_after": "2020-01-01T00:00:00Z"},
        {"job": "odd", "run_id": "odd", "command": "true", "colour": "red"},
        {"job": "slow", "run_id": "slow", "command": "sleep 60", "timeout": "0.3s", "grace": "1s"},
        {"job": "none", "run_id": "none", "command": ["/no/such/command"]},
    )
    fleet.wait_empty(60)
    for outcome, attempts, runs in (
        ("succeeded", 1, 1),
        ("failed", 3, 1),
        ("timed_out", 1, 1),
        ("start_failed", 1, 1),
        ("lost", 0, 0),  # there from the beginning: an increase is seen at its first time
    ):
        wait_value(address, host, attempts, "attempts_total", outcome=outcome)
        wait_value(address, host, runs, "runs_total", outcome=outcome)
    wait_value(address, host, 1, "runs_skipped_total", reason="stale")
    wait_value(address, host, 1, "messages_rejected_total", reason="invalid")
    wait_value(address, host, 6, "messages_received_total")
    wait_value(address, host, 5, "attempts_started_total")
    # A retry waits for its backoff, not for the queue; and what could not be executed has no duration.
    wait_value(address, host, 3, "queue_latency_seconds_count")
    wait_value(address, host, 5, "attempt_duration_seconds_count")
    wait_value(address, host, 6, "output_bytes_total")
    wait_value(address, host, 0, "runs_running")
    wait_value(address, host, 0, "outbox_events")
    wait_value(address, host, 1, "job_runs_total", job="bad", outcome="failed")
    wait_value(address, host, 3, "job_duration_seconds_count", job="bad")
    wait_value(address, host, 0, "job_running", job="slow")
    succeeded = value(address, "job_last_success_timestamp_seconds", job="good")
    assert abs((succeeded or 0) - time.time()) < 60
    assert value(address, "job_last_success_timestamp_seconds", job="bad") is None
    assert value(address, "job_last_failure_timestamp_seconds", job="bad") is not None
    slow = value(address, "attempt_duration_seconds_sum")
    assert slow is not None
    assert 0.3 <= slow < 30
    before = value(address, "aws_requests_total", service="sqs", action="ReceiveMessage")
    assert before
    proxy.fail(1.0, "PutLogEvents")
    fleet.send({"job": "good", "run_id": "again", "command": "echo 12345"})
    wait_for(lambda: (value(address, "unshipped_age_seconds") or 0) > 1, "output waits", detail=host.log)
    assert value(address, "spool_bytes") == 6
    codes = {
        sample.labels["code"]: sample.value
        for sample in families(address)["cron_runner_aws_errors"].samples
        if sample.labels["action"] == "PutLogEvents"
    }
    assert codes.keys() & {"InternalFailure", "ServiceUnavailable", "ThrottlingException"}, codes
    proxy.heal()
    wait_value(address, host, 0, "spool_bytes")
    wait_value(address, host, 0, "unshipped_age_seconds")
    assert not [name for name in families(address) if not re.fullmatch(r"(cron_runner|process)_[a-z_]+", name)]
    since = value(address, "job_last_success_timestamp_seconds", job="good")
    host.kill()
    host.start()
    # Not falling silent by a restart; SQS is asked for its depth, too.
    wait_for(lambda: health(address)[0] == 200, "the next agent is up", detail=host.log)
    assert value(address, "job_last_success_timestamp_seconds", job="good") == pytest.approx(since)
    wait_value(address, host, 0, "queue_messages", queue="jobs", state="visible")


def test_what_is_held_running_and_owed_is_shown(fleet: Fleet, proxy: Proxy) -> None:
    fleet.endpoint = proxy.endpoint
    host, address = started(fleet)
    go = fleet.directory / "go"
    wait = f"while [ ! -e {go} ]; do sleep 0.05; done"
    fleet.send({"job": "one", "run_id": "first", "command": wait})
    fleet.events.wait("first", "started")
    fleet.send({"job": "one", "run_id": "second", "command": "true", "overlap": "wait"})
    wait_value(address, host, 1, "runs_held", reason="overlap")
    wait_value(address, host, 1, "runs_running")
    wait_value(address, host, 2, "leases_held")
    proxy.fail(1.0, "SendMessageBatch")
    go.touch()
    wait_for(lambda: (value(address, "outbox_events") or 0) >= 2, "events wait", detail=host.log)
    wait_for(lambda: (value(address, "outbox_oldest_age_seconds") or 0) > 0.5, "and grow old", detail=host.log)
    wait_for(lambda: (value(address, "results_failing_seconds") or 0) > 0.5, "the queue is away", detail=host.log)
    proxy.heal()
    fleet.events.wait_ended(["first", "second"], within=60)
    wait_value(address, host, 0, "outbox_events")
    wait_value(address, host, 0, "results_failing_seconds")
    assert families(address)["cron_runner_runs_held"].samples == []


@pytest.mark.skipif(shutil.which("promtool") is None, reason="no promtool (apt-get install prometheus)")
def test_promtool_finds_nothing_in_the_page_and_in_the_alert_rules(fleet: Fleet, tmp_path: Path) -> None:
    host, address = started(fleet)
    fleet.send({"job": "good", "run_id": "good", "command": "true"})
    fleet.events.wait_ended(["good"])
    text = page(address, "/metrics")[1]
    done = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, ""), host.log()
    (rules,) = re.findall(r"```yaml\n(groups:.*?)```", DOCS.read_text(), re.DOTALL)
    (tmp_path / "rules.yml").write_text(rules)
    done = subprocess.run(
        ["promtool", "check", "rules", str(tmp_path / "rules.yml")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_page_is_what_prometheus_expects(fleet: Fleet) -> None:
    """As promtool lints: a HELP and a TYPE for each, base units, `_total` on counters and nowhere else."""
    host, address = started(fleet)
    wait_for(lambda: page(address, "/metrics")[0] == 200, "the page is there", detail=host.log)
    text = page(address, "/metrics")[1]
    found = families(address)
    assert len(found) > 30
    for name, family in found.items():
        assert family.documentation.endswith("."), name
        assert family.type in ("counter", "gauge", "histogram"), name
        assert text.count(f"# HELP {name}{'_total' if family.type == 'counter' else ''} ") == 1
        bare = name.removeprefix("cron_runner_")
        assert (family.type == "counter") or not bare.endswith("_total"), name
        assert bare in PLAIN or bare.endswith(UNITS) or family.type == "counter" or name.startswith("process_"), name
        for sample in family.samples:
            assert sample.name.endswith("_total") == (family.type == "counter"), sample
            assert "run_id" not in sample.labels
            assert "job" not in sample.labels
    buckets = [s for s in found["cron_runner_queue_latency_seconds"].samples if s.name.endswith("_bucket")]
    assert buckets[-1].labels == {"le": "+Inf"}
    [about] = found["cron_runner_build_info"].samples
    assert about.labels["group"] == "test"
    assert health(address)[1]["version"] == about.labels["version"]
    assert [s.value for s in found["cron_runner_healthy"].samples] == [1.0]
