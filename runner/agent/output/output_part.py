"""A part of a run's output, from any byte on, as this host still has it: masked as everywhere, wherever it begins.

The places are those of what the run wrote, all its attempts one after the other: one of them goes on without loss or
repeat, while the run writes and after it.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

from runner.agent.journal import history
from runner.agent.output import spool_file
from runner.agent.output.attempt_output import Followed
from runner.agent.output.masking import whole
from runner.agent.runs.output import Rules
from runner.agent.runs.run import State

if TYPE_CHECKING:
    from pathlib import Path

    from runner.agent.runs.output import SpoolRow

MOST_BYTES: Final = 1 << 20
LEAST_BYTES: Final = 1 << 10


def output_part(state: Path, run_id: str, start: int, most: int) -> dict[str, Any]:
    """See docs/status.md. `state` is `[paths] state`. Raises OSError, sqlite3.Error."""
    with history.reading(state / "journal.db") as journal:
        past = next((one for one in history.executions(journal, run_id) if one.row.outcome != "rejected"), None)
        rows = history.spools(journal, past.row.execution) if past is not None else []
    if past is None:
        return {"run_id": run_id, "state": "unknown"}
    over = past.row.state == State.ENDED
    kept = [_followed(state, row, over=over or at + 1 < len(rows)) for at, row in enumerate(rows)]
    # What is not in a file at all has a place too: it is told as dropped.
    sizes = [one.ended.bytes_total if one.ended is not None else one.size for one in kept]
    found: dict[str, Any] = {"run_id": run_id, "execution": past.row.execution, "state": past.row.state}
    found |= {"here": bool(kept) or not over, "size": sum(sizes), "outcome": past.row.outcome if over else None}
    begin = 0
    at = max(0, min(start, sum(sizes)))
    most = max(LEAST_BYTES, min(most, MOST_BYTES)) if most else MOST_BYTES
    for place, (followed, size) in enumerate(zip(kept, sizes, strict=True)):
        if at < begin + size or place + 1 == len(kept):
            text, first, end, anchors = _part(followed, at - begin, most)
            attempt = followed.tag.attempt
            done = over and place + 1 == len(kept) and begin + end >= begin + size
            part = {"from": begin + first, "next": begin + end, "text": text, "end": done}
            return {**found, "attempt": attempt, **part, "anchors": [(of, begin + stands) for of, stands in anchors]}
        begin += size
    return {**found, "attempt": None, "from": at, "next": at, "text": "", "end": over, "anchors": []}


def _followed(state: Path, row: SpoolRow, *, over: bool) -> Followed:
    path = spool_file.path_of(state / "spool", row.tag)
    followed = Followed(row.tag, path, sinks=(), secrets=row.secrets, rules=Rules())
    followed.grow(spool_file.size_of(path), time.monotonic())
    if row.end is not None or over:
        followed.end(row.end)
    return followed


def _part(followed: Followed, start: int, most: int) -> tuple[str, int, int, list[tuple[int, int]]]:
    """The text, where it begins and where it ends; bytes that are no UTF-8 as Python's surrogateescape has them.

    A mask is of another length than what it hides: (place in the text's bytes, place in the output) behind each."""
    if dropped := followed.at_gap(start):
        return f"\n[cron-runner: {dropped} bytes dropped here]\n", start, start + dropped, []
    if start < followed.size:
        # What was given back to the disk would read as zeros: CloudWatch has it.
        start = max(start, min(spool_file.first_data(followed.path, start), followed.limit(start)[0]))
    masks = followed.masks
    # A part may begin within a secret: whoever asks chooses where.
    back = min(start, masks.longest)
    data, final = followed.read(start - back, back + most + masks.longest)
    spans = masks.spans(data)
    pending = len(data) if final else masks.pending(data)
    cut = _at_a_character(data, whole(min(len(data), back + most), spans, pending), back)
    # One that is longer than the part is told to its end.
    cut = max(cut, *(end for begin, end in spans if begin <= back < end), cut)
    if cut <= back:
        return "", start, start, []
    shown = [(max(begin, back) - back, end - back) for begin, end in spans if end > back and begin < cut]
    anchors, shorter = [], 0
    for begin, end in shown:
        shorter += end - begin - len(masks.mask(data[back + begin : back + end], [(0, end - begin)]))
        anchors.append((end - shorter, start + end))
    text = masks.mask(data[back:cut], shown).decode("utf-8", "surrogateescape")
    return text, start, start + cut - back, anchors


def _at_a_character(data: bytes, cut: int, least: int) -> int:
    """Not within one of UTF-8, where more of it is there or to come."""
    begin = cut
    while begin > max(least, cut - 3) and begin < len(data) and data[begin] & 0xC0 == 0x80:
        begin -= 1
    return begin if begin > least else cut
