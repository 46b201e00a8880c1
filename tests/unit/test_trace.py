"""Which trace a run belongs to: W3C's trace context, and X-Ray's header in its place."""

from __future__ import annotations

import io
import json

import pytest
import structlog

from runner import log
from runner.agent.runs.environment import inherited
from runner.protocol import HostFacts, RunFacts, Source, run_event
from runner.protocol.job import Defaults
from runner.protocol.message import InvalidMessage, read_job
from runner.protocol.trace import from_xray, is_traceparent

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
CONTEXT = f"00-{TRACE}-{SPAN}-01"
XRAY = f"Root=1-{TRACE[:8]}-{TRACE[8:]};Parent={SPAN};Sampled=1"


@pytest.mark.parametrize(
    "context", [CONTEXT, f"00-{TRACE}-{SPAN}-00", f"01-{TRACE}-{SPAN}-ff-more.of-it", f"cc-{CONTEXT[3:]}"]
)
def test_a_trace_context(context: str) -> None:
    assert is_traceparent(context)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "00",
        CONTEXT.upper(),
        f" {CONTEXT}",
        f"{CONTEXT}\n",
        f"{CONTEXT}-more",  # version 00 has no more
        f"ff-{CONTEXT[3:]}",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE[1:]}-{SPAN}-01",
        f"01-{CONTEXT[3:]}-{'x' * 256}",
        XRAY,
    ],
)
def test_no_trace_context(text: str) -> None:
    assert not is_traceparent(text)


@pytest.mark.parametrize(
    ("header", "flags"),
    [
        (XRAY, "01"),
        (XRAY.replace("Sampled=1", "Sampled=0"), "00"),
        (XRAY.replace("Sampled=1", "Sampled=?"), "00"),
        (XRAY.partition(";Sampled")[0], "00"),
        (f"Self=1-67891233-abcdef012345678912345678; {XRAY.replace(';', '; ')};Lineage=a87bd80c:1", "01"),
        (XRAY.replace(TRACE[:8], TRACE[:8].upper()), "01"),
    ],
)
def test_of_xrays_header(header: str, flags: str) -> None:
    assert from_xray(header) == f"00-{TRACE}-{SPAN}-{flags}"


@pytest.mark.parametrize(
    "header",
    [
        "",
        "nothing",
        f"Root=1-{TRACE[:8]}-{TRACE[8:]}",
        f"Root=1-{TRACE[:8]}-{TRACE[8:]};Parent=;Sampled=1",
        f"Root=1-{TRACE[:8]}-{TRACE[8:]};Parent={'0' * 16};Sampled=1",
        f"Root=1-00000000-{'0' * 24};Parent={SPAN}",
        f"Root=2-{TRACE[:8]}-{TRACE[8:]};Parent={SPAN}",
        f"Root={TRACE};Parent={SPAN}",
        CONTEXT,
        ";" * 100_000,
    ],
)
def test_nothing_is_made_up(header: str) -> None:
    assert from_xray(header) is None


def _read(trace: str, **fields: object) -> str | None:
    body = json.dumps({"job": "x", "command": "true", **fields})
    return read_job(body, message_id="m", defaults=Defaults(), declarations={}, trace=trace).traceparent


def test_the_messages_own_comes_first() -> None:
    other = CONTEXT.replace("b7", "c8")
    assert _read(XRAY) == CONTEXT
    assert _read(XRAY, traceparent=other) == other
    assert _read("") is None
    assert _read("Root=nonsense") is None


def test_a_rejected_message_has_its_trace() -> None:
    for body in ({"traceparent": CONTEXT}, {}):
        with pytest.raises(InvalidMessage) as refused:
            _read(XRAY, user=5, **body)
        assert refused.value.traceparent == CONTEXT


def test_an_event_has_it_beside_its_data() -> None:
    source = Source("web", HostFacts("h", None, "b", "Debian", "0"))
    for trace in (CONTEXT, None):
        facts = RunFacts("e1", "x", "r1", 1, traceparent=trace)
        event = json.loads(run_event(source, facts, kind="started", attempt=1, sequence=1, time=1.0, data={}).body)
        assert event.get("traceparent") == trace
        assert "traceparent" not in event["data"]
        assert ("traceparent" in event) is (trace is not None)


def test_the_agents_own_trace_is_no_jobs() -> None:
    assert inherited(("*",), {"TRACEPARENT": CONTEXT, "A": "b"}) == {"A": "b"}


@pytest.mark.usefixtures("log_restored")
def test_lines_of_a_run_name_its_trace() -> None:
    stream = io.StringIO()
    log.configure(stream=stream)
    log.traces.note("traced", CONTEXT)
    structlog.get_logger().info("run_started", run_id="traced")
    structlog.get_logger().info("run_started", run_id="other")
    log.traces.note("traced", None)
    structlog.get_logger().info("run_finished", run_id="traced")
    lines = [json.loads(line).get("traceparent") for line in stream.getvalue().splitlines()]
    assert lines == [CONTEXT, None, None]
