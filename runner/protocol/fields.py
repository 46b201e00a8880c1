"""Parsers of single fields: (path, value) to the value in its unit, or InvalidMessage naming the path."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeVar

from runner.protocol import secret_reference, units
from runner.protocol.invalid import Faults, InvalidMessage
from runner.protocol.suggest import kind, shown, unknown
from runner.protocol.trace import EXAMPLE, is_traceparent

if TYPE_CHECKING:
    from runner.protocol.job import Command

T = TypeVar("T")
Parser = Callable[[str, object], object]

_JOB_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_RUN_ID_LENGTH: Final = 128
# A leading dot is outside the alphabet too: run ids become names of files and log streams.
_OUTSIDE_RUN_ID: Final = re.compile(r"[^A-Za-z0-9._-]|\A\.")
_SURROGATE: Final = re.compile(r"[\ud800-\udfff]")
_PLACEHOLDER: Final = "<aws.scheduler."
_OURS: Final = "CRON_RUNNER_"


def refuse(path: str, text: str) -> NoReturn:
    """Raise InvalidMessage for the field at `path`."""
    raise InvalidMessage(f"{path}: {text}")


def text(path: str, value: object) -> str:
    """A string that can be encoded as UTF-8."""
    if type(value) is not str:
        refuse(path, _wrong(value, "a string"))
    if not value.isascii() and _SURROGATE.search(value):
        refuse(path, "holds half of a surrogate pair, which is no character; give valid Unicode")
    return value


def word(path: str, value: object) -> str:
    """A string that the kernel takes: no NUL byte."""
    said = text(path, value)
    if "\0" in said:
        refuse(path, "holds a NUL byte, which no process can be given; leave it out")
    return said


def name(path: str, value: object) -> str:
    """A non-empty word, such as a group."""
    said = word(path, value)
    if not said:
        refuse(path, "is empty; give a name or leave the field out")
    return said


def job_name(path: str, value: object) -> str:
    said = text(path, value)
    if not _JOB_NAME.fullmatch(said):
        refuse(
            path,
            f"{shown(said)} is not a job name; give 1 to 128 letters, digits, dots, dashes and underscores,"
            " beginning with a letter or digit",
        )
    return said


def run_id(path: str, value: object) -> str:
    """A run id with the characters outside its alphabet mapped to `-`."""
    said = text(path, value)
    if not said:
        refuse(path, "is empty; give an id or leave the field out")
    if len(said) > _RUN_ID_LENGTH:
        refuse(path, f"has {len(said)} characters; give at most {_RUN_ID_LENGTH}")
    if _PLACEHOLDER in said:
        # Every run of the schedule would have this one id, and all but the first be dropped as repeats.
        refuse(
            path,
            f"{shown(said)} holds a placeholder that EventBridge Scheduler did not fill in; it knows"
            " schedule-arn, scheduled-time, execution-id and attempt-number",
        )
    return _OUTSIDE_RUN_ID.sub("-", said)


def version(path: str, value: object) -> int:
    if type(value) is not int or value != 1:
        refuse(path, f"{shown(value)} is not a known version; give 1 or leave the field out")
    return value


def command(path: str, value: object) -> Command:
    """A shell command, or an argv."""
    if type(value) is list:
        argv = words(path, value)
        if not argv:
            refuse(path, "is an empty array; give the program and its arguments")
        if not argv[0]:
            refuse(f"{path}[0]", "is empty; give the program's name or path")
        return argv
    if type(value) is not str:
        refuse(path, _wrong(value, "a string for the shell or an array of strings"))
    said = word(path, value)
    if not said.strip():
        refuse(path, "is empty; give the command to run")
    return said


def words(path: str, value: object) -> tuple[str, ...]:
    return items(path, value, word)


def texts(path: str, value: object) -> tuple[str, ...]:
    return items(path, value, text)


def items(path: str, value: object, item: Callable[[str, object], T]) -> tuple[T, ...]:
    if type(value) is not list:
        refuse(path, _wrong(value, "an array"))
    checked, faults = [], Faults()
    for index, entry in enumerate(value):
        try:
            checked.append(item(f"{path}[{index}]", entry))
        except InvalidMessage as error:
            faults.add(error)
    faults.settle()
    return tuple(checked)


def env(path: str, value: object) -> Mapping[str, str]:
    """An environment. No value is ever part of an error's text: it may be a secret."""
    return _strings(path, value, env_name, _variable)


def _variable(path: str, value: object) -> str:
    if type(value) is not str:
        refuse(path, f"is {kind(value)}; give a string, in quotes")
    return word(path, value)


def _strings(
    path: str, value: object, key: Callable[[str, object], str], entry: Callable[[str, object], str]
) -> Mapping[str, str]:
    checked: dict[str, str] = {}
    faults = Faults()
    for name, given in table(path, value).items():
        try:
            checked[key(path, name)] = entry(f"{path}.{printable(name)}", given)
        except InvalidMessage as error:
            faults.add(error)
    faults.settle()
    return checked


