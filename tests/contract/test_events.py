"""Every event in `events/` is built from its facts exactly as its file says."""

from __future__ import annotations

import difflib
import json
from pathlib import Path
from typing import Any

import pytest

from runner.protocol import Event, HostFacts, RunFacts, Source, agent_event, run_event

FILES = sorted((Path(__file__).parent / "events").glob("*.json"))
TYPES = {
    "cron-runner.run.started",
    "cron-runner.run.heartbeat",
    "cron-runner.run.finished",
    "cron-runner.run.skipped",
    "cron-runner.run.rejected",
    "cron-runner.agent.started",
    "cron-runner.agent.stopped",
}


def built(case: dict[str, Any]) -> Event:
    host = {name: value for name, value in case["source"].items() if name != "group"}
    source = Source(case["source"]["group"], HostFacts(**host))
    if case["call"] == "agent_event":
        return agent_event(source, **case["arguments"])
    return run_event(source, RunFacts(**case["facts"]), **case["arguments"])


def test_every_type_has_a_case() -> None:
    assert {json.loads(path.read_text("utf-8"))["event"]["type"] for path in FILES} == TYPES


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_event(path: Path) -> None:
    case = json.loads(path.read_text("utf-8"))

    event = built(case)

    assert event.body.isascii()
    got = json.loads(event.body)
    assert (event.id, event.type, event.subject) == (got["id"], got["type"], got.get("subject"))
    texts = [json.dumps(value, indent=2).splitlines() for value in (case["event"], got)]
    found = "\n".join(difflib.unified_diff(texts[0], texts[1], "expected", "got", lineterm="", n=1))
    assert not found, found
