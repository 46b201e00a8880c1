"""A body from the job queue to the job it asks for.

`parse_message` reads what a body says, `resolve` puts it together with the host's declarations and
defaults; `read_job` does both, for a host. Whatever a body holds, the one error is InvalidMessage.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from runner.protocol import fields
from runner.protocol.envelope import unwrap
from runner.protocol.invalid import Faults, InvalidMessage, Reason
from runner.protocol.job import Ack, Command, Defaults, Job, Limits, Overlap, Resources, Retries, Success
from runner.protocol.masking import rejected_body
from runner.protocol.resolve import incomplete, permit, resolve
from runner.protocol.specification import OF_DECLARATIONS, OF_MESSAGES, Declaration, Message
from runner.protocol.suggest import kind

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = [
    "Ack",
    "Command",
    "Declaration",
    "Defaults",
    "InvalidMessage",
    "Job",
    "Limits",
    "Message",
    "Overlap",
    "Reason",
    "Resources",
    "Retries",
    "Success",
    "parse_declaration",
    "parse_message",
    "read_job",
    "rejected_body",
    "resolve",
]


def parse_message(body: str | bytes) -> Message:
    """What a body of at most 1 MiB says, its envelopes taken off; raises InvalidMessage."""
    return _message(_opened(body), lambda _: {})


def read_job(body: str | bytes, *, message_id: str, defaults: Defaults, declarations: Mapping[str, Declaration]) -> Job:
    """The job that a body asks for, on a host with these defaults and declarations; raises InvalidMessage.

    As `parse_message` and `resolve`, but what the host allows no message to say is not looked at.
    """

    def check(table: Mapping[str, object]) -> Mapping[str, str]:
        permit(table, defaults=defaults, declarations=declarations)
        return incomplete(table, declarations)

    said = _message(_opened(body), check)
    return resolve(said, message_id=message_id, defaults=defaults, declarations=declarations)


def _opened(body: str | bytes) -> dict[str, object]:
    table = unwrap(body)
    if not isinstance(table, dict):
        twice = " (it was encoded twice)" if isinstance(table, str) and table.lstrip().startswith("{") else ""
        raise InvalidMessage(f"the body is {kind(table)}{twice}; send a JSON object")
    return table


def _message(table: Mapping[str, object], check: Callable[[Mapping[str, object]], Mapping[str, str]]) -> Message:
    """`check` raises what this host does not allow, and gives what else is wrong for it, by fields."""
    try:
        needed = {} if "job" in table else {"job": "is missing; every message names its job"}
        said = _parse(table, OF_MESSAGES, {**needed, **check(table)})
    except InvalidMessage as error:
        read = _readable(table)
        error.job, error.run_id = read.get("job"), read.get("run_id")
        error.labels, error.scheduled_at = read.get("labels") or {}, read.get("scheduled_at")
        raise
    return Message(**said)


def parse_declaration(name: str, table: Mapping[str, object]) -> Declaration:
    """The declared job of a [jobs.NAME] table; raises InvalidMessage, whose detail names the key."""
    fields.job_name("name", name)
    others = [key for key in OF_MESSAGES if key in table and key not in OF_DECLARATIONS]
    wrong = dict.fromkeys(others, "is for messages to say; leave it out of a declared job")
    if "command" not in table:
        wrong["command"] = "is missing; say what the job runs"
    own = {key: value for key, value in table.items() if key not in others}
    return Declaration(name=name, **_parse(own, OF_DECLARATIONS, wrong))


def _parse(
    table: Mapping[str, object], parsers: Mapping[str, fields.Parser], wrong: Mapping[str, str]
) -> dict[str, Any]:
    """Every field; InvalidMessage with all that is wrong, `wrong` included: what is, by fields, also missing ones."""
    faults = Faults()
    said = fields.each("", table, parsers, faults)
    for name, why in wrong.items():
        if name in table or not faults.ask_for(name):
            faults.add(InvalidMessage(f"{name}: {why}"))
    faults.settle()
    return said


def _readable(table: Mapping[str, object]) -> dict[str, Any]:
    """What says which run it was, of a message refused for something else, for the event that says so."""
    read: dict[str, Any] = {}
    for name in ("job", "run_id", "labels", "scheduled_at"):
        with suppress(InvalidMessage):
            if name in table:
                read[name] = OF_MESSAGES[name](name, table[name])
    return read
