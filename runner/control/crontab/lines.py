"""A crontab line by line, as Debian's cron reads it (cron 3.0pl1-162: env.c, entry.c, do_command.c). Pure.

What a variable says holds for the lines below it. What cron refuses, or would do nothing with, is told with its line.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from runner.control.crontab.fields import WORDS, Refused, schedule_of
from runner.protocol.suggest import nearest, shown

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_BLANKS: Final = " \t"
_FIELDS: Final = re.compile(r"([^ \t]+)[ \t]+" * 5 + r"(.*)", re.DOTALL)
_WORD: Final = re.compile(r"@([^ \t]*)[ \t]*(.*)", re.DOTALL)
_USER: Final = re.compile(r"([^ \t]+)[ \t]+(.*)", re.DOTALL)
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True, slots=True)
class Entry:
    """A line that runs something. ``comment`` are the comment lines right above it."""

    number: int
    text: str
    schedule: str
    command: str
    user: str | None
    stdin: str | None
    variables: Mapping[str, str]
    comment: tuple[str, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Unsaid:
    """A line that no job can be made of, and why."""

    number: int
    text: str
    why: str


@dataclass(slots=True)
class _Reader:
    with_user: bool
    variables: dict[str, str] = field(default_factory=dict)
    comment: list[str] = field(default_factory=list)

    def line(self, number: int, text: str) -> Entry | Unsaid | None:
        said = text.lstrip(_BLANKS)
        if not said:
            self.comment.clear()
            return None
        if said.startswith("#"):
            self.comment.append(said.lstrip("#").strip())
            return None
        comment, self.comment = tuple(self.comment), []
        if (variable := assignment(said)) is not None:
            self.variables[variable[0]] = variable[1]
            return None
        try:
            return self._entry(number, said, comment)
        except Refused as error:
            return Unsaid(number, said, str(error))

    def _entry(self, number: int, said: str, comment: tuple[str, ...]) -> Entry:
        schedule, rest, notes = _when(said)
        user = None
        if self.with_user:
            match = _USER.fullmatch(rest)
            if match is None:
                raise Refused("has no user, or nothing behind it: in cron.d a user stands before the command")
            user, rest = match[1], match[2]
        if not rest.strip():
            raise Refused("has no command")
        if user is None and rest.startswith("*"):
            raise Refused("has six fields before the command; cron refuses that, too: it has no seconds and no years")
        command, stdin = with_stdin(rest)
        if not command.strip():
            raise Refused("has no command before its %")
        return Entry(number, said, schedule, command, user, stdin, dict(self.variables), comment, tuple(notes))


def read(text: str, *, with_user: bool) -> Iterator[Entry | Unsaid]:
    """The lines that run something, and those that cannot be said; ``with_user``: each names its user, as in cron.d."""
    reader = _Reader(with_user)
    lines = text.split("\n")
    for number, line in enumerate(lines, start=1):
        found = reader.line(number, line.removesuffix("\r"))
        if found is not None:
            yield found


def _when(said: str) -> tuple[str, str, list[str]]:
    """The schedule, what follows it, and what there is to say of it; raises Refused."""
    if said.startswith("@"):
        match = _WORD.fullmatch(said)
        assert match is not None
        word = match[1]
        if word == "reboot":
            raise Refused(
                "runs when the host starts, which no schedule says: make a systemd unit of it"
                " (Type=oneshot, WantedBy=multi-user.target)"
            )
        if word not in WORDS:
            near = nearest(word, [*WORDS, "reboot"])
            question = f'; did you mean "@{near}"?' if near else ""
            raise Refused(f"{shown('@' + word)} is no word of cron's{question}")
        return f"@{word}", match[2], []
    match = _FIELDS.fullmatch(said)
    if match is None:
        raise Refused("is neither a variable nor five fields and a command; cron refuses it, too")
    schedule, notes = schedule_of([match[index] for index in range(1, 6)])
    return schedule, match[6].lstrip(_BLANKS), notes


def assignment(said: str) -> tuple[str, str] | None:
    """NAME = value, each in quotes or not; None for a line that is none.

    Cron refuses an empty value without quotes; it is taken here, as there is no doubt what it means.
    """
    name, rest = _part(said, "=")
    if name is None or not rest.startswith("="):
        return None
    rest = rest[1:].lstrip()
    if not rest:
        return (name, "") if _NAME.fullmatch(name) else None
    if rest[:1] not in ("'", '"'):
        return (name, rest.rstrip()) if name else None
    value, rest = _part(rest, "")
    return None if value is None or rest.strip() or not name else (name, value)


def _part(said: str, end: str) -> tuple[str | None, str]:
    """A name or a value in quotes, or a name up to a blank or ``end``; and what follows."""
    if said[:1] in ("'", '"'):
        close = said.find(said[0], 1)
        if close < 0 or (end and end in said[1:close]):
            return None, said
        return said[1:close], said[close + 1 :].lstrip()
    match = re.match(r"[^\s=]*", said)
    assert match is not None
    return match[0], said[match.end() :].lstrip()


def with_stdin(said: str) -> tuple[str, str | None]:
    """A command and its standard input: the first % ends the command, others are line feeds; `\\%` is a % and, before
    that, `\\\\` a backslash."""
    command: list[str] = []
    at = 0
    while at < len(said) and said[at] != "%":
        if said[at] == "\\" and said[at + 1 : at + 2] in ("%", "\\"):
            at += 1
        elif said[at] == "\\" and at + 1 < len(said):
            command.append(said[at])
            at += 1
        command.append(said[at])
        at += 1
    given = said[at + 1 :]
    if not given:
        return "".join(command), None
    return "".join(command), _input(given)


def _input(given: str) -> str:
    put: list[str] = []
    escaped = open_line = False
    for char in given:
        if escaped and char != "%":
            put.append("\\")
        one = "\n" if char == "%" and not escaped else char
        escaped = one == "\\"
        if not escaped:
            put.append(one)
            open_line = one != "\n"
    return "".join([*put, "\\" if escaped else "", "\n" if open_line else ""])
