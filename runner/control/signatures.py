"""A job's signature as it is stored, and what is sent of a job. Pure.

A job is stored with its envelope, and sent in it as it is: whoever fires it needs no key, and can change nothing.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from runner.protocol import signed
from runner.protocol.units import format_time, parse_time

if TYPE_CHECKING:
    from collections.abc import Mapping

    from runner.protocol.signed import Signer


@dataclass(frozen=True, slots=True)
class Signature:
    """By whom, until when (unix seconds), and what was signed beside that."""

    keyid: str
    until: float
    says: Mapping[str, Any]


def signature_in(text: str) -> Signature | None:
    """What a stored envelope says of itself; hosts check it. None: there is none, or none that can be read."""
    try:
        envelope = json.loads(text)
        says = json.loads(base64.b64decode(envelope["payload"]))
        until = parse_time(says.pop("valid_until"))
        return Signature(str(envelope["signatures"][0]["keyid"]), until, says)
    except (ValueError, LookupError, TypeError, AttributeError):
        return None


def sign(says: Mapping[str, Any], signer: Signer, *, until: float) -> str:
    """The envelope to store of what a job says."""
    return json.dumps(signed.sign({**says, "valid_until": format_time(until)}, signer))


def body(name: str, message: Mapping[str, Any], signature: str, run: Mapping[str, Any]) -> str:
    """The message of one run of a job. ``run`` is what is said when it is fired; its labels are added to the job's."""
    if signature:
        return json.dumps({**json.loads(signature), "run": run})
    return json.dumps(_said(name, message, run))


def signed_run(
    name: str, group: str, message: Mapping[str, Any], run: Mapping[str, Any], signer: Signer, *, until: float
) -> str:
    """The message of one run, signed for itself: for hosts that take a job's own signature at its fire times alone."""
    said = {**_said(name, message, run), "group": group, "not_after": format_time(until)}
    return json.dumps(signed.sign(said, signer))


def _said(name: str, message: Mapping[str, Any], run: Mapping[str, Any]) -> dict[str, Any]:
    said = {"job": name, **run, **message}
    if labels := {**message.get("labels", {}), **run.get("labels", {})}:
        said["labels"] = labels
    return said
