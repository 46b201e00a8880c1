"""One run, as its page shows it: the way from due to end, facts, and what came of it. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from markupsafe import Markup

from runner.web import pictures, words
from runner.web.parts import clock, when
from runner.web.words import BAD, span, unix

if TYPE_CHECKING:
    from collections.abc import Mapping

    from runner.web.sources.past import Standing

_OPEN: Final = frozenset({"running", "starting", "accepted", "backoff", "stopping", "held", "retrying", "due", "sent"})
_ABOUT: Final = (
    *(("command", "command"), ("user", "user"), ("execution", "execution"), ("labels", "labels")),
    *(("signed_by", "signed by"), ("traceparent", "trace")),
)
_SAID: Final = (
    *(
        "job",
        "run_id",
        "command",
        "declared",
        "env",
        "secrets",
        "cwd",
        "user",
        "unix_group",
        "umask",
        "nice",
        "timeout_s",
        "grace_s",
    ),
    *("stop_signal", "resources", "limits", "retries", "overlap", "ack", "scheduled_at", "not_after", "labels"),
)


def is_open(run: Mapping[str, Any]) -> bool:
    return run.get("state") in _OPEN


def values_of_run(run: Mapping[str, Any], standing: Standing, now: float) -> dict[str, Any]:
    """All that the template asks for beside the log."""
    open_ = is_open(run)
    word = str((run.get("state") if open_ else run.get("outcome") or run.get("state")) or "unknown")
    attempts = [one for one in run.get("attempts") or [] if isinstance(one, dict)]
    p50, p95 = standing.usual((str(run.get("group") or ""), str(run.get("job") or "")))
    since = unix(run.get("started_at")) if word in ("running", "stopping") else None
    ran = now - since if open_ and since is not None else run.get("duration_s")
    timeout = run.get("timeout_s")
    usual_words = ""
    if ran is not None and p50 is not None:
        usual_words = f"{span(ran)} of usually {span(p50)} (half), {span(p95)} (95 of 100); timeout {span(timeout)}"
    most = run["retries"] + 1 if isinstance(run.get("retries"), int) else None
    return {
        "r": {**run, "attempts_most": most, "since": run.get("started_at") if since is not None else None},
        "open": open_,
        "word": word,
        "banner": _banner(run, word, open_=open_),
        "way": way(run, p50, p95, open_=open_),
        "message": {name: run[name] for name in _SAID if run.get(name) not in (None, [], {})},
        "attempts": attempts,
        "usual_words": usual_words,
        "usual_picture": pictures.usual(ran, p50, p95, timeout) if usual_words and ran is not None else Markup(""),
        "facts": _facts(run),
        "after": run.get("after") or str((run.get("labels") or {}).get("after") or "").split(),
        "children": run.get("children") or [],
        "about": [(said, run[name]) for name, said in _ABOUT if run.get(name)],
    }


def _banner(run: Mapping[str, Any], word: str, *, open_: bool) -> dict[str, Any] | None:
    if open_ and run.get("stopping"):
        text = f"Its stop signal was sent; after {span(run.get('grace_s'))} of grace everything of it is killed."
        return {"tone": "run", "title": f"Stopping: {run['stopping']}", "text": text}
    if open_:
        held = run.get("held")
        return {"tone": "run", "title": "Waits: " + held["reason"], "text": ""} if held else None
    if word == "succeeded":
        return None
    reason = run.get("reason")
    title = words.label(word).capitalize() + (f": {reason}" if reason else "")
    tone = "bad" if word in BAD else "warn" if words.tone(word) == "warn" else ""
    return {"tone": tone, "title": title, "text": f"At attempt {run.get('attempt') or 1}."}


def _step(name: str, kind: str, at: Any, took: str = "", text: Any = "") -> dict[str, Any]:
    return {"name": name, "kind": kind, "at": at, "took": took, "text": text}


def way(
    run: Mapping[str, Any],
    p50: float | None,
    p95: float | None,
    *,
    open_: bool,
) -> list[dict[str, Any]]:
    """Due, sent, received, held, started, ended: those that are known."""
    message = run.get("message") or {}
    sent, received = unix(message.get("sent_at")), unix(message.get("received_at"))
    due, started, ended = unix(run.get("scheduled_at")), unix(run.get("started_at")), unix(run.get("ended_at"))
    steps = []
    if due is not None:
        steps.append(_step("due", "past", clock(due)))
    if sent is not None:
        steps.append(_step("sent", "past", clock(sent), _plus(due, sent)))
    if received is not None:
        text = f"delivery {message['delivery']}" if message.get("delivery") else ""
        steps.append(_step("received", "past", clock(received), _plus(sent, received), text))
    if held := run.get("held"):
        steps.append(_step("held", "now hold", when(held["since"], since=True), "", held["reason"]))
        return [*steps, _step("starts", "todo", "")]
    if started is not None:
        if received is not None and started - received > 1:
            steps.append(_step("held", "past hold", clock(received), span(started - received), "for room"))
        pid = f"pid {run['pid']}" if run.get("pid") else ""
        user = f"user {run['user']}" if run.get("user") else ""
        text = ", ".join(one for one in (pid, user) if one)
        steps.append(_step("started", "past long", clock(started), _plus(received, started), text))
    if open_:
        usual = f"usually {span(p50)}; p95 {span(p95)}" if p50 is not None else ""
        since = run.get("started_at")
        name = str(run.get("state") or "running")
        steps.append(_step(name, "now long", when(since, since=True) if since else "", "", usual))
        deadline = run.get("deadline")
        text = Markup("by its timeout {}").format(when(deadline)) if deadline else ""
        return [*steps, _step("ends", "todo", "", "", text)]
    kind = "bad" if run.get("outcome") in BAD else "past"
    took = span(run.get("duration_s")) if run.get("duration_s") is not None else ""
    steps.append(_step("ended", kind, clock(ended), took, words.label(run.get("outcome") or run.get("state"))))
    return steps


def _plus(before: float | None, after: float) -> str:
    return "" if before is None or after < before else f"+{span(after - before)}"


def _facts(run: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """What is known, by its name."""
    cpu, usage = run.get("cpu_s"), run.get("usage") or {}
    if cpu is None and usage.get("cpu_user_s") is not None:
        cpu = usage["cpu_user_s"] + (usage.get("cpu_system_s") or 0.0)
    memory = run.get("memory_bytes") or usage.get("max_rss_bytes")
    timeout = when(run["deadline"]) if run.get("deadline") else run.get("timeout_s") and span(run["timeout_s"])
    facts = (
        ("attempt", run.get("attempt")),
        ("pid", run.get("pid")),
        ("timeout", timeout),
        ("CPU", None if cpu is None else f"{span(cpu)} in all"),
        ("memory", None if memory is None else words.amount(memory)),
        ("processes", run.get("processes")),
        ("exit code", run.get("exit_code")),
        ("signal", run.get("signal")),
        ("took", None if run.get("duration_s") is None else span(run["duration_s"])),
        ("phase", run.get("phase") if is_open(run) else None),
        ("waits for", run.get("waits_for") or None),
        ("lease", "lost" if run.get("lease_lost") else None),
    )
    return [(name, value) for name, value in facts if value is not None]
