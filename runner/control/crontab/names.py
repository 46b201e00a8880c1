"""Names of jobs for the lines of a crontab: of the comment right above it, else of what it runs. Pure."""

from __future__ import annotations

import re
import unicodedata
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Final

from runner.control.crontab.fields import Refused, schedule_of
from runner.control.crontab.lines import assignment

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

_LONGEST: Final = 60
_OUTSIDE: Final = re.compile(r"[^a-z0-9]+")
_OUTSIDE_COMMAND: Final = re.compile(r"[^A-Za-z0-9._-]+")
_TEMPLATE: Final = re.compile(r"\bm(in(ute)?s?)?\s+h(ours?)?\s+(dom|day)|minute \(0 ?- ?59\)|\.-{4,}", re.IGNORECASE)
_SPLIT: Final = re.compile(r"&&|\|\||[;|\n&(){}]")
_SET: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*=\S*")
_BEFORE: Final = frozenset(
    (
        "cd",
        "test",
        "[",
        "[[",
        "sleep",
        "export",
        "set",
        "umask",
        ".",
        "source",
        "if",
        "then",
        "true",
        ":",
        "echo",
        "ulimit",
    )
)
"""What a line does before what it is for."""
_AROUND: Final = frozenset(
    (
        "exec",
        "nice",
        "ionice",
        "nohup",
        "sudo",
        "env",
        "time",
        "timeout",
        "flock",
        "chronic",
        "setsid",
        "command",
        "run-parts",
    )
)
_INTERPRETER: Final = re.compile(r"(?:ba|da|z|k)?sh|python[0-9.]*|perl|ruby|php[0-9.]*|node|java|lua")
_SUFFIXES: Final = frozenset((".sh", ".py", ".pl", ".rb", ".php", ".js", ".bash", ".jar"))


def named(comment: Sequence[str], command: str, number: int, taken: Collection[str]) -> str:
    """A name that nobody has yet."""
    name = of_comment(comment) or of_command(command) or f"line-{number}"
    found, count = name, 2
    while found in taken:
        found, count = f"{name}-{count}", count + 1
    return found


def of_comment(lines: Sequence[str]) -> str:
    """Of the first line that says something in a block that is about this line; "" where there is none."""
    if any(_TEMPLATE.search(line) for line in lines):
        return ""
    for line in lines:
        plain = unicodedata.normalize("NFKD", line).encode("ascii", "ignore").decode()
        slug = _OUTSIDE.sub("-", plain.lower()).strip("-")
        if slug and not _is_line(line):
            return _short(slug)
    return ""


def _is_line(text: str) -> bool:
    """Whether a comment is a line that somebody has switched off."""
    parts = text.split()
    if assignment(text) is not None or text.startswith("@"):
        return True
    if len(parts) < 6:
        return False
    try:
        schedule_of(parts[:5])
    except Refused:
        return False
    return True


def of_command(command: str) -> str:
    """Of the first thing that it runs for its own sake."""
    fallback = ""
    for piece in _SPLIT.split(command):
        words = [word for word in piece.replace("`", " ").split() if not _SET.fullmatch(word)]
        while words and (_base(words[0]) in _AROUND or _INTERPRETER.fullmatch(_base(words[0]))):
            # What follows its options; their values, as of `nice -n 10`, are numbers or files.
            words = words[1:]
            while words and (words[0].startswith("-") or words[0].replace(".", "").isdigit()):
                words = words[1:]
            if len(words) > 1 and words[0].startswith("/") and words[0].endswith((".lock", ".pid")):
                words = words[1:]
        if not words or words[0].startswith(("$", ">", "<")):
            continue
        name = _base(words[0])
        stem = PurePosixPath(name)
        slug = _OUTSIDE_COMMAND.sub("-", stem.stem if stem.suffix in _SUFFIXES else name).strip("-._")
        fallback = fallback or slug
        if slug and name not in _BEFORE:
            return _short(slug)
    return _short(fallback)


def _base(word: str) -> str:
    return word.strip("'\"").rstrip("/").rpartition("/")[2]


def _short(slug: str) -> str:
    """Up to a word's end within the length that an id of a run leaves to a name."""
    if len(slug) <= _LONGEST:
        return slug
    return slug[:_LONGEST].rpartition("-")[0].strip("-") or slug[:_LONGEST]
