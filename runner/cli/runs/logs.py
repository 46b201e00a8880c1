"""``cron-runner logs RUN_ID [-f]``: a run's output, from this host's spool or from CloudWatch."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from runner.cli import fleet
from runner.cli.numbers import whole
from runner.errors import CronRunnerError, NotThere, WrongUsage

if TYPE_CHECKING:
    import argparse

_LOOKED_AT: Final = 100  # of a job, for one that was started: others were skipped, or wait
_SLACK_S: Final = 1.0  # the times of lines are those of seconds
EXAMPLE: Final = """\
cron-runner logs nightly-2030-01-31
cron-runner logs -f --tail 20 nightly-2030-01-31
cron-runner logs --job backup --timestamps
cron-runner logs nightly-2030-01-31 --attempt 2 --since 1h --json
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The run, how much of it, and what helps to find it from another machine."""
    parser.add_argument("run_id", metavar="RUN_ID", nargs="?")
    parser.add_argument("-f", "--follow", action="store_true", help="go on until the run has ended")
    parser.add_argument("--tail", metavar="N", type=whole(0, 1_000_000), help="only so many of the last lines")
    parser.add_argument("--since", metavar="DURATION", help="only what was written from then on; or a TIME")
    parser.add_argument("--timestamps", action="store_true", help="when each line was written, to a second, before it")
    parser.add_argument("--attempt", metavar="N", type=whole(1, 1_000_000), help="only of this attempt")
    parser.add_argument(
        "--job",
        metavar="NAME",
        help="without RUN_ID: its latest run; with it: finds the run in CloudWatch without a search",
    )
    parser.add_argument("--stream", metavar="NAME", help="its log stream, as its events name it")
    fleet.add_table(parser)
    parser.add_argument("--group", metavar="GROUP", help="the run's group, where the table knows several of the id")
    parser.add_argument(
        "--json",
        action="store_true",
        help="a JSON object a line: time, run_id, message and more; time is null where it is not known",
    )


def execute(args: argparse.Namespace) -> int:
    """Print the output; 0 when there was a run, with or without output."""
    from runner import config  # noqa: PLC0415
    from runner.cli import agent_socket  # noqa: PLC0415
    from runner.cli.run_ids import run_id_of  # noqa: PLC0415
    from runner.cli.runs.history import since_of  # noqa: PLC0415
    from runner.cli.runs.logs_printer import Wanted  # noqa: PLC0415
    from runner.cli.runs.logs_shown import main  # noqa: PLC0415

    if args.run_id is None and not args.job:
        raise WrongUsage("cannot show the output of no run: give its RUN_ID, or --job NAME for the latest of a job")
    since = since_of(args.since, "output")
    # With the fleet's table no configuration is needed, and so this works from anywhere.
    args.table = fleet.table_name(args)
    settings = config.load(args.config, os.environ, offline=bool(args.table))
    args.socket = settings.paths.runtime / agent_socket.NAME
    args.run_id = _latest(args) if args.run_id is None else run_id_of(args.run_id, "show the output of a run")
    begin, until = _attempt(args) if args.attempt is not None else (None, None)
    first = max((moment for moment in (since, begin) if moment is not None), default=None)
    args.wanted = Wanted(
        as_json=args.json,
        tail=args.tail,
        since=None if first is None else first * 1000,
        until=None if until is None else until * 1000,
        times=args.timestamps,
    )
    return main(settings, args)


def _latest(args: argparse.Namespace) -> str:
    """The run id of a job's latest run that was started, and can have output."""
    from runner.cli.runs import local_history  # noqa: PLC0415 - `--help` needs none of it

    if args.table:
        from runner.cli.runs.history import latest  # noqa: PLC0415

        runs = latest(args)
    else:
        runs = local_history.runs(args, local_history.Asked(args.job, limit=_LOOKED_AT))
    run_id = next((run["run_id"] for run in runs if run["started_at"] is not None), None)
    if run_id is None:
        where = f"table {args.table}" if args.table else "this host"
        raise NotThere(
            f"cannot find a run of {args.job} that was started: {where} knows none; see `cron-runner history`"
        )
    return str(run_id)


def _attempt(args: argparse.Namespace) -> tuple[float | None, float | None]:
    """From when and until when this attempt and no other can have written (unix seconds)."""
    from runner.cli.runs.one_run import UNKNOWN, Finder  # noqa: PLC0415 - `--help` needs none of it
    from runner.protocol.units import parse_time  # noqa: PLC0415

    try:
        run = Finder(args).find(args.run_id)
    except CronRunnerError:
        return None, None  # nobody can tell: what this host has of the attempt is shown
    if run["state"] == UNKNOWN:
        return None, None
    attempts = [one for one in run["attempts"] if one["execution"] == run.get("execution")]
    mine = next((one for one in attempts if one["attempt"] == args.attempt), None)
    if mine is None:
        raise NotThere(
            f"cannot show attempt {args.attempt} of run {args.run_id}: there are {len(attempts)}; see "
            f"`cron-runner show {args.run_id}`"
        )
    after = next((one for one in attempts if one["attempt"] == args.attempt + 1), None)
    begin, end = (one and one["started_at"] and parse_time(one["started_at"]) for one in (mine, after))
    return begin and begin - _SLACK_S, end and end - _SLACK_S


def shown(args: argparse.Namespace, run_id: str) -> None:
    """Print the output of a run that has ended, for another command whose arguments these are."""
    import argparse  # noqa: PLC0415 - loaded already by whoever parses

    parser = argparse.ArgumentParser()
    add_arguments(parser)
    asked = parser.parse_args([run_id])
    asked.config, asked.group, asked.table = args.config, args.group, args.table
    execute(asked)
