"""What crosses a wire: job messages, events, outcomes, units. Pure, and imports nothing else of runner."""

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
