"""``cron-runner history``: what ran, when, for how long and how it ended, over all hosts; of one job how it stands."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

from runner.cli import fleet, numbers, printing
from runner.errors import AwsUnavailable, WrongUsage

if TYPE_CHECKING:
    import argparse

    from runner.aws.session import Session
    from runner.aws.table import Table

EXAMPLE: Final = """\
cron-runner history nightly
cron-runner history --failed --since 24h
cron-runner history nightly --limit 100 --json
"""
_SHOWN: Final = (
    "run_id",
    "job",
    "group",
    "state",
    "scheduled_at",
    "started_at",
    "ended_at",
    "duration_s",
    "exit_code",
    "signal",
    "reason",
    "host",
    "attempt",
    "attempts",
    "seen_at",
    "log",
    "labels",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Whose history, and how much of it."""
    parser.add_argument("job", metavar="JOB", nargs="?", help="a job; without one, all runs that ended")
    parser.add_argument("--failed", action="store_true", help="only those that ended badly")
    parser.add_argument("--since", metavar="DURATION", help="from so long ago on (of all jobs: 24h where not given)")
    parser.add_argument(
        "--limit", type=numbers.whole(1, 10_000), metavar="N", default=20, help="how many runs at most (20)"
    )
    fleet.add_options(parser)


def execute(args: argparse.Namespace) -> int:
    """Show the runs, the newest first."""
    since = _since(args.since)

    async def work(_: Session, table: Table) -> tuple[list[dict[str, Any]], list[str]]:
        runs = await _runs(table, args, since)
        if args.job and not runs:
            await _need(table, args)
        return runs, await _heading(table, args, runs) if args.job and not args.json else []

    runs, head = fleet.run(args, work)
    if args.json:
        printing.document([_as_json(run) for run in runs])
        return 0
    if head:
        printing.lines(*head)
    if not runs:
        what = f"run of {args.job}" if args.job else "run that failed" if args.failed else "run"
        printing.say(f"no {what} is known{f' since {args.since}' if args.since else ''}")
        return 0
    several = len({run["group"] for run in runs}) > 1
    titles = ["STARTED", "TOOK", "OUTCOME", "EXIT", "HOST", "RUN", "REASON"]
    rows = [_row(run, args) for run in runs]
    if any(run.get("signed_by") for run in runs):
        titles.insert(-1, "SIGNED BY")
        rows = [[*row[:-1], run.get("signed_by") or "-", row[-1]] for row, run in zip(rows, runs, strict=True)]
    if several:
        titles.insert(5, "GROUP")
        rows = [[*row[:5], run["group"], *row[5:]] for row, run in zip(rows, runs, strict=True)]
    printing.lines(*([""] if head else []), *fleet.aligned(titles, rows, "RUN"))
    return 0


async def _heading(table: Table, args: argparse.Namespace, runs: list[dict[str, Any]]) -> list[str]:
    """How the job stands, in each group that has it."""
    from runner.cli.job_heading import heading, standings  # noqa: PLC0415

    try:
        found = await standings(table, args.job, args.group, {run["group"] for run in runs})
    except AwsUnavailable as error:
        # Who may read the runs only still sees them.
        printing.say(f"cannot tell how {args.job} stands: {error}")
        return []
    heads = [heading(one, time.time()) for one in found]
    return [line for place, head in enumerate(heads) for line in ([""] if place else []) + head]


async def _need(table: Table, args: argparse.Namespace) -> None:
    """Raise where no job of the name is known, neither by a file nor by a run; a slip of the pen is no empty list."""
    from runner.control import store  # noqa: PLC0415 - `--help` needs none of it

    try:
        if not await store.named(table, args.job, args.group) and not await store.history(
            table, args.job, limit=1, in_group=args.group
        ):
            await store.job(table, args.job, args.group)
    except AwsUnavailable:
        return  # who may read the runs only has seen that there are none


async def _runs(table: Table, args: argparse.Namespace, since: float | None) -> list[dict[str, Any]]:
    from runner.control import store  # noqa: PLC0415 - `--help` needs none of it

    now = time.time()
    if args.job:
        return await store.history(
            table, args.job, limit=args.limit, in_group=args.group, failed=args.failed, since=since
        )
    start = since if since is not None else now - 86_400.0
    runs = await store.ended_since(table, start, now, failed=True)
    if not args.failed:
        runs += await store.ended_since(table, start, now, failed=False)
    runs = [run for run in runs if args.group in (None, run["group"])]
    return sorted(runs, key=lambda run: str(run["ended_at"]), reverse=True)[: args.limit]


def _as_json(run: dict[str, Any]) -> dict[str, Any]:
    from runner.control.run_state import is_open  # noqa: PLC0415

    outcome = None if is_open(run["state"]) else run["state"]
    signed_by = {"signed_by": run["signed_by"]} if run.get("signed_by") else {}
    return {**{name: run.get(name) for name in _SHOWN}, "outcome": outcome, **signed_by}


def _row(run: dict[str, Any], args: argparse.Namespace) -> list[str]:
    began = run["started_at"] or run["at"]
    exit_text = run["signal"] or ("-" if run["exit_code"] is None else str(run["exit_code"]))
    return [
        fleet.clock(began),
        fleet.span(run["duration_s"]) if run["duration_s"] is not None else "-",
        run["state"],
        exit_text,
        run["host"] or "-",
        run["run_id"] if args.job else f"{run['job'] or '?'}: {run['run_id']}",
        run["reason"] or "",
    ]


def _since(text: str | None) -> float | None:
    from runner.protocol.units import parse_duration, parse_time  # noqa: PLC0415

    if text is None:
        return None
    try:
        return time.time() - parse_duration(text)
    except ValueError:
        pass
    try:
        return parse_time(text)
    except ValueError as error:
        raise WrongUsage(f"cannot show history since {text}: {error}; or a duration such as 24h") from error
