"""The sections about who may do what: `[signing]`, whose jobs a host runs, and `[control]`, whom its agent answers."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runner.config.kinds import BOOLEAN, TEXTS, Kind, decode_json, expected, setting
from runner.protocol.suggest import unknown
from runner.protocol.units import parse_time


@dataclass(frozen=True, slots=True)
class SigningKey:
    """One `[[signing.keys]]`: a public key and what it may sign. `until` is in unix seconds, None for ever."""

    file: Path
    jobs: tuple[str, ...] = ("*",)
    users: tuple[str, ...] = ("*",)
    until: float | None = None


def _globs(value: object) -> tuple[str, ...]:
    globs = TEXTS.parse(value)
    if not globs or "" in globs:
        raise ValueError('expected names or patterns such as "web-*"; ["*"] is all of them')
    return globs


def _until(value: object) -> float | None:
    if value == "":
        return None
    if isinstance(value, datetime.datetime):
        if value.tzinfo is None:
            raise ValueError("has no offset from UTC; end it with Z or an offset such as +02:00")
        return value.timestamp()
    if isinstance(value, datetime.date):
        value = value.isoformat()
    if isinstance(value, str) and len(value) == len("2030-01-31"):
        value += "T00:00:00Z"
    return parse_time(value)


def _file(value: object) -> Path:
    if not isinstance(value, str) or not value.startswith("/") or "\0" in value:
        raise expected("the absolute path of a public key in PEM", value)
    return Path(value)


_FIELDS = {"file": _file, "jobs": _globs, "users": _globs, "until": _until}


def _key(value: object) -> SigningKey:
    if not isinstance(value, Mapping):
        raise expected("tables [[signing.keys]]", value)
    said: dict[str, Any] = {}
    for name, entry in value.items():
        if name not in _FIELDS:
            raise ValueError(unknown("key", name, list(_FIELDS)))
        try:
            said[name] = _FIELDS[name](entry)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
    if "file" not in said:
        raise ValueError("file: is not set; give the absolute path of a public key in PEM")
    made: SigningKey = SigningKey(**said)
    return made


def _keys(value: object) -> tuple[SigningKey, ...]:
    if not isinstance(value, list | tuple):
        raise expected("tables [[signing.keys]]", value)
    found = []
    for number, entry in enumerate(value, 1):
        try:
            found.append(_key(entry))
        except ValueError as error:
            raise ValueError(f"key {number}: {error}") from None
    return tuple(found)


KEYS = Kind("list of keys", _keys, decode_json)


@dataclass(frozen=True, slots=True)
class Signing:
    """Whose jobs this host runs. Where a key is given, signed messages are checked; docs/security.md says how."""

    require: bool = setting(False, BOOLEAN, "Take signed messages only; others are rejected as not_signed.")
    fresh: bool = setting(
        False,
        BOOLEAN,
        "Take no signed message twice: it is for one run, with run_id and a not_after at most a day ahead signed, or a"
        " standing order whose schedule has the fire time that it is sent for within the last hour.",
    )
    keys: tuple[SigningKey, ...] = setting(
        [],
        KEYS,
        "The public keys that may sign, as tables [[signing.keys]] in place of this line: file, the jobs and the users"
        " (patterns, all by default) that the key may sign for, and until when it is good. A reload reads them anew.",
    )


@dataclass(frozen=True, slots=True)
class Control:
    """Whom the agent of this host answers on its socket, beside root and its own user: users, and %groups."""

    operate: tuple[str, ...] = setting(
        ["root", "%cron-runner"], TEXTS, "Who may do everything: cancel, pause, drain, and see."
    )
    read: tuple[str, ...] = setting(["%cron-runner-read"], TEXTS, "Who may see: status and logs.")
