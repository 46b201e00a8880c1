"""Who reads a warning in the agent's log at night is told what to do: in `detail`, or in the error that it quotes."""

from __future__ import annotations

import ast
from pathlib import Path

import runner

ROOT = Path(runner.__file__).parent

# No fault: something is over, or somebody wanted it.
NEWS = {
    *("paused", "drained", "resumed", "run_cancelled", "run_signalled", "taken_over_from", "run_taken_over"),
    *("queue_available_again", "fleet_table_available_again", "journal_writable_again", "health_served_again"),
    # Waited out or asked again at once, and told of by another line where that does not help.
    *("supervisor_disconnected", "start_not_answered", "stop_not_answered", "event_shortened", "systemd_not_asked"),
    # The rest of the line says what: who asks is told how, the supervisor's own words, the message's own fault.
    *("control_refused", "supervisor_warning"),
}


def lines() -> list[tuple[str, str, set[str]]]:
    """(where, event, keywords) of each warning and error that is logged by name."""
    found = []
    for path in ROOT.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
                continue
            of = node.func.value
            if node.func.attr not in ("warning", "error") or not (isinstance(of, ast.Name) and of.id == "log"):
                continue
            given = node.args[0]
            names = [
                one.value for one in ast.walk(given) if isinstance(one, ast.Constant) and isinstance(one.value, str)
            ]
            where = f"{path.relative_to(ROOT)}:{node.lineno}"
            found += [(where, name, {str(key.arg) for key in node.keywords}) for name in names if len(name) > 1]
    return found


def test_each_warning_says_what_to_do() -> None:
    found = lines()
    assert len(found) > 50, "they are logged in another way now"
    # An error of ours says `cannot X: why; do Y`, and one of AWS has its remedy behind it.
    mute = [
        (where, event)
        for where, event, keywords in found
        if event not in NEWS and not keywords & {"detail", "error", "why", "faults", "code"}
    ]
    assert mute == []


def test_what_the_system_says_has_a_remedy_beside_it() -> None:
    """`OSError` says what happened, and never what to do."""
    of_the_system = {
        *("control_not_served", "health_not_served", "pause_not_forgotten", "pause_unreadable", "spool_unreadable"),
        *("spool_not_punched", "spool_not_trimmed", "journal_blocked", "spool_not_made"),
        *("watchdog_not_fed", "held_lease_lost", "notice_given_up", "message_refused", "run_lost", "fire_times_missed"),
        *("events_too_new", "events_not_delivered", "instance_metadata_unavailable", "journal_not_closed"),
    }
    without = {event for _, event, keywords in lines() if event in of_the_system and "detail" not in keywords}
    assert without == set()
    assert of_the_system <= {event for _, event, _ in lines()}, "a name has changed"
