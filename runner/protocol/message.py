"""A body from the job queue to the job it asks for.

`parse_message` reads what a body says, `resolve` puts it together with the host's declarations and
defaults; `read_job` does both, for a host. Whatever a body holds, the one error is InvalidMessage.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

from runner.protocol import fields, params, signed
from runner.protocol.envelope import unwrap
from runner.protocol.invalid import Faults, InvalidMessage, Reason
from runner.protocol.job import Ack, Command, Defaults, Job, Limits, Overlap, Resources, Retries, Success
from runner.protocol.masking import rejected_body
from runner.protocol.resolving import Seal, incomplete, permit, resolve
from runner.protocol.specification import OF_DECLARATIONS, OF_MESSAGES, Declaration, Message
from runner.protocol.suggest import kind
from runner.protocol.trace import from_xray

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


class Proof(Seal, Protocol):
    """A signed message that may be looked at: its fields, and whether its keys may let the job run."""

    @property
    def table(self) -> Mapping[str, object]: ...


class Trust(Protocol):
    """Whose messages a host takes; both raise InvalidMessage for one that it does not."""

    def open(self, value: Mapping[str, object]) -> Proof: ...

    def refuse_unsigned(self, table: Mapping[str, object]) -> None: ...


def parse_message(body: str | bytes) -> Message:
    """What a body of at most 1 MiB says, its envelopes taken off; raises InvalidMessage.

    Signatures are not looked at: for those who send.
    """
    table = _opened(body)
    if signed.is_envelope(table):
        table = {name: value for name, value in signed.read(table).table().items() if name not in signed.STANDING}
    return _message(table, lambda _: {})


def read_job(
    body: str | bytes,
    *,
    message_id: str,
    defaults: Defaults,
    declarations: Mapping[str, Declaration],
    trust: Trust | None = None,
    trace: str = "",
) -> Job:
    """The job that a body asks for, on a host with these defaults and declarations; raises InvalidMessage.

    ``trace`` is the X-Ray header that came beside the body: it counts where the message names no trace itself.
    """
    try:
        job = _job(body, message_id, defaults, declarations, trust)
    except InvalidMessage as error:
        error.traceparent = error.traceparent or from_xray(trace)
        raise
    return job if job.traceparent or not trace else replace(job, traceparent=from_xray(trace))


def _job(
    body: str | bytes,
    message_id: str,
    defaults: Defaults,
    declarations: Mapping[str, Declaration],
    trust: Trust | None,
) -> Job:
    """As `read_job`, from the body alone.

    As `parse_message` and `resolve`, but what the host allows no message to say is not looked at, and of a signed one
    nothing before `trust` has found a signature good. None: the host knows no keys.
    """

    def check(table: Mapping[str, object]) -> Mapping[str, str]:
        permit(table, defaults=defaults, declarations=declarations)
        return incomplete(table, declarations)

    table: Mapping[str, object] = _opened(body)
    proof = _proof(table, trust)
    said = _message(table if proof is None else proof.table, check)
    return resolve(said, message_id=message_id, defaults=defaults, declarations=declarations, seal=proof)


def _proof(table: Mapping[str, object], trust: Trust | None) -> Proof | None:
    """Why a message is believed; None for one that nobody signed, where that is allowed."""
    is_signed = signed.is_envelope(table)
    try:
        if is_signed:
            return trust.open(table) if trust is not None else _without_keys()
        if trust is not None:
            trust.refuse_unsigned(table)
    except InvalidMessage as error:
        _name(error, signed.glance(table) if is_signed else table)
        raise
    return None


def _without_keys() -> NoReturn:
    raise InvalidMessage(
        "the message is signed, and this host knows no keys; give it the public key as [[signing.keys]]",
        reason="bad_signature",
    )


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
        _name(error, table)
        raise
    return Message(**said)


def _name(error: InvalidMessage, table: Mapping[str, object]) -> None:
    """Note which run it was, as far as that can be read."""
    read = _readable(table)
    error.job, error.run_id = read.get("job"), read.get("run_id")
    error.labels, error.scheduled_at = read.get("labels") or {}, read.get("scheduled_at")
    error.traceparent = read.get("traceparent")


def parse_declaration(name: str, table: Mapping[str, object]) -> Declaration:
    """The declared job of a [jobs.NAME] table; raises InvalidMessage, whose detail names the key."""
    fields.job_name("name", name)
    others = [key for key in OF_MESSAGES if key in table and key not in OF_DECLARATIONS]
    wrong = dict.fromkeys(others, "is for messages to say; leave it out of a declared job")
    if "command" not in table:
        wrong["command"] = "is missing; say what the job runs"
    own = {key: value for key, value in table.items() if key not in others}
    made = Declaration(name=name, **_parse(own, OF_DECLARATIONS, wrong))
    if made.allow_args and params.arguments(made.params):
        fields.refuse("allow_args", 'the parameters with to = "arg" are the arguments here; leave it out')
    for variable in params.variables(made.params):
        if variable in (made.env or {}):
            fields.refuse(f"env.{variable}", "is what a parameter sets; leave one of them out")
    return made


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
    for name in ("job", "run_id", "labels", "scheduled_at", "traceparent"):
        with suppress(InvalidMessage):
            if name in table:
                read[name] = OF_MESSAGES[name](name, table[name])
    return read
