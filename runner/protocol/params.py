"""The parameters of a job: what may be said when it is started, of which type, and where it goes. Pure.

`[jobs.J.params.date]` with `type` ("string", "date", "integer", "choice"), `default`, `pattern`, `choices` and `to`:

- `to = "env"` (default): the variable of the parameter's name in capitals, `-` as `_`: `first-day` is `FIRST_DAY`.
- `to = "arg"`: a word behind the command's own, in the order in which the parameters stand in the file; of a shell's
  text `"$1"`, `"$2"`, …

A value is one word whatever it holds, and begins no option: one that goes to an argument has no `-` at its beginning.
It is a variable of its own name or one of those words, so that it can be no other variable and no other argument.
"""

from __future__ import annotations

import datetime
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

from runner.protocol import fields, patterns
from runner.protocol.invalid import Faults, InvalidMessage
from runner.protocol.suggest import unknown

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Type = Literal["string", "date", "integer", "choice"]
To = Literal["env", "arg"]

TYPES: Final[tuple[Type, ...]] = get_args(Type)
TARGETS: Final[tuple[To, ...]] = get_args(To)
MOST: Final = 32
LONGEST: Final = 4096
"""Characters of a value."""
MOST_CHOICES: Final = 256

_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")
_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_INTEGER: Final = re.compile(r"-?(?:0|[1-9][0-9]{0,17})")
# What ends a line or a word for somebody who reads it: C0, DEL, C1, and Unicode's line and paragraph separators.
_CONTROL: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
# What shell, loader and interpreters take orders from: a parameter "path" would be one for all of them.
_ORDERS: Final = re.compile(
    r"(?:PATH|HOME|SHELL|USER|LOGNAME|LANG|LANGUAGE|IFS|ENV|PWD|OLDPWD|PS[0-4]|TMPDIR|CDPATH|EDITOR|PAGER|TRACEPARENT"
    r"|(?:LD|LC|BASH|PYTHON|PERL5?|RUBY|NODE|JAVA|GIT|SSH|AWS|CRON_RUNNER)_.*|PERL5.*|RUBY.*|PYTHON.*|CLASSPATH)"
)
_WORDS: Final[Mapping[Type, str]] = {
    "string": "text without control characters",
    "date": "a day as YYYY-MM-DD",
    "integer": "a whole number of up to 18 digits, without leading zeros",
    "choice": "one of its choices",
}


@dataclass(frozen=True, slots=True)
class Param:
    """One parameter. ``default`` None: it has to be given."""

    name: str
    type: Type = "string"
    to: To = "env"
    default: str | None = None
    pattern: str | None = None
    choices: tuple[str, ...] = ()

    @property
    def variable(self) -> str:
        """Its environment variable, of one that goes there."""
        return variable_of(self.name)

    def said(self) -> dict[str, Any]:
        """As a file has it."""
        return {
            "type": self.type,
            "to": self.to,
            **({"default": self.default} if self.default is not None else {}),
            **({"pattern": self.pattern} if self.pattern is not None else {}),
            **({"choices": list(self.choices)} if self.choices else {}),
        }

    def words(self) -> str:
        """What may be given, for people."""
        if self.choices:
            return f"one of {', '.join(self.choices)}"
        like = f" that matches {self.pattern}" if self.pattern is not None else ""
        return _WORDS[self.type] + like

    def check(self, path: str, value: object) -> str:
        """The value as the job gets it; raises InvalidMessage. The error shows no value: it may be a secret."""
        said = fields.text(path, value)
        if len(said) > LONGEST:
            fields.refuse(path, f"has {len(said)} characters; give at most {LONGEST}")
        if _CONTROL.search(said):
            fields.refuse(path, "holds a line's end or another control character; leave it out")
        if self.to == "arg" and said.startswith("-"):
            fields.refuse(path, "begins with -, so that the command could take it for an option; begin it otherwise")
        if not self._fits(said):
            fields.refuse(path, f"is no value of the parameter {self.name}; give {self.words()}")
        return said

    def _fits(self, said: str) -> bool:
        if self.choices and said not in self.choices:
            return False
        if self.type == "date" and not _is_date(said):
            return False
        if self.type == "integer" and not _INTEGER.fullmatch(said):
            return False
        return self.pattern is None or patterns.is_all(self.pattern, said)


def variable_of(name: str) -> str:
    return name.upper().replace("-", "_")


def parse(path: str, value: object) -> tuple[Param, ...]:
    """The table `params` of a job; raises InvalidMessage with all its faults."""
    given, faults, found = fields.table(path, value), Faults(), list[Param]()
    if len(given) > MOST:
        fields.refuse(path, f"are {len(given)}; give at most {MOST}")
    for name, table in given.items():
        try:
            found.append(_param(f"{path}.{fields.printable(name)}", name, table))
        except InvalidMessage as error:
            faults.add(error)
    faults.settle()
    _check_together(path, found)
    return tuple(found)


