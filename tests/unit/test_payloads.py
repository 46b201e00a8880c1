"""What each kind of target is sent about a fact."""

from __future__ import annotations

import json
from dataclasses import replace
from urllib.parse import parse_qs, urlsplit

import pytest

from runner.control.notices import wording
from runner.control.notices.facts import Fact
from runner.control.notices.notify import NEWS, parse_notify
from runner.control.notices.payloads import SUBJECT_CHARS, pagerduty, ping, sns, webhook
from runner.control.notices.senders import shown
from runner.protocol import InvalidMessage

AT = 1_767_225_600.0  # 2026-01-01T00:00:00Z
FACT = Fact(
    id="failure/web/r1/e/1",
    news="failure",
    group="web",
    job="nightly",
    at=AT + 90,
    run_id="nightly-1",
    due_at=AT,
    started_at=AT + 30,
    duration_s=60.0,
    host="host-1",
    attempt=2,
    outcome="failed",
    reason="exit code 3",
    exit_code=3,
    tail="reading <input> & more\n```\nERROR: no space left\n",
    log={"group": "/cron-runner/web", "stream": "nightly/nightly-1", "url": "https://console.example.com/log"},
    owner="data team",
)
SLACK = "https://hooks.example.com/services/T0/B0/secret"


def news(kind: str, **changes: object) -> Fact:
    return replace(FACT, news=kind, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("fact", "said"),
    [
        (FACT, "[web] nightly failed: exit code 3"),
        (news("failure", outcome="timed_out", reason="ran for 1h"), "[web] nightly timed out: ran for 1h"),
        (news("lost", reason=None), "[web] nightly was lost: its host has gone silent"),
        (
            news("recovery", previous=AT),
            "[web] nightly succeeded again; it had been in trouble since 2026-01-01 00:00:00 UTC",
        ),
        (
            news("not-started", reason="nothing is known of it"),
            "[web] nightly did not start; it was due at 2026-01-01 00:00:00 UTC",
        ),
    ],
)
def test_a_title_says_what_happened(fact: Fact, said: str) -> None:
    assert wording.title(fact) == said


@pytest.mark.parametrize("kind", NEWS)
def test_every_piece_of_news_has_words(kind: str) -> None:
    assert wording.title(news(kind)).startswith("[web] nightly ")
    bare = Fact(id="x", news=kind, group="web", job="nightly", at=AT)  # type: ignore[arg-type]
    assert "None" not in wording.text(bare)


def test_the_text_has_everything_a_person_asks_for() -> None:
    text = wording.text(FACT)
    for wanted in (
        "Host: host-1", "Outcome: failed", "Reason: exit code 3", "Due: 2026-01-01 00:00:00 UTC",
        "Log: https://console.example.com/log", "cron-runner logs nightly-1", "ERROR: no space left",
        "Duration: 1m", "Owner: data team", "Attempt: 2",
    ):  # fmt: skip
        assert wanted in text


def test_a_webhook_gets_what_slack_and_its_likes_show() -> None:
    request = webhook(FACT, SLACK)
    body = json.loads(request.body)
    assert request.url == SLACK
    assert body["text"] == "[web] nightly failed: exit code 3"
    (shown_,) = body["attachments"]
    assert shown_["color"] == "danger"
    assert shown_["title_link"] == "https://console.example.com/log"
    assert {"title": "Host", "value": "host-1", "short": True} in shown_["fields"]
    # Slack's own marks are taken out of what a job has printed, and the fence is not closed by it.
    assert "&lt;input&gt; &amp; more" in shown_["text"]
    assert shown_["text"].count("```") == 2
    assert json.loads(webhook(news("recovery"), SLACK).body)["attachments"][0]["color"] == "good"


def test_a_long_output_keeps_its_end() -> None:
    body = json.loads(webhook(news("failure", tail="x" * 4000 + "THE END"), SLACK).body)
    text = body["attachments"][0]["text"]
    assert len(text) < 3000
    assert text.endswith("THE END```")


