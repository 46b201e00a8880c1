"""``cron-runner pause``: receive nothing more on this host, until it is resumed."""

from __future__ import annotations

import contextlib
import os
import time
from typing import TYPE_CHECKING, Final

from runner.cli import agent_socket, fleet, printing
from runner.cli.agent_socket import NoAgent
from runner.cli.fleet import second, still
from runner.cli.numbers import lasting
from runner.errors import CronRunnerError, WrongUsage

if TYPE_CHECKING:
    import argparse

EXAMPLE: Final = """\
cron-runner pause --note "new disk"
cron-runner pause --for 2h
cron-runner pause web --for 2h --note "database is moved"
cron-runner pause --no-agent && systemctl start cron-runner
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Whom, why, and for how long."""
    parser.add_argument("group", metavar="GROUP", nargs="?", help="every host of a group, from anywhere")
    parser.add_argument("--note", metavar="TEXT", default="", help="why; `status` and the log show it")
    parser.add_argument(
        "--for", dest="lasts", metavar="DURATION", type=lasting("1s", "3650d"), help="resume by itself after so long"
    )
    parser.add_argument(
        "--no-agent", action="store_true", help="of this host before its agent is up: it starts, and receives nothing"
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
        if args.no_agent:
            raise WrongUsage("cannot use --no-agent with a GROUP: its pause holds for agents that come, too")
        return fleet.pause(args, on=True)
    if args.no_agent:
        return _ahead(args)
    answer = agent_socket.ask(agent_socket.socket_of(args, os.environ), "pause", note=args.note, for_s=args.lasts)
    if args.json:
        printing.document(answer)
        return 0
    until = answer["pause"]["until"]
    end = f"until {second(until)}" if until else "until `cron-runner resume`"
    printing.lines(f"paused {end}; {going_on(answer['runs'])}{still(args.note, answer['pause']['note'])}")
    return 0


def _ahead(args: argparse.Namespace) -> int:
    """Paused before it is up: what is received by an agent whose host is not ready yet is too late to stop."""
    from runner import config  # noqa: PLC0415 - `--help` needs none of it
    from runner.agent.operator.pause_file import NAME, keep  # noqa: PLC0415
    from runner.agent.runs.pause import Pause  # noqa: PLC0415
    from runner.protocol.units import format_time  # noqa: PLC0415

    with contextlib.suppress(NoAgent):
        agent_socket.ask(agent_socket.socket_of(args, os.environ), "run", run_id="-")
        raise CronRunnerError("cannot pause an agent that is to come: one is up; leave --no-agent out")
    state = config.load(args.config, os.environ, offline=True).paths.state
    now = time.time()
    made = Pause(fleet.whoami().partition("@")[0], now, args.note, None if args.lasts is None else now + args.lasts)
    try:
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise CronRunnerError(f"cannot pause: {state}: {error.strerror}; use sudo") from error
    keep(state / NAME, made)
    until = None if made.until is None else format_time(made.until)
    if args.json:
        shown = {"kind": "pause", "by": made.by, "since": format_time(made.since), "note": made.note, "until": until}
        printing.document({"pause": shown, "runs": None})
    else:
        end = f"until {second(until)}" if until else "until `cron-runner resume`"
        printing.lines(f"paused {end}: the agent that is started next receives nothing")
    return 0


def going_on(runs: int) -> str:
    """How much goes on, in words."""
    if not runs:
        return "nothing runs here"
    return "1 run goes on" if runs == 1 else f"{runs} runs go on"
