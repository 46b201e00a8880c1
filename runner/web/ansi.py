"""A job's output as lines of HTML: escaped first, then coloured by classes. Pure.

Of the control sequences of terminals (ECMA-48) the colours and weights are shown, and nothing else of them is: titles,
links (OSC 8), cursor moves and reports are left out whole, so that output can neither run anything in a browser nor
hide what it says. What turns or hides text (bidi marks, zero widths, C1) is written out.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from dataclasses import dataclass, replace
from html import escape
from typing import TYPE_CHECKING, Final

from runner.visible import visible

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

LONGEST_LINE: Final = 1 << 15
"""Bytes of a line that are shown; the rest is said, and is in the raw output."""
_SEQUENCE: Final = re.compile(
    r"\x1b\[([0-?]*)[ -/]*([@-~])"  # CSI
    r"|\x1b[\]PX^_][^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c|(?=\x1b)|$)"  # OSC, DCS, SOS, PM, APC
    r"|\x1b[ -/]*[0-~]?"  # any other, and an ESC alone
)
_DROPPED: Final = re.compile(r"[\x00-\x08\x0b-\x1a\x1c-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class Style:
    """What holds from here on."""

    fore: int | None = None  # 30 to 37, 90 to 97
    back: int | None = None  # 40 to 47
    on: frozenset[int] = frozenset()  # 1 bold, 2 faint, 3 italic, 4 underlined, 7 inverse

    @property
    def classes(self) -> str:
        names = [f"b{one}" for one in sorted(self.on)]
        if self.fore is not None:
            names.append(f"a{self.fore}")
        if self.back is not None:
            names.append(f"a{self.back}")
        return " ".join(names)


PLAIN: Final = Style()


def html_of(text: str, style: Style = PLAIN) -> tuple[str, Style]:
    """One line without its end, and the style that goes on behind it."""
    parts: list[str] = []
    if "\r" in text:
        # What a carriage return overwrites was never there to read; the raw output has it.
        text = next((state for state in reversed(text.split("\r")) if state), "")
    position = 0
    for found in _SEQUENCE.finditer(text):
        parts.append(_styled(text[position : found.start()], style))
        position = found.end()
        if found[2] == "m":
            style = _after(style, found[1])
    parts.append(_styled(text[position:], style))
    return "".join(parts), style


def _styled(text: str, style: Style) -> str:
    text = _DROPPED.sub("", text)
    if not text:
        return ""
    shown = escape("\t".join(visible(part) for part in text.split("\t")))
    return f'<span class="{style.classes}">{shown}</span>' if style.classes else shown


def _after(style: Style, given: str) -> Style:
    """The style behind `ESC [ given m`."""
    if re.fullmatch(r"[0-9;]*", given) is None:
        return style
    codes = [int(code[:4]) if code else 0 for code in given.split(";")][:32]
    place = 0
    while place < len(codes):
        code = codes[place]
        place += 1
        if code in (38, 48):
            nearest, taken = _nearest(codes[place:])
            place += taken
            code = code - 8 + nearest if nearest is not None else -1
        style = _coded(style, code)
    return style


def _coded(style: Style, code: int) -> Style:
    if code == 0:
        return PLAIN
    if code in (1, 2, 3, 4, 7):
        return replace(style, on=style.on | {code})
    if code in (22, 23, 24, 27):
        return replace(style, on=style.on - ({1, 2} if code == 22 else {code - 20}))
    if 30 <= code <= 37 or 90 <= code <= 97 or code == 39:
        return replace(style, fore=None if code == 39 else code)
    if 40 <= code <= 47 or code == 49:
        return replace(style, back=None if code == 49 else code)
    return style


def _nearest(rest: list[int]) -> tuple[int | None, int]:
    """Of a colour of 256, or of red, green and blue, the nearest of the eight; and how many numbers that took."""
    if rest[:1] == [5] and len(rest) > 1:
        code = rest[1]
        if code < 16:
            return code % 8, 2
        if code < 232:
            level = code - 16
            return _of_eight(level // 36 * 51, level // 6 % 6 * 51, level % 6 * 51), 2
        return (7 if code >= 244 else 0), 2
    if rest[:1] == [2] and len(rest) > 3:
        return _of_eight(*rest[1:4]), 4
    return None, len(rest)


def _of_eight(red: int, green: int, blue: int) -> int:
    edge = max(red, green, blue) * 0.6
    return (red > edge) | (green > edge) << 1 | (blue > edge) << 2 if max(red, green, blue) > 60 else 0


@dataclass(frozen=True, slots=True)
class Line:
    """`offset` is where it begins in what the job wrote, `position` in the text; `whole`: it has its end."""

    offset: int
    position: int
    html: str
    whole: bool


class Text:
    """Output as it is shown, and where each of its bytes stands in what the job wrote."""

    def __init__(self, start: int) -> None:
        self.data = bytearray()
        self._positions, self._offsets = [0], [start]

    def add(self, data: bytes, start: int, anchors: Iterable[Sequence[int]] = ()) -> None:
        """What stands at `start`; `anchors` are (position in it, offset) behind masked values."""
        size = len(self.data)
        for position, offset in [(0, start), *anchors]:
            self._positions.append(size + position)
            self._offsets.append(offset)
        self.data += data

    def where(self, position: int) -> int:
        """The offset of a byte."""
        at = bisect_right(self._positions, position) - 1
        offset = self._offsets[at] + position - self._positions[at]
        # Within a mask that is longer than what it hides, it is still before what follows.
        return min(offset, self._offsets[at + 1]) if at + 1 < len(self._offsets) else offset

    def rest(self, position: int) -> Text:
        """What is from a position on."""
        kept = Text(self.where(position))
        first = bisect_right(self._positions, position)
        kept._positions += [one - position for one in self._positions[first:]]
        kept._offsets += self._offsets[first:]
        kept.data = self.data[position:]
        return kept


def lines(text: Text, style: Style = PLAIN) -> Iterator[tuple[Line, Style]]:
    """The lines of output that begins at a line's beginning, each with the style behind it."""
    data, position = text.data, 0
    while position < len(data):
        end = data.find(b"\n", position)
        whole = end >= 0
        end = end if whole else len(data)
        piece = bytes(data[position : min(end, position + LONGEST_LINE)]).removesuffix(b"\r")
        shown, style = html_of(piece.decode("utf-8", "replace"), style)
        if end - position > LONGEST_LINE:
            shown += f'<span class="b2"> … {end - position - LONGEST_LINE:,} more bytes of this line, see raw</span>'
        yield Line(text.where(position), position, shown, whole), style
        position = end + 1


def items(found: Iterable[Line], number: int | None = None, marked: str = "") -> Iterator[str]:
    """As list items. `number`: of the first line, where the output is known from its beginning."""
    for place, line in enumerate(found):
        shown = str(number + place) if number is not None else "·"
        hit = ' class="hit"' if marked and marked in line.html else ""
        yield (
            f'<li id="b{line.offset}"{hit}><a href="#b{line.offset}" tabindex="-1">{shown}</a>'
            f"<span>{line.html}</span></li>"
        )
