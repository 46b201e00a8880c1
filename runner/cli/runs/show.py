"""``cron-runner show RUN_ID``: all that is known of a run, and what it waits for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from runner.cli import printing
from runner.cli.agent_socket import NOTHING_DONE
from runner.cli.runs.one_run import UNKNOWN, Finder, add_options, not_known

if TYPE_CHECKING:
    import argparse

EXAMPLE: Final = """\
cron-runner show nightly-2030-01-31
cron-runner show nightly-2030-01-30 nightly-2030-01-31
cron-runner show --table cron nightly-2030-01-31
cron-runner show --json nightly-2030-01-31 | jq '.attempts[].usage'
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which runs, and from where."""
    parser.add_argument("run_id", metavar="RUN_ID", nargs="+", help="the runs")
    add_options(parser)
    parser.epilog = (
        "From this host, or, of a run that it does not know, from the fleet's table; with --table from the table\n"
        "alone. The values of variables are not shown, and secrets in the command are masked.\n"
        f"Exit status: 0, 1 no such run, 3 no agent.\n\n{parser.epilog}"
    )


def execute(args: argparse.Namespace) -> int:
    """Show them; 1 where one is not known."""
    from runner.cli.run_ids import run_id_of  # noqa: PLC0415 - `--help` needs none of it

    finder = Finder(args)
    runs: list[dict[str, Any]] = [finder.find(run_id_of(run_id, "show a run")) for run_id in args.run_id]
    known = [run for run in runs if run["state"] != UNKNOWN]
    if args.json:
        printing.document(runs[0] if len(runs) == 1 else runs)
    else:
        from runner.cli.runs.show_text import text  # noqa: PLC0415 - as above

        for place, run in enumerate(known):
            printing.lines(*([""] if place else []), *text(run, printing.width()))
    for run in runs:
        if run["state"] == UNKNOWN:
            printing.note(str(not_known(run["run_id"], "show")))
    return 0 if len(known) == len(runs) else NOTHING_DONE