def test_a_pager_has_one_incident_for_a_job_which_is_resolved() -> None:
    triggered, resolved = pagerduty(FACT, "KEY"), pagerduty(news("recovery"), "KEY")
    assert triggered is not None
    assert resolved is not None
    event, end = json.loads(triggered.body), json.loads(resolved.body)
    assert triggered.url == "https://events.pagerduty.com/v2/enqueue"
    assert (event["routing_key"], event["event_action"], end["event_action"]) == ("KEY", "trigger", "resolve")
    assert event["dedup_key"] == end["dedup_key"] == "cron-runner/web/nightly"
    assert event["payload"]["summary"] == "[web] nightly failed: exit code 3"
    assert event["payload"]["severity"] == "error"
    assert event["payload"]["source"] == "host-1"
    assert event["payload"]["timestamp"] == "2026-01-01T00:01:30.000000Z"
    assert event["payload"]["custom_details"]["Reason"] == "exit code 3"
    assert "no space left" in event["payload"]["custom_details"]["Output"]
    assert event["links"] == [{"href": "https://console.example.com/log", "text": "Log"}]
    assert pagerduty(news("started"), "KEY") is None
    assert pagerduty(news("success"), "KEY") is None, "another run may be in trouble still"


def test_a_pager_is_always_told_that_it_is_over() -> None:
    said = parse_notify("notify", {"to": ["pagerduty:KEY", SLACK, "ping:https://hc-ping.com/x"], "when": ["failure"]})
    assert said.targets("recovery") == ["pagerduty:KEY"]
    assert said.targets("failure") == ["pagerduty:KEY", SLACK, "ping:https://hc-ping.com/x"]
    assert said.targets("too-long") == []


def test_a_pager_takes_the_longest_names() -> None:
    request = pagerduty(news("failure", job="j" * 128, group="g" * 128, reason="r" * 5000), "KEY")
    assert request is not None
    event = json.loads(request.body)
    assert len(event["dedup_key"]) <= 255
    assert len(event["payload"]["summary"]) <= 1024


@pytest.mark.parametrize(
    ("kind", "path"), [("started", "/u/start"), ("success", "/u"), ("failure", "/u/fail"), ("lost", "/u/fail")]
)
def test_a_ping_in_the_style_of_healthchecks(kind: str, path: str) -> None:
    request = ping(news(kind), "https://hc-ping.example.com/u?create=1")
    assert request is not None
    parts = urlsplit(request.url)
    assert parts.path == path
    query = parse_qs(parts.query)
    assert query["create"] == ["1"]
    other = ping(news("started"), "https://hc-ping.example.com/u")
    assert other is not None
    # Start and end of one run are one run there too.
    assert query["rid"] == parse_qs(urlsplit(other.url).query)["rid"]
    assert (b"no space left" in request.body) == (kind != "started")


@pytest.mark.parametrize(("kind", "state"), [("started", "run"), ("success", "complete"), ("failure", "fail")])
def test_a_ping_in_the_style_of_cronitor(kind: str, state: str) -> None:
    request = ping(news(kind), "https://cronitor.link/p/KEY/nightly")
    assert request is not None
    query = parse_qs(urlsplit(request.url).query)
    assert urlsplit(request.url).path == "/p/KEY/nightly"
    assert query["state"] == [state]
    assert query["host"] == ["host-1"]
    assert ("message" in query) == (kind == "failure")


def test_a_ping_is_told_of_starts_and_ends_only() -> None:
    assert ping(news("recovery"), "https://hc-ping.example.com/u") is None


def test_a_subject_is_what_sns_takes() -> None:
    message = sns(news("failure", reason="héllo\nworld " * 40))
    assert len(message.subject) < SUBJECT_CHARS
    assert message.subject.isascii()
    assert message.subject.isprintable()
    assert message.attributes == {"news": "failure", "group": "web", "job": "nightly"}
    assert len(sns(news("failure", tail="é" * 300_000)).text.encode()) < 256 * 1024


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("arn:aws:sns:eu-west-1:123456789012:on-call", "arn:aws:sns:eu-west-1:123456789012:on-call"),
        ("pagerduty:R0UT1NGK3Y", "pagerduty"),
        (SLACK, "webhook hooks.example.com"),
        ("ping:https://hc-ping.example.com/secret", "ping hc-ping.example.com"),
        ("ping:${PING_URL}", "ping ${PING_URL}"),
        ("${ssm:/cron/slack}", "webhook ${ssm:/cron/slack}"),
    ],
)
def test_no_log_shows_a_secret(target: str, said: str) -> None:
    assert shown(target) == said
    assert "secret" not in repr(webhook(FACT, SLACK))
    assert parse_notify("notify", target).to == (target,)


@pytest.mark.parametrize("target", ["${}", "mail:somebody", "${A B}", "ping:", "slack"])
def test_nobody_is_refused(target: str) -> None:
    with pytest.raises(InvalidMessage):
        parse_notify("notify", target)
