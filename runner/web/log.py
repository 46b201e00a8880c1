"""A run's output on its page: the last of it as lines of HTML, and what follows as events with more of them.

The server makes every line, so that there is one renderer. A line that is not whole yet is sent again when it grows:
an event's id is where such a line begins, so that what goes on from an id shows it once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from markupsafe import Markup

from runner.web.ansi import PLAIN, Line, Style, Text, items, lines
from runner.web.stream import QUIET, event, pieces

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from runner.web.sources.source import Source

LAST: Final = 1 << 20
MOST_LINES: Final = 4_000
_READ: Final = 1 << 18
_LONGEST_PARTIAL: Final = 1 << 16


@dataclass(frozen=True, slots=True)
class Shown:
    """Bytes: `start` of the first line, `next` where a follower goes on, `earlier` where the page before begins."""

    html: Markup
    start: int
    next: int
    size: int
    earlier: int
    later: bool
    here: bool


async def last(source: Source, run_id: str, begin: int | None = None) -> Shown:
    """The last mebibyte, at most so many lines of it; or a page from `begin` on."""
    whole = await source.output(run_id, 0, 0)
    size = whole.size
    start = max(0, size - LAST) if begin is None else min(begin, size)
    text, place = Text(start), start
    end = size if begin is None else min(size, start + LAST)
    while place < end:
        piece = await source.output(run_id, place, min(_READ, end - place))
        if piece.next <= place:
            break
        text.add(piece.data, place, piece.anchors)
        place = piece.next
    if start and begin is None:
        # A line that began before is not shown by half.
        first = text.data.find(b"\n") + 1
        if 0 < first < len(text.data):
            text = text.rest(first)
    found = [line for line, _ in lines(text)]
    cut = found[-MOST_LINES:] if begin is None else found[:MOST_LINES]
    if begin is not None and len(found) > len(cut):
        place = found[len(cut)].offset
    follow = found[-1].offset if found and not found[-1].whole else place
    begins = cut[0].offset if cut else start
    shown = Markup("").join(Markup(item) for item in items(cut, 1 if begins == 0 else None))  # noqa: S704 - escaped by ansi
    return Shown(
        shown, begins, follow if begin is None else place, size, max(0, begins - LAST // 4), place < size, whole.here
    )


async def following(source: Source, run_id: str, start: int) -> AsyncIterator[bytes]:
    """Events `lines` (list items; one that is there already takes its place), and `end`."""
    text, style = Text(start), PLAIN
    reached = start
    async for piece in pieces(source, run_id, start):
        if piece is None:
            yield QUIET
            continue
        if piece.next > reached:
            text.add(piece.data, piece.start, piece.anchors)
            reached = piece.next
            html, text, style = _more(text, style)
            yield event("lines", html, text.where(0) if text.data else reached)
        if piece.over:
            yield event("end", piece.outcome or "", piece.next)
            return


def _more(text: Text, style: Style) -> tuple[str, Text, Style]:
    """The lines in it, the rest that is no whole line, and the style before that rest."""
    shown: list[Line] = []
    rest = len(text.data)
    for line, after in lines(text, style):
        shown.append(line)
        if not line.whole:
            rest = line.position
            break
        style = after
    if len(text.data) - rest > _LONGEST_PARTIAL:
        rest = len(text.data)
    return "".join(items(shown)), text.rest(rest), style
