"""What a client may ask for, checked before anything is done: the socket's other end is not trusted.

A request that is not well-formed is answered with the text of `BadRequest`; the connection goes on.
"""

from __future__ import annotations

import math
import signal

TYPE_CHECKING = False  # not imported from typing, which costs a megabyte
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

STOP_SIGNALS = {name: getattr(signal, f"SIG{name}").value for name in ("TERM", "INT", "HUP", "QUIT", "USR1", "USR2")}
CAUSES = ("timeout", "no_output", "cancel", "replace", "shutdown", "lost_lease")
MARK = "CRON_RUNNER_EXECUTION"
HOME_MARK = "CRON_RUNNER_SUPERVISOR"
_MAX_KEY = 256
_LIMITS = ("memory", "cpu", "pids")


class BadRequest(Exception):
    """The request cannot be met as it stands; ``code`` is a word for programs."""

    def __init__(self, text: str, code: str = "invalid") -> None:
        super().__init__(text)
        self.code = code


class StartRequest:
    """One start, every field checked. Durations in seconds, None is no limit."""

    __slots__ = (
        "argv", "cwd", "env", "env_files", "grace", "group", "job", "keep_free", "keep_leftovers", "key", "limits",
        "max_bytes", "nice", "no_output_timeout", "note", "redact", "run_id", "secrets", "stdin", "stop_signal", "tied",
        "timeout", "umask", "user",
    )  # fmt: skip

    def __init__(self, data: Mapping[str, Any]) -> None:
        self.key = text(data, "key", most=_MAX_KEY)
        if not self.key:
            raise BadRequest("key: must not be empty")
        self.job = text(data, "job", "")
        self.run_id = text(data, "run_id", "")
        self.argv = texts(data, "argv")
        if not self.argv or not self.argv[0]:
            raise BadRequest("argv: must name a command")
        self.env = environment(data)
        self.secrets = environment(data, "secrets")  # beside it, and in no output of the run
        self.env_files = texts(data, "env_files")
        self.user = text(data, "user", "")
        self.group = text(data, "group", "")
        self.umask = whole(data, "umask", None, 0, 0o777)
        self.nice = whole(data, "nice", None, -20, 19)
        self.cwd = text(data, "cwd", "/")
        self.stdin: str | None = None if data.get("stdin") is None else text(data, "stdin", nul=True, most=1 << 24)
        self.timeout = seconds(data, "timeout")
        self.grace = seconds(data, "grace", 10.0) or 0.0
        self.stop_signal = _one_of(data, "stop_signal", "TERM", tuple(STOP_SIGNALS))
        self.no_output_timeout = seconds(data, "no_output_timeout")
        self.max_bytes = whole(data, "max_bytes", 1 << 30, 2, 1 << 62) or 0
        self.limits = _limits(data)
        self.keep_leftovers = _one_of(data, "leftovers", "kill", ("kill", "keep")) == "keep"
        self.redact = texts(data, "redact")
        self.note = text(data, "note", "")
        self.keep_free = whole(data, "keep_free", 0, 0, 1 << 62) or 0
        self.tied = data.get("tied") is True


def text(
    data: Mapping[str, Any], name: str, default: str | None = None, *, most: int = 1 << 24, nul: bool = False
) -> str:
    """A string that the kernel can be given: no NUL byte, encodable. None and absence are the default."""
    value = data.get(name)
    if value is None and default is not None:
        return default
    return _checked(value, name, most=most, nul=nul)


def _checked(value: object, name: str, *, most: int = 1 << 24, nul: bool = False) -> str:
    if not isinstance(value, str):
        raise BadRequest(f"{name}: must be a string")
    if "\0" in value and not nul:
        raise BadRequest(f"{name}: must not have a NUL byte")
    try:
        size = len(value.encode("utf-8", "surrogateescape"))
    except UnicodeEncodeError as error:
        raise BadRequest(f"{name}: cannot be encoded: {error.reason}") from None
    if size > most:
        raise BadRequest(f"{name}: must not be longer than {most} bytes")
    return value


def texts(data: Mapping[str, Any], name: str) -> tuple[str, ...]:
    value = data.get(name, [])
    if not isinstance(value, list):
        raise BadRequest(f"{name}: must be a list of strings")
    return tuple(_checked(item, f"{name}[{index}]") for index, item in enumerate(value))


def environment(data: Mapping[str, Any], field: str = "env") -> dict[str, str]:
    value = data.get(field, {})
    if not isinstance(value, dict):
        raise BadRequest(f"{field}: must be an object of strings")
    for name, item in value.items():
        if not _checked(name, field) or "=" in name:
            raise BadRequest(f"{field}: a name must not be empty nor have an equals sign")
        _checked(item, f"{field}.{name[:64]}")
    return value


def number(value: object, name: str, least: float, most: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadRequest(f"{name}: must be a number")
    if not least <= value <= most or not math.isfinite(value):
        raise BadRequest(f"{name}: must be between {least:g} and {most:g}")
    return value


def seconds(data: Mapping[str, Any], name: str, default: float | None = None) -> float | None:
    value = data.get(name)
    return default if value is None else float(number(value, name, 0, 1e10))


def whole(data: Mapping[str, Any], name: str, default: int | None, least: int, most: int) -> int | None:
    value = data.get(name)
    if value is None:
        return default
    found = number(value, name, least, most)
    if found != int(found):
        raise BadRequest(f"{name}: must be a whole number")
    return int(found)


def _one_of(data: Mapping[str, Any], name: str, default: str, known: tuple[str, ...]) -> str:
    value = text(data, name, default)
    if value not in known:
        raise BadRequest(f"{name}: must be one of {', '.join(known)}")
    return value


def _limits(data: Mapping[str, Any]) -> dict[str, float]:
    value = data.get("limits") or {}
    if not isinstance(value, dict):
        raise BadRequest("limits: must be an object")
    unknown = set(value) - set(_LIMITS)
    if unknown:
        raise BadRequest(f"limits: knows {', '.join(_LIMITS)} only")
    return {name: number(item, f"limits.{name}", 0, 1e18) for name, item in value.items() if item is not None}


def cause(data: Mapping[str, Any]) -> str:
    """Why a run is to be stopped."""
    return _one_of(data, "cause", "cancel", CAUSES)