def _check_together(path: str, found: Sequence[Param]) -> None:
    seen: dict[str, str] = {}
    for one in found:
        if (other := seen.setdefault(one.variable, one.name)) != one.name:
            fields.refuse(f"{path}.{one.name}", f"is {one.variable} as {other} is; name one of them otherwise")
    try:
        patterns.check((f"{path}.{one.name}.pattern", one.pattern) for one in found if one.pattern is not None)
    except patterns.Faulty as error:
        fields.refuse(error.path, str(error))
    faults = Faults()
    for one in found:  # by now its pattern may be used
        own = {f"choices[{at}]": said for at, said in enumerate(one.choices)}
        for field, said in (own if one.default is None else {"default": one.default, **own}).items():
            try:
                one.check(f"{path}.{one.name}.{field}", said)
            except InvalidMessage as error:
                faults.add(error)
    faults.settle()


def _param(path: str, name: str, table: object) -> Param:
    if not _NAME.fullmatch(name):
        fields.refuse(path, "is no parameter's name; give up to 64 letters, digits, _ and -, a letter first")
    faults = Faults()
    said = fields.each(path, fields.table(path, table), _FIELDS, faults)
    faults.settle()
    made = Param(name, **said)
    if made.to == "env" and _ORDERS.fullmatch(made.variable):
        fields.refuse(path, f"would set {made.variable}, which programs take orders from; choose another name")
    if made.type == "choice" and not made.choices:
        fields.refuse(f"{path}.choices", "is missing; list what may be chosen")
    return made


def values(given: Mapping[str, object], params: Sequence[Param]) -> dict[str, str]:
    """By name what was given of the parameters, else their defaults; raises InvalidMessage with all that is wrong."""
    known, faults, found = {one.name: one for one in params}, Faults(), dict[str, str]()
    for name in given:
        if name not in known:
            faults.add(InvalidMessage(f"params: {unknown('parameter', name, known)}"))
    for one in params:
        try:
            found[one.name] = _value(f"params.{one.name}", one, given.get(one.name))
        except InvalidMessage as error:
            faults.add(error)
    faults.settle()
    return found


def placed(said: Mapping[str, str], params: Sequence[Param]) -> tuple[list[str], dict[str, str]]:
    """(arguments, environment) of values by name."""
    args = [said[one.name] for one in params if one.to == "arg"]
    return args, {one.variable: said[one.name] for one in params if one.to == "env"}


def received(
    params: Sequence[Param], args: Sequence[str] | None, env: Mapping[str, str] | None
) -> tuple[tuple[str, ...], dict[str, str]]:
    """(arguments, environment) of the parameters for what a message gave; raises InvalidMessage with all that is wrong.

    ``args`` are the values of those that go to arguments, the last ones left out where they have defaults.
    """
    faults, words, variables = Faults(), list[str](), dict[str, str]()
    at = 0
    for one in params:
        try:
            if one.to == "env":
                variables[one.variable] = _value(f"env.{one.variable}", one, (env or {}).get(one.variable))
            else:
                given = args[at] if args is not None and at < len(args) else None
                words.append(_value(f"args[{at}]", one, given))
        except InvalidMessage as error:
            faults.add(error)
        at += one.to == "arg"
    faults.settle()
    return tuple(words), variables


def arguments(params: Sequence[Param]) -> int:
    """How many of them are words behind the command."""
    return sum(1 for one in params if one.to == "arg")


def variables(params: Sequence[Param]) -> tuple[str, ...]:
    """The variables of those that go to the environment."""
    return tuple(one.variable for one in params if one.to == "env")


def _value(path: str, one: Param, given: object) -> str:
    if given is not None:
        return one.check(path, given)
    if one.default is None:
        fields.refuse(path, f"is missing: the parameter {one.name} has no default; give {one.words()}")
    return one.default


def _is_date(said: str) -> bool:
    if not _DATE.fullmatch(said):
        return False
    try:
        datetime.date.fromisoformat(said)
    except ValueError:
        return False
    return True


def _said(path: str, value: object) -> str:
    """A default or a choice: also a number or a day as TOML and YAML have them."""
    if type(value) is int:
        return str(value)
    if type(value) is datetime.date:
        return value.isoformat()
    return fields.text(path, value)


def _choices(path: str, value: object) -> tuple[str, ...]:
    listed = fields.items(path, value, _said)
    if not listed or len(listed) > MOST_CHOICES:
        fields.refuse(path, f"are {len(listed)}; give 1 to {MOST_CHOICES}")
    return tuple(dict.fromkeys(listed))


_FIELDS: Final[Mapping[str, fields.Parser]] = {
    "type": fields.choice("type", TYPES),
    "to": fields.choice("place", TARGETS),
    "default": _said,
    "pattern": fields.text,
    "choices": _choices,
}
