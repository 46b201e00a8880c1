"""``cron-runner pause``: receive nothing more on this host, until it is resumed."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from runner.cli import agent_socket, fleet, printing
from runner.cli.fleet import second, still
from runner.cli.numbers import lasting
from runner.errors import WrongUsage

if TYPE_CHECKING:
    import argparse

EXAMPLE: Final = """\
cron-runner pause --note "new disk"
cron-runner pause --for 2h
cron-runner pause web --note "database is moved"
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Whom, why, and for how long."""
    parser.add_argument("group", metavar="GROUP", nargs="?", help="every host of a group, from anywhere")
    parser.add_argument("--note", metavar="TEXT", default="", help="why; `status` and the log show it")
    parser.add_argument(
        "--for", dest="lasts", metavar="DURATION", type=lasting("1s", "3650d"), help="resume by itself after so long"
    )
    agent_socket.add_options(parser)
    fleet.add_table(parser)
    parser.epilog = (
        "Nothing is received, and what is held is handed back; what runs goes on, with its retries. A pause lasts\n"
        "over restarts of the agent and of the host. A further `pause` replaces it, as it does a `drain`;\n"
        "without --note it keeps the note of the pause before.\n"
        "With GROUP it is written to the fleet's table, and every host of the group sees it within seconds.\n"
        f"Exit status: 0 paused, 3 no agent.\n\n{parser.epilog}"
    )


def execute(args: argparse.Namespace) -> int:
    """Pause; 0 when the agent, or the table, has noted it."""
    if args.group is not None:
        if args.lasts is not None:
            raise WrongUsage("cannot pause a group for a time: pause it, and `cron-runner resume GROUP` ends that")
        return fleet.pause(args, on=True)
    answer = agent_socket.ask(agent_socket.socket_of(args, os.environ), "pause", note=args.note, for_s=args.lasts)
    if args.json:
        printing.document(answer)
        return 0
    until = answer["pause"]["until"]
    end = f"until {second(until)}" if until else "until `cron-runner resume`"
    printing.lines(f"paused {end}; {going_on(answer['runs'])}{still(args.note, answer['pause']['note'])}")
    return 0


def going_on(runs: int) -> str:
    """How much goes on, in words."""
    if not runs:
        return "nothing runs here"
    return "1 run goes on" if runs == 1 else f"{runs} runs go on"
