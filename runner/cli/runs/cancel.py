"""``cron-runner cancel RUN_ID``: end a run of this host."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any, Final

from runner.cli import agent_socket, fleet, printing
from runner.cli.agent_socket import NOTHING_DONE, ask
from runner.errors import WrongUsage

if TYPE_CHECKING:
    import argparse
    from pathlib import Path

EXAMPLE: Final = """\
cron-runner cancel nightly-2030-01-31
cron-runner cancel --grace 0s --note "eats the disk" nightly-2030-01-31
cron-runner cancel --job backup
cron-runner cancel nightly-2030-01-30 nightly-2030-01-31
cron-runner cancel --fleet nightly-2030-01-31
"""
_LOOK_EVERY_S: Final = 0.2
_STOPPED: Final = frozenset({"running", "stopping", "starting"})
_OVER: Final = frozenset({"ended", "unknown", "elsewhere"})


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which runs, how, and why."""
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument(
        "run_id", metavar="RUN_ID", nargs="*", default=[], help="the runs, as `cron-runner status` names them"
    )
    which.add_argument("--job", metavar="NAME", help="all runs of this job on this host")
    which.add_argument("--all", action="store_true", help="all runs of this host")
    parser.add_argument(
        "--grace",
        metavar="DURATION",
        type=agent_socket.duration,
        help="until SIGKILL, instead of the job's own; 0s kills at once",
    )
    parser.add_argument("--note", metavar="TEXT", default="", help="why; it stands in the finished event's reason")
    parser.add_argument("--no-wait", action="store_true", help="do not wait until the runs have ended")
    parser.add_argument("--fleet", action="store_true", help="whichever host has the run, from anywhere")
    parser.add_argument("--group", metavar="GROUP", help="with --fleet: the run's group, where the table cannot tell")
    agent_socket.add_options(parser)
    fleet.add_table(parser)
    parser.epilog = (
        "A run that is running gets its stop signal, and SIGKILL after its grace; one that is held or waits for its\n"
        "next attempt ends at once. The outcome is `cancelled`, its message is deleted.\n"
        "Exit status: 0 cancelled, 1 nothing to cancel or it ended otherwise, 3 no agent.\n\n"
        f"{parser.epilog}"
    )


def execute(args: argparse.Namespace) -> int:
    """Cancel, wait for the end, and say how each run ended."""
    if args.fleet:
        return _everywhere(args)
    if args.group is not None:
        raise WrongUsage("cannot use --group without --fleet: add --fleet")
    path = agent_socket.socket_of(args, os.environ)
    runs: list[dict[str, Any]] = []
    for which in _which(args):
        runs += ask(path, "cancel", **which, note=args.note, grace=args.grace)["runs"]
    if not args.no_wait:
        for run in runs:
            if run["state"] in _STOPPED and run["cancelled"] and not args.json:
                _say(f"stopping run {run['run_id']} of {run['job']}: {_how(run)}")
        runs = [{**run, **_ended(path, run["run_id"])} if run["cancelled"] else run for run in runs]
    if args.json:
        printing.document(runs[0] if len(args.run_id) == 1 else runs)
    else:
        for run in runs:
            _say(told(run), error=not _done(run, args.no_wait))
        if not runs:
            _say(f"cannot cancel: no run of {args.job} is here" if args.job else "nothing runs here", error=True)
    return 0 if runs and all(_done(run, args.no_wait) for run in runs) else NOTHING_DONE


def _everywhere(args: argparse.Namespace) -> int:
    """Write it to the fleet's table, where the run's host sees it within seconds."""
    from runner.cli.run_ids import run_id_of  # noqa: PLC0415 - `--help` needs none of it

    if not args.run_id or args.grace is not None:
        raise WrongUsage("cannot cancel that from anywhere: --fleet takes RUN_IDs, and no --grace")
    told = [fleet.cancel(args, run_id_of(run_id, "cancel a run")) for run_id in args.run_id]
    if args.json:
        printing.document(told[0] if len(told) == 1 else told)
    else:
        for one in told:
            _say(f"run {one['run_id']} of group {one['group']} is to be cancelled, wherever it is")
    return 0


def _which(args: argparse.Namespace) -> list[dict[str, Any]]:
    """What the agent is asked for, one after the other."""
    from runner.cli.run_ids import run_id_of  # noqa: PLC0415 - `--help` needs none of it

    if args.all:
        return [{"all": True}]
    if args.job:
        return [{"job": args.job}]
    return [{"run_id": run_id_of(run_id, "cancel a run")} for run_id in args.run_id]


def _ended(path: Path, run_id: str) -> dict[str, Any]:
    """What became of it, as soon as it has."""
    while True:
        found = ask(path, "run", run_id=run_id)
        if found["state"] in _OVER:
            return found
        time.sleep(_LOOK_EVERY_S)


def _how(run: dict[str, Any]) -> str:
    from runner.protocol.units import format_duration  # noqa: PLC0415

    grace = run["grace_s"]
    return f"SIG{run['stop_signal']} now, SIGKILL after {format_duration(grace)}" if grace else "SIGKILL now"


def _done(run: dict[str, Any], no_wait: bool) -> bool:
    return bool(run["cancelled"]) and (no_wait or run.get("outcome") == "cancelled")


def told(run: dict[str, Any]) -> str:
    """One line about what was done, or why nothing was."""
    name = f"run {run['run_id']}"
    if run.get("job"):
        name += f" of {run['job']}"
    state = run["state"]
    if run["cancelled"]:
        if state == "ended":
            return f"{name} ended {run['outcome']}: {run['reason']}"
        return f"{name} is being cancelled"
    if state == "ended":
        return (
            f"cannot cancel {name}: it has ended {run['outcome']} ({run['reason']}) at {fleet.second(run['ended_at'])}"
        )
    if state == "elsewhere":
        return f"cannot cancel {name}: a run-once on this host has it ({run['owner']}); end it there with Ctrl-C"
    return (
        f"cannot cancel {name}: this host does not know it; look at `cron-runner status`; --fleet cancels it "
        "wherever it is"
    )


def _say(line: str, *, error: bool = False) -> None:
    (printing.note if error else printing.lines)(line)
