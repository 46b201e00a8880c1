"""``cron-runner logs RUN_ID [-f]``: a run's output, from this host's spool or from CloudWatch."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from runner.cli import fleet

if TYPE_CHECKING:
    import argparse

EXAMPLE: Final = """\
cron-runner logs nightly-2030-01-31
cron-runner logs -f nightly-2030-01-31
cron-runner logs nightly-2030-01-31 --job backup --json
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The run, and what helps to find it from another machine."""
    parser.add_argument("run_id", metavar="RUN_ID")
    parser.add_argument("-f", "--follow", action="store_true", help="go on until the run has ended")
    parser.add_argument("--job", metavar="NAME", help="the run's job: finds it in CloudWatch without a search")
    parser.add_argument("--stream", metavar="NAME", help="its log stream, as its events name it")
    fleet.add_table(parser)
    parser.add_argument("--group", metavar="GROUP", help="the run's group, where the table knows several of the id")
    parser.add_argument(
        "--json",
        action="store_true",
        help="a JSON object a line: time, run_id, message and more; time is null for what this host's spool still has, "
        "which notes none",
    )


def execute(args: argparse.Namespace) -> int:
    """Print the output; 0 when there was a run, with or without output."""
    from runner import config  # noqa: PLC0415
    from runner.cli.logs_shown import main  # noqa: PLC0415
    from runner.cli.run_ids import run_id_of  # noqa: PLC0415

    args.run_id = run_id_of(args.run_id, "show the output of a run")
    # With the fleet's table no configuration is needed, and so this works from anywhere.
    args.table = fleet.table_name(args)
    settings = config.load(args.config, os.environ, offline=bool(args.table))
    return main(settings, args)


def shown(args: argparse.Namespace, run_id: str) -> None:
    """Print the output of a run that has ended, for another command whose arguments these are."""
    import argparse  # noqa: PLC0415 - loaded already by whoever parses

    parser = argparse.ArgumentParser()
    add_arguments(parser)
    asked = parser.parse_args([run_id])
    asked.config, asked.group, asked.table = args.config, args.group, args.table
    execute(asked)
