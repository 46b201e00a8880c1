"""A message sent once more, under another run id: signed or not. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from runner.protocol import signed
from runner.protocol.units import format_time

if TYPE_CHECKING:
    from collections.abc import Mapping


LARGEST_KEPT: Final = 64 * 1024
"""Bytes of JSON of a message that is told, and of a signed one that is kept: a larger one is not sent once more."""


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


def with_run(message: Mapping[str, Any], **said: str) -> dict[str, Any]:
    """The message with these fields of when it runs (`run_id`, `scheduled_at`): of a signed one they stand in `run`,
    beside what is signed, and in the place of a `run` that is none."""
    if not signed.is_envelope(message):
        return {**message, **said}
    run = message.get("run")
    return {**message, "run": {**(run if isinstance(run, dict) else {}), **said}}


def _payload(message: Mapping[str, Any]) -> Mapping[str, Any]:
    return signed.payload_of(signed.read(message).payload) if signed.is_envelope(message) else message