def env_name(path: str, value: object) -> str:
    said = word(path, value)
    if not said or "=" in said:
        refuse(path, f"{shown(said)} is not a variable's name; give one that is not empty and has no =")
    if said.startswith(_OURS):
        refuse(path, f"{shown(said)} is set by cron-runner itself; choose a name without {_OURS}")
    return said


def secrets(path: str, value: object) -> Mapping[str, str]:
    """Variables, and where their values are."""
    if isinstance(value, dict) and len(value) > secret_reference.MOST:
        refuse(path, f"are {len(value)}; give at most {secret_reference.MOST}")
    return _strings(path, value, env_name, _reference)


def _reference(path: str, value: object) -> str:
    said = _variable(path, value)
    try:
        secret_reference.parse(said)
    except ValueError as error:
        # Not shown as it is: whoever gives a secret itself here must not find it in an event.
        refuse(path, str(error))
    return said


def labels(path: str, value: object) -> Mapping[str, str]:
    return _strings(path, value, text, text)


def table(path: str, value: object) -> dict[str, object]:
    """A JSON object or TOML table. The error shows no value: the field may be env."""
    if not isinstance(value, dict):
        refuse(path, f"is {kind(value)}; give an object or leave the field out")
    return value


def cwd(path: str, value: object) -> str:
    said = word(path, value)
    if not said.startswith("/"):
        refuse(path, f"{shown(said)} is not an absolute path; begin it with /")
    return said


def umask(path: str, value: object) -> int:
    """Octal digits in quotes, such as "022". Of a number nobody knows in which base it was meant: 22 is 0026."""
    if type(value) is not str or not re.fullmatch(r"(0o)?[0-7]{1,4}", value):
        refuse(path, f'{shown(value)} is not a umask; give octal digits in quotes such as "022"')
    mask = int(value.removeprefix("0o"), 8)
    if mask > 0o777:
        refuse(path, f'{shown(value)} is outside 000 to 777; give octal digits in quotes such as "022"')
    return mask


def integer(path: str, value: object, *, least: int, most: int) -> int:
    if type(value) is not int:
        refuse(path, _wrong(value, "a whole number"))
    if not least <= value <= most:
        refuse(path, f"{shown(value)} is outside {least} to {most}")
    return value


def number(path: str, value: object, *, least: float = 0.0) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        refuse(path, _wrong(value, "a number"))
    try:
        said = float(value)
    except OverflowError:
        said = math.inf
    if not math.isfinite(said):
        refuse(path, f"{shown(value)} is too large; give a finite number")
    if said < least:
        refuse(path, f"{shown(value)} is too small; give at least {least:g}")
    return said


def duration(path: str, value: object) -> float:
    try:
        return units.parse_duration(value)
    except ValueError as error:
        refuse(path, str(error))


def limit(path: str, value: object) -> float:
    """A duration after which a run is stopped, so more than 0."""
    seconds = duration(path, value)
    if seconds <= 0:
        refuse(
            path,
            '0 would stop every run at once; leave the field out for the default, or give a long one: "7d"',
        )
    return seconds


def size(path: str, value: object) -> int:
    try:
        return units.parse_size(value)
    except ValueError as error:
        refuse(path, str(error))


def moment(path: str, value: object) -> float:
    try:
        return units.parse_time(value)
    except ValueError as error:
        refuse(path, str(error))


def traceparent(path: str, value: object) -> str:
    """A W3C trace context, as it came."""
    said = text(path, value)
    if not is_traceparent(said):
        refuse(path, f"{shown(said)} is no W3C trace context; give one such as {EXAMPLE}, or leave the field out")
    return said


def boolean(path: str, value: object) -> bool:
    if type(value) is not bool:
        refuse(path, _wrong(value, "true or false"))
    return value


def choice(what: str, choices: tuple[str, ...]) -> Callable[[str, object], str]:
    """A parser of one of `choices`."""

    def parse(path: str, value: object) -> str:
        said = text(path, value)
        if said not in choices:
            listed = ", ".join(choices)
            refuse(path, f"{unknown(what, said, choices)} (one of {listed})")
        return said

    return parse


def printable(key: str) -> str:
    """A key as part of a path: as it is where that is readable, else quoted and shortened."""
    return key if key.isascii() and key.isprintable() and len(key) <= 64 else shown(key)


def each(path: str, given: Mapping[str, object], parsers: Mapping[str, Parser], faults: Faults) -> dict[str, Any]:
    """Every field parsed that can be; what is unknown or wrong goes to `faults`. `path` is "" at the top."""
    said: dict[str, Any] = {}
    for key, value in given.items():
        try:
            if key in parsers:
                said[key] = parsers[key](f"{path}.{key}" if path else key, value)
            else:
                text = unknown("field", key, parsers)
                faults.add(InvalidMessage(f"{path}: {text}" if path else text))
        except InvalidMessage as error:
            faults.add(error)
    return said


def _wrong(value: object, wanted: str) -> str:
    if value is None:
        return f"is null; give {wanted} or leave the field out"
    given = f"{shown(value)} is {kind(value)}" if isinstance(value, str | int | float) else f"is {kind(value)}"
    return f"{given}; give {wanted}"
