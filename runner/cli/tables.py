"""Tables for people, as wide as the terminal. Pure.

What names a row, its key, is never cut: it is what people copy. Where a row is too wide with all that may be cut as
narrow as it may become, the key has a line of its own; where the rest is too wide for one line too, it is named and
wrapped.
"""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

_GAP: Final = 2
_INDENT: Final = "  "
_ELLIPSIS: Final = "…"


@dataclass(frozen=True, slots=True)
class Column:
    """A column. `least` is how narrow it may become, None: it is never cut. `right`: aligned there. `key`: it names
    the row; it is the first or stands anywhere, and there is one."""

    title: str
    least: int | None = None
    right: bool = False
    key: bool = False


class Paint:
    """Colours a text by its SGR code, where colours are wanted."""

    def __init__(self, on: bool) -> None:
        self._on = on

    def __call__(self, text: str, code: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self._on and code else text


def table(
    columns: Sequence[Column],
    rows: Sequence[Sequence[str]],
    width: int | None,
    paint: Paint,
    codes: Sequence[str] | None = None,
) -> list[str]:
    """The lines, of a title and of each row. `width` None: nothing is cut. `codes`: the colour of each row."""
    cells = [[one_line(cell) for cell in row] for row in rows]
    titles = [column.title for column in columns]
    colours = codes or [""] * len(cells)
    widths = fitted(columns, cells, width)
    if _fits(widths, width):
        made = [_row(columns, titles, widths)]
        return made + [paint(_row(columns, row, widths), code) for row, code in zip(cells, colours, strict=True)]
    at = next(index for index, column in enumerate(columns) if column.key)
    rest = [column for column in columns if not column.key]
    below = [[cell for index, cell in enumerate(row) if index != at] for row in cells]
    inner = None if width is None else width - len(_INDENT)
    widths = fitted(rest, below, inner)
    aligned = _fits(widths, inner)
    made = [columns[at].title, _INDENT + _row(rest, [column.title for column in rest], widths)] if aligned else []
    for row, others, code in zip(cells, below, colours, strict=True):
        lines = [_INDENT + _row(rest, others, widths)] if aligned else _wrapped(rest, others, width or 0)
        made += [paint(line, code) for line in (row[at], *lines)]
    return made


def _wrapped(columns: Sequence[Column], cells: Sequence[str], width: int) -> list[str]:
    said = _GAP * " "
    text = said.join(f"{column.title} {cell}" for column, cell in zip(columns, cells, strict=True) if cell)
    return textwrap.wrap(text, width, initial_indent=_INDENT, subsequent_indent=_INDENT, break_on_hyphens=False)


def _fits(widths: Sequence[int], width: int | None) -> bool:
    return width is None or sum(widths) + _GAP * (len(widths) - 1) <= width


def fitted(columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int | None) -> list[int]:
    """How wide each column is: as its longest cell, and less where the whole would be wider than `width`; the widest
    of those that may be cut gives first."""
    widths = [max(len(column.title), *(len(row[at]) for row in rows)) for at, column in enumerate(columns)]
    while not _fits(widths, width):
        may = [at for at, column in enumerate(columns) if column.least is not None and widths[at] > column.least]
        if not may:
            break
        widths[max(may, key=lambda at: (widths[at], at))] -= 1
    return widths


def _row(columns: Sequence[Column], cells: Sequence[str], widths: Sequence[int]) -> str:
    made = []
    for column, cell, width in zip(columns, cells, widths, strict=True):
        text = cut(cell, width)
        made.append(text.rjust(width) if column.right else text.ljust(width))
    return (" " * _GAP).join(made).rstrip()


def cut(text: str, width: int) -> str:
    """The text in so many columns, with an ellipsis where there was more."""
    return text if len(text) <= width else text[: width - 1] + _ELLIPSIS


def one_line(text: str) -> str:
    """Whatever a reason quotes, it cannot move the cursor or colour the terminal."""
    return "".join(char if char.isprintable() else " " for char in text)
