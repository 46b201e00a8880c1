"""A fact about a job in words, the same for every target: one line, then the details. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from runner.protocol.units import format_duration, format_time

if TYPE_CHECKING:
    from runner.control.notices.facts import Fact
    from runner.control.notices.notify import News

GOOD: Final[frozenset[News]] = frozenset({"recovery", "success", "started"})
"""News that end a trouble, or were none."""


def title(fact: Fact) -> str:
    """What happened, on one line, the job first: it is what a person looks for."""
    return f"[{fact.group}] {fact.job} {_happened(fact)}"


def details(fact: Fact) -> list[tuple[str, str]]:
    """Names and values of what is known, the most telling first; neither the log's address nor the output."""
    known = [
        ("Host", fact.host),
        ("Outcome", fact.outcome),
        ("Reason", fact.reason),
        ("Exit code", None if fact.exit_code is None else str(fact.exit_code)),
        ("Signal", fact.signal),
        ("Due", _time(fact.due_at)),
        ("Started", _time(fact.started_at)),
        ("Duration", None if fact.duration_s is None else format_duration(fact.duration_s)),
        ("Attempt", str(fact.attempt) if fact.attempt is not None and fact.attempt > 1 else None),
        ("Owner", fact.owner),
        ("Run", fact.run_id),
    ]
    return [(name, value) for name, value in known if value]


def text(fact: Fact) -> str:
    """The whole of it as plain text, for mail and for those who read one field only."""
    lines = [title(fact), "", *(f"{name}: {value}" for name, value in details(fact))]
    if url := fact.log.get("url"):
        lines.append(f"Log: {url}")
    if fact.run_id:
        lines.append(f"Output: cron-runner logs {fact.run_id}")
    if fact.tail:
        lines += ["", "The end of its output:", "", fact.tail.rstrip("\n")]
    return "\n".join(lines) + "\n"


def _happened(fact: Fact) -> str:
    why = f": {fact.reason}" if fact.reason else ""
    since = "" if fact.previous is None else f"; it had been in trouble since {_time(fact.previous)}"
    due = "" if fact.due_at is None else f"; it was due at {_time(fact.due_at)}"
    words: dict[News, str] = {
        "failure": f"{_verb(fact.outcome)}{why}",
        "lost": f"was lost{why or ': its host has gone silent'}",
        "recovery": f"{'is well' if fact.outcome == 'cancelled' else 'succeeded'} again{since}",
        "too-long": f"is taking too long{why}",
        "not-started": f"did not start{due or why}",
        "not-finished": f"did not finish in time{due}",
        "started": "started",
        "success": "succeeded",
    }
    return words[fact.news]


def _verb(outcome: str | None) -> str:
    verbs = {
        "timed_out": "timed out",
        "killed": "was killed",
        "oom_killed": "ran out of memory",
        "start_failed": "could not start",
    }
    return verbs.get(outcome or "", "failed")


def _time(unix: float | None) -> str | None:
    """To the second: what people compare with a clock."""
    return None if unix is None else f"{format_time(unix)[:19].replace('T', ' ')} UTC"
