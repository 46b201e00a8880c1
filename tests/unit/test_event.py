from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runner.protocol import Event, HostFacts, RunFacts, Source, agent_event, run_event

# A busy machine is slow, not wrong.
PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=40)

LIMIT = 256 * 1024
SOURCE = Source("web", HostFacts("web-1", None, "b", "Debian", "0.1.0"))
FACTS = RunFacts("e1", "x", "r1", 1, 0.0, 1.5, {"a": "b"})


def finished(facts: RunFacts = FACTS, **data: object) -> Event:
    return run_event(SOURCE, facts, kind="finished", attempt=1, sequence=2, time=5.0, data=data)


def said(event: Event) -> dict[str, Any]:
    data = json.loads(event.body)["data"]
    assert isinstance(data, dict)
    return data


def test_the_same_fact_has_the_same_id() -> None:
    first, second = finished(outcome="succeeded"), finished(outcome="succeeded")
    assert first == second
    assert first.id == "e1/1/cron-runner.run.finished"


def test_heartbeats_are_told_apart() -> None:
    beats = [
        run_event(SOURCE, FACTS, kind="heartbeat", attempt=2, sequence=7, time=5.0, data={}, beat=beat).id
        for beat in (None, 3)
    ]
    assert beats == ["e1/2/cron-runner.run.heartbeat/7", "e1/2/cron-runner.run.heartbeat/3"]


def test_agent_events_of_one_life_are_told_apart() -> None:
    ids = {
        agent_event(SOURCE, kind=kind, time=0.0, instance="i", version="1", policy="free-for-all", reason="start").id
        for kind in ("started", "stopped")
    }
    assert len(ids) == 2


def test_times_are_formatted_and_absent_ones_stay_null() -> None:
    data = said(finished(started_at=0.5, finished_at=None))
    assert data["started_at"] == "1970-01-01T00:00:00.500000Z"
    assert data["finished_at"] is None
    assert data["sent_at"] == "1970-01-01T00:00:01.500000Z"


def test_given_facts_are_left_as_they_were() -> None:
    output = {"tail": "x" * LIMIT}
    given_data = {"started_at": 0.5, "output": output}
    run_event(SOURCE, FACTS, kind="finished", attempt=1, sequence=1, time=0.0, data=given_data)
    assert given_data == {"started_at": 0.5, "output": output}
    assert len(output["tail"]) == LIMIT
    assert FACTS.labels == {"a": "b"}


def test_what_json_cannot_say_becomes_null() -> None:
    data = said(finished(duration_s=float("nan"), usage={"list": [float("inf"), 1.0]}))
    assert data["duration_s"] is None
    assert data["usage"] == {"list": [None, 1.0]}


def test_the_tail_is_cut_first_and_keeps_its_end() -> None:
    tail = "é" * 100_000 + "the end"
    event = finished(command="c" * 1000, output={"bytes": 5, "tail": tail})
    data = said(event)
    assert LIMIT - 6 <= len(event.body) <= LIMIT
    assert data["shortened"] is True
    assert data["output"]["tail"].endswith("éthe end")
    assert data["output"]["bytes"] == 5
    assert data["command"] == "c" * 1000
    assert data["labels"] == {"a": "b"}


def test_then_the_command() -> None:
    data = said(finished(command=["cp", "a" * 10, "x" * LIMIT], output={"tail": "t" * 4096}))
    assert data["output"]["tail"] == ""
    assert data["command"] == ["cp", "a" * 10]
    text = said(finished(command="x" * LIMIT * 2))
    assert 0 < len(text["command"]) < LIMIT


def test_then_the_labels() -> None:
    facts = RunFacts("e1", "x", "r1", 1, labels={"big": "x" * LIMIT})
    data = said(finished(facts, command="echo", outcome="failed"))
    assert data["labels"] == {}
    assert data["outcome"] == "failed"


def test_whatever_is_long_an_event_fits() -> None:
    wide = {str(n): ["\0" * 300] * 300 for n in range(300)}
    event = finished(outcome="failed", surprise=wide, other="x" * LIMIT)
    assert len(event.body) <= LIMIT
    assert said(event)["outcome"] == "failed"


def test_events_that_fit_do_not_say_that_they_were_shortened() -> None:
    assert "shortened" not in said(finished())


@PATIENT
@given(
    st.text(st.characters()).map(lambda text: text * 9000),
    st.lists(st.text()).map(lambda words: words * 300) | st.text().map(lambda text: text * 20000),
    st.dictionaries(st.text(), st.text().map(lambda text: text * 9000)),
)
def test_every_event_is_ascii_json_within_the_limit(tail: str, command: object, labels: dict[str, str]) -> None:
    facts = RunFacts("e1", "x", "r1", 1, labels=labels)
    event = finished(facts, outcome="failed", command=command, output={"tail": tail})
    assert event.body.isascii()
    assert len(event.body) <= LIMIT
    assert said(event)["outcome"] == "failed"


@pytest.mark.parametrize("kind", ["started", "skipped", "rejected"])
def test_subject_is_the_run(kind: Any) -> None:
    event = run_event(SOURCE, FACTS, kind=kind, attempt=0, sequence=1, time=0.0, data={})
    assert event.subject == "r1"
    assert json.loads(event.body)["subject"] == "r1"
