"""``cron-runner signal RUN_ID NAME``: send the processes of a run a signal."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Final

from runner.cli import agent_socket, printing
from runner.cli.agent_socket import NOTHING_DONE, ask
from runner.errors import WrongUsage

if TYPE_CHECKING:
    import argparse

EXAMPLE: Final = """\
cron-runner signal nightly-2030-01-31 USR1
cron-runner signal nightly-2030-01-31 HUP --note "new certificate"
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which run, and what signal."""
    parser.add_argument("run_id", metavar="RUN_ID", help="the run, as `cron-runner status` names it")
    parser.add_argument("name", metavar="NAME", help="the signal: HUP, USR1, SIGUSR1 or a number")
    parser.add_argument("--note", metavar="TEXT", default="", help="why; the agent's log has it")
    agent_socket.add_options(parser)
    parser.epilog = (
        "To all of its processes; what they do is their own matter, and one that ends by it was `killed`. `cancel`\n"
        "ends a run, and tells its results who did.\n"
        f"Exit status: 0 sent, 1 it does not run here, 3 no agent.\n\n{parser.epilog}"
    )


def execute(args: argparse.Namespace) -> int:
    """Send it, and say to how many processes it went."""
    from runner.cli.run_ids import run_id_of  # noqa: PLC0415 - `--help` needs none of it

    number = _number(args.name)
    run_id = run_id_of(args.run_id, "send a signal to a run")
    found = ask(agent_socket.socket_of(args, os.environ), "signal", run_id=run_id, number=number, note=args.note)
    if args.json:
        printing.document({**found, "signal": _name(number)})
    elif found["processes"] is not None:
        printing.lines(
            f"sent {_name(number)} to run {run_id} of {found['job']}: {found['processes']} "
            f"{'process' if found['processes'] == 1 else 'processes'}"
        )
    if found["processes"] is not None:
        return 0
    why = {"unknown": "this host does not know it", "ended": "it has ended"}.get(
        found["state"], f"it is {found['state']}"
    )
    printing.note(f"cannot send a signal to run {run_id}: {why}; look at `cron-runner show {run_id}`")
    return NOTHING_DONE


def _number(name: str) -> int:
    """The signal's number, of its name with or without SIG, or of a number."""
    word = name.upper().removeprefix("SIG")
    known = {one.name.removeprefix("SIG"): int(one) for one in signal.Signals}
    number = known.get(word) or (int(word) if word.isascii() and word.isdigit() else 0)
    if not 1 <= number <= int(signal.SIGRTMAX):
        raise WrongUsage(
            f"cannot send {name}: there is no such signal; give a name such as HUP, USR1, WINCH, or a number"
        )
    if number == signal.SIGKILL:
        raise WrongUsage("cannot send KILL: nobody would know who did; use `cron-runner cancel --grace 0s`")
    return number


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return str(number)
