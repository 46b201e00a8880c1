"""What crosses a wire: job messages, events, outcomes, units. Pure, and imports nothing else of runner.

A name is loaded with its module when it is first asked for: who needs the table's keys alone has not to wait for the
reading of job messages.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from runner.protocol.event import Event, HostFacts, RunFacts, Source, agent_event, run_event
    from runner.protocol.message import (
        Declaration,
        Defaults,
        InvalidMessage,
        Job,
        Message,
        parse_declaration,
        parse_message,
        rejected_body,
        resolve,
    )
    from runner.protocol.outcome import Ending, Outcome, RuleFacts, Verdict, decide, exit_status, lost

__all__ = [
    "Declaration",
    "Defaults",
    "Ending",
    "Event",
    "HostFacts",
    "InvalidMessage",
    "Job",
    "Message",
    "Outcome",
    "RuleFacts",
    "RunFacts",
    "Source",
    "Verdict",
    "agent_event",
    "decide",
    "exit_status",
    "lost",
    "parse_declaration",
    "parse_message",
    "rejected_body",
    "resolve",
    "run_event",
]

_OF_EVENT: Final = frozenset(("Event", "HostFacts", "RunFacts", "Source", "agent_event", "run_event"))
_OF_OUTCOME: Final = frozenset(("Ending", "Outcome", "RuleFacts", "Verdict", "decide", "exit_status", "lost"))


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = "event" if name in _OF_EVENT else "outcome" if name in _OF_OUTCOME else "message"
    found = globals()[name] = getattr(import_module(f"{__name__}.{module}"), name)
    return found
