"""A message sent once more, under another run id: signed or not. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from runner.protocol import signed
from runner.protocol.units import format_time

if TYPE_CHECKING:
    from collections.abc import Mapping


def named(message: Mapping[str, Any]) -> str:
    """The job of a message that was one before."""
    return str(_payload(message)["job"])


def resent(message: Mapping[str, Any], labels: Mapping[str, str], scheduled_at: float | None) -> dict[str, Any]:
    """The message with these labels, due when it was due. Of a signed one they stand in `run`, and what is signed
    stays as it is."""
    due = {} if scheduled_at is None else {"scheduled_at": format_time(scheduled_at)}
    if not signed.is_envelope(message):
        return {**message, **due, "labels": dict(labels)}
    said = _payload(message)
    own = said.get("labels") or {}
    free = {name: value for name, value in labels.items() if name not in own}
    return {**message, "run": {**({} if "scheduled_at" in said else due), "labels": free}}


def with_run_id(message: Mapping[str, Any], run_id: str) -> dict[str, Any]:
    if not signed.is_envelope(message):
        return {**message, "run_id": run_id}
    return {**message, "run": {**message.get("run", {}), "run_id": run_id}}


def _payload(message: Mapping[str, Any]) -> Mapping[str, Any]:
    return signed.payload_of(signed.read(message).payload) if signed.is_envelope(message) else message
