"""When a signed message may run: what its payload says of it, so that nobody replays it.

A payload that names run id and `not_after` is for one run. One with schedule and `valid_until` is a standing order: who
has the queue can start the job at each of its fire times, once, and nothing else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from runner.protocol import fields
from runner.protocol.invalid import InvalidMessage
from runner.protocol.suggest import shown
from runner.protocol.units import format_duration, format_time

if TYPE_CHECKING:
    from collections.abc import Mapping

LONGEST_S: Final = 86_400.0
"""How far ahead the `not_after` of a message for one run may lie."""
LATE_S: Final = 3600.0
"""How long after a fire time, and its splay, a standing order is still taken."""
EARLY_S: Final = 30.0
"""How far the clocks of whoever fires it and of the host may differ."""
NEEDED: Final = ("cronsim",)


def fresh(
    table: Mapping[str, object],
    standing: Mapping[str, object],
    payload: Mapping[str, object],
    now: float,
    *,
    strict: bool,
) -> dict[str, object]:
    """What follows for the message: the run id of a fire time, or nothing. Raises InvalidMessage.

    ``table`` is the message, ``standing`` what its payload says beside the fields of one, ``payload`` what is signed.
    ``strict``: this host takes no message that may be replayed.
    """
    until = fields.moment("valid_until", standing["valid_until"]) if "valid_until" in standing else None
    if until is not None and now >= until:
        raise _refused(f"valid_until: the order was good until {format_time(until)}; sign the job again")
    if not strict:
        return {}
    if "run_id" in payload and "not_after" in payload:
        ends = fields.moment("not_after", payload["not_after"])
        if ends > now + LONGEST_S:
            raise _refused(
                "not_after: is more than a day ahead, and this host takes no message that may be replayed"
                " ([signing] fresh); sign it for at most a day"
            )
        return {}
    if "schedule" not in standing or until is None:
        raise _refused(
            "run_id and not_after are not signed, and this host takes no message that may be replayed"
            " ([signing] fresh); sign both, or a standing order with schedule, timezone and valid_until"
        )
    return {"run_id": _fire_time(table, standing, now)}


def _fire_time(table: Mapping[str, object], standing: Mapping[str, object], now: float) -> str:
    """The run id of the fire time that a standing order is sent for."""
    from runner.control.definition import run_id_at  # noqa: PLC0415 - for hosts that take standing orders
    from runner.control.timetable.schedule import parse_schedule  # noqa: PLC0415 - as above

    name = fields.job_name("job", table.get("job"))
    if "scheduled_at" not in table:
        raise _refused(
            f"run.scheduled_at: is missing; a standing order is sent for a fire time: to run {name} beside its"
            " schedule, sign a message for one run"
        )
    at = fields.moment("scheduled_at", table["scheduled_at"])
    splay = fields.duration("splay", standing.get("splay", 0))
    if splay > LONGEST_S or not now - LATE_S - splay <= at <= now + EARLY_S:
        within = f" and its splay of {format_duration(splay)}" if splay else ""
        raise _refused(
            f"run.scheduled_at: {format_time(at)} is not within the last hour{within}; nothing may run at it now"
        )
    try:
        schedule = parse_schedule(
            fields.text("schedule", standing["schedule"]), fields.text("timezone", standing.get("timezone", "UTC"))
        )
        due = schedule.due(at - 1.0, at)
    except (ValueError, ArithmeticError, LookupError, OSError) as error:
        if isinstance(error, InvalidMessage):
            raise
        raise InvalidMessage(f"schedule: cannot be read here: {error}; sign another one") from None
    if at not in due:
        raise _refused(
            f"run.scheduled_at: {format_time(at)} is no fire time of {shown(schedule.text)} ({schedule.timezone})"
        )
    run_id = run_id_at(name, at)
    if "run_id" in table and fields.run_id("run_id", table["run_id"]) != run_id:
        raise _refused(f"run.run_id: of this fire time it is {run_id}; leave it out, or send that one")
    return run_id


def _refused(text: str) -> InvalidMessage:
    return InvalidMessage(text, reason="not_allowed")
