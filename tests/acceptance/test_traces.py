"""A run's trace, from the message to the job, its events and the agent's log, over a crash of the agent."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from waiting import wait_for

if TYPE_CHECKING:
    from fleet import Fleet, Host

CONTEXT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
XRAY = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1"
OF_XRAY = "00-5759e988bd862e3fe1be46a994272793-53995c3f42cd8ad8-01"


def lines_of(host: Host, run_id: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in host.log().splitlines() if line.startswith("{")]
    return [line for line in lines if line.get("run_id") == run_id]


def test_a_runs_trace(fleet: Fleet) -> None:
    host = fleet.host(visibility="10s")
    host.start()
    go = fleet.directory / "go"
    tell = 'echo "trace ${TRACEPARENT-none}"'
    wait = f"{tell}; while [ ! -e {go} ]; do sleep 0.1; done"
    header = {"AWSTraceHeader": {"DataType": "String", "StringValue": XRAY}}
    fleet.send({"job": "own", "run_id": "own", "command": wait, "traceparent": CONTEXT})
    wait_for(lambda: lines_of(host, "own"), "it runs")
    host.kill()  # with SIGKILL: the next one knows the trace from the journal
    go.touch()
    host.start()
    for body, attributes in (
        ({"job": "xray", "run_id": "xray", "command": tell}, header),
        ({"job": "both", "run_id": "both", "command": tell, "traceparent": CONTEXT}, header),
        ({"job": "none", "run_id": "none", "command": tell}, {}),
        ({"job": "wrong", "run_id": "wrong", "command": tell, "traceparent": XRAY}, {}),
    ):
        fleet.aws.sqs.send_message(
            QueueUrl=fleet.queue, MessageBody=json.dumps(body), MessageSystemAttributes=attributes
        )

    for run_id, expected in (("own", CONTEXT), ("xray", OF_XRAY), ("both", CONTEXT), ("none", None)):
        finished = fleet.events.wait(run_id, "finished")
        events = [event for event in fleet.events.seen if event.get("subject") == run_id]
        assert {event.get("traceparent") for event in events} == {expected}, run_id
        assert finished["data"]["output"]["tail"] == f"trace {expected or 'none'}\n"
        lines = lines_of(host, run_id)
        assert {line.get("traceparent") for line in lines} == {expected}, lines
    rejected = fleet.events.wait("wrong", "rejected")
    assert rejected["data"]["reason"] == "invalid"
    assert rejected["data"]["detail"].startswith("traceparent: ")
    assert "traceparent" not in rejected

    shown = json.loads(host.command("show", "own", "--json").stdout)
    assert shown["traceparent"] == CONTEXT
    printed = host.command("send", "x", "--print", "--traceparent", CONTEXT, "--", "true")
    assert json.loads(printed.stdout)["traceparent"] == CONTEXT
