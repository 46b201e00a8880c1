"""Text of others shown to people: nothing in it can move a cursor, colour a terminal, or turn the order of a line."""

from __future__ import annotations

import re
from typing import Final

# Where str.isprintable is false: controls (C0, DEL, C1), format characters (bidi marks and overrides, zero widths),
# surrogates, separators of lines and paragraphs, private use, and spaces other than the ordinary one.
_MAY_HIDE: Final = re.compile(r"[^ -~]")


def visible(text: str) -> str:
    r"""The text in one line of printable characters; every other one as JSON writes it, `\u009b`."""
    if text.isascii() and text.isprintable():
        return text
    return _MAY_HIDE.sub(_as_escape, text)


def visible_json(document: str) -> str:
    """A JSON document of one line that means the same, with nothing in it that is not printable."""
    # JSON itself has escaped what is below a space; the line is all that is left to look at.
    return document if document.isascii() and "\x7f" not in document else _MAY_HIDE.sub(_as_escape, document)


def _as_escape(found: re.Match[str]) -> str:
    char = found[0]
    if char.isprintable():
        return char
    units = char.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at]:02x}{units[at + 1]:02x}" for at in range(0, len(units), 2))
