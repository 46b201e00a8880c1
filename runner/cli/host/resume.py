"""``cron-runner resume``: the end of a pause or a drain."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from runner.cli import agent_socket, fleet, printing

if TYPE_CHECKING:
    import argparse

EXAMPLE: Final = """\
cron-runner resume
cron-runner resume web --note "database is back"
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Whom, and where the agent is."""
    parser.add_argument("group", metavar="GROUP", nargs="?", help="every host of a group, from anywhere")
    parser.add_argument("--note", metavar="TEXT", default="", help="of a group: why, for the audit trail")
    agent_socket.add_options(parser)
    fleet.add_table(parser)
    parser.epilog = (
        "Ends a pause and a drain alike; where there is none, nothing is to be done.\n"
        f"Exit status: 0, 3 no agent.\n\n{parser.epilog}"
    )


def execute(args: argparse.Namespace) -> int:
    """Resume; 0 also where nothing was paused."""
    if args.group is not None:
        return fleet.pause(args, on=False)
    answer = agent_socket.ask(agent_socket.socket_of(args, os.environ), "resume")
    if args.json:
        printing.document(answer)
        return 0
    was = answer["was"]
    if was is None:
        printing.lines("was not paused")
        return 0
    word = "drained" if was["kind"] == "drain" else "paused"
    note = f": {was['note']}" if was["note"] else ""
    printing.lines(f"resumed; was {word} by {was['by']} since {fleet.second(was['since'])}{note}")
    return 0
