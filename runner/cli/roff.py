"""The few words of man(7) that the manual needs: text in, lines of roff out."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

# What roff would typeset as something else than the character that a reader copies.
_SPELT: Final = {"\\": r"\e", "-": r"\-", "'": r"\(aq", "`": r"\(ga", "^": r"\(ha", "~": r"\(ti"}
_CODE: Final = re.compile(r"`([^`]+)`")


def escaped(text: str) -> str:
    """Text of one line as roff shows it, character by character."""
    spelt = "".join(_SPELT.get(char, char if char.isascii() else f"\\[u{ord(char):04X}]") for char in text)
    return f"\\&{spelt}" if spelt.startswith((".", "\\(aq")) else spelt


def prose(text: str) -> str:
    """A paragraph on one line; what stands between backticks is bold."""
    flat = " ".join(text.split())
    parts = _CODE.split(flat)
    line = "".join(f"\\fB{escaped(part)}\\fP" if index % 2 else escaped(part) for index, part in enumerate(parts))
    return f"\\&{line}" if line.startswith((".", "\\(aq")) else line


def bold(text: str) -> str:
    return f"\\fB{escaped(text)}\\fP"


def italic(text: str) -> str:
    return f"\\fI{escaped(text)}\\fP"


def head(title: str, section: int, date: str, source: str, manual: str) -> list[str]:
    """The first line of a page; ``date`` as ISO 8601 has it."""
    return [f'.TH "{escaped(title)}" "{section}" "{date}" "{escaped(source)}" "{escaped(manual)}"']


def section(title: str, *lines: str) -> list[str]:
    return [f'.SH "{escaped(title)}"', *lines]


def subsection(title: str, *lines: str) -> list[str]:
    return [f'.SS "{escaped(title)}"', *lines]


def paragraphs(text: str) -> list[str]:
    """Paragraphs that an empty line parts."""
    lines: list[str] = []
    for index, paragraph in enumerate(text.strip().split("\n\n")):
        lines += [".PP"] if index else []
        lines.append(prose(paragraph))
    return lines


def entry(term: str, *texts: str) -> list[str]:
    """A term, set already, with a paragraph for each text that is not empty."""
    lines = [".TP", term]
    for index, text in enumerate(text for text in texts if text):
        lines += [".IP"] if index else []
        lines.append(prose(text))
    return lines


def example(lines: Iterable[str]) -> list[str]:
    """Lines that stand as they are."""
    return [".PP", ".RS 4", ".nf", *(escaped(line) for line in lines), ".fi", ".RE"]


def page(lines: Iterable[str]) -> str:
    return "\n".join(lines) + "\n"
