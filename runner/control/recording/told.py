"""An event of the results queue, read from its JSON. Pure."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NoReturn

from runner.protocol.units import format_time, parse_time

if TYPE_CHECKING:
    from collections.abc import Mapping

_RUN: Final = "cron-runner.run."
KINDS: Final = frozenset(("started", "heartbeat", "finished", "skipped", "rejected"))
_NO: Final = type(None)
# What is read of an event by those behind the recorder, the watch and the words for people; a later version's own
# fields are not looked at.
_TYPES: Final[Mapping[str, tuple[type, ...]]] = {
    "group": (str,),
    "run_id": (str,),
    "execution": (str,),
    "attempt": (int,),
    "sequence": (int,),
    "job": (str, _NO),
    "delivery": (int, _NO),
    "host": (dict, _NO),
    "labels": (dict, _NO),
    "scheduled_at": (str, _NO),
    "sent_at": (str, _NO),
    "started_at": (str, _NO),
    "finished_at": (str, _NO),
    "timeout_s": (int, float, _NO),
    "heartbeat_s": (int, float, _NO),
    "duration_s": (int, float, _NO),
    "outcome": (str, _NO),
    "reason": (str, _NO),
    "detail": (str, _NO),
    "exit_code": (int, _NO),
    "signal": (str, _NO),
    "will_retry": (bool, _NO),
    "output": (dict, _NO),
    "log": (dict, _NO),
    "signed_by": (str, _NO),
    "traceparent": (str, _NO),
    "message": (dict, _NO),
    "message_bytes": (int, _NO),
    "masked": (list, _NO),
}
_TIMES: Final = ("scheduled_at", "sent_at", "started_at", "finished_at")
_LONGEST: Final = 900  # bytes; DynamoDB takes 1,024 of a sort key
_MOST: Final = 10_000_000  # an attempt's number is seven digits of its key


_DIGITS: Final = 38  # of a number in DynamoDB


class NotAnEvent(ValueError):
    """A body on the results queue that no agent sent."""


@dataclass(frozen=True, slots=True)
class Told:
    """One event of a run. ``at`` is unix seconds; ``data`` is the event's own."""

    id: str
    kind: str
    at: float
    group: str
    run_id: str
    execution: str
    attempt: int
    sequence: int
    data: Mapping[str, Any]

    @property
    def job(self) -> str | None:
        return self.data.get("job")


def parse_event(body: str) -> Told | None:
    """The event of a body; None for one that is about no run; raises NotAnEvent."""
    try:
        event = json.loads(body, parse_constant=_no_number, parse_float=_finite, parse_int=_whole)
        kind = str(event["type"])
        if not kind.startswith(_RUN) or kind.removeprefix(_RUN) not in KINDS:
            told = None
        else:
            told = _told(event, kind.removeprefix(_RUN))
    except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError) as error:
        raise NotAnEvent(f"{type(error).__name__}: {error}") from error
    if told is None and not kind.startswith("cron-runner."):
        raise NotAnEvent(f"its type is {kind}")
    return told  # None: of an agent's own life, or of a later version


def _told(event: Mapping[str, Any], kind: str) -> Told:
    data = event["data"]
    if not isinstance(data, dict):
        raise TypeError("data is no object")
    if (trace := event.get("traceparent")) is not None:  # CloudEvents has it beside the data
        data = data | {"traceparent": trace}
    for name, kinds in _TYPES.items():
        if not isinstance(data.get(name), kinds) or (isinstance(data.get(name), bool) and bool not in kinds):
            raise TypeError(f"{name} is {type(data.get(name)).__name__}")
    # In one form: their order as text is their order in time.
    data = data | {name: format_time(parse_time(data[name])) for name in _TIMES if data.get(name) is not None}
    for name, least in (("group", 1), ("run_id", 1), ("execution", 1), ("job", 0)):
        if not least <= len((data.get(name) or "").encode()) <= _LONGEST:
            raise ValueError(f"{name} is of no length that a name can have")
    if kind == "finished" and not (data.get("will_retry") or data.get("outcome")):
        raise ValueError("it has no outcome")
    return Told(
        id=str(event["id"]),
        kind=kind,
        at=parse_time(event["time"]),
        group=data["group"],
        run_id=data["run_id"],
        execution=data["execution"],
        attempt=_count("attempt", data["attempt"]),
        sequence=_count("sequence", data["sequence"]),
        data=data,
    )


def _count(name: str, value: int) -> int:
    if not 0 <= value < _MOST:
        raise ValueError(f"{name} is {value}")
    return value


def _finite(said: str) -> float:
    return value if math.isfinite(value := float(said)) else _no_number(said)


def _whole(said: str) -> int:
    return int(said) if len(said) < _DIGITS else _no_number(said)


def _no_number(said: str) -> NoReturn:
    raise ValueError(f"{said[:50]} is no number that can be kept")
