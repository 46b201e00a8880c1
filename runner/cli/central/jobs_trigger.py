"""``cron-runner jobs trigger``: a run of a job now, with its parameters."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Final

from runner.cli import fleet, printing
from runner.cli.run_ids import run_id_of
from runner.cli.signing import add_key, signer_of
from runner.errors import CronRunnerError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping, Sequence

    from runner.aws.session import Session
    from runner.aws.table import Table
    from runner.control.definition import GroupDefinition, JobDefinition
    from runner.protocol.params import Param

_ASKED: Final = 3  # times for one parameter, before the person is left alone


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_key(parser, "sign this one run")
    parser.add_argument(
        "--param",
        dest="params",
        action="append",
        metavar="NAME=VALUE",
        help="a parameter of the job; repeatable. On a terminal those are asked for that are not given",
    )
    parser.add_argument(
        "--run-id", metavar="ID", help="of a run that was triggered before, and may be on the queue already"
    )


def trigger(args: argparse.Namespace) -> int:
    """Enqueue it and print its id; with an id that was given before it is the same run."""
    from runner.aws.sqs import Outgoing, Queue  # noqa: PLC0415 - `--help` needs none of it
    from runner.cli.runs.send_delivery import deliver  # noqa: PLC0415
    from runner.control import store  # noqa: PLC0415
    from runner.control.trigger import triggered  # noqa: PLC0415
    from runner.protocol.invalid import InvalidMessage  # noqa: PLC0415

    signer = signer_of(args.key) if args.key else None
    run_id = None if args.run_id is None else run_id_of(args.run_id, "trigger a run")
    said = given(args.params or ())

    async def look(_: Session, table: Table) -> tuple[JobDefinition, GroupDefinition]:
        job = await store.job(table, args.job, args.group)
        return job, await store.group(table, job.group)

    job, group = fleet.run(args, look)
    if job.params and sys.stdin.isatty() and sys.stderr.isatty():
        said = asked(job.params, said)
    try:
        run_id, body = triggered(job, now=time.time(), by=fleet.whoami(), signer=signer, run_id=run_id, params=said)
    except InvalidMessage as error:
        raise CronRunnerError(f"cannot trigger {job.name}: {error.detail}") from error

    async def send(session: Session, _: Table) -> dict[str, str]:
        queue = Queue(session, url=group.queue)
        outgoing = Outgoing.of_run(body, job.name, run_id, fifo=queue.fifo)
        again = f"trigger it again with --run-id {run_id}, and it is one run even if the queue has it already"
        await deliver(queue, outgoing, again)
        return {"job": job.name, "group": job.group, "run_id": run_id, "queue": queue.label}

    sent = fleet.run(args, send)
    if args.json:
        printing.document(sent, indent=None)
    else:
        printing.lines(sent["run_id"])
    return 0


def given(pairs: Sequence[str]) -> dict[str, str]:
    """NAME=VALUE pairs by their names."""
    said: dict[str, str] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise CronRunnerError(f'cannot read --param {pair}: give NAME=VALUE, as in "--param day=2030-01-31"')
        if name in said:
            raise CronRunnerError(f"cannot take --param {name} twice; give it once")
        said[name] = value
    return said


def asked(params: Sequence[Param], said: Mapping[str, str]) -> dict[str, str]:
    """What was given, and what a person answers for the others: for all of them, or, where some were given, for those
    that have no default."""
    found = dict(said)
    for one in params:
        if one.name not in said and (not said or one.default is None):
            found |= _answer(one)
    return found


def _answer(one: Param) -> dict[str, str]:
    """The value by its name; nothing where the default was taken."""
    from runner.protocol.invalid import InvalidMessage  # noqa: PLC0415 - `--help` needs none of it
    from runner.visible import visible  # noqa: PLC0415

    usual = f" [{visible(one.default)}]" if one.default is not None else ""
    for _ in range(_ASKED):
        # On stderr: what is printed is the run's id alone.
        sys.stderr.write(f"{one.name} ({visible(one.words())}){usual}: ")
        sys.stderr.flush()
        line = sys.stdin.readline()
        if not line:
            break
        value = line.rstrip("\r\n")
        if not value and one.default is not None:
            return {}
        try:
            return {one.name: one.check(one.name, value)}
        except InvalidMessage as error:
            sys.stderr.write(f"{error.detail}\n")
    raise CronRunnerError(f"cannot trigger it without {one.name}; give --param {one.name}=VALUE")
