"""``cron-runner drain``: make this host empty."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any, Final

from runner.cli import agent_socket, printing
from runner.cli.agent_socket import NOTHING_DONE, ask
from runner.cli.fleet import still
from runner.cli.host.pause import going_on
from runner.errors import CronRunnerError

if TYPE_CHECKING:
    import argparse
    from pathlib import Path

EXAMPLE: Final = """\
cron-runner drain --wait --note "kernel upgrade" && sudo reboot
cron-runner drain --wait --timeout 1h
"""
_LOOK_EVERY_S: Final = 0.5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Why, and whether to wait."""
    parser.add_argument("--note", metavar="TEXT", default="", help="why; `status` and the log show it")
    parser.add_argument("--wait", action="store_true", help="wait until nothing runs here any more")
    parser.add_argument(
        "--timeout", metavar="DURATION", type=agent_socket.duration, help="wait, and give up after so long"
    )
    agent_socket.add_options(parser)
    parser.epilog = (
        "Nothing is received, what is held is handed back, what runs is waited for, and its retries are left to\n"
        "other hosts. It lasts over restarts of the agent and of the host, until `cron-runner resume`.\n"
        "Exit status: 0 draining, with --wait: empty; 1 --timeout is over, or somebody resumed it meanwhile;\n"
        f"3 no agent.\n\n{parser.epilog}"
    )


def execute(args: argparse.Namespace) -> int:
    """Drain; 0 when the agent has noted it, or with --wait when the host is empty."""
    deadline = float("inf") if args.timeout is None else time.monotonic() + args.timeout
    path = agent_socket.socket_of(args, os.environ)
    answer = ask(path, "drain", note=args.note)
    if not args.json:
        note = still(args.note, answer["pause"]["note"])
        printing.lines(f"draining until `cron-runner resume`; {going_on(answer['runs'])}{note}")
    if args.wait or args.timeout is not None:
        answer = _wait(path, answer, deadline)
    if args.json:
        printing.document(answer)
    return _status(args, answer)


def _wait(path: Path, answer: dict[str, Any], deadline: float) -> dict[str, Any]:
    """Until the host is empty, is drained no more, or the time is over."""
    while True:
        seen = ask(path, "status", recent=0)
        answer = {"pause": seen["pause"], "runs": len(seen["runs"]) + len(seen["held"])}
        if not answer["runs"] or not _drained(answer) or time.monotonic() > deadline:
            return answer
        time.sleep(_LOOK_EVERY_S)


def _drained(answer: dict[str, Any]) -> bool:
    return answer["pause"] is not None and answer["pause"]["kind"] == "drain"


def _status(args: argparse.Namespace, answer: dict[str, Any]) -> int:
    if not args.wait and args.timeout is None:
        return 0
    if not _drained(answer):
        raise NotEmptied("cannot wait for an empty host: somebody has resumed it meanwhile; see `cron-runner status`")
    if answer["runs"]:
        raise NotEmptied(f"cannot wait longer: {going_on(answer['runs'])}; see `cron-runner status`, or cancel it")
    if not args.json:
        printing.lines("drained: nothing runs here")
    return 0


class NotEmptied(CronRunnerError):
    """The wait was in vain."""

    exit_status = NOTHING_DONE
