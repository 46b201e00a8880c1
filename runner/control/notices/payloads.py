"""What each kind of target is sent about a fact. Pure: a request as a value, with every limit of the other side.

A target that has no use for a piece of news (a pager for a start) is sent nothing.
"""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from runner.control.notices import wording
from runner.protocol.units import format_time

if TYPE_CHECKING:
    from collections.abc import Mapping
    from urllib.parse import SplitResult

    from runner.control.notices.facts import Fact

PAGERDUTY_URL: Final = "https://events.pagerduty.com/v2/enqueue"
SUBJECT_CHARS: Final = 100
"""SNS: fewer than 100 characters of ASCII, without control characters."""
SNS_BYTES: Final = 200_000
"""Below the 256 KiB of a publish, for what JSON makes of it on the way."""
_SUMMARY_CHARS: Final = 1024
_DEDUP_CHARS: Final = 255
_SLACK_TAIL_CHARS: Final = 2500
"""An attachment of more than some 3,000 characters is folded away, and its end, which matters, is not seen."""
_PING_BODY_CHARS: Final = 10_000
_CRONITOR_MESSAGE_CHARS: Final = 2000
_CRONITOR_HOSTS: Final = ("cronitor.link", "cronitor.io")
_SEVERITY: Final = {"too-long": "warning"}
_COLOUR: Final = {"too-long": "warning"}
_RUN_IDS: Final = uuid.UUID("6f0c1f56-5d0e-4f0c-8f4b-7a0a3c0d9e11")


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """``url`` is a secret and is never logged."""

    url: str = field(repr=False)
    body: bytes
    content_type: str = "application/json"
    method: str = "POST"


@dataclass(frozen=True, slots=True)
class SnsMessage:
    """A publish; ``attributes`` are for subscriptions' filters, ``key`` for FIFO topics."""

    subject: str
    text: str
    attributes: Mapping[str, str]
    key: str


def webhook(fact: Fact, url: str) -> HttpRequest:
    """A Slack-compatible webhook. Attachments, since Mattermost, Rocket.Chat and Discord know no blocks."""
    log = fact.log.get("url")
    shown: dict[str, Any] = {
        "color": "good" if fact.news in wording.GOOD else _COLOUR.get(fact.news, "danger"),
        "fallback": wording.title(fact),
        "fields": [
            {"title": name, "value": _slack(value), "short": len(value) < 40} for name, value in wording.details(fact)
        ],
        "ts": int(fact.at),
    }
    if log:
        shown["title"], shown["title_link"] = "Log", log
    if fact.tail:
        shown["text"] = f"```{_slack(_end(fact.tail, _SLACK_TAIL_CHARS)).replace('```', chr(39) * 3)}```"
        shown["mrkdwn_in"] = ["text"]
    return HttpRequest(url, _json({"text": _slack(wording.title(fact)), "attachments": [shown]}))


def pagerduty(fact: Fact, key: str, *, url: str = PAGERDUTY_URL) -> HttpRequest | None:
    """Events v2: one incident for all that is wrong with a job, resolved when it is well again.

    Not by a success alone: another run may hang, or be missing.
    """
    if fact.news in ("started", "success"):
        return None
    event: dict[str, Any] = {"routing_key": key, "dedup_key": f"cron-runner/{fact.group}/{fact.job}"[:_DEDUP_CHARS]}
    if fact.news == "recovery":
        return HttpRequest(url, _json(event | {"event_action": "resolve"}))
    details = dict(wording.details(fact)) | ({"Output": fact.tail} if fact.tail else {})
    event |= {
        "event_action": "trigger",
        "client": "cron-runner",
        "payload": {
            "summary": _start(wording.title(fact), _SUMMARY_CHARS),
            "source": fact.host or f"cron-runner/{fact.group}",
            "severity": _SEVERITY.get(fact.news, "error"),
            "timestamp": format_time(fact.at),
            "component": fact.job,
            "group": fact.group,
            "class": fact.news,
            "custom_details": details,
        },
    }
    if log := fact.log.get("url"):
        event["links"] = [{"href": log, "text": "Log"}]
    return HttpRequest(url, _json(event))


def ping(fact: Fact, url: str) -> HttpRequest | None:
    """Healthchecks style (``URL/start``, ``URL``, ``URL/fail``), or Cronitor's (``?state=``) by the host's name."""
    state = {"started": "run", "success": "complete", "failure": "fail", "lost": "fail"}.get(fact.news)
    if state is None:
        return None
    run = str(uuid.uuid5(_RUN_IDS, f"{fact.group}/{fact.run_id}"))
    parts = urlsplit(url)
    if any(f".{parts.hostname}".endswith(f".{host}") for host in _CRONITOR_HOSTS):
        said = {"state": state, "series": run} | ({"host": fact.host} if fact.host else {})
        if state == "fail":
            said["message"] = _start(wording.title(fact), _CRONITOR_MESSAGE_CHARS)
        return HttpRequest(_with_query(parts, said), b"", "text/plain", "GET")
    suffix = {"run": "/start", "complete": "", "fail": "/fail"}[state]
    path = parts.path.rstrip("/") + suffix
    body = "" if state == "run" else _end(wording.text(fact), _PING_BODY_CHARS)
    return HttpRequest(_with_query(parts._replace(path=path), {"rid": run}), body.encode(), "text/plain; charset=utf-8")


def sns(fact: Fact) -> SnsMessage:
    """Text for people, who mostly get it as mail, and attributes for filters."""
    subject = wording.title(fact).encode("ascii", "replace").decode()
    printable = "".join(char if char.isprintable() else " " for char in subject)
    text = wording.text(fact)
    if len(text.encode()) > SNS_BYTES:
        text = text.encode()[:SNS_BYTES].decode(errors="ignore")
    attributes = {"news": fact.news, "group": fact.group, "job": fact.job}
    return SnsMessage(_start(printable, SUBJECT_CHARS - 1, "..."), text, attributes, fact.id)


def _slack(text: str) -> str:
    """The three characters that begin Slack's own marks."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _start(text: str, chars: int, mark: str = "…") -> str:
    return text if len(text) <= chars else text[: chars - len(mark)] + mark


def _end(text: str, chars: int) -> str:
    return text if len(text) <= chars else "…" + text[-(chars - 1) :]


def _with_query(parts: SplitResult, more: Mapping[str, str]) -> str:
    query = urlencode([*parse_qsl(parts.query, keep_blank_values=True), *more.items()])
    return urlunsplit(parts._replace(query=query))


def _json(value: object) -> bytes:
    return json.dumps(value).encode()
