"""``cron-runner status``: the agent of this host, what runs, what waits and what ended."""

from __future__ import annotations

import os
import re
import shutil
import signal
import sys
import textwrap
import time
from bisect import bisect_right
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Final

from runner.cli import agent_socket, printing
from runner.cli.agent_socket import NOTHING_DONE, NoAgent, ask
from runner.cli.numbers import lasting, whole
from runner.errors import WrongUsage

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator
    from pathlib import Path
    from types import FrameType

EXAMPLE: Final = """\
cron-runner status
cron-runner status --watch
cron-runner status --run backup-2030-01-31
cron-runner status --json | jq '.runs[].run_id'
"""
_RECENT: Final = 10
_COLOUR: Final = re.compile(r"\x1b\[\d*m")
_EVERY_S: Final = 2.0
# The terminal's other screen without a cursor, and back: what was there before is there again afterwards.
_ENTER, _LEAVE = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """How, and how often."""
    parser.add_argument("-w", "--watch", action="store_true", help="show it again and again, until Ctrl-C")
    parser.add_argument(
        "--every", metavar="DURATION", type=lasting("0.1s", "1h"), help="with --watch: how often (default: 2s)"
    )
    parser.add_argument("--recent", metavar="N", type=whole(0, 10_000), help=f"so many ends (default: {_RECENT})")
    parser.add_argument("--run", metavar="RUN_ID", help="one run: its phase, what it waits for, what it owes")
    agent_socket.add_options(parser)
    parser.epilog = (
        "Lines are cut to the terminal's width; in a pipe they are whole.\n"
        f"Exit status: 0, 1 no such run here (--run), 3 no agent.\n\n{parser.epilog}"
    )


def execute(args: argparse.Namespace) -> int:
    """Show it once, or until Ctrl-C."""
    if args.every is not None and not args.watch:
        raise WrongUsage("cannot use --every without --watch: add --watch")
    if args.run is not None and (args.watch or args.recent is not None):
        raise WrongUsage("cannot use --run with --watch or --recent: it shows one run, once")
    path = agent_socket.socket_of(args, os.environ)
    if args.run is not None:
        return _one(args, path)
    if args.recent is None:
        args.recent = _RECENT
    if args.watch:
        _watch(args, path, _EVERY_S if args.every is None else args.every)
    else:
        _print(args, ask(path, "status", recent=args.recent), None)
    return 0


def _one(args: argparse.Namespace, path: Path) -> int:
    from runner.cli.run_ids import run_id_of  # noqa: PLC0415 - `--help` needs none of it

    run_id = run_id_of(args.run, "show a run")
    found = ask(path, "run", run_id=run_id, standing=True)
    if args.json:
        printing.document(found)
    elif found["state"] != "unknown":
        printing.data("".join(f"{line}\n" for line in _standing(found)))
    if found["state"] != "unknown":
        return 0
    printing.note(
        f"cannot show run {run_id}: this host knows no such run; `cron-runner history` lists those of the fleet"
    )
    return NOTHING_DONE


def _standing(run: dict[str, Any]) -> list[str]:
    """One run as people read it; of another process' run only whose it is is known."""
    text = [f"run {run['run_id']} of {run['job']}"]
    if "phase" not in run:
        return [*text, f"  is run by {run.get('owner', 'another process')} on this host"]
    stopping = ", stopping" if run["state"] == "stopping" else ""
    attempt = f", attempt {run['attempt']}" if run.get("attempt") else ""
    if run.get("signed_by"):
        text.append(f"  signed by  {run['signed_by']}")
    if run.get("traceparent"):
        text.append(f"  trace      {run['traceparent']}")
    text.append(f"  phase      {run['phase']}{stopping}{attempt}")
    if run.get("outcome") and run["phase"] == "ended":
        text.append(f"  outcome    {run['outcome']}: {run['reason']}")
    return [
        *text,
        f"  waits for  {run['waits_for'] or 'nothing'}",
        f"  owes       {', '.join(run['owes']) or 'nothing'}",
    ]


def _watch(args: argparse.Namespace, path: Path, every: float) -> None:
    first = ask(path, "status", recent=args.recent)
    signal.signal(signal.SIGTERM, _terminated)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    on_screen = sys.stdout.isatty() and not args.json
    try:
        if on_screen:
            printing.data(_ENTER)
        _look_on(args, path, first, every, on_screen=on_screen)
    except KeyboardInterrupt:
        pass  # its ordinary end
    finally:
        if on_screen:
            printing.data(_LEAVE)


def _terminated(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + number)  # by way of `finally`, which gives the terminal back


def _look_on(args: argparse.Namespace, path: Path, first: dict[str, Any], every: float, *, on_screen: bool) -> None:
    before: dict[str, Any] | None = None
    for seen in _looks(path, args.recent, first, every):
        if isinstance(seen, NoAgent):
            # It is being restarted, perhaps; whoever watches wants to see it come back.
            if on_screen:
                width = shutil.get_terminal_size().columns
                _draw(textwrap.wrap(f"{time.strftime('%H:%M:%S')} {seen}", width, break_on_hyphens=False))
            else:
                printing.note(str(seen))
            before = None
            continue
        if on_screen:
            _draw(_text(seen, before))
        else:
            _print(args, seen, before)
            if not args.json:
                printing.lines("")  # between two looks
        before = seen


def _looks(path: Path, recent: int, first: dict[str, Any], every: float) -> Iterator[dict[str, Any] | NoAgent]:
    yield first
    while True:
        time.sleep(every)
        try:
            yield ask(path, "status", recent=recent)
        except NoAgent as error:
            yield error


def _print(args: argparse.Namespace, overview: dict[str, Any], before: dict[str, Any] | None) -> None:
    if args.json:
        # Watched, an object a line: what reads it needs to know where one ends.
        printing.document(overview, indent=None if args.watch else 2)
    else:
        printing.data("".join(f"{line}\n" for line in _text(overview, before)))


def _text(overview: dict[str, Any], before: dict[str, Any] | None) -> list[str]:
    from runner.cli.host.status_text import lines  # noqa: PLC0415 - `--help` needs none of it

    width = printing.width()
    colours = width is not None and "NO_COLOR" not in os.environ
    return lines(overview, width=width, colours=colours, before=before)


def _draw(text: list[str]) -> None:
    """Over what was there, so that nothing flickers; what does not fit below is left out."""
    columns, rows = shutil.get_terminal_size()
    # An id that is wider than the terminal goes on in the next row.
    ends = list(accumulate(max(1, -(-len(_COLOUR.sub("", line)) // columns)) for line in text))
    shown = text
    if ends and ends[-1] > rows:
        fit = bisect_right(ends, rows - 1)
        shown = [*text[:fit], f"… {len(text) - fit} more lines"]
    printing.data("\x1b[H" + "\r\n".join(f"{line}\x1b[K" for line in shown) + "\x1b[J")
