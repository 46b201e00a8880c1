"""What ``cron-runner demo`` shows: a live table while it runs, the events and the log streams at its end."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from runner.cli import printing

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from runner.cli.demos.demo_jobs import Example

_WIDTHS: Final = (14, 27, 13, 5, 7)
_COLOURS: Final = {"succeeded": "32", "running": "36", "queued": "2"}
_BAD: Final = "33"
_SHOWN_LINES: Final = 3


@dataclass(slots=True)
class Row:
    """What is known of one job of the demo."""

    example: Example
    state: str = "queued"
    exit_code: int | None = None
    signal: str | None = None
    duration_s: float | None = None
    reason: str = ""

    @property
    def ended(self) -> bool:
        return self.state not in {"queued", "running"}

    @property
    def as_expected(self) -> bool:
        return self.state == self.example.outcome and self.example.reason in self.reason

    def take(self, kind: str, data: Mapping[str, Any]) -> None:
        """Take an event of the job in; ``kind`` is the type's last word."""
        if kind == "started":
            self.state = "running"
        elif kind == "finished":
            self.state = str(data["outcome"])
            self.reason = str(data["reason"])
            self.exit_code, self.signal = data["exit_code"], data["signal"]
            self.duration_s = data["duration_s"]
        elif kind in {"rejected", "skipped"}:
            self.state = kind
            self.reason = ": ".join(str(data[key]) for key in ("reason", "detail") if data.get(key))


@dataclass(slots=True)
class Table:
    """The rows, and how they are shown: redrawn on a terminal, a line per event elsewhere."""

    rows: dict[str, Row]
    live: bool = False
    _drawn: int = 0

    def __post_init__(self) -> None:
        # A table that is higher than the terminal cannot be drawn over.
        high_enough = shutil.get_terminal_size().lines > len(self.rows) + 1
        self.live = sys.stdout.isatty() and high_enough

    def take(self, event: Mapping[str, Any], after_s: float) -> None:
        """Take a CloudEvent in, ``after_s`` seconds after the demo began."""
        kind = str(event["type"]).rpartition(".")[2]
        row = self.rows.get(str(event["data"].get("job")))
        if row is not None:
            row.take(kind, event["data"])
        if not self.live:
            say(event_line(event, after_s))

    def draw(self) -> None:
        """Draw the table over its last drawing; does nothing where standard output is no terminal."""
        if not self.live:
            return
        lines = [_cells(("JOB", "SHOWS", "STATE", "EXIT", "TOOK"), "REASON")]
        lines += [self._line(row) for row in self.rows.values()]
        up = f"\x1b[{self._drawn}F" if self._drawn else ""
        printing.data(up + "".join(f"\x1b[2K{line}\n" for line in lines))
        self._drawn = len(lines)

    def _line(self, row: Row) -> str:
        exit_text = row.signal or ("" if row.exit_code is None else str(row.exit_code))
        took = "" if row.duration_s is None else f"{row.duration_s:.2f}s"
        line = _cells((row.example.job, row.example.shows, row.state, exit_text.removeprefix("SIG"), took), row.reason)
        return f"\x1b[{_COLOURS.get(row.state, _BAD)}m{line}\x1b[0m"


def _cells(cells: Sequence[str], last: str) -> str:
    padded = [cell[:width].ljust(width) for cell, width in zip(cells, _WIDTHS, strict=True)]
    # A line that wraps would be drawn over in the wrong place.
    return " ".join([*padded, last])[: shutil.get_terminal_size().columns - 1].rstrip()


def say(line: str = "") -> None:
    """A line of the demo's own words."""
    printing.lines(line)


def event_line(event: Mapping[str, Any], after_s: float) -> str:
    """One CloudEvent on one line."""
    data = event["data"]
    kind = str(event["type"]).removeprefix("cron-runner.")
    words = [str(data[key]) for key in ("outcome", "reason", "detail") if data.get(key)]
    return f"{after_s:6.2f}s  {kind:<14} {data.get('job') or '-':<14} {': '.join(words)}".rstrip()


def show_events(events: Iterable[tuple[float, Mapping[str, Any]]], *, shown: bool) -> None:
    """All events as they arrived, where none was ``shown`` when it did, and one of them whole."""
    arrived = list(events)
    say(f"\n{len(arrived)} events on the results queue, as they arrived{', above' if shown else ':'}")
    for after_s, event in () if shown else arrived:
        say(f"  {event_line(event, after_s)}")
    finished = [event for _, event in arrived if event["type"].endswith("run.finished")]
    if finished:
        say("\nOne of them whole:")
        say(json.dumps(finished[0], indent=2))


def show_streams(streams: Mapping[str, Sequence[str]], group: str) -> None:
    """Every log stream with its first and last lines."""
    say(f"\n{len(streams)} log streams in {group}:")
    for name, lines in sorted(streams.items()):
        say(f"  {name}  ({len(lines)} line{'' if len(lines) == 1 else 's'})")
        shown = list(lines)
        if len(lines) > 2 * _SHOWN_LINES:
            shown = [*lines[:_SHOWN_LINES], "…", *lines[-1:]]
        for line in shown:
            say(f"    | {line}")
