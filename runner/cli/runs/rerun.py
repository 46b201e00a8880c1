"""``cron-runner rerun RUN_ID``: the same message under a new run id."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any, Final

from runner.cli import agent_socket, fleet, printing
from runner.cli.agent_socket import NOTHING_DONE, NoAgent, NotAllowed, RefusedByAgent
from runner.errors import CronRunnerError, WrongUsage

if TYPE_CHECKING:
    import argparse

    from runner.aws.session import Session
    from runner.aws.table import Table

EXAMPLE: Final = """\
cron-runner rerun nightly-2030-01-31T03-00-00Z
cron-runner rerun --note "the disk was full" nightly-2030-01-31T03-00-00Z
cron-runner rerun --fleet nightly-2030-01-31T03-00-00Z
"""
_FROM: Final = {
    "journal": "its message as this host's journal has it",
    "table": "its message as the table has it",
    "definition": "the job as it is applied now, since the table does not have its message",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which run, and where its message is looked for."""
    parser.add_argument("run_id", metavar="RUN_ID", help="the run, as `status` and `history` name it")
    parser.add_argument("--note", metavar="TEXT", default="", help="why, for the audit trail")
    parser.add_argument("--fleet", action="store_true", help="of the table alone, whichever host had the run")
    parser.add_argument("--group", metavar="GROUP", help="the run's group, where several have a run of that id")
    agent_socket.add_options(parser)
    fleet.add_table(parser)
    parser.epilog = (
        "Prints the new run's id; its label rerun_of has the old one. The message is that of this host's journal or,\n"
        "where this host does not know the run or has no agent, of the fleet's table, which hides the values of an\n"
        "environment that is neither signed nor declared: such a run is rerun on its host.\n"
        "Exit status: 0 sent; 1 nobody knows it, or it cannot be rerun; 3 no agent, and no table.\n\n"
        f"{parser.epilog}"
    )


def execute(args: argparse.Namespace) -> int:
    """Send it, and say what was sent."""
    from runner.cli.run_ids import run_id_of  # noqa: PLC0415 - `--help` needs none of it

    run_id = run_id_of(args.run_id, "rerun a run")
    if args.fleet and args.socket is not None:
        raise WrongUsage("cannot use --socket with --fleet: the table is asked, and no agent; leave one of them out")
    sent = _of_table(args, run_id) if args.fleet or args.group is not None else _of_host(args, run_id)
    if args.json:
        printing.document(sent, indent=None)
    else:
        printing.note(f"sent to group {sent['group']}: {_FROM[sent['from']]}")
        printing.lines(sent["run_id"])
    return 0


def _of_host(args: argparse.Namespace, run_id: str) -> dict[str, Any]:
    """By the agent, which has the journal; by the table where that one does not know the run, or there is none."""
    try:
        return agent_socket.ask(agent_socket.socket_of(args, os.environ), "rerun", run_id=run_id, note=args.note)
    except (NoAgent, NotAllowed, RefusedByAgent) as error:
        if isinstance(error, RefusedByAgent) and error.code != "not_there":
            raise _Not(str(error)) from error
        if fleet.table_name(args):
            return _of_table(args, run_id)
        if isinstance(error, RefusedByAgent):
            raise _Not(f"{error}, or name the fleet's table by --table") from error
        raise


class _Not(CronRunnerError):
    """It is not known, or cannot be sent again."""

    exit_status = NOTHING_DONE


def _of_table(args: argparse.Namespace, run_id: str) -> dict[str, Any]:
    from runner.aws import directives  # noqa: PLC0415 - `--help` needs none of it
    from runner.aws.sqs import Outgoing, Queue  # noqa: PLC0415
    from runner.cli.runs.send_delivery import deliver  # noqa: PLC0415
    from runner.control import store  # noqa: PLC0415
    from runner.control.rerun import CannotRerun, look  # noqa: PLC0415

    async def work(session: Session, table: Table) -> dict[str, Any]:
        by, now = fleet.whoami(), time.time()
        try:
            made = await look(table, run_id, args.group, now=now, by=by)
        except (CannotRerun, store.NotFound) as error:
            raise _Not(str(error)) from error
        group = await store.group(table, made.group)
        queue = Queue(session, url=group.queue)
        outgoing = Outgoing.of_run(made.body, made.job, made.run_id, fifo=queue.fifo)
        await deliver(queue, outgoing, f"look at `cron-runner show {made.run_id}` before you rerun it once more")
        await directives.record(table, made.group, f"RERUN {run_id} {made.run_id}", by=by, why=args.note, now=now)
        sent = {"run_id": made.run_id, "job": made.job, "group": made.group, "queue": queue.label}
        return {**sent, "rerun_of": run_id, "from": made.source}

    told: dict[str, Any] = fleet.run(args, work)
    return told
