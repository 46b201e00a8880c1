"""What a message and a declared job may say, field by field. Names and meanings are the contract's."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from runner.protocol import fields, params, patterns
from runner.protocol.invalid import Faults, InvalidMessage
from runner.protocol.job import (
    ACKS,
    OVERLAPS,
    STOP_SIGNALS,
    Ack,
    Command,
    Limits,
    Overlap,
    Resources,
    Retries,
    Success,
)
from runner.protocol.suggest import nearest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from runner.protocol.params import Param


@dataclass(frozen=True, slots=True, kw_only=True)
class Specification:
    """How a job runs, as far as somebody said: None is not said."""

    command: Command | None = None
    args: tuple[str, ...] | None = None
    env: Mapping[str, str] | None = None
    cwd: str | None = None
    user: str | None = None
    unix_group: str | None = None
    umask: int | None = None
    nice: int | None = None
    stdin: str | None = None
    timeout: float | None = None
    grace: float | None = None
    stop_signal: str | None = None
    resources: Resources | None = None
    limits: Limits | None = None
    retries: Retries | None = None
    overlap: Overlap | None = None
    success: Success | None = None
    no_output_timeout: float | None = None
    min_duration: float | None = None
    ack: Ack | None = None
    labels: Mapping[str, str] | None = None
    secrets: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Message(Specification):
    """What one message on the queue said."""

    job: str
    version: int | None = None
    group: str | None = None
    run_id: str | None = None
    scheduled_at: float | None = None
    not_after: float | None = None
    traceparent: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Declaration(Specification):
    """A job that the host's configuration declares, and what a message may add to it."""

    name: str
    allow_args: bool = False
    allow_env: tuple[str, ...] = ()
    params: tuple[Param, ...] = ()


def _resources(path: str, value: object) -> Resources:
    given = dict(fields.table(path, value))
    faults = Faults()
    own: dict[str, object] = {key: given.pop(key) for key in ("cpu", "memory") if key in given}
    said = fields.each(path, own, {"cpu": fields.number, "memory": fields.size}, faults)
    named: dict[str, float] = {}
    for key, entry in given.items():
        try:
            named[fields.name(path, key)] = _amount(f"{path}.{fields.printable(key)}", key, entry)
        except InvalidMessage as error:
            faults.add(error)
    faults.settle()
    return Resources(named=named, **said)


def _amount(path: str, key: str, entry: object) -> float:
    if isinstance(entry, str):
        meant = nearest(key, ("cpu", "memory"))
        question = f'; did you mean "{meant}"?' if meant else ""
        fields.refuse(path, f"is a string; give a number{question}")
    return fields.number(path, entry)


def _limits(path: str, value: object) -> Limits:
    given = _nested(path, value, {"memory": _positive_size, "cpu": _positive, "pids": _pids})
    return Limits(**given)


def _retries(path: str, value: object) -> Retries:
    if type(value) is int:
        return Retries(max=_count(path, value))
    if not isinstance(value, dict):
        fields.refuse(path, "give a whole number, or an object with max, backoff, factor and max_backoff")
    given = _nested(
        path,
        value,
        {"max": _count, "backoff": fields.duration, "factor": _factor, "max_backoff": fields.duration},
    )
    if "max" not in given:
        fields.refuse(f"{path}.max", "is missing; say how often to retry")
    said = Retries(**given)
    if said.backoff > said.max_backoff:
        if "max_backoff" in given:
            fields.refuse(f"{path}.max_backoff", "is less than backoff; give at least as much")
        return Retries(said.max, said.backoff, said.factor, said.backoff)
    return said


def _success(path: str, value: object) -> Success:
    parsers = {"exit_codes": _exit_codes, "fail_on": fields.texts, "require": fields.texts}
    said = Success(**_nested(path, value, parsers))
    rules = (("fail_on", said.fail_on), ("require", said.require))
    try:
        patterns.check((f"{path}.{name}[{at}]", pattern) for name, listed in rules for at, pattern in enumerate(listed))
    except patterns.Faulty as error:
        fields.refuse(error.path, str(error))
    return said


def _nested(path: str, value: object, parsers: Mapping[str, fields.Parser]) -> dict[str, Any]:
    given = fields.table(path, value)
    faults = Faults()
    said = fields.each(path, given, parsers, faults)
    faults.settle()
    return said


def _exit_codes(path: str, value: object) -> tuple[int, ...]:
    codes = fields.items(path, value, partial(fields.integer, least=0, most=255))
    if not codes:
        fields.refuse(path, "is empty, so no run could succeed; list the codes that mean success")
    return codes


def _positive(path: str, value: object) -> float:
    said = fields.number(path, value)
    if said == 0:
        fields.refuse(path, "0 would allow nothing; give more, or leave the field out for no limit")
    return said


def _positive_size(path: str, value: object) -> int:
    said = fields.size(path, value)
    if said == 0:
        fields.refuse(path, "0 would allow nothing; give more, or leave the field out for no limit")
    return said


def _allowed_names(path: str, value: object) -> tuple[str, ...]:
    return fields.items(path, value, _allowed_name)


def _allowed_name(path: str, value: object) -> str:
    said = fields.env_name(path, value)
    if "*" in said:
        fields.refuse(path, "patterns are not known here; list each variable by its name")
    return said


LOWEST_NICE: Final = -20
_count = partial(fields.integer, least=0, most=1_000_000)
_pids = partial(fields.integer, least=1, most=2**22)  # the kernel's PID_MAX_LIMIT on 64 bit
_factor = partial(fields.number, least=1.0)

SHARED: Final[Mapping[str, fields.Parser]] = {
    "command": fields.command,
    "args": fields.words,
    "env": fields.env,
    "cwd": fields.cwd,
    "user": fields.word,
    "unix_group": fields.name,
    "umask": fields.umask,
    "nice": partial(fields.integer, least=LOWEST_NICE, most=19),
    "stdin": fields.text,
    "timeout": fields.limit,
    "grace": fields.duration,
    "stop_signal": fields.choice("signal", STOP_SIGNALS),
    "resources": _resources,
    "limits": _limits,
    "retries": _retries,
    "overlap": fields.choice("overlap", OVERLAPS),
    "success": _success,
    "no_output_timeout": fields.limit,
    "min_duration": fields.duration,
    "ack": fields.choice("ack", ACKS),
    "labels": fields.labels,
    "secrets": fields.secrets,
}
OF_MESSAGES: Final[Mapping[str, fields.Parser]] = {
    "version": fields.version,
    "group": fields.name,
    "job": fields.job_name,
    "run_id": fields.run_id,
    "scheduled_at": fields.moment,
    "not_after": fields.moment,
    "traceparent": fields.traceparent,
    **SHARED,
}
OF_DECLARATIONS: Final[Mapping[str, fields.Parser]] = {
    "allow_args": fields.boolean,
    "allow_env": _allowed_names,
    "params": params.parse,
    **SHARED,
}
