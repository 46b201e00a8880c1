"""Is the agent alive, and does it hear? Two different questions, answered purely: facts in, words out.

The watchdog asks the first: do the poll loop and the journal go on. An outage that is waited out is going on, so it
restarts nothing. `/healthz` asks the second: when did SQS last answer a receive. An outage turns it red.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from runner.protocol.units import format_duration, format_size

if TYPE_CHECKING:
    from collections.abc import Mapping

# A receive is bound to end within 70 s (20 s of poll, then its timeouts), and a wait after a failure within 30 s.
STUCK_AFTER_S = 120.0
# Three polls without an answer: a deaf agent is red within 90 s.
DEAF_AFTER_S = 60.0
# A supervisor that replaces itself is away for a moment.
SUPERVISOR_AFTER_S = 5.0
# Output that nobody has taken for so long is worth a note; a full spool is what it comes to.
UNSHIPPED_AFTER_S = 120.0
# SQS signs off requests whose clock is 15 minutes out; events and logs are misleading long before.
CLOCK_OFF_S = 30.0


@dataclass(frozen=True, slots=True)
class Facts:
    """What health is judged by. Ages are seconds; None: it never happened, or does not go on.

    `asking_for_s`: since when the agent has had room and reason to receive. `waiting_for`: why it has none.
    `blocked`: why nothing may be received whatever room there is, `blocked_s` for how long that has been so.
    `unshipped_age_s`: how long the oldest output that some sink has not taken has been there.
    """

    queue: str = ""
    running: int = 0
    held: int = 0
    held_by: Mapping[str, int] = field(default_factory=dict)  # what they wait for, in one word
    receive_age_s: float | None = None
    asking_for_s: float | None = None
    receive_failing_s: float | None = None
    receive_error: str = ""
    message_age_s: float | None = None
    waiting_for: str = ""
    paused: str = ""
    draining: bool = False  # the agent is stopping
    drained: bool = False  # the pause is a drain: this host runs out of work
    blocked: str = ""
    blocked_s: float | None = None
    reserve: str = ""
    journal_aside: str = ""
    results_failing_s: float | None = None
    results_error: str = ""
    journal_blocked_s: float | None = None
    journal_error: str = ""
    supervisor_connected: bool = True
    supervisor_away_s: float | None = None
    spool_bytes: int = 0
    unshipped_age_s: float | None = None
    output_error: str = ""
    clock_ahead_s: float | None = None
    reload: str = ""

    @property
    def silent_s(self) -> float:
        """For how long SQS has not answered although it was asked: 0 while the agent is full, paused or draining."""
        if self.asking_for_s is None or self.draining:
            return 0.0
        return min(self.asking_for_s, self.receive_age_s if self.receive_age_s is not None else float("inf"))


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong: `kind` is one word of `KINDS`, `for_s` how long it has been so."""

    kind: str
    for_s: float
    text: str


KINDS = ("journal", "supervisor", "receive", "results")


@dataclass(frozen=True, slots=True)
class Health:
    """`problems` is empty when all is well. `notes` is what a person should know although all is well."""

    problems: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        return not self.problems

    @property
    def reasons(self) -> tuple[str, ...]:
        """Each says what is wrong and for how long."""
        return tuple(problem.text for problem in self.problems)


def judge(facts: Facts) -> Health:
    """What `/healthz` answers."""
    return Health(tuple(_problems(facts)), tuple(_notes(facts)))


def _problems(facts: Facts) -> list[Problem]:
    found = []

    def add(kind: str, for_s: float, text: str) -> None:
        found.append(Problem(kind, for_s, text))

    if (blocked := facts.journal_blocked_s) is not None:
        add("journal", blocked, f"the journal cannot be written for {blocked:.0f} s: {facts.journal_error}")
    if (away := facts.supervisor_away_s) is not None and away > SUPERVISOR_AFTER_S:
        add("supervisor", away, f"the supervisor does not answer for {away:.0f} s")
    if (silent := facts.silent_s) > DEAF_AFTER_S:
        why = facts.receive_error or "the poll does not end"
        add("receive", silent, f"no answer to a receive for {silent:.0f} s: {why}")
    shut = facts.blocked_s or 0.0
    if not found and facts.blocked and shut > DEAF_AFTER_S and not facts.draining:
        add("receive", shut, f"nothing is received for {shut:.0f} s: {facts.blocked}")
    if (failing := facts.results_failing_s) is not None and failing > DEAF_AFTER_S:
        add("results", failing, f"no event delivered for {failing:.0f} s: {facts.results_error}")
    return found


def _notes(facts: Facts) -> list[str]:
    notes = [text for text in (facts.paused, facts.blocked, facts.reload, facts.reserve, facts.journal_aside) if text]
    if (age := facts.unshipped_age_s) is not None and age > UNSHIPPED_AFTER_S:
        why = f": {facts.output_error}" if facts.output_error else ""
        notes.append(f"{format_size(facts.spool_bytes)} of output not shipped, the oldest for {age:.0f} s{why}")
    if (ahead := facts.clock_ahead_s) is not None and abs(ahead) > CLOCK_OFF_S:
        notes.append(f"the clock is {abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} AWS's")
    return notes


def status_line(facts: Facts) -> str:
    """One line that a person reads in `systemctl status`."""
    parts = [f"{facts.running} running, {facts.held} held", _doing(facts)]
    health = judge(facts)
    parts += [problem.text for problem in health.problems if problem.kind != "receive"]
    parts += [note for note in health.notes if note not in (facts.paused, facts.blocked)]
    return "; ".join(" ".join(part.split()) for part in parts)


def _doing(facts: Facts) -> str:
    if facts.draining:
        return "stopping: waits for the running jobs" if facts.running else "stopping"
    if facts.paused:
        return facts.paused
    if facts.receive_failing_s is not None:
        return f"AWS away for {_span(facts.receive_failing_s)}: {facts.receive_error}"
    if facts.silent_s > DEAF_AFTER_S:
        return f"no answer to a receive for {_span(facts.silent_s)}: the poll does not end"
    if facts.waiting_for:
        return f"waits for room: {facts.waiting_for}"
    last = "no message yet" if facts.message_age_s is None else f"last message {_span(facts.message_age_s)} ago"
    return f"polling {facts.queue}; {last}"


def _span(seconds: float) -> str:
    """Seconds up to two minutes, then minutes: nobody reads "3h12m7s" at a glance."""
    return f"{seconds:.0f} s" if seconds < 120 else format_duration(seconds // 60 * 60)


def alive(poll_age_s: float, journal_age_s: float) -> bool:
    """Whether the watchdog may be fed: both loops have gone round lately."""
    return poll_age_s < STUCK_AFTER_S and journal_age_s < STUCK_AFTER_S
